"""Evaluation of conditions: over numbers, over numpy columns, or over a mixture, with capabilities folded in beforehand.

A value is a Python int where it is the same for all candidates and a uint64 array of shape (n,) where it varies; a truth is a bool
or a bool array. Mixed evaluation is what makes batches cheap: only what reads a varying operand becomes an array.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import and_, invert, or_
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from vmfuzz.errors import ModelError
from vmfuzz.model.expr import FALSE, MASK64, TRUE, Bits, Cond, Node, all_of, any_of, lift, make

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Value: TypeAlias = "int | npt.NDArray[np.uint64]"
Truth: TypeAlias = "bool | npt.NDArray[np.bool_]"
Memo = dict[int, Any]
Operands = Callable[[str], Value]
_Run = Callable[[Operands, Memo], Any]


# Values are Value; numpy keeps uint64 where a column meets a number that fits, which its types do not say.


def _slice(value: Any, high: int, low: int) -> Any:
    mask = (1 << (high - low + 1)) - 1
    return value >> low & mask


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        return (left + right) & MASK64
    return left + right  # of numpy's columns: modulo 2^64 already


def _shl(value: Any, count: int) -> Any:
    return (value << count) & MASK64 if isinstance(value, int) else value << count


def _one_of(value: Value, values: tuple[int, ...]) -> Truth:
    if isinstance(value, int):
        return value in values
    result: npt.NDArray[np.bool_] = value == values[0]
    for other in values[1:]:
        result = result | (value == other)
    return result


_LEAF_OPS: Final[Mapping[str, Callable[..., Any]]] = {
    "and": lambda left, right: left & right,
    "or": lambda left, right: left | right,
    "shr": lambda value, count: value >> count,
    "shl": _shl,
    "add": _add,
    "slice": _slice,
    "bit": lambda value, index, _label: (value & (1 << index)) != 0,
    "eq": lambda left, right: left == right,
    "le": lambda left, right: left <= right,
    "one_of": _one_of,
}
_CONNECTIVES: Final[Mapping[str, Callable[..., Cond]]] = {"all": all_of, "any": any_of, "not": invert}

#: How to evaluate each node that has been evaluated, by its serial.
_RUNS: Final[dict[int, _Run]] = {}


def evaluate(node: Node, operands: Operands, memo: Memo) -> Any:
    """The value or truth of `node`.

    `operands` gives the value of each operand by name (an int below 2^64 or a uint64 array of shape (n,)); capabilities must have been
    folded in (`fold`), else ModelError. `memo` holds what has been computed for these operands; pass the same dict for all conditions of a batch.
    """
    return _run_of(node)(operands, memo)


def _run_of(node: Node) -> _Run:
    run = _RUNS.get(node.serial)
    if run is None:
        run = _RUNS[node.serial] = _prepare(node)
    return run


def _prepare(node: Node) -> _Run:
    """A function that evaluates this node: what to do and with which parts is looked up once, for a campaign evaluates each node many thousand times."""
    op, args, serial = node.op, node.args, node.serial
    if op in ("true", "false", "const"):
        constant = args[0] if op == "const" else op == "true"
        return lambda _operands, _memo: constant
    if op == "operand":
        return _operand(args[0])
    if op == "cap":
        raise ModelError(f"capability {args[0]} has not been folded in")
    parts = [_run_of(child) for child in node.children]
    if op in ("all", "any"):
        return _joined(serial, parts, op == "all", and_ if op == "all" else or_)
    if op == "not":
        return _negation(serial, parts[0])
    rest = tuple(arg for arg in args if not isinstance(arg, Node))
    return _leaf(serial, _LEAF_OPS[op], parts, rest)


def _operand(name: str) -> _Run:
    return lambda operands, _memo: operands(name)


def _leaf(serial: int, work: Callable[..., Any], parts: Sequence[_Run], rest: tuple[Any, ...]) -> _Run:
    """An operation on values; its nodes come before its other arguments."""
    left, right = parts[0], parts[1] if len(parts) > 1 else None

    def run(operands: Operands, memo: Memo) -> Any:
        result = memo.get(serial)
        if result is None:
            value = left(operands, memo)
            result = work(value, *rest) if right is None else work(value, right(operands, memo))
            memo[serial] = result
        return result

    return run


def _negation(serial: int, part: _Run) -> _Run:
    def run(operands: Operands, memo: Memo) -> Truth:
        result: Truth | None = memo.get(serial)
        if result is None:
            inner = part(operands, memo)
            result = (not inner) if isinstance(inner, bool) else ~inner
            memo[serial] = result
        return result

    return run


def _joined(serial: int, parts: Sequence[_Run], neutral: bool, join: Callable[[Any, Any], Any]) -> _Run:
    """Conjunction (neutral True) or disjunction (neutral False); the other scalar truth settles it without evaluating the rest."""
    settled = not neutral

    def run(operands: Operands, memo: Memo) -> Truth:
        result: Truth | None = memo.get(serial)
        if result is None:
            result = neutral
            for part in parts:
                truth = part(operands, memo)
                if truth is settled:
                    result = settled
                    break
                if truth is not neutral:
                    result = truth if result is neutral else join(result, truth)
            memo[serial] = result
        return result

    return run


def fold(node: Node, capability: Callable[[str], int], memo: dict[int, Node]) -> Any:
    """`node` with every capability replaced by its number and what is then constant computed. Same sort as `node`."""
    if node.serial in memo:
        return memo[node.serial]
    result: Node
    if node.op == "cap":
        result = lift(capability(node.args[0]))
    elif not node.caps:
        result = node
    else:
        args = tuple(fold(arg, capability, memo) if isinstance(arg, Node) else arg for arg in node.args)
        result = _rebuild(node, args)
    memo[node.serial] = result
    return result


def _rebuild(node: Node, args: tuple[Any, ...]) -> Node:
    if node.op in _CONNECTIVES:
        return _CONNECTIVES[node.op](*args)
    below = [arg for arg in args if isinstance(arg, Node)]
    if all(arg.op == "const" for arg in below):
        value = _LEAF_OPS[node.op](*(arg.args[0] if isinstance(arg, Node) else arg for arg in args))
        if isinstance(node, Cond):
            return TRUE if value else FALSE
        return lift(value)
    if node.op == "and" and any(arg.op == "const" and arg.args[0] == 0 for arg in below):
        return lift(0)
    return make(Bits if isinstance(node, Bits) else Cond, node.op, *args)
