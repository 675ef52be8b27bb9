"""Many conditions over the columns of one batch at a time: in C (columns.c) where it is built, else one after the other by `evaluate`.

A campaign evaluates some thousand small conditions over each of its batches, most of which have a few hundred rows: a call of numpy for each part of
each condition takes longer than the work. Both ways give the same truths (tests/model/test_columns.py).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.live import LIVE
from vmfuzz.errors import ModelError
from vmfuzz.model.evaluate import Memo, Operands, Truth, Value, evaluate
from vmfuzz.model.expr import Cond, Node
from vmfuzz.state.vmcs import Vmcs

#: Where setup.py puts all that it compiles.
_LIBRARY: Final = Path(__file__).parents[1] / "execute" / "_native" / "columns.so"

# In the order of enum op in columns.c.
_OPERATIONS: Final = (
    *("const", "operand", "and", "or", "shr", "shl", "add", "slice", "truth", "bit", "eq", "le", "not", "all", "any", "one_of", "member"),
)
_CODE: Final = {name: code for code, name in enumerate(_OPERATIONS)}
#: Values of `one_of` up to this fit in a mask.
_MASK_BITS: Final = 64

# enum given
_NUMBER, _VALUES, _MISSING = range(3)
#: What the truth of a condition is (enum answer): the same in all rows, or a column that holds in some row or in none.
ALWAYS_FALSE, ALWAYS_TRUE, SOMEWHERE, NOWHERE = range(4)

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.uint32]


class _Library:
    """The functions of columns.c, and the nodes and operands that it knows."""

    def __init__(self, path: Path) -> None:
        # its state is one, so nobody else may run meanwhile: PyDLL keeps the interpreter's lock
        library = ctypes.PyDLL(str(path))
        pointer, number, size = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_size_t
        self._add = library.vmfuzz_add_node
        self._add.argtypes = [number, number, number, ctypes.c_uint64, number, pointer, number]
        self.truths = library.vmfuzz_truths
        self.truths.argtypes = [pointer, pointer, size, pointer, number, pointer, pointer, pointer]
        self.differences = library.vmfuzz_differences
        self.differences.argtypes = [pointer, pointer, size, pointer, number, pointer, pointer, pointer, pointer, pointer]
        self._numbers: dict[int, int] = {}
        #: names of the operands, by number
        self.names: list[str] = []
        self.operands: dict[str, int] = {}

    def numbers(self, conditions: Sequence[Cond]) -> Numbers:
        """The numbers of conditions."""
        known = self._numbers
        try:
            return np.array([known[condition.serial] for condition in conditions], np.uint32)
        except KeyError:
            return np.array([self.number(condition) for condition in conditions], np.uint32)

    def number(self, node: Node) -> int:
        """The number of a node, which is added with what is below it where it is new; capabilities must have been folded in."""
        number = self._numbers.get(node.serial)
        if number is None:
            number = self._numbers[node.serial] = self._new(node)
        return number

    def _new(self, node: Node) -> int:
        op, args = node.op, node.args
        if op == "cap":
            raise ModelError(f"capability {args[0]} has not been folded in")
        if op in ("all", "any"):
            return self._node(op, values=[self.number(part) for part in args])
        if op in ("true", "false"):
            return self._node("truth", x=int(op == "true"))
        if op == "const":
            return self._node(op, x=args[0])
        if op == "operand":
            name = args[0]
            if name not in self.operands:
                self.operands[name] = len(self.names)
                self.names.append(name)
            return self._node(op, self.operands[name])
        left = self.number(args[0])
        if op == "one_of":
            if max(args[1]) < _MASK_BITS:
                return self._node("member", left, x=sum(1 << value for value in set(args[1])))
            return self._node(op, left, values=args[1])
        if op == "slice":
            return self._node(op, left, x=(1 << args[1] - args[2] + 1) - 1, shift=args[2])
        if op in ("bit", "shr", "shl"):
            return self._node(op, left, shift=args[1])
        return self._node(op, left, self.number(args[1]) if len(args) > 1 else 0)

    def _node(self, op: str, a: int = 0, b: int = 0, *, x: int = 0, shift: int = 0, values: Sequence[int] = ()) -> int:
        number: int = self._add(_CODE[op], a, b, x, shift, (ctypes.c_uint64 * len(values))(*values), len(values))
        if number < 0:
            raise MemoryError
        return number


@cache
def library() -> _Library | None:
    """What is compiled, or None where vmfuzz was installed without."""
    return _Library(_LIBRARY) if _LIBRARY.is_file() else None


class Columns:
    """The truths of conditions over `count` rows, whose operands `operands` gives by name: an int for all rows, or uint64 (count,).

    Where the rows are those of a batch, `base` is what they share and `columns` names what varies: then of the others only memory operands are asked for.
    """

    def __init__(self, operands: Operands, count: int, base: Vmcs | None = None, columns: Sequence[str] = ()) -> None:
        self._operands = operands
        self._count = count
        self._base = base
        self._varying = columns
        self._memo: Memo = {}
        self._library = library()
        self._given: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._values: npt.NDArray[np.uint64] = np.zeros(0, np.uint64)
        #: columns whose addresses are in `_values`
        self._kept: list[Any] = []

    def truth(self, condition: Cond) -> Truth:
        """The truth of one condition: a bool where it is the same for all rows, else bool (count,)."""
        return self.truths([condition])[0]

    def truths(self, conditions: Sequence[Cond]) -> list[Truth]:
        """The truth of each condition."""
        answers, columns = self.answers(conditions)
        return [columns[at] if answer >= SOMEWHERE else bool(answer) for at, answer in enumerate(answers.tolist())]

    def answers(self, conditions: Sequence[Cond]) -> tuple[npt.NDArray[np.uint8], Sequence[Flags]]:
        """Of each condition what its truth is (ALWAYS_FALSE and so on), and its column, if it has one."""
        if self._library is None:
            return self._interpreted(conditions)
        numbers = self._library.numbers(conditions)
        answers, columns = np.empty(len(numbers), np.uint8), np.empty((len(numbers), self._count), np.bool_)
        self._call(self._library.truths, numbers, _address(answers), _address(columns))
        return answers, columns  # type: ignore[return-value]  # its rows

    def differences(
        self, conditions: Sequence[Cond], others: Sequence[Truth], where: Sequence[Flags], sizes: Sequence[int]
    ) -> npt.NDArray[np.bool_]:
        """Whether each condition differs from another truth in some of the rows `where`, bool (2, n): it holds and the other does not; the reverse.

        The first `sizes[0]` conditions are compared with `others[0]` in the rows `where[0]`, and so on.
        """
        if self._library is None:
            return self._interpreted_differences(conditions, others, where, sizes)
        numbers = self._library.numbers(conditions)
        answers = np.empty(len(numbers), np.uint8)
        there = np.repeat(np.array([0 if isinstance(other, bool) else _address(other) for other in others], np.uint64), sizes)
        same = np.repeat(np.array([other is True for other in others], np.uint8), sizes)
        rows = np.repeat(np.array([_address(each) for each in where], np.uint64), sizes)
        self._call(self._library.differences, numbers, _address(there), _address(same), _address(rows), _address(answers))
        return np.stack([answers & 1, answers >> 1]).astype(np.bool_)

    def _call(self, function: Callable[..., int], numbers: Numbers, *rest: int) -> None:
        """Call a function of the library, and give it the operands that it finds missing."""
        known = self._library
        assert known is not None
        if len(self._given) != len(known.names):
            self._begin(known)
        lacking = np.zeros(len(self._given), np.uint8)
        while status := function(
            _address(self._given), _address(self._values), self._count, _address(numbers), len(numbers), _address(lacking), *rest
        ):
            if status < 0:
                raise MemoryError
            for operand in np.flatnonzero(lacking):
                self._give(int(operand), self._operands(known.names[operand]))
            lacking[:] = 0

    def _begin(self, known: _Library) -> None:
        """Operands that the base has; what varies, and what lies in memory, is given when it is asked for."""
        if self._base is None:
            self._given, self._values = np.full(len(known.names), _MISSING, np.uint8), np.zeros(len(known.names), np.uint64)
            return
        given, values = _of_base(self._base, len(known.names))
        self._given, self._values = given.copy(), values.copy()
        for name in self._varying:
            operand = known.operands.get(name)
            if operand is not None:
                self._give(operand, self._operands(name))

    def _give(self, operand: int, value: Value) -> None:
        if isinstance(value, (int, np.integer)):
            self._given[operand], self._values[operand] = _NUMBER, value
            return
        column = np.ascontiguousarray(value, np.uint64)
        self._kept.append(column)
        self._given[operand], self._values[operand] = _VALUES, _address(column)

    def _interpreted(self, conditions: Sequence[Cond]) -> tuple[npt.NDArray[np.uint8], Sequence[Flags]]:
        truths = [evaluate(condition, self._operands, self._memo) for condition in conditions]
        answers = [int(truth) if isinstance(truth, bool) else SOMEWHERE if truth.any() else NOWHERE for truth in truths]
        return np.array(answers, np.uint8), truths

    def _interpreted_differences(
        self, conditions: Sequence[Cond], others: Sequence[Truth], where: Sequence[Flags], sizes: Sequence[int]
    ) -> npt.NDArray[np.bool_]:
        found = np.zeros((2, len(conditions)), np.bool_)
        group = np.repeat(np.arange(len(sizes)), sizes)
        for at, condition in enumerate(conditions):
            truth, there = (np.asarray(each, np.bool_) for each in (evaluate(condition, self._operands, self._memo), others[group[at]]))
            found[:, at] = (where[group[at]] & truth & ~there).any(), (where[group[at]] & ~truth & there).any()
        return found


def _address(array: npt.NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


@lru_cache(maxsize=1024)
def _of_base(base: Vmcs, count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint64]]:
    """How the first `count` operands are given by a base, and the numbers of those that are fields or live conditions."""
    known = library()
    assert known is not None
    names = known.names[:count]
    here = [name in FIELDS or name in LIVE for name in names]
    values = [base.get(name) or 0 if is_here else 0 for name, is_here in zip(names, here, strict=True)]
    return np.where(here, np.uint8(_NUMBER), np.uint8(_MISSING)), np.array(values, np.uint64)
