"""A structure of the headers in memory that is shared, field by field: for who reads and writes a few of its numbers and needs no numpy for them."""

from __future__ import annotations

import struct
from mmap import mmap
from typing import Any, Final

from vmfuzz.execute.wire.abi import structure

#: How struct reads the scalars of a layout (declared.py).
_SCALARS: Final = {"u1": "<B", "u2": "<H", "u4": "<I", "u8": "<Q"}


class Record:
    """`struct vmfuzz_<name>` at an offset of `memory`: a mapping of its numbers, as numpy's records are."""

    def __init__(self, memory: mmap, offset: int, name: str) -> None:
        self._memory = memory
        self._offset = offset
        self._fields: dict[str, tuple[int, Any]] = structure(name)["fields"]

    def __getitem__(self, name: str) -> int:
        offset, kind = self._fields[name]
        number: int = struct.unpack_from(_SCALARS[kind], self._memory, self._offset + offset)[0]
        return number

    def __setitem__(self, name: str, number: int) -> None:
        offset, kind = self._fields[name]
        struct.pack_into(_SCALARS[kind], self._memory, self._offset + offset, number)

    def text(self, name: str, length: int) -> str:
        """The first `length` characters of a field of characters."""
        start = self._offset + int(self._fields[name][0])
        return self._memory[start : start + length].decode("utf-8", "replace")
