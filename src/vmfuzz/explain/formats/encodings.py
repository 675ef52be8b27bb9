"""Reads encodings beside names: lists of them in any form, and lines that give a value too.

Languages and tables differ in everything but this: a line of a list has a name and a number, and nothing else that is a number; a line of a dump that
gives encodings has one number more. Where enough names stand beside the encoding that is their own, such numbers are no values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Final, NamedTuple

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.explain.dump import ALL, SMALLEST_ENCODING, Definition, Reading, Standing, half, may_be_meant
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.program import handed_over
from vmfuzz.explain.formats.shapes import tidy
from vmfuzz.explain.formats.tokens import Row, row_of, tokens_of
from vmfuzz.explain.names.labels import NOTHING, Match, match_label
from vmfuzz.explain.text.lines import Line
from vmfuzz.explain.text.numbers import read_number
from vmfuzz.hexadecimal import encoded
from vmfuzz.patterns import deferred

#: `vmwrite(0x6C02, guest_cr3)` hands a value over, and `(0x0810) guest_interrupt_status = unavailable` is a line of a dump: they name nothing.
_NO_PAIR: Final = deferred(
    r"(?:write|read|wr|rd|(?<!off)set|get|load|store)\w{0,20}\s*(?:::<\w+>)?[(!]|\bvm(?:write|read)\b[^,(]{1,80},|"
    r"[=:<(|\[]\s*(?:un(?:available|supported|known|defined|readable)|not\s[\w ]{1,20}|n/?a|none|null|fail\w*|err\w*|invalid|missing|-+)[\s>)|\]]*$",
    re.IGNORECASE,
)
_ZEROED: Final = deferred(
    r"zero (?:it )?out|zeroed|__GFP_ZERO|kzalloc|calloc|implicitly (?:initiali[sz]ed|set) to zero|memset\([^;]*,\s*0\s*,|RtlZeroMemory|bzero",
    re.IGNORECASE,
)
#: Encodings have 16 bits.
_HIGHEST: Final = 0xFFFF
#: One without a name has at least so many digits, so that it cannot be a count.
_FEWEST_DIGITS: Final = 4
#: The form of a line of nothing but an encoding and a value; so many stand together, nine of ten with an encoding, or they are anything.
_BARE, _MANY = "nn", 5
#: At least so many names of a list have the encoding that is their own. (One alone may be an accident, if its line may be more than a constant.)
_FEWEST: Final = 2
#: A label has no more words than this.
_WORDS: Final = 6
_LABEL: Final = deferred(r"w(?:[-/]?w)*")
#: The form of a line that can only define a constant: for C's preprocessor, or an element of an enumeration (`GUEST_CR0 = 0x6800,`).
_CONSTANT: Final = deferred(r"#.*|.*[,;]")
#: What Xen printed before version 3.1: under a title rows of values, the first one's encoding before them, "------" for no field. Encodings of
#: 64-bit fields go on by 1, so that each is followed by its upper half; others by 2.
_TITLE: Final = deferred(r"(?:(?:16|32|64)-bit|Natural)\b.*\b(?:Control|Read-Only|Guest-State|Host-State)\b.*Fields", re.IGNORECASE)
_TABLE: Final = deferred(r"0x(?P<first>[0-9a-fA-F]{8}): *(?P<values>(?: *\b(?:0x)?[0-9a-fA-F]{4,16}\b| *-{4,}){1,4})")
_HALVED: Final = range(0x2000, 0x4000)


class _Entry(NamedTuple):
    """A name, the field that it means, what stands beside it as its encoding (less 1 where the name is that of the field's high half).

    Where the line gives a value: the field that this is of, which bits of it are known, and what is written.
    """

    name: str
    field: str
    number: int
    right: bool
    target: str = ""
    value: int = 0
    known: int = ALL
    written: str = ""


class _Shape(NamedTuple):
    """The entries of a line, and its form, however many words its names have; "" if it has no numbers."""

    entries: Sequence[_Entry]
    form: str


def collect(lines: Sequence[Line], found: Found, beside: bool = False) -> set[int]:
    """Note the definitions, the values beside encodings, which names are handed to something that writes fields, and whether the region was zeroed.

    Returns the numbers of the lines that are read. `beside`: what a dump in the same text gives goes before such values.
    """
    found.zeroed |= any(_says_zeroed(line.raw) for line in lines)
    if not any(_has_encoding(line.text) for line in lines):
        return set()  # most texts have none: that is found out in half the time
    taken, names = set[int](), set[str]()
    sure = {one.name for one in found.evidence} if beside else set[str]()
    for line, entry in _believed(_shapes(lines)):
        taken.add(line)
        if entry.name:
            found.definitions.append(Definition(*entry[:3], line))
            names.add(entry.name)
        if entry.target not in ("", entry.field):
            found.warn(f"{encoded(entry.number)} is {entry.target}, but the line says {entry.name}; the encoding is believed", line)
        if entry.target and entry.target not in sure:
            label = entry.name or encoded(entry.number)
            found.evidence.append(Reading(entry.value, label, line, entry.known, "", entry.target, Standing.NAMED, entry.written))
    for one in lines if names else ():
        for word in sorted(names & handed_over(one.text)):
            found.written.setdefault(word, one.number)
    return taken


@lru_cache(maxsize=1 << 13)
def _says_zeroed(raw: str) -> bool:
    return _ZEROED.search(raw) is not None


@lru_cache(maxsize=1 << 13)
def _has_encoding(text: str) -> bool:
    return any(value >= SMALLEST_ENCODING and value & ~1 in BY_ENCODING for values in tokens_of(text).numbers for value in values)


def _rows_of_table(line: Line) -> list[Line]:
    """The values of a row of Xen's tables, each in a line of its own with its encoding."""
    row = _TABLE.fullmatch(line.text)
    if row is None:
        return [line]
    first, values = int(row["first"], 16), row["values"].split()
    step = 1 if first in _HALVED else 2
    return [line._replace(text=f"{encoded(first + step * index)} = {value}") for index, value in enumerate(values) if value[0] != "-"]


def _shapes(lines: Sequence[Line]) -> list[tuple[int, _Shape]]:
    """The shapes of the lines with numbers; those of two numbers alone only where many stand together, nearly all with an encoding."""
    if any(_TITLE.match(line.text) for line in lines):
        lines = [row for line in lines for row in _rows_of_table(line)]
    shapes = [(line.number, shape) for line in lines if (shape := _shape(line.text)).form]
    bare = [bool(shape.entries) for _, shape in shapes if shape.form == _BARE]
    if len(bare) >= _MANY and sum(bare) * 10 >= len(bare) * 9:
        return shapes
    return [one for one in shapes if one[1].form != _BARE]


def _among_encodings(shapes: Sequence[tuple[int, _Shape]]) -> Iterator[tuple[int, _Entry, str]]:
    """The entries with their lines and the forms of these, without numbers that do not stand among encodings: these may be anything."""
    for _, run in groupby(shapes, key=lambda one: bool(one[1].entries)):
        block = [(line, entry, shape.form) for line, shape in run for entry in shape.entries]
        among = any(entry.right and entry.number >= SMALLEST_ENCODING for _, entry, _ in block)
        for line, entry, form in block:
            if among or entry.target or (entry.number >= SMALLEST_ENCODING and _CONSTANT.fullmatch(form)):
                yield line, entry, form


def _believed(shapes: Sequence[tuple[int, _Shape]]) -> list[tuple[int, _Entry]]:
    """The names with their own encoding, and those of other fields with what may be one in lines of the same form, unless these are more."""
    places = list(_among_encodings(shapes))
    right = [place for place in places if place[1].right]
    if len(right) < _FEWEST and not any(entry.target or _CONSTANT.fullmatch(form) for _, entry, form in right):
        return []
    fields, forms = {entry.field for _, entry, _ in right}, {_without_end(form) for *_, form in right}
    others = [
        (line, entry, form)
        for line, entry, form in places
        if _without_end(form) in forms and entry.field not in fields and may_be_meant(entry.field, entry.number)
    ]
    believed = sorted(right + others, key=lambda place: place[0]) if len(others) <= len(right) else right
    return [(line, entry) for line, entry, _ in believed]


def _without_end(form: str) -> str:
    """A form without what ends some lines of a list only."""
    return form.rstrip(",;)}")


@lru_cache(maxsize=1 << 13)
def _shape(text: str) -> _Shape:
    tokens = tokens_of(text)
    words, numbers = tokens.words, tokens.numbers
    form = _LABEL.sub("w", tokens.form) if numbers else ""
    pairs = [] if _NO_PAIR.search(text) else _paired(words[:-1], numbers) or _paired(words[1:], numbers) or _both(words, numbers)
    if pairs and all(pair.number <= _HIGHEST for pair in pairs):
        return _Shape(pairs, form)
    row = row_of(tidy(text)) if len(numbers) > 1 else None
    if row and row.number and not row.high:
        return _Shape(_valued(row), form if row.name or row.sign == "=" else _BARE)
    return _Shape((), form)


def _valued(row: Row) -> list[_Entry]:
    """The value of a field that is named by an encoding, or by both; nothing where the number is no encoding."""
    encoding = read_number(row.number, True)
    value = read_number(row.value, None if row.name_first and row.number[:2] == "0x" else True)
    if encoding is None or value is None:
        return []
    entry = _named(row.name.split(), [encoding])
    target = None if row.name_first else BY_ENCODING.get(encoding & ~1)  # (an author who puts a name first believes in it)
    if entry is None and target and len(row.number.lower().replace("0x", "0")) >= _FEWEST_DIGITS:
        entry = _Entry(row.name, target.name, target.encoding, True)
    if entry is None or not may_be_meant(entry.field, encoding) or not (row.name_first or target):
        return []
    of = target.name if target else entry.field
    return [entry._replace(target=of, value=value << 32 * (encoding & 1), known=half(encoding), written=row.value)]


def _paired(names: Sequence[list[str]], numbers: Sequence[list[int]]) -> list[_Entry]:
    """Each number with its name; nothing unless all numbers have a name of their own."""
    found = [_named(words, values) for words, values in zip(names, numbers, strict=True)]
    pairs = [pair for pair in found if pair is not None]
    return pairs if len(pairs) == len(numbers) else []


def _both(words: Sequence[list[str]], numbers: Sequence[list[int]]) -> list[_Entry]:
    """One name, of no area, with the encodings of the guest's field and of the host's beside it."""
    found = _named([word for run in words for word in run], numbers[0]) if len(numbers) == 2 else None
    of_host = BY_ENCODING.get(min(numbers[1])) if found and match_label(found.name).assumed_guest else None
    if found is None or of_host is None or not of_host.name.startswith("host_"):
        return []
    host = found.field.replace("guest_", "host_", 1)
    return [found, _Entry(found.name, host, of_host.encoding, host == of_host.name)]


def _named(words: list[str], values: list[int]) -> _Entry | None:
    """The name among the words, and its field; where it names several, the one that has this number as its encoding."""
    name, match = _label(words[-_WORDS:])
    fields = [*match.fields, *(field.replace("guest_", "host_", 1) for field in match.fields if match.assumed_guest)]
    encodings = [value - match.high for value in values]
    own = next((FIELDS[field] for field in fields if field in FIELDS and FIELDS[field].encoding in encodings), None)
    if own is not None:
        return _Entry(name, own.name, own.encoding, True)
    number = next((encoding for encoding in encodings if encoding in BY_ENCODING), encodings[0])
    return _Entry(name, fields[0], number, False) if len(fields) == 1 else None


def _label(words: list[str]) -> tuple[str, Match]:
    """The longest label among the words that names a field, or the one word of it that names it alone, and what it means."""
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length, -1, -1):
            label = words[start : start + length]
            match = match_label(" ".join(label))
            if match.fields:
                return next((word for word in label if match_label(word).fields == match.fields), " ".join(label)), match
    return "", NOTHING
