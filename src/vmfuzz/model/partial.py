"""Three-valued evaluation of conditions over values that are known only in part (Kleene's logic).

A dump rarely shows every field, and hardly ever the capability MSRs. `judge` says of a condition: it holds, it does not, or what is known
does not decide it; and in the last case which operands and capability facts would settle it. Knowledge is by bit: of the address-width
mask one knows that bits 63:52 are 1 long before one knows the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from vmfuzz.errors import ModelError
from vmfuzz.model.expr import MASK64, Bits, Cond, Node


@dataclass(frozen=True)
class Partial:
    """A value of 64 bits of which the bits in `known` are known; `value` has 0 in all others."""

    value: int
    known: int = MASK64

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", self.value & self.known)

    @property
    def exact(self) -> bool:
        """Whether every bit is known."""
        return self.known == MASK64

    @property
    def minimum(self) -> int:
        """The least value that this may be."""
        return self.value

    @property
    def maximum(self) -> int:
        """The greatest value that this may be."""
        return self.value | (MASK64 & ~self.known)

    def merge(self, other: Partial) -> Partial:
        """What is known when it is not known which of the two is right: the bits in which they agree."""
        return Partial(self.value, self.known & other.known & ~(self.value ^ other.value))

    def within(self, width: int) -> Partial:
        """The same with the bits from `width` on known to be 0."""
        mask = (1 << width) - 1
        return Partial(self.value & mask, self.known | (MASK64 & ~mask))


#: A value of which nothing is known.
UNKNOWN: Final = Partial(0, 0)


@dataclass(frozen=True)
class Judgement:
    """`truth` is None where what is known does not decide; then `missing` names the operands and `facts` the capability facts that would."""

    truth: bool | None
    missing: frozenset[str] = frozenset()
    facts: frozenset[str] = frozenset()

    def __invert__(self) -> Judgement:
        return self if self.truth is None else Judgement(not self.truth)


HOLDS: Final = Judgement(True)
FAILS: Final = Judgement(False)
Lookup = Callable[[str], Partial | None]


class Evaluator:
    """Evaluates conditions for one state of knowledge.

    `operands` and `facts` give what is known of an operand or a capability fact by name; None stands for nothing known.
    Results are kept, so that a condition that many checks share is evaluated once.
    """

    def __init__(self, operands: Lookup, facts: Lookup) -> None:
        self._operands = operands
        self._facts = facts
        self._values: dict[int, Partial] = {}
        self._truths: dict[int, Judgement] = {}

    def judge(self, condition: Cond) -> Judgement:
        """Whether `condition` holds, as far as is known."""
        done = self._truths.get(condition.serial)
        if done is None:
            done = self._judge(condition)
            self._truths[condition.serial] = done
        return done

    def operand(self, name: str) -> Partial:
        """What is known of an operand."""
        return self._operands(name) or UNKNOWN

    def value(self, bits: Bits) -> Partial:
        """What is known of a value."""
        done = self._values.get(bits.serial)
        if done is None:
            done = self._value(bits)
            self._values[bits.serial] = done
        return done

    def _judge(self, condition: Cond) -> Judgement:
        op, args = condition.op, condition.args
        if op in ("true", "false"):
            return HOLDS if op == "true" else FAILS
        if op == "not":
            return ~self.judge(args[0])
        if op in ("all", "any"):
            return self._join(args, settles=op == "any")
        truth = self._atom(op, args)
        return self._open(condition) if truth is None else HOLDS if truth else FAILS

    def _join(self, conditions: tuple[Cond, ...], settles: bool) -> Judgement:
        """Conjunction (`settles` False) or disjunction (True): one condition of that truth settles it."""
        open_ones = []
        for condition in conditions:
            judgement = self.judge(condition)
            if judgement.truth is settles:
                return HOLDS if settles else FAILS
            if judgement.truth is None:
                open_ones.append(judgement)
        if not open_ones:
            return FAILS if settles else HOLDS
        missing = frozenset[str]().union(*(judgement.missing for judgement in open_ones))
        return Judgement(None, missing, frozenset[str]().union(*(judgement.facts for judgement in open_ones)))

    def _atom(self, op: str, args: tuple[Any, ...]) -> bool | None:
        if op == "bit":
            value = self.value(args[0])
            return bool(value.value >> args[1] & 1) if value.known >> args[1] & 1 else None
        if op == "eq" and args[0].op == "and" and any(part is args[1] for part in args[0].args):
            return self._contains(args[0].args, args[1])
        if op == "eq":
            return _equal(self.value(args[0]), self.value(args[1]))
        if op == "le":
            left, right = self.value(args[0]), self.value(args[1])
            if left.maximum <= right.minimum:
                return True
            return False if left.minimum > right.maximum else None
        if op == "one_of":
            value = self.value(args[0])
            answers = [_equal(value, Partial(choice)) for choice in args[1]]
            return True if True in answers else None if None in answers else False
        raise ModelError(f"condition {op!r} has no three-valued evaluation")

    def _contains(self, pair: tuple[Bits, Bits], wanted: Bits) -> bool | None:
        """(value AND mask) = mask: every bit of the mask is 1 in the value, however little is known of the mask's other bits."""
        mask = self.value(wanted)
        value = self.value(pair[0] if pair[1] is wanted else pair[1])
        if mask.value & value.known & ~value.value:
            return False
        return True if (mask.known & ~mask.value) | value.value == MASK64 else None

    def _open(self, condition: Cond) -> Judgement:
        """An undecided atom: what is below it and not wholly known."""
        missing = frozenset(name for name in condition.reads if not self._wholly(self._operands, name, condition))
        return Judgement(None, missing, frozenset(name for name in condition.caps if not self._wholly(self._facts, name, condition)))

    def _wholly(self, lookup: Lookup, name: str, condition: Node) -> bool:
        found = lookup(name)
        if found is None:
            return False
        return found.exact or found.within(_leaf_width(condition, name)).exact

    def _value(self, bits: Bits) -> Partial:
        op, args = bits.op, bits.args
        if op == "const":
            return Partial(args[0])
        if op == "operand":
            return (self._operands(args[0]) or UNKNOWN).within(args[1])
        if op == "cap":
            return self._facts(args[0]) or UNKNOWN
        first = self.value(args[0])
        if op == "shr":
            return Partial(first.value >> args[1], first.known >> args[1] | (MASK64 & ~(MASK64 >> args[1])))
        if op == "shl":
            return Partial(first.value << args[1] & MASK64, (first.known << args[1] | (1 << args[1]) - 1) & MASK64)
        if op == "slice":
            high, low = args[1], args[2]
            return Partial(first.value >> low, first.known >> low).within(high - low + 1)
        return _combine(op, first, self.value(args[1]))


