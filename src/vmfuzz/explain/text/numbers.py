"""Numbers as programs and people write them: 0x1f, 1Fh, 0000001f, 31, -2147483615, 0xffff_ffff, 0xffff`ffff."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from vmfuzz.patterns import deferred

_GROUPS: Final = r"(?:[_'`][0-9a-fA-F]+)*"
#: A number, or what stands in the place of one, after a separator.
NUMBER: Final = (
    rf"(?:-?0[xX][0-9a-fA-F]+{_GROUPS}(?:[uU]?[lL]{{1,2}}|[uU])?\b|"
    rf"(?:[0-9][0-9a-fA-F]*|(?=[a-fA-F]*[0-9])[0-9a-fA-F]+|[0-9a-fA-F]{{8}}|[0-9a-fA-F]{{16}}|[fF]{{2,4}})[hH]\b|-?[0-9a-fA-F]+{_GROUPS})"
)
#: Decimal numbers that no program prints for a field in hexadecimal: all ones of 32 and of 64 bits, 80000021H, and what has 17 digits and more.
_DECIMAL: Final = deferred(r"[\s:=|,;(](?:4294967295|2147483681|18446744073709551615|[1-9]\d{16,19})(?![\w.])")
_MARKED: Final = deferred(r"[:=|,;\t]\s*0[xX][0-9a-fA-F]+")
_UNMARKED: Final = deferred(r"[:=|,;\t]\s*(?!0[xX])(?=[0-9a-fA-F]*[a-fA-F])(?=[0-9a-fA-F]*[0-9])[0-9a-fA-F]{2,16}\b")
_DIGITS: Final = deferred(r"[0-9a-fA-F]+")
#: Widths to which programs pad hexadecimal numbers with zeros.
_PADDED: Final = (4, 5, 8, 16)


@lru_cache(maxsize=1 << 14)
def read_number(text: str, hex_by_default: bool | None = None) -> int | None:
    """The number that `text` is, None where it is none or where it is not certain to be hexadecimal or decimal.

    A negative one is of 32 bits where it can be, and -1 of 64.
    `hex_by_default` says what digits without 0x, H or a letter mean: True hexadecimal, False decimal, None not known.
    """
    text = text.strip().rstrip(",;")
    text = re.sub(r"(?<=[0-9a-fA-F])[_'`](?=[0-9a-fA-F])", "", text)
    text = re.sub(r"(?<=[0-9a-fA-F])(?:[uU]?[lL]{1,2}|[uU])$", "", text) if re.match(r"0[xX]|\d+[uUlL]", text) else text
    sign = -1 if text.startswith("-") else 1
    body = text.lstrip("-")
    if re.fullmatch(r"0[xX][0-9a-fA-F]+", body):
        value: int | None = int(body, 16)
    elif re.fullmatch(r"[0-9a-fA-F]+[hH]", body):
        value = int(body[:-1], 16)
    elif not _DIGITS.fullmatch(body):
        return None
    else:
        value = _bare(body, hex_by_default)
    if value is None:
        return None
    if sign > 0:
        return value
    return -value & ((1 << (32 if 1 < value <= 1 << 31 else 64)) - 1) if value <= 1 << 63 else None


def _bare(body: str, hex_by_default: bool | None) -> int | None:
    if not body.isdigit():
        return int(body, 16)
    if int(body) < 10:
        return int(body)
    if len(body) in _PADDED and body.startswith("0"):
        return int(body, 16)
    if hex_by_default is None:
        return None
    return int(body, 16 if hex_by_default else 10)


def bare_is_hex(lines: Iterable[str]) -> bool | None:
    """What numbers without a mark mean in these lines: decimal where hexadecimal ones carry 0x, hexadecimal where they do not."""
    kinds = [_numbers_in(line) for line in lines]
    marked, unmarked = sum(kind[0] for kind in kinds), sum(kind[1] for kind in kinds)
    if unmarked > marked:
        return True
    return False if not unmarked and (marked or any(kind[2] for kind in kinds)) else None


@lru_cache(maxsize=1 << 13)
def _numbers_in(line: str) -> tuple[int, int, bool]:
    """(how many hexadecimal numbers with 0x, how many without, whether there is one that no program prints for a field in hexadecimal)."""
    return len(_MARKED.findall(line)), len(_UNMARKED.findall(line)), _DECIMAL.search(line) is not None


def to_unsigned(text: str, decimal: bool = False) -> int | None:
    """A number as an unsigned 32-bit value: 0x80000021, 80000021, -2147483615, 2147483681, 0xffffffff80000021; None if it is none."""
    body = text.strip().replace("_", "").lower()
    if body.endswith("h"):
        body = f"0x{body[:-1].removeprefix('0x')}"
    negative, body = body.startswith("-"), body.lstrip("-")
    if not re.fullmatch(r"(?:0x)?[0-9a-f]+", body):
        return None
    if (
        body.startswith("0x")
        or re.search("[a-f]", body)
        or (re.fullmatch(r"(?:0{8})?8000\d{4}", body) and not decimal)
        or (len(body) == 8 and body.startswith("0"))
    ):
        value = int(body, 16)
    else:
        value = int(body)
    if value >> 32 and value >> 31 != (1 << 33) - 1:
        return None  # neither 32 bits nor 32 bits with their sign extended to 64
    return (-value if negative else value) & 0xFFFFFFFF
