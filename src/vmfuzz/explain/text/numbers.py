"""Numbers as programs and people write them: 0x1f, 1Fh, 0000001f, 31, -2147483615, 0xffff_ffff, 0xffff`ffff."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from typing import Final

from vmfuzz.patterns import deferred

_GROUPS: Final = r"(?:[_'`][0-9a-fA-F]+)*"
_SUFFIX: Final = r"(?:[uU]?[lL]{1,2}|[uU])"
#: A number, or what stands in the place of one, after a separator.
NUMBER: Final = (
    rf"(?:-?0[xX][0-9a-fA-F]+{_GROUPS}{_SUFFIX}?\b|"
    rf"(?:[0-9][0-9a-fA-F]*|(?=[a-fA-F]*[0-9])[0-9a-fA-F]+|[0-9a-fA-F]{{8}}|[0-9a-fA-F]{{16}}|[fF]{{2,4}})[hH]\b|-?[0-9a-fA-F]+{_GROUPS})"
)
#: Decimal numbers that no program prints for a field in hexadecimal: all ones of 32 and of 64 bits, 80000021H, and what has 17 digits and more.
_DECIMAL: Final = deferred(r"[\s:=|,;(](?:4294967295|2147483681|18446744073709551615|[1-9]\d{16,19})(?![\w.])")
#: Hexadecimal numbers, with their mark or without.
_HEXADECIMAL: Final = deferred(r"[:=|,;\t][ \t]*(?:(0[xX])[0-9a-fA-F]+|(?=[0-9a-fA-F]*[a-fA-F])(?=[0-9a-fA-F]*[0-9])[0-9a-fA-F]{2,16}\b)")
#: What `read_number` reads, signs between digits left out.
_FORM: Final = deferred(rf"(?P<minus>-?)(?P<mark>(?:0[xX])?)(?P<digits>[0-9a-fA-F]+)(?:(?P<h>[hH])|{_SUFFIX})?[,;]*")
_BETWEEN: Final = deferred(r"(?<=[0-9a-fA-F])[_'`](?=[0-9a-fA-F])")
#: Widths to which programs pad hexadecimal numbers with zeros.
_PADDED: Final = (4, 5, 8, 16)
#: An exit reason with its bit 31, as messages print it without a mark.
_FAILED_ENTRY: Final = deferred(r"(?:0{8})?8000_?\d{4}")


@lru_cache(maxsize=1 << 14)
def read_number(text: str, hex_by_default: bool | None = None) -> int | None:
    """The number that `text` is, None where it is none or where it is not certain to be hexadecimal or decimal.

    A negative one is of 32 bits where it can be, and -1 of 64.
    `hex_by_default` says what digits without 0x, H or a letter mean: True hexadecimal, False decimal, None not known.
    """
    form = _FORM.fullmatch(_BETWEEN.sub("", text.strip()))
    if form is None:
        return None
    digits = form["digits"]
    is_padded = len(digits) in _PADDED and digits.startswith("0")
    is_hex = bool(form["mark"] or form["h"]) or not digits.isdigit() or is_padded or hex_by_default
    if is_hex is None and int(digits) >= 10:
        return None
    value = int(digits, 16 if is_hex else 10)
    if not form["minus"]:
        return value
    return -value & ((1 << (32 if 1 < value <= 1 << 31 else 64)) - 1) if value <= 1 << 63 else None


def to_unsigned(text: str) -> int | None:
    """A number of an outcome as an unsigned 32-bit value: 0x80000021, 80000021, -2147483615, 2147483681, 0xffffffff80000021; None if it is none."""
    text = text.strip()
    value = read_number(f"0x{text}" if _FAILED_ENTRY.fullmatch(text) else text, hex_by_default=False)
    if value is None or (value >> 32 and value >> 31 != (1 << 33) - 1):
        return None  # neither 32 bits nor 32 bits with their sign extended to 64
    return value & 0xFFFFFFFF


def bare_is_hex(text: str) -> bool | None:
    """What numbers without a mark mean in a text: decimal where hexadecimal ones carry 0x, hexadecimal where they do not."""
    marks = _HEXADECIMAL.findall(text)
    unmarked = marks.count("")
    if 2 * unmarked > len(marks):
        return True
    return False if not unmarked and (marks or _DECIMAL.search(text)) else None


def runs(numbers: Iterable[int]) -> Iterator[list[int]]:
    """The numbers, in the order given, in runs of those that follow one another."""
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        yield [number for _, number in run]


def ranges(numbers: Iterable[int]) -> str:
    """Line numbers as a person writes them: "lines 3 to 40, 42"."""
    shown = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs(sorted(set(numbers))))
    return f"line {shown}" if shown.isdecimal() else f"lines {shown}"
