"""A bootable CD around the flat image, written without a loader's tools: ISO 9660 with El Torito's boot record.

For a BIOS, whose boot sector (image/bios.S) reads the image and starts it as a multiboot loader would; with `efi` for UEFI firmware too.
"""

from __future__ import annotations

import struct
from typing import Final

_SECTOR: Final = 2048
#: Sectors of the disc, in order; the first 16 are the system's.
_VOLUME, _BOOT_RECORD, _END, _CATALOG, _PATHS, _PATHS_BIG, _ROOT, _BOOT, _IMAGE = range(16, 25)
#: The first day of 1980 for all dates, so that the same case makes the same file.
_DATE: Final = bytes((80, 1, 1, 0, 0, 0, 0))
_NO_DATE: Final = b"0" * 16 + b"\0"
#: Where the boot sector wants to be told the image's place and length in sectors (bios.S).
_PLACE_AT: Final = 8
#: El Torito counts what the BIOS loads in sectors of a disk; the BIOS loads it at 7C00H.
_BOOT_SECTORS: Final = _SECTOR // 512
_NAME: Final = b"VMFUZZ.BIN;1"
#: El Torito's platforms, and the last section of its catalog.
_BIOS, _UEFI = 0, 0xEF
_LAST_SECTION: Final = 0x91


def bootable_disc(boot_sector: bytes, image: bytes, efi: bytes = b"") -> bytes:
    """The disc whose BIOS starts `image` through `boot_sector`; the image is in its root directory as VMFUZZ.BIN too.

    `efi`: the file system that UEFI firmware boots, which finds the image there (efi.py).
    """
    length, efi_length = (-(-len(part) // _SECTOR) for part in (image, efi))
    total = _IMAGE + length + efi_length
    boot = bytearray(boot_sector.ljust(_SECTOR, b"\0"))
    struct.pack_into("<II", boot, _PLACE_AT, _IMAGE, length)
    root = _record(b"\0", _ROOT, _SECTOR, True) + _record(b"\1", _ROOT, _SECTOR, True) + _record(_NAME, _IMAGE, len(image), False)
    sectors = {
        _VOLUME: _volume(total),
        _BOOT_RECORD: b"\0CD001\1" + b"EL TORITO SPECIFICATION".ljust(64, b"\0") + struct.pack("<I", _CATALOG),
        _END: b"\xffCD001\1",
        _CATALOG: _catalog() + (_efi_section(_IMAGE + length, efi_length) if efi else b""),
        _PATHS: struct.pack("<BBIH", 1, 0, _ROOT, 1),
        _PATHS_BIG: struct.pack(">BBIH", 1, 0, _ROOT, 1),
        _ROOT: root,
        _BOOT: bytes(boot),
    }
    head = b"".join(sectors.get(sector, b"").ljust(_SECTOR, b"\0") for sector in range(_IMAGE))
    return head + image.ljust(length * _SECTOR, b"\0") + efi.ljust(efi_length * _SECTOR, b"\0")


def _both(value: int, code: str = "I") -> bytes:
    """A number in both byte orders, as ISO 9660 has them."""
    return struct.pack(f"<{code}", value) + struct.pack(f">{code}", value)


def _record(name: bytes, sector: int, length: int, directory: bool) -> bytes:
    body = _both(sector) + _both(length) + _DATE + bytes((2 * directory, 0, 0)) + _both(1, "H") + bytes((len(name),)) + name
    body += b"\0" * (len(body) % 2)  # the record has an even length, with the two bytes before
    return bytes((len(body) + 2, 0)) + body


def _volume(total: int) -> bytes:
    """The primary volume descriptor."""
    paths = struct.pack("<II", _PATHS, 0) + struct.pack(">II", _PATHS_BIG, 0)
    texts = b" " * (4 * 128) + b" " * (3 * 37)
    return b"".join(
        (
            b"\1CD001\1\0" + b"".ljust(32) + b"VMFUZZ".ljust(32) + b"\0" * 8 + _both(total) + b"\0" * 32,
            _both(1, "H") + _both(1, "H") + _both(_SECTOR, "H") + _both(10) + paths,
            _record(b"\0", _ROOT, _SECTOR, True) + texts + _NO_DATE * 4 + b"\1",
        )
    )


def _catalog() -> bytes:
    """El Torito's catalog: who validates it, and one entry for a BIOS."""
    validation = bytearray(struct.pack("<BBH24sHBB", 1, _BIOS, 0, b"vmfuzz", 0, 0x55, 0xAA))
    struct.pack_into("<H", validation, 28, -sum(struct.unpack("<16H", validation)) & 0xFFFF)
    return bytes(validation) + _bootable(_BOOT_SECTORS, _BOOT)


def _efi_section(place: int, length: int) -> bytes:
    """A section of one entry for UEFI, of so many sectors of the disc."""
    return struct.pack("<BBH28s", _LAST_SECTION, _UEFI, 1, b"") + _bootable(length * _SECTOR // 512, place)


def _bootable(count: int, place: int) -> bytes:
    """An entry without emulation of a disk: what is loaded or shown, in a disk's sectors, and its place in the disc's."""
    return struct.pack("<BBHBBHI20x", 0x88, 0, 0, 0, 0, count, place)
