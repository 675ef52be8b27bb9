"""Reads lists of encodings and values in which both are decimal: `26624 = 2147811379` is CR0, and `2052 = 24` beside it is SS, not 2052H.

A number on the left that is an encoding in decimal, but none in hexadecimal, shows what such a list is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

from vmfuzz.arch.fields import BY_ENCODING
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_PAIR: Final = deferred(
    r"[(\[]?(?P<encoding>\d{4,5}|(?=\d{0,3}[a-fA-F])[0-9a-fA-F]{4})[)\]]?(?:\s{0,20}(?:=>|->|[:=,;|])\s{0,20}|\s{1,20})"
    r"(?P<value>-?\d{1,20}|0[xX][0-9a-fA-F]{1,16}|[0-9a-fA-F]{1,16})[,;]?$"
)
#: A value that is hexadecimal though nothing marks it: it has letters, or is padded with zeros.
_HEXADECIMAL: Final = deferred(r"(?!0[xX])(?=\d*[a-fA-F]|0\d)")
#: So many lines make a list.
_FEWEST: Final = 2


class _Pair(NamedTuple):
    """A line of two numbers: the one on the left, where it is an encoding in decimal, and whether it is one in hexadecimal; the right one as written."""

    decimal: int | None
    hexadecimal: bool
    value: str


def read_decimal(lines: Sequence[Line], found: Found) -> list[Line]:
    """The lines, those of a decimal list in hexadecimal; where some of its encodings can only be hexadecimal, none of it is used."""
    pairs = {index: pair for index, line in enumerate(lines) if (pair := _pair_of(line.text))}
    decimal = sum(pair.decimal is not None and not pair.hexadecimal for pair in pairs.values())
    others = sum(pair.decimal is None for pair in pairs.values())
    if len(pairs) < _FEWEST or decimal <= others:
        return list(lines)
    if others:
        found.warn(
            "some of the encodings from here on can only be decimal, and others only hexadecimal; none is used", lines[min(pairs)].number
        )
        return [line for index, line in enumerate(lines) if index not in pairs]
    in_hexadecimal = any(_HEXADECIMAL.match(pair.value) for pair in pairs.values())
    result = list[Line]()
    for index, line in enumerate(lines):
        pair = pairs.get(index)
        text = f"0x{pair.decimal:04x} = {_value(pair.value, in_hexadecimal):#x}" if pair else line.text
        result.append(replace(line, text=text) if pair else line)
    return result


@lru_cache(maxsize=1 << 13)
def _pair_of(text: str) -> _Pair | None:
    match = _PAIR.match(text)
    if not match:
        return None
    digits = match["encoding"]
    decimal = int(digits) if digits.isdigit() and int(digits) & ~1 in BY_ENCODING else None
    hexadecimal = int(digits, 16) & ~1 in BY_ENCODING
    return _Pair(decimal, hexadecimal, match["value"]) if hexadecimal or decimal is not None else None


def _value(text: str, in_hexadecimal: bool) -> int:
    value = int(text, 16 if in_hexadecimal or text[:2] in ("0x", "0X") else 10)
    return value if value >= 0 else value + (1 << (32 if value >= -(1 << 31) else 64))
