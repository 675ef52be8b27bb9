"""The disc that exported images come on: ISO 9660 with El Torito's boot record, read back here and, where it is installed, by xorriso."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from vmfuzz.corpus.disc import bootable_disc

SECTOR = 2048
BOOT_SECTOR = bytes(range(200)) + bytes(182)
IMAGE = b"an image" * 5000
EFI = b"a file system" * 3000


def sector(disc: bytes, number: int) -> bytes:
    return disc[number * SECTOR : (number + 1) * SECTOR]


def test_the_boot_record_leads_to_the_boot_sector_and_that_to_the_image() -> None:
    disc = bootable_disc(BOOT_SECTOR, IMAGE)
    assert sector(disc, 17)[1:30] == b"CD001\x01EL TORITO SPECIFICATION"
    catalog = sector(disc, struct.unpack_from("<I", sector(disc, 17), 71)[0])
    assert sum(struct.unpack("<16H", catalog[:32])) & 0xFFFF == 0
    assert (catalog[0], catalog[30:34]) == (1, b"\x55\xaa\x88\x00")
    count, place = struct.unpack_from("<HI", catalog, 38)
    boot = sector(disc, place)
    assert (count, boot[:8], boot[16:200]) == (4, BOOT_SECTOR[:8], BOOT_SECTOR[16:200])
    at, length = struct.unpack_from("<II", boot, 8)
    assert disc[at * SECTOR :] == IMAGE.ljust(length * SECTOR, b"\0")


def test_the_volume_is_as_long_as_the_file_and_has_the_image_in_its_root() -> None:
    disc = bootable_disc(BOOT_SECTOR, IMAGE)
    volume = sector(disc, 16)
    assert struct.unpack_from("<I", volume, 80)[0] * SECTOR == len(disc)
    assert struct.unpack_from("<I", volume, 80)[0] == struct.unpack_from(">I", volume, 84)[0]
    root = sector(disc, struct.unpack_from("<I", volume, 158)[0])
    record = root.index(b"VMFUZZ.BIN;1") - 33
    place, length = struct.unpack_from("<I", root, record + 2)[0], struct.unpack_from("<I", root, record + 10)[0]
    assert disc[place * SECTOR : place * SECTOR + length] == IMAGE


def test_the_catalog_leads_uefi_firmware_to_its_file_system() -> None:
    plain, disc = bootable_disc(BOOT_SECTOR, IMAGE), bootable_disc(BOOT_SECTOR, IMAGE, EFI)
    catalog = sector(disc, struct.unpack_from("<I", sector(disc, 17), 71)[0])
    assert struct.unpack_from("<BBH", catalog, 64) == (0x91, 0xEF, 1)
    assert catalog[96] == 0x88
    count, place = struct.unpack_from("<HI", catalog, 102)
    assert disc[place * SECTOR :] == EFI.ljust(count * 512, b"\0")
    assert struct.unpack_from("<I", sector(disc, 16), 80)[0] * SECTOR == len(disc)
    assert sector(plain, struct.unpack_from("<I", sector(plain, 17), 71)[0])[64:] == bytes(SECTOR - 64)


@pytest.mark.skipif(shutil.which("xorriso") is None, reason="no xorriso")
def test_another_program_reads_it(tmp_path: Path) -> None:
    (tmp_path / "case.iso").write_bytes(bootable_disc(BOOT_SECTOR, IMAGE, EFI))
    extract = ["-osirrox", "on", "-indev", "case.iso", "-report_el_torito", "plain", "-extract", "/VMFUZZ.BIN", "out"]
    done = subprocess.run(["xorriso", *extract], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (tmp_path / "out").read_bytes() == IMAGE
    assert "El Torito boot img :   1  BIOS  y   none" in done.stdout
    assert "El Torito boot img :   2  UEFI  y   none" in done.stdout
