"""Where on its line a value stands: the number as pasted, found by its value beside its label, whatever was taken off or rewritten before it was read."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from vmfuzz.explain.text.numbers import NUMBER, read_number
from vmfuzz.patterns import deferred

_NUMBER: Final = deferred(rf"(?<![A-Za-z0-9_])(?:0x[0-9a-fA-F]+(?=_u)|{NUMBER}(?![0-9A-Za-z]))")  # (0x800_u32 is Rust's)
_WORD: Final = deferred(r"[A-Za-z0-9]+")


def columns_of(line: str, value: int, label: str, taken: Collection[tuple[int, int]] = ()) -> tuple[int, int] | None:
    """The first and the last column (1-based) of the number on a line that gives `value` under `label`; None where no number there is that value.

    Of several, the one behind the label, and nearest to it, counts, but for those that are `taken`: the columns of other values on the line.
    A half of a field, and a span of its bits, is found where it stands shifted.
    """
    wanted = {value, value >> 32} if value >> 32 and not value & 0xFFFFFFFF else {value}
    found = [
        (match.start() + 1, match.end())
        for match in _NUMBER.finditer(line)
        if any(read_number(match[0], base) in wanted for base in (True, False))
    ]
    found = [place for place in found if place not in taken] or found
    words = _WORD.findall(label)
    ends = [match.end() for match in re.finditer(re.escape(words[-1]), line, re.IGNORECASE)] if words else []
    return min(found, key=lambda place: min(place[0] - at if place[0] > at else len(line) for at in ends or [0]), default=None)
