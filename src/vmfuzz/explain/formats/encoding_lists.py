"""Reads lists of encodings in any form: what each name was meant to be, and the encoding that it has been given.

Languages and tables differ in everything but this: a line has a name and a number, and nothing else that is a number. Where most names of a block
stand beside the encoding that is their own, no number in it is a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.explain.dump import SMALLEST_ENCODING, Definition, may_be_meant
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.program import handed_over
from vmfuzz.explain.names.labels import NOTHING, Match, match_label
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

#: Numbers as C, assemblers, Pascal ($) and Ada (16#..#) write them, and digits without any mark: a letter alone is a number at the end of a line.
_NUMBER: Final = (
    r"(?<![\w.$#])(?:0[xX](?P<hex>[0-9a-fA-F_]+?)(?:_?[uUiI](?:8|16|32|64|size)|[uUlL]{1,3})?|(?P<suffixed>[0-9a-fA-F]{1,16})[hH]"
    r"|(?:\$|16#)(?P<marked>[0-9a-fA-F_]{1,12})\#?|(?P<bare>[0-9][0-9a-fA-F]{0,15}|[a-fA-F](?:[0-9a-fA-F]{1,15}|(?=\W*$)))[uUlL]{0,3})(?!\w)"
)
_TOKEN: Final = deferred(rf"{_NUMBER}|(?P<word>[A-Za-z_][\w.]{{0,79}})")
#: A comment within a line, or to its end.
_ASIDE: Final = deferred(r"/\*[^*]*(?:\*/|$)|//.*|\s(?:(?:#|--)\s|;).*")
#: `vmwrite(0x6C02, guest_cr3)` hands a value over, and `(0x0810) guest_interrupt_status = unavailable` is a line of a dump: they name nothing.
_NO_PAIR: Final = deferred(
    r"(?:write|read|wr|rd|set|get|load|store)\w{0,20}\s*(?:::<\w+>)?[(!]|\bvm(?:write|read)\b[^,(]{1,80},|"
    r"[=:<(|\[]\s*(?:un(?:available|supported|known|defined|readable)|not\s[\w ]{1,20}|n/?a|none|null|fail\w*|err\w*|invalid|missing|-+)[\s>)|\]]*$",
    re.IGNORECASE,
)
#: A line that can only define a constant: for C's preprocessor, of a type, of an enumeration (`GUEST_CR0 = 0x6800,`).
_CONSTANT: Final = deferred(r"#\s*define\b.*|(?:[\w()]+\s+)*const(?:expr)?\b.*|\w+\s*=\s*\w+\s*,\s*(?:/[/*].*)?")
_ZEROED: Final = deferred(
    r"zero(?:ed)? (?:it )?out|zeroed|get_zeroed_page|__GFP_ZERO|kzalloc|calloc|alloc_zeroed|implicitly (?:initiali[sz]ed|set) to zero|"
    r"memset\([^;]*,\s*0\s*,|RtlZeroMemory|bzero",
    re.IGNORECASE,
)
#: A list of encodings has no longer lines than this.
_LONGEST: Final = 400
#: Encodings have 16 bits.
_HIGHEST: Final = 0xFFFF
#: A label has no more words than this.
_WORDS: Final = 6
#: At least so many of a block's names, and so great a part of them, have the encoding that is their own. (One alone may be an accident.)
_FEWEST, _PART = 2, (2, 3)


class _Pair(NamedTuple):
    """A name, the field that it means, and the number beside it (less 1 where the name is that of the field's high half)."""

    name: str
    field: str
    number: int


class _Shape(NamedTuple):
    """The pairs of a line; whether it may stand within a list although it has none; what is left without its words and numbers."""

    pairs: Sequence[_Pair]
    passes: bool
    form: str = ""


def collect(lines: Sequence[Line], found: Found) -> set[int]:
    """Note the definitions, which of their names are handed to something that writes fields, and whether the region was zeroed; returns their lines."""
    found.zeroed = found.zeroed or any(_says_zeroed(line.raw) for line in lines)
    taken, definitions = set[int](), list[Definition]()
    for listed in _lists(lines):
        definitions += listed
        taken |= set(range(listed[0].line, listed[-1].line + 1))
    constants = _constants(lines)
    definitions += [one for one in constants if one.line not in taken and may_be_meant(one.field, one.encoding)]
    found.definitions += definitions
    names = {one.name for one in definitions}
    for line in lines if names else ():
        for word in sorted(names & handed_over(line.text)):
            found.written.setdefault(word, line.number)
    return taken | {one.line for one in constants}


@lru_cache(maxsize=1 << 13)
def _says_zeroed(raw: str) -> bool:
    return _ZEROED.search(raw) is not None


def _lists(lines: Sequence[Line]) -> Iterator[list[Definition]]:
    """The lists of encodings: blocks without what stands before or behind them and is no encoding, or has another form (lines of a dump)."""
    if sum(_encodings_in(line.text) for line in lines) < _FEWEST:
        return  # most texts have none: that is found out in half the time
    for block in _blocks(lines):
        forms = {form for one, form in block if one.right}
        kept = [index for index, (one, form) in enumerate(block) if one.right or (form in forms and may_be_meant(one.field, one.encoding))]
        listed = [one for one, _ in block[kept[0] : kept[-1] + 1]] if kept else []
        if _is_list(listed):
            yield listed


@lru_cache(maxsize=1 << 13)
def _encodings_in(text: str) -> int:
    """How many numbers of a line may be encodings."""
    numbers = (match for match in _TOKEN.finditer(text[:_LONGEST]) if not match["word"])
    return sum(any(value & ~1 in BY_ENCODING for value in _values(number)) for number in numbers)


def _is_list(definitions: Sequence[Definition]) -> bool:
    right = [one.encoding for one in definitions if one.right]
    return len(right) >= _FEWEST and len(right) * _PART[1] >= len(definitions) * _PART[0] and max(right) >= SMALLEST_ENCODING


def _constants(lines: Sequence[Line]) -> list[Definition]:
    """What the lines that can only define constants give, wherever they stand, if at least half of them give a field its encoding."""
    found = [Definition(*pair, line.number) for line in lines if _CONSTANT.fullmatch(line.text) for pair in _shape(line.text).pairs]
    return found if sum(one.right for one in found) * 2 >= len(found) else []


def _blocks(lines: Sequence[Line]) -> Iterator[list[tuple[Definition, str]]]:
    """Pairs that stand together, with their forms: no line with numbers of another kind is between them, and no field has two different numbers."""
    block: list[tuple[Definition, str]] = []
    numbers: dict[str, int] = {}
    for line in lines:
        pairs, passes, form = _shape(line.text)
        if (block and not (pairs or passes)) or any(numbers.get(pair.field, pair.number) != pair.number for pair in pairs):
            yield block
            block, numbers = [], {}
        block += [(Definition(*pair, line.number), form) for pair in pairs]
        numbers.update((pair.field, pair.number) for pair in pairs)
    yield block


@lru_cache(maxsize=1 << 13)
def _shape(text: str) -> _Shape:
    bare = _ASIDE.sub(" ", text[:_LONGEST])
    if len(text) > _LONGEST or _NO_PAIR.search(bare):
        return _Shape((), False)
    between: list[list[str]] = [[]]  # the words before the first number, behind it, behind the second ...
    numbers = []
    for match in _TOKEN.finditer(bare):
        if match["word"]:
            between[-1].append(match["word"])
        else:
            numbers.append(_values(match))
            between.append([])
    if not numbers:
        return _Shape((), True)
    pairs = _paired(between[:-1], numbers) or _paired(between[1:], numbers) or _both(between, numbers)
    if pairs and all(pair.number <= _HIGHEST for pair in pairs):
        return _Shape(pairs, True, "".join(_TOKEN.sub("", bare).split()).rstrip(",;)}"))
    return _Shape((), len(numbers) == 1 and min(numbers[0]) <= _HIGHEST and any(between))


def _values(match: re.Match[str]) -> tuple[int, ...]:
    """What a number may be: one without any mark is decimal or hexadecimal."""
    if match["bare"] is None:
        return (int((match["hex"] or match["suffixed"] or match["marked"]).replace("_", "") or "0", 16),)
    text = match["bare"]
    return (int(text, 16), int(text)) if text.isdecimal() else (int(text, 16),)


def _paired(names: Sequence[list[str]], numbers: Sequence[tuple[int, ...]]) -> list[_Pair]:
    """Each number with its name; nothing unless all numbers have a name of their own."""
    found = [_named(words, values) for words, values in zip(names, numbers, strict=True)]
    pairs = [pair for pair in found if pair is not None]
    return pairs if len(pairs) == len(numbers) else []


def _both(words: Sequence[list[str]], numbers: Sequence[tuple[int, ...]]) -> list[_Pair]:
    """One name with the encodings of the guest's field and of the host's beside it."""
    found = _named([word for run in words for word in run], numbers[0]) if len(numbers) == 2 else None
    host = found.field.replace("guest_", "host_", 1) if found else ""
    of_fields = all(min(values) >= SMALLEST_ENCODING and min(values) & ~1 in BY_ENCODING for values in numbers)
    return [found, _Pair(found.name, host, min(numbers[1]))] if found and found.field != host in FIELDS and of_fields else []


def _named(words: list[str], values: tuple[int, ...]) -> _Pair | None:
    """The name among the words, and its field; where it names several, the one that has this number as its encoding."""
    name, match = _label(words[-_WORDS:])
    fields = [*match.fields, *(field.replace("guest_", "host_", 1) for field in match.fields if match.assumed_guest)]
    encodings = [value - match.high for value in values]
    own = next((FIELDS[field] for field in fields if field in FIELDS and FIELDS[field].encoding in encodings), None)
    if own is not None:
        return _Pair(name, own.name, own.encoding)
    number = next((encoding for encoding in encodings if encoding in BY_ENCODING), encodings[0])
    return _Pair(name, fields[0], number) if len(fields) == 1 else None


def _label(words: list[str]) -> tuple[str, Match]:
    """The longest label among the words that names a field, or the one word of it that names it alone, and what it means."""
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length, -1, -1):
            label = words[start : start + length]
            match = match_label(" ".join(label))
            if match.fields:
                return next((word for word in label if match_label(word).fields == match.fields), " ".join(label)), match
    return "", NOTHING