def _combine(op: str, left: Partial, right: Partial) -> Partial:
    if op == "and":
        zeros = (left.known & ~left.value) | (right.known & ~right.value)
        return Partial(left.value & right.value, (left.known & right.known) | zeros)
    if op == "or":
        ones = left.value | right.value
        return Partial(ones, (left.known & right.known) | ones)
    if op == "add":
        both = left.known & right.known
        unknown_from = (~both & (both + 1)).bit_length() - 1  # the lowest bit that is unknown in one of them
        return Partial((left.value + right.value) & MASK64, MASK64 if both == MASK64 else (1 << unknown_from) - 1)
    raise ModelError(f"value {op!r} has no partial evaluation")


def _equal(left: Partial, right: Partial) -> bool | None:
    if (left.value ^ right.value) & left.known & right.known:
        return False
    return True if left.exact and right.exact else None


@cache
def _leaf_width(condition: Node, name: str) -> int:
    """The width of an operand that the condition reads, 64 for a capability fact."""
    return next((node.width for node in _leaves(condition) if node.args[0] == name and node.op == "operand"), 64)


def _leaves(node: Node) -> list[Bits]:
    if isinstance(node, Bits) and node.op in ("operand", "cap"):
        return [node]
    return [leaf for child in node.children for leaf in _leaves(child)]
