"""The condition algebra: a small two-sorted expression tree of values (`Bits`) and truths (`Cond`).

Checks are built from these; what is done with a tree (evaluate it over numbers or numpy columns, print it, mutate it, turn it into a
solver's formula) is written elsewhere as one function over `op` and `args`. Nodes are interned: equal expressions are the same
object, so that a condition that many checks share is evaluated once a batch.

Values are unsigned 64-bit. The operations, with their arguments:

    Bits  const(int)  operand(name, width)  cap(name)  and(a, b)  or(a, b)  shr(a, n)  shl(a, n)  add(a, b)  slice(a, high, low)
    Cond  true()  false()  bit(a, index, label)  eq(a, b)  le(a, b)  not(c)  all(c, ...)  any(c, ...)  one_of(a, values)
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Final, NoReturn, TypeVar, overload

from vmfuzz.errors import ModelError
from vmfuzz.hexadecimal import hexadecimal

MASK64: Final = (1 << 64) - 1


class Node:
    """A node of the tree. `reads` names the operands below it, `caps` the capabilities; `serial` is unique."""

    __slots__ = ("args", "caps", "op", "reads", "serial")
    op: str
    args: tuple[Any, ...]
    reads: frozenset[str]
    caps: frozenset[str]
    serial: int

    def __reduce__(self) -> tuple[Any, ...]:
        return make, (type(self), self.op, *self.args)

    @property
    def children(self) -> tuple[Node, ...]:
        """The nodes directly below this one."""
        return tuple(arg for arg in self.args if isinstance(arg, Node))


_Sort = TypeVar("_Sort", bound=Node)
_INTERNED: dict[tuple[Any, ...], Node] = {}


def make(sort: type[_Sort], op: str, *args: Any) -> _Sort:
    """The node of this sort, operation and arguments; the same object for the same arguments."""
    key = (sort, op, *((Node, arg.serial) if isinstance(arg, Node) else arg for arg in args))
    node = _INTERNED.get(key)
    if node is None:
        node = sort()
        node.op, node.args, node.serial = op, args, len(_INTERNED)
        below = node.children
        node.reads = frozenset({args[0]} if op == "operand" else ()).union(*(child.reads for child in below))
        node.caps = frozenset({args[0]} if op == "cap" else ()).union(*(child.caps for child in below))
        _INTERNED[key] = node
    assert isinstance(node, sort)
    return node


class Cond(Node):
    """A truth."""

    __slots__ = ()

    def __and__(self, other: Cond) -> Cond:
        return all_of(self, other)

    def __or__(self, other: Cond) -> Cond:
        return any_of(self, other)

    def __invert__(self) -> Cond:
        if self.op == "not":
            inner: Cond = self.args[0]
            return inner
        if self.op in ("true", "false"):
            return FALSE if self.op == "true" else TRUE
        return make(Cond, "not", self)

    def implies(self, consequence: Cond) -> Cond:
        """If this holds, `consequence` must."""
        return any_of(~self, consequence)

    def iff(self, other: Cond) -> Cond:
        """Both hold or neither does."""
        return any_of(all_of(self, other), all_of(~self, ~other))

    def __bool__(self) -> NoReturn:
        raise ModelError("a condition has no truth value of its own: write & | ~ all_of any_of instead of and, or, not")


class Bits(Node):
    """A value of 64 bits."""

    __slots__ = ()

    @property
    def width(self) -> int:
        """How many low bits the value can have set."""
        if self.op == "const":
            return int(self.args[0]).bit_length()
        if self.op == "operand":
            return int(self.args[1])
        if self.op == "slice":
            return int(self.args[1] - self.args[2] + 1)
        if self.op == "and":
            return min(int(self.args[0].width), int(self.args[1].width))
        if self.op == "shr":
            return max(0, int(self.args[0].width) - int(self.args[1]))
        return 64

    @overload
    def __getitem__(self, index: int) -> Cond: ...

    @overload
    def __getitem__(self, index: slice) -> Bits: ...

    def __getitem__(self, index: int | slice) -> Bits | Cond:
        """`value[REGISTER.BIT]` is a Cond; `value[high:low]` is the Bits of that span."""
        if isinstance(index, slice):
            high, low = index.start, index.stop
            if not (isinstance(high, int) and isinstance(low, int) and 63 >= high >= low >= 0):
                raise ModelError(f"bits {high}:{low}: expected [high:low] within 63:0")
            if high >= self.width:
                raise ModelError(f"bits {high}:{low} of a value of {self.width} bits")
            return make(Bits, "slice", self, high, low)
        if not 0 <= index < self.width:
            raise ModelError(f"bit {index} of a value of {self.width} bits")
        label = index.name if isinstance(index, enum.Enum) else ""
        return make(Cond, "bit", self, int(index), label)

    def __and__(self, other: Bits | int) -> Bits:
        return make(Bits, "and", self, lift(other))

    def __or__(self, other: Bits | int) -> Bits:
        return make(Bits, "or", self, lift(other))

    def __rshift__(self, count: int) -> Bits:
        return make(Bits, "shr", self, count)

    def __lshift__(self, count: int) -> Bits:
        return make(Bits, "shl", self, count)

    def __add__(self, other: Bits | int) -> Bits:
        """Sum modulo 2^64."""
        return make(Bits, "add", self, lift(other))

    def __eq__(self, other: object) -> Cond:  # type: ignore[override]
        return make(Cond, "eq", self, self._comparable(other))

    def __ne__(self, other: object) -> Cond:  # type: ignore[override]
        return ~(self == other)

    def __le__(self, other: Bits | int) -> Cond:
        return make(Cond, "le", self, self._comparable(other))

    def __ge__(self, other: Bits | int) -> Cond:
        return make(Cond, "le", self._comparable(other), self)

    def one_of(self, *values: int) -> Cond:
        """The value is one of these constants."""
        for value in values:
            self._comparable(value)
        return make(Cond, "one_of", self, tuple(int(value) for value in values))

    def _comparable(self, other: object) -> Bits:
        """`other` as Bits; a constant that this value can never have is a mistake in the model."""
        value = lift(other)
        if value.op == "const" and value.args[0] >> self.width:
            raise ModelError(f"constant {hexadecimal(value.args[0])} is wider than the {self.width} bits it is compared with")
        return value

    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        raise ModelError("a value has no truth: compare it (== 0) or name a bit (value[REGISTER.BIT])")


def lift(value: object) -> Bits:
    """`value` as Bits: a Bits or an integer from 0 to 2^64-1; anything else raises ModelError."""
    if isinstance(value, Bits):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MASK64:
        return make(Bits, "const", int(value))
    raise ModelError(f"{value!r}: expected a value or a constant from 0 to 2^64-1")


TRUE: Final = make(Cond, "true")
FALSE: Final = make(Cond, "false")


def _flatten(op: str, conditions: Iterable[Cond]) -> list[Cond]:
    flat: dict[Cond, None] = {}
    for condition in conditions:
        if not isinstance(condition, Cond):
            raise ModelError(f"{condition!r}: expected a condition")
        flat.update(dict.fromkeys(condition.args if condition.op == op else (condition,)))
    return list(flat)


def all_of(*conditions: Cond) -> Cond:
    """Every one of the conditions holds."""
    flat = [condition for condition in _flatten("all", conditions) if condition is not TRUE]
    if FALSE in flat:
        return FALSE
    return TRUE if not flat else flat[0] if len(flat) == 1 else make(Cond, "all", *flat)


def any_of(*conditions: Cond) -> Cond:
    """At least one of the conditions holds."""
    flat = [condition for condition in _flatten("any", conditions) if condition is not FALSE]
    if TRUE in flat:
        return TRUE
    return FALSE if not flat else flat[0] if len(flat) == 1 else make(Cond, "any", *flat)


def parts_of(condition: Cond) -> tuple[Cond, ...]:
    """The conditions that all must hold for this one to hold."""
    return condition.args if condition.op == "all" else (condition,)


def operand(name: str, width: int) -> Bits:
    """An operand of `width` bits: a VMCS field, a live condition or a memory operand."""
    return make(Bits, "operand", name, width)


def capability(name: str) -> Bits:
    """A number derived from the processor's capabilities (see model/operands.py)."""
    return make(Bits, "cap", name)
