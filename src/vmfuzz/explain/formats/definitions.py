"""Lists of encodings in source text: what each name was meant to be, and the encoding it has been given.

Here are the forms that can only be definitions (enum, #define, constants, EQU), of which half may be wrong; lists in any form: encoding_lists.py.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from vmfuzz.explain.dump import Definition
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats import encoding_lists
from vmfuzz.explain.formats.calls import handed_over
from vmfuzz.explain.names.labels import match_label
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_NUMBER: Final = r"(?P<value>0[xX][0-9a-fA-F_]+|[0-9][0-9a-fA-F]*[hH]|\d+)[uUlL]*"
#: A line that can only define a constant.
_CONSTANT: Final = deferred(
    rf"(?:#\s*define\s+(?P<name1>\w+)\s+\(?\s*{_NUMBER}\s*\)?"
    r"|(?:pub(?:\([^)]*\))?\s+)?(?:static\s+)?(?:constexpr|const)\s+(?:[\w:]+\s+)*?(?P<name2>\w+)\s*(?::\s*[\w:]+)?\s*=\s*(?P<value2>0[xX][0-9a-fA-F_]+|\d+)\w*\s*;"
    r"|(?P<name3>\w+)\s+EQU\s+(?P<value3>[0-9][0-9a-fA-F]*[hH]|0x[0-9a-fA-F]+))",
    re.IGNORECASE,
)
#: A line of an enumeration; the same form may be a line of a found, so that the whole block decides.
_ENUMERATOR: Final = deferred(rf"(?P<name>[A-Za-z_]\w*)\s*=\s*{_NUMBER}\s*(?P<end>,|\}};?|$)\s*(?:/[/*].*)?\}}?;?$")
_ENUM: Final = deferred(r"\benum\b[^;]*\{?\s*$")
_ZEROED: Final = deferred(
    r"zero(?:ed)? (?:it )?out|zeroed|get_zeroed_page|__GFP_ZERO|kzalloc|calloc|alloc_zeroed|implicitly (?:initiali[sz]ed|set) to zero|"
    r"memset\([^;]*,\s*0\s*,|RtlZeroMemory|bzero",
    re.IGNORECASE,
)


def collect(lines: list[Line], found: Found) -> set[int]:
    """Record the definitions and the names written in `dump`; returns the numbers of the lines that are definitions."""
    sure: list[Definition] = []
    perhaps: list[Definition] = []
    in_enum = False
    for line in lines:
        opens, constant, enumerator = _shapes(line.text)
        in_enum = in_enum or opens
        if constant:
            _candidate(sure, *constant, line.number)
        elif enumerator and (enumerator[2] or in_enum):
            _candidate(sure if in_enum else perhaps, *enumerator[:2], line.number)
        if in_enum and "}" in line.text:
            in_enum = False
    found.zeroed = found.zeroed or any(_says_zeroed(line.raw) for line in lines)
    kept = next((found for found in (sure + perhaps, sure, perhaps) if _mostly_right(found)), [])
    listed, taken = encoding_lists.find(lines)
    known = {(definition.name, definition.line) for definition in kept}
    kept += [definition for definition in listed if (definition.name, definition.line) not in known]
    found.definitions += kept
    _collect_writes(lines, found)
    return taken | {definition.line for definition in kept}


@lru_cache(maxsize=1 << 13)
def _shapes(text: str) -> tuple[bool, tuple[str, str] | None, tuple[str, str, str] | None]:
    """(whether an enumeration begins, the constant defined: name and number, the enumerator: name, number and what ends it)."""
    opens = "enum" in text and _ENUM.search(text) is not None
    constant = _CONSTANT.match(text)
    if constant:
        name = constant["name1"] or constant["name2"] or constant["name3"]
        return opens, (name, constant["value"] or constant["value2"] or constant["value3"]), None
    enumerator = _ENUMERATOR.match(text)
    return opens, None, (enumerator["name"], enumerator["value"], enumerator["end"]) if enumerator else None


@lru_cache(maxsize=1 << 13)
def _says_zeroed(raw: str) -> bool:
    return _ZEROED.search(raw) is not None


def _candidate(found: list[Definition], name: str, text: str, line: int) -> None:
    match = match_label(name)
    if len(match.fields) != 1 or not name.isidentifier():
        return
    value = _constant(text)
    if value is not None and value <= 0xFFFF:
        found.append(Definition(name, match.fields[0], value - (1 if match.high else 0), line))


@lru_cache(maxsize=1 << 12)
def _constant(text: str) -> int | None:
    """The number that a constant of program text is."""
    digits = re.sub(r"[_uUlL]", "", text)
    if digits[-1] in "hH":
        return int(digits[:-1], 16)
    if re.fullmatch(r"0[0-7]+", digits):
        return int(digits, 8)
    return int(digits, 0) if re.fullmatch(r"0[xX][0-9a-fA-F]+|0|[1-9]\d*", digits) else None


def _mostly_right(found: list[Definition]) -> bool:
    """Whether these are encodings, of which some may be wrong, and not numbers of another kind."""
    return sum(definition.right for definition in found) * 2 >= len(found)


def _collect_writes(lines: list[Line], found: Found) -> None:
    """Which defined names are handed to something that writes fields."""
    if not found.definitions:
        return
    names = {definition.name for definition in found.definitions}
    for line in lines:
        for word in handed_over(line.text):
            if word in names:
                found.written.setdefault(word, line.number)
