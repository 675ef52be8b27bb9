"""The text as it was pasted, each value marked by the field that it was read as, and what was not understood: a person sees at once what is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.explain.dump import Dump, Reading
from vmfuzz.explain.text.columns import columns_of
from vmfuzz.patterns import deferred

_HAS_NUMBER: Final = deferred(r"[:=|,;\s](?:0[xX][0-9a-fA-F]+|[0-9a-fA-F]{4,16})(?![\w])")
#: So many lines without a mark one after the other are shown by their number only, but for the first and the last.
_MANY: Final = 12
_SHOWN: Final = 3


class Mark(NamedTuple):
    """What was read on a line: first and last column (1-based; 0: somewhere on the line), and what it was read as."""

    line: int
    first: int
    last: int
    what: str


def columns(dump: Dump, reading: Reading) -> tuple[int, int] | None:
    """First and last column (1-based) of the number that a reading is from; None where the line does not show it as such."""
    if not 0 < reading.line <= len(dump.lines):
        return None
    return columns_of(dump.lines[reading.line - 1], reading.value, reading.label)


def marks(dump: Dump) -> list[Mark]:
    """Everything that was read, in the order of the text."""
    found = [_mark(dump, name + "?" * bool(reading.assumed), reading) for name, reading in dump.readings.items()]
    found += [_mark(dump, f"({name})", reading) for name, reading in dump.beside.items() if reading.line]
    for number, value in dump.msrs.items():
        name = FACT_MSRS[number]
        found.append(_mark(dump, name, Reading(value, name, dump.msr_lines[number])))
    for one in dump.definitions:
        found.append(_mark(dump, f"encoding of {one.field}", Reading(one.encoding, one.name, one.line)))
    return sorted(found)


def _mark(dump: Dump, what: str, reading: Reading) -> Mark:
    place = columns(dump, reading)
    return Mark(reading.line, *(place or (0, 0)), what)


def annotated(dumps: Sequence[Dump]) -> str:
    """The text of these dumps, which are those of one text, with a line of marks below each line of which something was read.

    `?` behind a field: something had to be assumed. `?` before a line: there are numbers in it, and nothing was read of it. `!`: a warning.
    """
    lines = max((dump.lines for dump in dumps), key=lambda one: sum(map(len, one)), default=())
    found: dict[int, list[Mark]] = {}
    for number, dump in enumerate(dumps, 1):
        for mark in marks(dump):
            what = f"{mark.what} ({number})" if len(dumps) > 1 else mark.what
            found.setdefault(mark.line, []).append(mark._replace(what=what))
    warned: dict[int, list[str]] = {}
    for dump in dumps:
        for one in dump.warned:
            warned.setdefault(one.line, []).append(one.text)
    result: list[str] = []
    width = len(str(len(lines)))
    for start, stop in _stretches(lines, found, warned):
        if stop - start > _MANY:
            result += _plain(lines, start, start + _SHOWN, width)
            result.append(f"{'':{width}}   ({stop - start - 2 * _SHOWN} lines of which nothing was read)")
            start = stop - _SHOWN
        for index in range(start, stop):
            result += _plain(lines, index, index + 1, width, known=index + 1 in found)
            result += [f"{'':{width}}   {row}" for row in _rows(found.get(index + 1, []))]
            result += [f"{'':{width}} ! {text}" for text in dict.fromkeys(warned.get(index + 1, []))]
    result += [f"{'':{width}} ! {text}" for text in dict.fromkeys(warned.get(0, []))]
    return "\n".join(result) + "\n"


def _stretches(lines: Sequence[str], found: dict[int, list[Mark]], warned: dict[int, list[str]]) -> list[tuple[int, int]]:
    """The lines of which something is said, one at a time, and those between them."""
    result, start = [], 0
    for number in sorted(number for number in {*found, *warned} if 0 < number <= len(lines)):
        result += [(start, number - 1), (number - 1, number)]
        start = number
    return [(one, other) for one, other in [*result, (start, len(lines))] if one < other]


def _plain(lines: Sequence[str], start: int, stop: int, width: int, known: bool = False) -> list[str]:
    return [
        f"{index + 1:{width}} {'?' if not known and _HAS_NUMBER.search(lines[index]) else ' '} {_visible(lines[index])}".rstrip()
        for index in range(start, stop)
    ]


def _visible(line: str) -> str:
    """A line as long as it is, without what moves the cursor."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", line)


def _rows(found: Sequence[Mark]) -> list[str]:
    """The marks of a line on as many rows as they need: each name begins below its number."""
    rows: list[str] = []
    for mark in sorted(found):
        first = max(mark.first, 1)
        text = f"{'^' * (mark.last - mark.first + 1) if mark.first else '^'} {mark.what}"
        for index, row in enumerate(rows):
            if len(row) + 1 < first:
                rows[index] = f"{row:{first - 1}}{text}"
                break
        else:
            rows.append(" " * (first - 1) + text)
    return rows
