"""The text as it was pasted, each value marked by the field that it was read as, and what was not understood: a person sees at once what is wrong."""

from __future__ import annotations

import enum
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from vmfuzz.explain.dump import Dump, Reading
from vmfuzz.explain.text.columns import columns_of
from vmfuzz.patterns import deferred

_HAS_NUMBER: Final = deferred(r"[:=|,;\s](?:0[xX][0-9a-fA-F]+|[0-9a-fA-F]{4,16})(?![\w])")
#: So many lines without a mark one after the other are shown by their number only, but for the first and the last.
_MANY: Final = 12
_SHOWN: Final = 3


class Kind(enum.Enum):
    """What a value was read as."""

    FIELD = "field"
    BESIDE = "beside"  # a value printed beside the VMCS that is no field of it
    MSR = "msr"  # a capability MSR
    ENCODING = "encoding"  # of a field, in a list of encodings
    OUTCOME = "outcome"  # the outcome that is believed, where no field holds it


class Mark(NamedTuple):
    """What was read on a line: first and last column (1-based; 0: somewhere on the line), the name that it was read as, and its value.

    `assumed`: something had to be assumed. `dump`: the number of the dump that it belongs to, counting from 1.
    """

    line: int
    first: int
    last: int
    name: str
    kind: Kind
    value: int
    assumed: bool = False
    dump: int = 1

    @property
    def what(self) -> str:
        """The name, with a sign of what it is where it is no field, or not certain to be this one."""
        if self.kind is Kind.ENCODING:
            return f"encoding of {self.name}"
        return f"({self.name})" if self.kind in (Kind.BESIDE, Kind.OUTCOME) else self.name + "?" * self.assumed


@dataclass(frozen=True)
class AnnotatedLine:
    """A line of the text with what was read on it. `unread`: there are numbers in it, and nothing was read of it."""

    number: int
    text: str
    marks: tuple[Mark, ...]
    warnings: tuple[str, ...]
    unread: bool


@dataclass(frozen=True)
class Skipped:
    """A stretch of lines of which nothing was read, from line `first` on."""

    first: int
    count: int


class Columns:
    """Where the values of a dump stand. Ask in the order of the text: of equal numbers on a line, each value gets one of its own."""

    def __init__(self, dump: Dump) -> None:
        self._lines = dump.lines
        self._taken: dict[int, set[tuple[int, int]]] = {}

    def of(self, reading: Reading) -> tuple[int, int] | None:
        """First and last column (1-based) of the number that a reading is from; None where the line does not show it as such."""
        if not 0 < reading.line <= len(self._lines):
            return None
        taken = self._taken.setdefault(reading.line, set())
        place = columns_of(self._lines[reading.line - 1], reading.value, reading.label, taken)
        if place is not None:
            taken.add(place)
        return place


def marks(dump: Dump, number: int = 1) -> list[Mark]:
    """Everything that was read of the dump with this number, in the order of the text."""
    columns = Columns(dump)

    def mark(name: str, reading: Reading, kind: Kind) -> Mark:
        return Mark(reading.line, *(columns.of(reading) or (0, 0)), name, kind, reading.value, bool(reading.assumed), number)

    found = [mark(name, reading, Kind.FIELD) for name, reading in dump.readings.items()]
    found += [mark(name, reading, Kind.BESIDE) for name, reading in dump.beside.items() if reading.line]
    found += [mark(reading.name, reading, Kind.MSR) for reading in dump.msrs.values()]
    for one in dump.program.definitions:
        found.append(mark(one.field, Reading(one.encoding, one.name, one.line), Kind.ENCODING))
    found += _outcome(dump, number, {one.line for one in found})
    return sorted(found, key=lambda mark: (mark.line, mark.first, mark.last, mark.what))


