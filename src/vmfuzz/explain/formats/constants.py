"""Constant expressions as C and Rust write them: `0x93 | (1 << 14)`, `!0u64`, `(uint32_t)-1`, `u64::MAX`."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

from vmfuzz.arch.fields import Field
from vmfuzz.patterns import deferred

#: What is longer than this is no constant that a person wrote.
_LONGEST: Final = 200
_MOST_SHIFTED: Final = 63
_TYPE: Final = (
    r"(?:const\s+)?(?:u?int(?:8|16|32|64)_t|[usi](?:8|16|32|64)|[iu]size|u?int(?:8|16|32|64)?|size_t|uintptr_t|BYTE|WORD|DWORD(?:64)?|ULONG(?:64|_PTR)?|"
    r"SIZE_T|UINT(?:8|16|32|64)?|unsigned(?:\s+(?:char|short|int|long))*|(?:un)?signed|char|short|long(?:\s+long)?|natural_width|ulong|natural_t)"
)
#: A type of at most 32 bits: where a field of 64 bits is given so, only half of it is meant.
_NARROW: Final = deferred(
    r"(?:u?int(?:8|16|32)_t|[usi](?:8|16|32)|u?int(?:8|16|32)?|BYTE|WORD|DWORD|UINT(?:8|16|32)?|unsigned(?: (?:char|short|int))?)$"
)
_TOKEN: Final = deferred(
    rf"\s*(?:(?P<cast>\(\s*{_TYPE}\s*\)|\bas\s+{_TYPE}\b)"
    r"|(?P<digits>0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|\d(?:_?\d)*)(?P<suffix>_?[ui](?:8|16|32|64|128|size)|[uUlL]{1,3}|[uU]?[iI]64)?(?!\w)"
    r"|(?:(?:core|std)[.:]+)?(?P<ones>u(?:8|16|32|64)[.:]+MAX|UINT(?:8|16|32|64)_MAX|U(?:8|16|32|64)_MAX|MAXUINT(?:8|16|32|64)|MAXULONG64|ULLONG_MAX)\b"
    r"|(?P<mark><<|>>|[-+*|&^~!()]))"
)
_BINARY: Final[dict[type[ast.operator], Callable[[int, int], int]]] = {
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.BitXor: operator.xor,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


class Constant(NamedTuple):
    """What an expression gives: below 0 where all higher bits are 1. `narrow`: of a wider field, bits 31:0 only."""

    value: int
    narrow: bool


@lru_cache(maxsize=1 << 12)
def value_of(text: str) -> Constant | None:
    """The value of a constant expression; None where it is none, or where its value is not certain."""
    if len(text) > _LONGEST:
        return None
    words, position, narrow, halves = list[str](), 0, False, False
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        number = None if match is None else _token(match)
        if match is None or number is None:
            return None
        written, half = number
        narrow |= half and bool(match["cast"])
        halves |= half
        words += [written] if written else []
        position = match.end()
    try:
        value = _evaluated(ast.parse(" ".join(words), mode="eval").body)
    except (SyntaxError, RecursionError):
        return None
    turned = not {"~", "-"}.isdisjoint(words)  # the higher bits of a number of 32 bits are then in doubt
    return None if value is None else Constant(value, narrow or (halves and turned))


def given_to(field: Field, text: str) -> tuple[int, int] | None:
    """(value, which bits of the field it gives) where a constant is given to a field; None if it is none."""
    constant = value_of(text)
    if constant is None:
        return None
    value = constant.value & field.mask if constant.value < 0 or constant.value == (1 << 64) - 1 else constant.value
    if constant.narrow and field.width == 64:
        return value & 0xFFFFFFFF, 0xFFFFFFFF
    return value, (1 << 64) - 1


def _token(match: re.Match[str]) -> tuple[str, bool] | None:
    """(a token as Python writes it, whether it makes the whole one of 32 bits): the operators bind as in C."""
    if match["cast"]:
        return "", bool(_NARROW.match(" ".join(match["cast"].strip("() ").removeprefix("as ").removeprefix("const ").split())))
    if match["ones"]:
        width = int(re.sub(r"\D", "", match["ones"]) or 64)
        return str((1 << width) - 1), width <= 32
    if match["mark"]:
        return match["mark"].replace("!", "~"), False
    digits, suffix = match["digits"].replace("_", ""), (match["suffix"] or "").lower().lstrip("_")
    octal = re.fullmatch(r"0[0-7]+", digits)
    if not octal and re.match(r"0\d", digits):
        return None
    return str(int(digits, 8 if octal else 0)), suffix in ("u", "u8", "u16", "u32")


def _evaluated(node: ast.expr) -> int | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, int) else None
    if isinstance(node, ast.UnaryOp):
        operand = _evaluated(node.operand)
        if operand is None or isinstance(node.op, ast.Not):
            return None
        return ~operand if isinstance(node.op, ast.Invert) else -operand if isinstance(node.op, ast.USub) else operand
    if not isinstance(node, ast.BinOp):
        return None
    left, right = _evaluated(node.left), _evaluated(node.right)
    if left is None or right is None:
        return None
    if isinstance(node.op, ast.LShift | ast.RShift):
        if not 0 <= right <= _MOST_SHIFTED:
            return None
        return left << right if isinstance(node.op, ast.LShift) else left >> right
    function = _BINARY.get(type(node.op))
    return function(left, right) if function else None
