"""Values worth trying in a field, read off the conditions of the checks: constants, masks, bits, and what lies next to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vmfuzz.model.expr import MASK64, Bits, Node
from vmfuzz.model.operands import operand_width

_END_OF_32_BITS: Final = 1 << 32

#: How a value is made from a field's current value: (keep, set) means (value & keep) | set.
Edit = tuple[int, int]


def _constant(bits: Bits) -> int | None:
    return int(bits.args[0]) if bits.op == "const" else None


def _around(value: int) -> tuple[int, ...]:
    return (value, value - 1, value + 1)


def _extremes(width: int) -> tuple[int, ...]:
    """What a value of so many bits that is compared with another one may be: everything where that is little, else the lowest and the highest."""
    most = (1 << width) - 1
    return tuple(range(most + 1)) if width <= 3 else (0, 1, most - 1, most)


def _edits_of_value(bits: Bits, field: str, wanted: Iterable[int]) -> list[Edit]:
    """Edits of `field` that give the expression `bits` each wanted value, where the expression is simple enough to invert."""
    full = (1 << operand_width(field)) - 1
    if _is_operand(bits, field):
        return [(0, value & full) for value in wanted if 0 <= value <= MASK64]
    if bits.op == "slice" and _is_operand(bits.args[0], field):
        return _slice_edits(bits.args[1], bits.args[2], full, wanted)
    if bits.op not in ("and", "or", "add"):
        return []
    inner, constant = bits.args[0], _constant(bits.args[1])
    if constant is None:
        return []
    if bits.op == "add":
        return _edits_of_value(inner, field, [(value - constant) & MASK64 for value in wanted])
    if _is_operand(inner, field):
        return _mask_edits(constant if bits.op == "and" else full & ~constant, full)
    wraps = bits.op == "and" and constant >> 63 and field in inner.reads
    return _wrap_edits(inner, field, constant & -constant) if wraps else []


def _slice_edits(high: int, low: int, full: int, wanted: Iterable[int]) -> list[Edit]:
    """Each wanted value in bits high:low."""
    span = ((1 << (high - low + 1)) - 1) << low
    return [(full & ~span, (value << low) & span) for value in wanted if 0 <= value <= MASK64]


def _is_operand(node: Node, field: str) -> bool:
    return node.op == "operand" and node.args[0] == field


@dataclass(frozen=True)
class Sum:
    """A value that is a sum modulo 2^64: `constant` (signed), and operands by name, each shifted left by so many bits."""

    shifts: Mapping[str, int]
    constant: int

    @classmethod
    def of(cls, bits: Bits) -> Sum | None:
        """The value as a sum; None where it is none, or has an operand twice."""
        op, args = bits.op, bits.args
        if op == "const":
            return cls({}, args[0] - (1 << 64) if args[0] >> 63 else args[0])
        if op == "operand":
            return cls({args[0]: 0}, 0)
        if op not in ("add", "shl"):
            return None
        parts = [cls.of(part) for part in bits.children if isinstance(part, Bits)]
        if op == "shl":
            (part,) = parts
            return part and cls({name: shift + args[1] for name, shift in part.shifts.items()}, part.constant << args[1])
        left, right = parts
        if left is None or right is None or left.shifts.keys() & right.shifts.keys():
            return None
        return cls({**left.shifts, **right.shifts}, left.constant + right.constant)


def _wrap_edits(bits: Bits, field: str, limit: int) -> list[Edit]:
    """Values of `field` at which a sum comes to the end of 32 bits and to `limit`, what else is in it being 0, small, round 32 bits, or the most.

    That is where a processor that computes the sum, or what is added, in too few bits goes another way than one that does not.
    """
    total = Sum.of(bits)
    others = {name: shift for name, shift in total.shifts.items() if name != field} if total else {}
    if total is None or not others:
        return []
    shift, full = total.shifts[field], (1 << operand_width(field)) - 1
    step = 1 << min(others.values())
    most = sum(((1 << operand_width(name)) - 1) << by for name, by in others.items())
    # the field's values in steps of the others, as if it were aligned to them
    unit = max(1, step >> shift)
    found = {
        (end - 1 - total.constant - other >> shift) // unit * unit + after
        for end in (_END_OF_32_BITS, limit)
        for other in (0, step, 2 * step, _END_OF_32_BITS, most)
        if other <= most
        for after in (0, unit)
    }
    return [(0, value) for value in sorted({*found, full // unit * unit}) if 0 <= value <= full]


def _bit_edits(index: int, full: int) -> list[Edit]:
    """The bit, the one below and the one above it, each set and cleared."""
    bits = [1 << near & full for near in (index, index - 1, index + 1) if near >= 0]
    return [(full & ~bit, value) for bit in bits if bit for value in (bit, 0)]


def _mask_edits(mask: int, full: int) -> list[Edit]:
    """Each bit of the mask set alone, cleared alone; all set; all cleared; the end of the address space; bits next to the mask's lowest."""
    bits = [1 << index for index in range(64) if mask >> index & 1 and full >> index & 1]
    edits = [(full & ~bit, bit) for bit in bits] + [(full & ~bit, 0) for bit in bits]
    # the highest multiple of 16: what is added to it comes round to 0
    wraps = [(0xF, full & ~0xF)] if mask >> 63 & full >> 63 else []
    outside = [bit for bit in (~mask & mask + 1, (mask & -mask) >> 1) if bit & full]
    return [*edits, (full & ~mask, mask & full), (full & ~mask, 0), *wraps, *((full & ~bit, bit) for bit in outside)]


@lru_cache(maxsize=4096)
def edits_of(condition: Node, field: str) -> tuple[Edit, ...]:
    """Edits of `field` that bring atoms of `condition` (capabilities folded in) to their boundary and across it."""
    edits: dict[Edit, None] = {}
    stack = [condition]
    while stack:
        node = stack.pop()
        if field in node.reads:
            edits.update(dict.fromkeys(_edits_of_atom(node, field)))
            stack.extend(node.children)
    return tuple(edits)


def _edits_of_atom(node: Node, field: str) -> list[Edit]:
    """The same of a bit, a comparison or a membership; none for another node."""
    op, args = node.op, node.args
    if op == "bit" and args[0].op == "operand":
        return _bit_edits(args[1], (1 << operand_width(field)) - 1)
    if op in ("eq", "le"):
        sides = [(value, _constant(other)) for value, other in (args, reversed(args))]
        near = [_extremes(value.width) if constant is None else _around(constant) for value, constant in sides]
        return [edit for (value, _), wanted in zip(sides, near, strict=True) for edit in _edits_of_value(value, field, wanted)]
    if op == "one_of":
        return _edits_of_value(args[0], field, [near for value in args[1] for near in _around(value)])
    return []
