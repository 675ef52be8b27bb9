"""What generation knows of each check: operands that decide it, every boundary value of each, its atoms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.generate.boundary import Edit, edits_of
from vmfuzz.generate.columns import Column
from vmfuzz.model.atoms import ATOMIC, nodes_of
from vmfuzz.model.columns import Columns
from vmfuzz.model.evaluate import Value
from vmfuzz.model.expr import Cond
from vmfuzz.model.operands import operand_width
from vmfuzz.model.predict import CompiledCheck

#: Values of all operands of a check in rows: uint64 (operands, rows).
Values = npt.NDArray[np.uint64]

#: Operands that one check's rows vary, at most.
MOST_OPERANDS: Final = 10
#: Of each check, from so many sets of values is it kept which edits break it.
_KEPT: Final = 64


@dataclass(frozen=True)
class Single:
    """One boundary value: an operand of the check and how it is made from the operand's current value."""

    operand: str
    edit: Edit


class Target:
    """One check as a target: `operands` (those of `must` first), all its `singles`, its `atoms`."""

    def __init__(self, compiled: CompiledCheck, can_vary: Callable[[str], bool]) -> None:
        self.compiled = compiled
        own = [name for name in sorted(compiled.check.must.reads) if can_vary(name)]
        gate = [name for name in compiled.check.fields if can_vary(name) and name not in own]
        #: the parts of the check's condition, all of which must hold for the check to apply
        self.gates: tuple[Cond, ...] = compiled.when.args if compiled.when.op == "all" else (compiled.when,)
        self.operands = tuple([*own, *gate][:MOST_OPERANDS])
        self.can_be_violated = bool(own)
        self.singles = tuple(
            Single(name, edit)
            for name in self.operands
            for edit in dict.fromkeys([*edits_of(compiled.violated, name), *edits_of(compiled.when, name)])
        )
        self.atoms = tuple(node for node in nodes_of(compiled.violated) if node.op in ATOMIC and isinstance(node, Cond))
        self._required = tuple(sorted(compiled.must.reads))
        self._breaking = lru_cache(maxsize=_KEPT)(self._breaking_from)

    @cached_property
    def edits(self) -> tuple[npt.NDArray[np.intp], Column, Column]:
        """The singles as columns: the position of the operand, what is kept of its value, what is set."""
        position = np.array([self.operands.index(single.operand) for single in self.singles], np.intp)
        keep, to = (np.array([single.edit[part] for single in self.singles], np.uint64) for part in (0, 1))
        return position, keep, to

    def edited(self, current: Mapping[str, int] | Mapping[str, Column], chosen: npt.NDArray[np.intp]) -> dict[str, Column]:
        """Rows with one or several single edits each, made one after the other; `chosen`: their numbers, (rows, edits a row).

        `current`: what the operands start from, the same for all rows or uint64 (rows,).
        """
        values: Values = np.empty((len(self.operands), len(chosen)), np.uint64)
        for number, name in enumerate(self.operands):
            values[number] = current[name]
        position, keep, to = self.edits
        rows = np.arange(len(chosen))
        for edits in chosen.T:
            place = position[edits], rows
            values[place] = values[place] & keep[edits] | to[edits]
        return dict(zip(self.operands, values, strict=True))

    def breaking(self, current: Mapping[str, int]) -> npt.NDArray[np.intp]:
        """Numbers of the single edits that break the requirement, whether or not it applies; of all of them where none does."""
        return self._breaking(tuple(current.get(name, 0) for name in self._required))

    def _breaking_from(self, values: tuple[int, ...]) -> npt.NDArray[np.intp]:
        """`values`: those that the requirement reads."""
        current = {**dict.fromkeys(self.operands, 0), **dict(zip(self._required, values, strict=True))}
        operands: dict[str, Value] = {**current, **self.edited(current, np.arange(len(self.singles))[:, None])}
        must = Columns(operands.__getitem__, len(self.singles)).truth(self.compiled.must)
        kept = np.broadcast_to(np.asarray(must, np.bool_), len(self.singles))
        return np.flatnonzero(kept if kept.all() else ~kept)

    @cached_property
    def bits(self) -> npt.NDArray[np.intp]:
        """Every bit of every operand: positions of the operands, and bits."""
        pairs = [(number, bit) for number, name in enumerate(self.operands) for bit in range(operand_width(name))]
        return np.array(pairs, np.intp).reshape(-1, 2).T


def in_turn(size: int, first: int, count: int) -> npt.NDArray[np.intp]:
    """`count` numbers below `size`, from place `first` of a fixed order on: each comes once before one comes again."""
    return _order(size)[(first + np.arange(count)) % max(1, size)]


@lru_cache(maxsize=4096)
def _order(size: int) -> npt.NDArray[np.intp]:
    return np.random.default_rng(size).permutation(size)
