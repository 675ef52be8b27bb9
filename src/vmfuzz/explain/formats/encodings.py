"""Reads encodings beside names: lists of them in any form, and lines that give a value too.

Languages and tables differ in everything but this: a line of a list has a name and a number, and nothing else that is a number; a line of a dump that
gives encodings has one number more. Where enough names stand beside the encoding that is their own, such numbers are no values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, groupby
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.explain.dump import SMALLEST_ENCODING, Definition, Reading, Standing, half, may_be_meant
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
    r"zero (?:it )?out|zeroed|__gfp_zero|kzalloc|calloc|implicitly (?:initiali[sz]ed|set) to zero|memset\([^;\n]*,\s*0\s*,|rtlzeromemory|bzero"
)
#: Encodings have 16 bits.
_HIGHEST: Final = 0xFFFF
#: An encoding without a name has at least so many digits, so that it cannot be a count.
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
#: What ends some lines of a list only.
_ENDS: Final = ",;)}"
#: A name, the field that it means, what stands beside it as its encoding (less 1 where the name is that of the field's high half).
_Meant = tuple[str, str, int]


@dataclass(frozen=True)
class _Entry(Definition):
    """What a line defines, the form of the line, and the value that it gives too, of the field whose encoding it has."""

    form: str
    place: Reading | None = None

    @property
    def is_constant(self) -> bool:
        """Whether the line can only define a constant."""
        return _CONSTANT.fullmatch(self.form) is not None


def collect(lines: Sequence[Line], found: Found, beside: bool = False) -> set[int]:
    """Note the definitions, the values beside encodings, which names are handed to something that writes fields, and whether the region was zeroed.

    Returns the numbers of the lines that are read. `beside`: what a dump in the same text gives goes before such values.
    """
    found.zeroed |= _ZEROED.search("\n".join(line.raw for line in lines).lower()) is not None
    if not any(_has_encoding(line.text) for line in lines):
        return set()  # most texts have none: that is found out in half the time
    believed = _believed(list(_among_encodings(lines)))
    sure = {one.name for one in found.evidence} if beside else set[str]()
    for one in believed:
        _note(one, found, sure)
    names = {one.name for one in believed}
    for line in lines if names else ():
        for word in sorted(names & handed_over(line.text)):
            found.written.setdefault(word, line.number)
    return {one.line for one in believed}


def _note(one: _Entry, found: Found, sure: Set[str]) -> None:
    """Note what a line defines, and the value that it gives, but that of a field that is `sure`."""
    if one.name:
        found.definitions.append(one)
    if one.place is None:
        return
    if one.place.name != one.field:
        found.warn(f"{encoded(one.encoding)} is {one.place.name}, but the line says {one.name}; the encoding is believed", one.line)
    if one.place.name not in sure:
        found.evidence.append(one.place)


@lru_cache(maxsize=1 << 13)
def _has_encoding(text: str) -> bool:
    return any(value >= SMALLEST_ENCODING and value & ~1 in BY_ENCODING for values in tokens_of(text).numbers for value in values)


def _among_encodings(lines: Iterable[Line]) -> Iterator[_Entry]:
    """What the lines define, without numbers that do not stand among encodings: these may be anything."""
    for _, run in groupby(_with_numbers(lines), key=bool):
        block = list(chain.from_iterable(run))
        among = any(one.right and one.encoding >= SMALLEST_ENCODING for one in block)
        yield from (one for one in block if among or one.place or (one.is_constant and one.encoding >= SMALLEST_ENCODING))


def _with_numbers(lines: Iterable[Line]) -> list[list[_Entry]]:
    """What each line with numbers defines; two numbers alone on a line may be anything, unless many stand together, nearly all with an encoding."""
    shapes = [shape for line in lines if (shape := _shape(line))[0]]
    bare = [bool(entries) for form, entries in shapes if form == _BARE]
    listed = len(bare) >= _MANY and sum(bare) * 10 >= len(bare) * 9
    return [entries for form, entries in shapes if listed or form != _BARE]


def _believed(entries: Sequence[_Entry]) -> list[_Entry]:
    """The names with their own encoding, and those of other fields with what may be one in lines of the same form, unless these are more."""
    right = [one for one in entries if one.right]
    if len(right) < _FEWEST and not any(one.place or one.is_constant for one in right):
        return []
    fields, forms = {one.field for one in right}, {one.form.rstrip(_ENDS) for one in right}
    others = [
        one for one in entries if one.form.rstrip(_ENDS) in forms and one.field not in fields and may_be_meant(one.field, one.encoding)
    ]
    return sorted(right + others, key=lambda one: one.line) if len(others) <= len(right) else right


def _shape(line: Line) -> tuple[str, list[_Entry]]:
    """The form of a line, however many words its names have, "" if it has no numbers; and what it defines."""
    tokens = tokens_of(line.text)
    words, numbers = tokens.words, tokens.numbers
    form = _LABEL.sub("w", tokens.form) if numbers else ""
    pairs = [] if _NO_PAIR.search(line.text) else _paired(words[:-1], numbers) or _paired(words[1:], numbers)
    if pairs and all(encoding <= _HIGHEST for *_, encoding in pairs):
        return form, [_Entry(*pair, line.number, form) for pair in pairs]
    row = row_of(tidy(line.text)) if len(numbers) > 1 else None
    if row is None or not row.number or row.high:
        return form, []
    return form if row.name or row.sign == "=" else _BARE, _valued(row, line.number, form)


def _valued(row: Row, line: int, form: str) -> list[_Entry]:
    """The value of a field that is named by an encoding, or by both; nothing where the number is no encoding."""
    encoding = read_number(row.number, True)
    value = read_number(row.value, None if row.name_first and row.number[:2] == "0x" else True)
    found = _meant_by(row, encoding) if encoding is not None else None
    if encoding is None or value is None or found is None:
        return []
    meant, of = found
    other = BY_ENCODING.get(value)
    if other and other.name.startswith("host_") and match_label(meant[0]).assumed_guest:
        return []  # one name has the encodings of both
    label, bits = meant[0] or encoded(meant[2]), half(encoding)
    place = Reading(value << 32 * (encoding & 1), label, line, bits, name=of, standing=Standing.NAMED, written=row.value)
    return [_Entry(*meant, line, form, place)]


def _meant_by(row: Row, encoding: int) -> tuple[_Meant, str] | None:
    """What the name of a row and the number beside it mean, and the field whose value stands there; None where the number is no encoding."""
    meant = _named(row.name.split(), [encoding])
    target = None if row.name_first else BY_ENCODING.get(encoding & ~1)  # (an author who puts a name first believes in it)
    if meant is None and target and len(row.number.lower().replace("0x", "0")) >= _FEWEST_DIGITS:
        meant = row.name, target.name, target.encoding
    if meant is None or not may_be_meant(meant[1], encoding) or not (row.name_first or target):
        return None
    return meant, target.name if target else meant[1]


def _paired(names: Sequence[list[str]], numbers: Sequence[list[int]]) -> list[_Meant]:
    """Each number with its name; nothing unless all numbers have a name of their own."""
    pairs = [meant for words, values in zip(names, numbers, strict=True) if (meant := _named(words, values))]
    return pairs if len(pairs) == len(numbers) else []


def _named(words: list[str], values: list[int]) -> _Meant | None:
    """The name among the words, and its field; where it names several, the one that has this number as its encoding."""
    name, match = _label(words[-_WORDS:])
    fields = [*match.fields, *(field.replace("guest_", "host_", 1) for field in match.fields if match.assumed_guest)]
    encodings = [value - match.high for value in values]
    own = next((FIELDS[field] for field in fields if field in FIELDS and FIELDS[field].encoding in encodings), None)
    if own is not None:
        return name, own.name, own.encoding
    number = next((encoding for encoding in encodings if encoding in BY_ENCODING), encodings[0])
    return (name, fields[0], number) if len(fields) == 1 else None


def _label(words: list[str]) -> tuple[str, Match]:
    """The longest label among the words that names a field, or the one word of it that names it alone, and what it means."""
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length, -1, -1):
            label = words[start : start + length]
            match = match_label(" ".join(label))
            if match.fields:
                return next((word for word in label if match_label(word).fields == match.fields), " ".join(label)), match
    return "", NOTHING