def _outcome(dump: Dump, number: int, marked: Collection[int]) -> list[Mark]:
    """The words that tell the outcome, on the first line that has them; none where a field on that line tells it."""
    words = dump.reported.text if dump.reported is not None else ""
    for line, text in enumerate(dump.lines, 1):
        at = text.find(words) if words else -1
        if at >= 0:
            return [Mark(line, at + 1, at + len(words), "reported outcome", Kind.OUTCOME, 0, dump=number)] if line not in marked else []
    return []


def annotation(dumps: Sequence[Dump]) -> Iterator[AnnotatedLine | Skipped]:
    """The lines of the text of these dumps, which are those of one text, and between them long stretches of which nothing was read."""
    lines = _text_of(dumps)
    found: dict[int, list[Mark]] = {}
    for number, dump in enumerate(dumps, 1):
        for mark in marks(dump, number):
            found.setdefault(mark.line, []).append(mark)
    warned: dict[int, list[str]] = {}
    for dump in dumps:
        for one in dump.warned:
            warned.setdefault(one.line, []).append(one.text)

    def line(number: int) -> AnnotatedLine:
        text, own = lines[number - 1], tuple(found.get(number, ()))
        return AnnotatedLine(number, text, own, tuple(dict.fromkeys(warned.get(number, ()))), not own and bool(_HAS_NUMBER.search(text)))

    for start, stop in _stretches(lines, found, warned):
        if stop - start > _MANY:
            yield from (line(index + 1) for index in range(start, start + _SHOWN))
            yield Skipped(start + _SHOWN + 1, stop - start - 2 * _SHOWN)
            start = stop - _SHOWN
        yield from (line(index + 1) for index in range(start, stop))


def _text_of(dumps: Sequence[Dump]) -> tuple[str, ...]:
    lines = max((dump.lines for dump in dumps), key=lambda one: sum(map(len, one)), default=())
    return lines[:-1] if lines and not lines[-1] else lines  # what stands behind the last line's end


def annotated(dumps: Sequence[Dump]) -> str:
    """The text of these dumps, which are those of one text, with a line of marks below each line of which something was read.

    `?` behind a field: something had to be assumed. `?` before a line: there are numbers in it, and nothing was read of it. `!`: a warning.
    """
    width = len(str(len(_text_of(dumps))))
    result: list[str] = []
    for one in annotation(dumps):
        if isinstance(one, Skipped):
            result.append(f"{'':{width}}   ({one.count} lines of which nothing was read)")
            continue
        result.append(f"{one.number:{width}} {'?' if one.unread else ' '} {visible(one.text)}".rstrip())
        result += [f"{'':{width}}   {row}" for row in _rows(one.marks, numbered=len(dumps) > 1)]
        result += [f"{'':{width}} ! {text}" for text in one.warnings]
    of_all = dict.fromkeys(one.text for dump in dumps for one in dump.warned if not one.line)
    return "\n".join([*result, *(f"{'':{width}} ! {text}" for text in of_all)]) + "\n"


def _stretches(lines: Sequence[str], found: dict[int, list[Mark]], warned: dict[int, list[str]]) -> list[tuple[int, int]]:
    """The lines of which something is said, one at a time, and those between them."""
    result, start = [], 0
    for number in sorted(number for number in {*found, *warned} if 0 < number <= len(lines)):
        result += [(start, number - 1), (number - 1, number)]
        start = number
    return [(one, other) for one, other in [*result, (start, len(lines))] if one < other]


def visible(line: str) -> str:
    """A line as long as it is, without what moves the cursor."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", line)


def _rows(found: Sequence[Mark], numbered: bool) -> list[str]:
    """The marks of a line on as many rows as they need: each name begins below its number. `numbered`: with the number of the dump."""
    rows: list[str] = []
    for mark in found:
        first = max(mark.first, 1)
        what = f"{mark.what} ({mark.dump})" if numbered else mark.what
        text = f"{'^' * (mark.last - mark.first + 1) if mark.first else '^'} {what}"
        for index, row in enumerate(rows):
            if len(row) + 1 < first:
                rows[index] = f"{row:{first - 1}}{text}"
                break
        else:
            rows.append(" " * (first - 1) + text)
    return rows
