"""What UEFI firmware boots on a CD: a FAT file system with GRUB in it, which starts the flat image; made where Debian's GRUB is installed."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Final

#: What a machine needs that writes such a CD, as packages of Debian.
PACKAGES: Final = "grub-common grub-efi-amd64-bin"
_MODULES: Final = ("iso9660", "search", "search_fs_file", "multiboot", "boot", "echo", "all_video")
#: GRUB sees ISO 9660's names in lower case and without their version.
_CONFIG: Final = """set gfxpayload=text
search --file --set=root /vmfuzz.bin
echo "vmfuzz: starting. Where this screen shows nothing more, the first serial port (3F8, 115200 baud) does."
multiboot /vmfuzz.bin
boot
"""
_SECTOR: Final = 512
_CLUSTER: Final = 2048
#: Entries of the root directory, which fill a sector; there is one table, after the boot sector.
_ROOT_ENTRIES: Final = 16
_DIRECTORY, _FILE = 0x10, 0x20
#: More clusters make another kind of file system.
_MOST_CLUSTERS: Final = 4084


def efi_partition() -> bytes | None:
    """The file system; None where GRUB for UEFI is not installed."""
    with tempfile.TemporaryDirectory(prefix="vmfuzz-efi-") as folder:
        config, loader = Path(folder, "grub.cfg"), Path(folder, "BOOTX64.EFI")
        config.write_text(_CONFIG, encoding="ascii")
        command = ["grub-mkimage", "-O", "x86_64-efi", "-p", "/", "-c", str(config), "-o", str(loader), *_MODULES]
        try:
            done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True)
        except FileNotFoundError:
            return None
        return fat_with_loader(loader.read_bytes()) if done.returncode == 0 else None


def fat_with_loader(loader: bytes) -> bytes:
    """FAT12 with `loader` as EFI/BOOT/BOOTX64.EFI, where firmware looks for it; raises ValueError for one of 8 MiB and more."""
    # clusters 2 and 3 are the directories, the file follows
    length = -(-len(loader) // _CLUSTER)
    clusters = 2 + length
    if clusters > _MOST_CLUSTERS:
        raise ValueError(f"a loader of {len(loader)} bytes: FAT12 has room for {_MOST_CLUSTERS - 2} clusters of {_CLUSTER} bytes")
    last = 0xFFF
    table = _twelve_bits([0xFF8, last, last, last, *range(5, 4 + length), last])
    table_sectors = -(-len(table) // _SECTOR)
    total = 2 + table_sectors + clusters * _CLUSTER // _SECTOR
    # one sector before the table, one table, a disk of `total` sectors
    boot = struct.pack("<3s8sHBHBHH", b"\xeb\xfe\x90", b"VMFUZZ", _SECTOR, _CLUSTER // _SECTOR, 1, 1, _ROOT_ENTRIES, 0)
    boot += struct.pack("<BHHHIIBBBI11s8s", 0xF8, table_sectors, 1, 1, 0, total, 0, 0, 0x29, 0, b"VMFUZZ     ", b"FAT12   ")
    parts = (
        (boot.ljust(_SECTOR - 2, b"\0") + b"\x55\xaa", _SECTOR),
        (table, table_sectors * _SECTOR),
        (_entry("EFI", _DIRECTORY, 2), _SECTOR),
        (_entry(".", _DIRECTORY, 2) + _entry("..", _DIRECTORY, 0) + _entry("BOOT", _DIRECTORY, 3), _CLUSTER),
        (_entry(".", _DIRECTORY, 3) + _entry("..", _DIRECTORY, 2) + _entry("BOOTX64 EFI", _FILE, 4, len(loader)), _CLUSTER),
        (loader, length * _CLUSTER),
    )
    return b"".join(data.ljust(size, b"\0") for data, size in parts)


def _twelve_bits(entries: list[int]) -> bytes:
    """The allocation table: two entries in three bytes."""
    pairs = zip(entries[::2], [*entries[1::2], 0], strict=False)
    return b"".join((low | high << 12).to_bytes(3, "little") for low, high in pairs)


def _entry(name: str, attributes: int, cluster: int, length: int = 0) -> bytes:
    """A directory's entry, of the first day of 1980, so that the same case makes the same file."""
    return struct.pack("<11sB8xHHHHI", name.ljust(11).encode("ascii"), attributes, 0, 0, 0x21, cluster, length)
