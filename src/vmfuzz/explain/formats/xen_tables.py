"""Reads what Xen printed of a VMCS before version 3.1: under a title a row of values, the first one's encoding before them, "------" for no field."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING
from vmfuzz.explain.dump import ALL, half
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.text.lines import Line
from vmfuzz.hexadecimal import encoded
from vmfuzz.patterns import deferred

_TITLE: Final = deferred(r"(?:(?:16|32|64)-bit|Natural)\b.*\b(?:Control|Read-Only|Guest-State|Host-State)\b.*Fields", re.IGNORECASE)
_ROW: Final = deferred(r"0x(?P<first>[0-9a-fA-F]{8}): *(?P<values>(?: *\b(?:0x)?[0-9a-fA-F]{4,16}\b| *-{4,}){1,4})\s*$")
#: Encodings of 64-bit fields: there the rows go on by 1, so that each field is followed by its upper half; elsewhere by 2.
_HALVED: Final = range(0x2000, 0x4000)


def read_tables(lines: list[Line], found: Found) -> list[Line]:
    """Record the rows of such tables; returns the other lines."""
    if not any(_TITLE.match(line.text) for line in lines):
        return lines
    rows = {line.number: row for line in lines if (row := _ROW.match(line.text))}
    for number, row in rows.items():
        _read_row(int(row["first"], 16), row["values"].split(), number, found)
    return [line for line in lines if line.number not in rows]


def _read_row(first: int, values: list[str], line: int, found: Found) -> None:
    for index, text in enumerate(values):
        encoding = first + index * (1 if first in _HALVED else 2)
        field = BY_ENCODING.get(encoding & ~1)
        if field is not None and not text.startswith("-"):
            value = int(text, 16) << 32 * (encoding & 1)
            # a row of 32-bit programs shows the lower half only
            low = field.width == 64 and not encoding & 1 and not value >> 32
            found.put(field.name, value, encoded(encoding), line, known=ALL >> 32 if low else half(encoding))
