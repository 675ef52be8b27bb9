"""Where on its line a value stands: the number as pasted, found by its value beside its label, whatever was taken off or rewritten before it was read."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from vmfuzz.explain.text.numbers import read_number
from vmfuzz.patterns import deferred

_NUMBER: Final = deferred(
    r"(?<![A-Za-z0-9_])-?(?:0[xX][0-9a-fA-F_'`]+|[0-9a-fA-F](?:[0-9a-fA-F_'`]*[0-9a-fA-F])?)(?:[hH]|[uUlL]{1,3})?(?![0-9A-Za-z])"
)
_WORD: Final = deferred(r"[A-Za-z0-9]+")
_ALL_32: Final = (1 << 32) - 1


def columns_of(line: str, value: int, label: str, taken: Collection[tuple[int, int]] = ()) -> tuple[int, int] | None:
    """The first and the last column (1-based) of the number on a line that gives `value` under `label`; None where no number there is that value.

    Of several, the one behind the label, and nearest to it, counts, but for those that are `taken`: the columns of other values on the line.
    A half of a field, and a span of its bits, is found where it stands shifted.
    """
    wanted = {value, value >> 32} if value >> 32 and not value & 0xFFFFFFFF else {value}
    numbers = [match for match in _NUMBER.finditer(line) if not wanted.isdisjoint(_values(match[0]))]
    if not numbers:
        return None
    numbers = [match for match in numbers if (match.start() + 1, match.end()) not in taken] or numbers
    words = _WORD.findall(label)
    ends = [match.end() for match in re.finditer(re.escape(words[-1]), line, re.IGNORECASE)] if words else []
    best = min(numbers, key=lambda match: min(match.start() - at if match.start() >= at else len(line) for at in ends or [0]))
    return best.start() + 1, best.end()


def _values(text: str) -> set[int | None]:
    """What a number may mean: one without a mark is hexadecimal or decimal, a negative one is of 32 or 64 bits."""
    found = {read_number(text, hex_by_default) for hex_by_default in (True, False)}
    return found | {one & _ALL_32 for one in found if one is not None} if text.startswith("-") else found
