"""The file system that UEFI firmware boots on an exported CD: read back here and, where it is installed, by mtools."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from vmfuzz.cli.main import main
from vmfuzz.corpus.efi import efi_partition, fat_with_loader
from vmfuzz.corpus.entries import entry_files

ROOT = Path(__file__).parents[2]
ENTRY = entry_files(ROOT / "corpus/deviation.bochs-vm86-real-mode")[0]


class Fat:
    """FAT12 as firmware reads it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        size, self.clusters, reserved, tables, entries, small, _, length = struct.unpack_from("<HBHBHHBH", data, 11)
        assert (size, data[510:512]) == (512, b"\x55\xaa")
        assert (small or struct.unpack_from("<I", data, 32)[0]) * size == len(data)
        self.table = reserved * size
        self.root = self.table + tables * length * size
        self.first = self.root + entries * 32
        self.count = (len(data) - self.first) // (self.clusters * size)
        assert self.count < 4085, "so many clusters make FAT16"
        assert length * size * 2 // 3 >= self.count + 2, "the table has no room for the clusters"

    def chain(self, cluster: int) -> bytes:
        found = b""
        while cluster < 0xFF8:
            assert 2 <= cluster < self.count + 2
            at = self.first + (cluster - 2) * self.clusters * 512
            found += self.data[at : at + self.clusters * 512]
            pair = int.from_bytes(self.data[self.table + cluster // 2 * 3 :][:3], "little")
            cluster = pair >> 12 if cluster % 2 else pair & 0xFFF
        return found

    def find(self, directory: bytes, name: bytes) -> tuple[int, int]:
        """First cluster and length."""
        entry = next(directory[at : at + 32] for at in range(0, len(directory), 32) if directory[at : at + 11] == name)
        return struct.unpack_from("<HI", entry, 26)

    def loader(self) -> bytes:
        cluster, _ = self.find(self.data[self.root : self.first], b"EFI        ")
        cluster, _ = self.find(self.chain(cluster), b"BOOT       ")
        cluster, length = self.find(self.chain(cluster), b"BOOTX64 EFI")
        return self.chain(cluster)[:length]


@pytest.mark.parametrize("length", [1, 2048, 2049, 400_001, 2048 * 4082])
def test_the_loader_is_where_firmware_looks(length: int) -> None:
    loader = bytes(range(251)) * (length // 251 + 1)
    assert Fat(fat_with_loader(loader[:length])).loader() == loader[:length]


def test_a_loader_that_is_too_long_is_told() -> None:
    with pytest.raises(ValueError, match="FAT12 has room for 4082 clusters of 2048 bytes"):
        fat_with_loader(bytes(2048 * 4082 + 1))


@pytest.mark.skipif(shutil.which("mtype") is None, reason="no mtools")
def test_another_program_reads_it(tmp_path: Path) -> None:
    loader = bytes(range(251)) * 1000
    (tmp_path / "efi.img").write_bytes(fat_with_loader(loader))
    said = subprocess.run(["mtype", "-i", "efi.img", "::/EFI/BOOT/BOOTX64.EFI"], cwd=tmp_path, capture_output=True, check=True)
    assert said.stdout == loader


@pytest.mark.skipif(not Path("/usr/lib/grub/x86_64-efi").exists(), reason="no grub-efi-amd64-bin")
def test_grub_is_in_it_and_is_the_same_each_time() -> None:
    made = efi_partition()
    assert made is not None
    assert made == efi_partition()
    assert Fat(made).loader().startswith(b"MZ")
    assert b"multiboot /vmfuzz.bin" in made


@pytest.mark.parametrize("program", [None, "#!/bin/sh\nexit 1\n"], ids=["no grub-common", "no grub-efi-amd64-bin"])
def test_without_grub_the_disc_is_for_a_bios_and_the_export_says_so(
    program: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    if program is not None:
        (tmp_path / "bin/grub-mkimage").write_text(program)
        (tmp_path / "bin/grub-mkimage").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    disc = tmp_path / "case.iso"
    told = CliRunner().invoke(main, ["export", str(ENTRY), "--image", str(disc)])
    assert told.exit_code == 0, told.output
    assert (
        "boots on a BIOS; for one that boots on UEFI firmware too, install grub-common grub-efi-amd64-bin and export it again"
        in told.output
    )
    assert b"multiboot /vmfuzz.bin" not in disc.read_bytes()
