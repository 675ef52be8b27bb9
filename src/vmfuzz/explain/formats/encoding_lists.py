"""Reads lists of encodings in any form: what each name was meant to be, and the encoding that it has been given.

Languages and tables differ in everything but this: a line has a name and a number, and nothing else that is a number. Where most names of a block
stand beside the encoding that is their own, no number in it is a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.explain.dump import SMALLEST_ENCODING, Definition, may_be_meant
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.program import handed_over
from vmfuzz.explain.names.labels import match_label
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

#: Numbers as C, assemblers, Pascal ($), Ada (16#..#), Lisp (#x), Basic (&H) and Verilog ('h) write them, and without any mark.
_NUMBER: Final = (
    r"(?<![\w.$#'&])(?:0[xX](?P<hex>[0-9a-fA-F_]+?)(?:_?[uUiI](?:8|16|32|64|size)|[uUlL]{1,3})?|(?P<suffixed>[0-9][0-9a-fA-F]{0,9})[hH]"
    r"|(?:\$|16#|\#[xX]|&[hH]|\d{0,2}'[hH])(?P<marked>[0-9a-fA-F_]{1,12})\#?|(?P<bare>[0-9][0-9a-fA-F]{0,15})[uUlL]{0,3})(?!\w)"
)
_TOKEN: Final = deferred(rf"{_NUMBER}|(?P<word>[A-Za-z_][\w.]{{0,79}})")
#: A comment to the end of the line, and one within it; "16-bit" says how wide a field is.
_ASIDE: Final = deferred(r"/\*[^*]*(?:\*/|$)|//.*|\s(?:#|--)\s.*|\s;.*|\b(?:16|32|64)[- ][Bb]it\b")
#: `vmwrite(0x6C02, guest_cr3)` hands a value over, it names nothing.
_CALL: Final = deferred(r"(?:write|read|wr|rd|set|get|load|store)\w{0,20}\s*(?:::<\w+>)?[(!]|\bvm(?:write|read)[^,(]{1,80},", re.IGNORECASE)
#: `(0x0810) guest_interrupt_status = unavailable` is a line of a dump.
_ABSENT: Final = deferred(
    r"[=:<(|\[]\s*(?:un(?:available|supported|known|defined|readable)|not\s[\w ]{1,20}|n/?a|none|null|fail\w*|err\w*|invalid|missing|-+)[\s>)|\]]*$",
    re.IGNORECASE,
)
#: A line that can only define a constant: of an enumeration (`GUEST_CR0 = 0x6800,`), for C's preprocessor, of a type.
_CONSTANT: Final = deferred(
    r"(?:#\s*define\s+(?P<defined>\w+)\s+|(?:[\w()]+\s+)*?const(?:expr)?\s+(?:[\w:]+\s+)*?(?P<typed>\w+)\s*(?::\s*[\w:]+)?\s*=\s*|"
    r"(?P<listed>[A-Za-z_]\w*)\s*=\s*(?=\w+\s*,))0[xX]0*(?P<number>[0-9a-fA-F]{1,4})[uUlL]*\s*[,;]?\s*(?:/[/*].*)?$"
)
_ZEROED: Final = deferred(
    r"zero(?:ed)? (?:it )?out|zeroed|get_zeroed_page|__GFP_ZERO|kzalloc|calloc|alloc_zeroed|implicitly (?:initiali[sz]ed|set) to zero|"
    r"memset\([^;]*,\s*0\s*,|RtlZeroMemory|bzero",
    re.IGNORECASE,
)
#: A list of encodings has no longer lines than this.
_LONGEST: Final = 400
#: A word that is a number without any mark, if there is another number beside it: a value behind an encoding.
_HEX: Final = deferred(r"[0-9a-fA-F]{1,16}[hH]?")
#: A label has no more words than this.
_WORDS: Final = 6
#: At least so many of a block's names, and so great a part of them, have the encoding that is their own. (One alone may be an accident.)
_FEWEST, _PART = 2, (2, 3)


@dataclass(frozen=True)
class _Pair:
    """A name, the field that it means, and the number beside it (less 1 where the name is that of the field's high half)."""

    name: str
    field: str
    number: int
    line: int
    #: the line with its words and numbers taken out
    form: str

    @property
    def right(self) -> bool:
        return FIELDS[self.field].encoding == self.number

    @property
    def may_be_meant(self) -> bool:
        """Whether the number can be an encoding that its author took for this field's."""
        return may_be_meant(self.field, self.number)


def collect(lines: Sequence[Line], found: Found) -> set[int]:
    """Note the definitions, which of their names are handed to something that writes fields, and whether the region was zeroed; returns their lines."""
    found.zeroed = found.zeroed or any(_says_zeroed(line.raw) for line in lines)
    definitions, taken = _find(lines)
    listed = {(one.name, one.line) for one in definitions}
    definitions += [one for one in _constants(lines) if (one.name, one.line) not in listed]
    found.definitions += definitions
    names = {definition.name for definition in definitions}
    for line in lines if names else ():
        for word in sorted(names & handed_over(line.text)):
            found.written.setdefault(word, line.number)
    return taken | {one.line for one in definitions}


def _constants(lines: Sequence[Line]) -> list[Definition]:
    """The lines that can only define constants, wherever they stand, if at least half of them give a field its encoding."""
    found = [Definition(name, field, number, line.number) for line in lines for name, field, number in _constant(line.text)]
    return found if sum(one.right for one in found) * 2 >= len(found) else []


@lru_cache(maxsize=1 << 13)
def _constant(text: str) -> tuple[tuple[str, str, int], ...]:
    """(name, field and number) of a constant that is named as one field."""
    match = _CONSTANT.match(text)
    name = (match["defined"] or match["typed"] or match["listed"]) if match else ""
    meant = match_label(name)
    return ((name, meant.fields[0], int(match["number"], 16) - meant.high),) if match and len(meant.fields) == 1 else ()


@lru_cache(maxsize=1 << 13)
def _says_zeroed(raw: str) -> bool:
    return _ZEROED.search(raw) is not None


def _find(lines: Sequence[Line]) -> tuple[list[Definition], set[int]]:
    """The definitions in all lists of encodings, and the numbers of the lines that the lists take up."""
    if sum(_has_encoding(line.text) for line in lines) < _FEWEST:
        return [], set()
    definitions, taken = [], set()
    for pairs in _blocks(lines):
        block = _trimmed(pairs)
        right = sum(pair.right for pair in block)
        if (
            right < _FEWEST
            or right * _PART[1] < len(block) * _PART[0]
            or not any(pair.right and pair.number >= SMALLEST_ENCODING for pair in block)
        ):
            continue
        definitions += [Definition(pair.name, pair.field, pair.number, pair.line) for pair in block if pair.number <= 0xFFFF]
        first, last = block[0].line, block[-1].line
        taken |= {line.number for line in lines if first <= line.number <= last}
    return definitions, taken


def _trimmed(pairs: list[_Pair]) -> list[_Pair]:
    """The block without what stands before or behind it and is no encoding, or has another form: lines of a dump."""
    forms = {pair.form for pair in pairs if pair.right}
    kept = [index for index, pair in enumerate(pairs) if pair.right or (pair.may_be_meant and pair.form in forms)]
    return pairs[kept[0] : kept[-1] + 1] if kept else []


def _blocks(lines: Sequence[Line]) -> Iterator[list[_Pair]]:
    """Pairs that stand together: no line with numbers of another kind is between them, and no field is there twice with different numbers."""
    block: list[_Pair] = []
    numbers: dict[str, int] = {}
    for line in lines:
        found, passes, form = _shape(line.text)
        if not found:
            if block and not passes:
                yield block
                block, numbers = [], {}
            continue
        pairs = [_Pair(name, field, number, line.number, form) for name, field, number in found]
        if any(numbers.get(pair.field, pair.number) != pair.number for pair in pairs):
            yield block
            block, numbers = [], {}
        block += pairs
        numbers.update((pair.field, pair.number) for pair in pairs)
    yield block


@lru_cache(maxsize=1 << 13)
def _has_encoding(text: str) -> bool:
    return any(
        value >= SMALLEST_ENCODING and value & ~1 in BY_ENCODING
        for match in _TOKEN.finditer(text[:_LONGEST])
        if match["word"] is None
        for value in _values(match)
    )


def _has_number(text: str) -> bool:
    return any(match["word"] is None for match in _TOKEN.finditer(text))


def _values(match: re.Match[str]) -> tuple[int, ...]:
    """What a number may be: one without any mark is decimal or hexadecimal."""
    if match["bare"] is None:
        return (int((match["hex"] or match["suffixed"] or match["marked"]).replace("_", "") or "0", 16),)
    text = match["bare"]
    return (int(text, 16), int(text)) if text.isdecimal() else (int(text, 16),)


@lru_cache(maxsize=1 << 13)
def _shape(text: str) -> tuple[tuple[tuple[str, str, int], ...], bool, str]:
    """(name, field and number of each pair on a line; whether the line may stand within a list although it has no pair; its form)."""
    if len(text) > _LONGEST or _CALL.search(text):
        return (), False, ""
    bare = _ASIDE.sub(" ", text)
    if _ABSENT.search(bare):
        return (), not _has_number(bare), ""
    parts: list[list[str] | tuple[int, ...]] = []  # words, number, words, ...
    for match in _TOKEN.finditer(bare):
        if match["word"] is None:
            parts.append(_values(match))
        elif parts and isinstance(parts[-1], list):
            parts[-1].append(match["word"])
        else:
            parts.append([match["word"]])
    numbers = [part for part in parts if isinstance(part, tuple)]
    if not numbers:
        return (), True, ""
    words = [word for part in parts if isinstance(part, list) for word in part]
    if any(_HEX.fullmatch(word) and len(word) > 1 for word in words) or (
        words and _HEX.fullmatch(words[-1]) and isinstance(parts[-1], list)
    ):
        return (), False, ""
    pairs = _paired(parts, len(numbers)) or _paired(parts[::-1], len(numbers))[::-1] or _both(words, numbers)
    if pairs:
        return tuple(pairs), True, "".join(_TOKEN.sub("", bare).split()).rstrip(",;)}")
    return (), len(numbers) == 1 and min(numbers[0]) <= 0xFFFF and any(isinstance(part, list) for part in parts), ""


def _paired(parts: Sequence[list[str] | tuple[int, ...]], count: int) -> list[tuple[str, str, int]]:
    """Each number with the words before it; nothing unless all numbers have a name of their own."""
    pairs = []
    for words, number in pairwise(parts):
        if isinstance(words, list) and isinstance(number, tuple):
            pair = _named(words, number)
            if pair is not None:
                pairs.append(pair)
    return pairs if len(pairs) == count else []


def _both(words: list[str], numbers: list[tuple[int, ...]]) -> list[tuple[str, str, int]]:
    """One name with the encodings of the guest's field and of the host's beside it, of which at least one is right."""
    found = _named(words, numbers[0]) if len(numbers) == 2 else None
    host = found[1].replace("guest_", "host_", 1) if found is not None and found[1].startswith("guest_") else ""
    if (
        found is None
        or host not in FIELDS
        or not all(min(number) >= SMALLEST_ENCODING and min(number) & ~1 in BY_ENCODING for number in numbers)
    ):
        return []
    return [found, (found[0], host, min(numbers[1]))]


def _named(words: list[str], values: tuple[int, ...]) -> tuple[str, str, int] | None:
    """The longest label among the words that names a field, with that field; where it names several, the one that has this number as encoding."""
    words = words[-_WORDS:]
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length, -1, -1):
            match = match_label(" ".join(words[start : start + length]))
            if not match.fields:
                continue
            fields = [*match.fields, *(field.replace("guest_", "host_", 1) for field in match.fields if match.assumed_guest)]
            name = _shortest(words[start : start + length], match.fields)
            for field in fields:
                for value in values:
                    if field in FIELDS and FIELDS[field].encoding == value - match.high:
                        return name, field, value - match.high
            if len(fields) > 1:
                return None
            number = next((value for value in values if value & ~1 in BY_ENCODING), values[0])
            return name, fields[0], number - match.high
    return None


def _shortest(words: list[str], fields: tuple[str, ...]) -> str:
    """The one word of a label that names the field, or the label."""
    return next((word for word in words if match_label(word).fields == fields), " ".join(words))
