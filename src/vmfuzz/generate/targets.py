"""What generation knows of each check: operands that decide it, every boundary value of each, its atoms; and rows directed at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.generate.boundary import Edit, edits_of
from vmfuzz.generate.columns import Column, Mutator, choose_active
from vmfuzz.model.atoms import ATOMIC, nodes_of
from vmfuzz.model.columns import SOMEWHERE, Columns
from vmfuzz.model.evaluate import Value
from vmfuzz.model.expr import Cond
from vmfuzz.model.operands import operand_width
from vmfuzz.model.predict import CompiledCheck

#: Values of all operands of a check in rows: uint64 (operands, rows).
Values = npt.NDArray[np.uint64]

#: Operands that one check's rows vary, at most.
MOST_OPERANDS: Final = 10
#: Of the rows that are not single edits, so many times as many are made as are kept: changes of several operands, and pairs of boundary values.
_POOL: Final = 1
_PAIRS: Final = 2
#: What a pattern of truths is multiplied with before the next truth is added (odd, so that nothing is lost but by collision).
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)


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

    def rows(
        self,
        rng: np.random.Generator,
        current: Mapping[str, int],
        mutators: Mapping[str, Mutator],
        others: Sequence[int],
        first: int,
        count: int,
        sought: Sequence[Cond] = (),
    ) -> dict[str, Column]:
        """`count` rows directed at the check: each operand's values, uint64 (count,).

        `current`: the values of all operands of the check that start from. Up to half of the rows are single edits, from number `first` on in an
        order of their own (all of them come before one comes again); an eighth break the requirement and flip a bit, all bits in turn. The others change
        several operands, and such with rare truths of the atoms are preferred, as are such in which a condition of `sought` holds.
        """
        singles = min(len(self.singles), (count + 1) // 2)
        flips = count // 8 if self.singles else 0
        rest = count - singles - flips
        start = np.array([current[name] for name in self.operands], np.uint64)[:, None]
        breaking = self._breaking(current)
        parts = [self._edited(start, _in_turn(len(self.singles), first, singles)[:, None])]
        parts.append(self._flipped(start, rng.choice(breaking, flips), first))
        if rest:
            pool = self._pool(rng, current, mutators, others, rest * _POOL)
            pool = np.concatenate([pool, self._pairs(rng, start, breaking, rest * _PAIRS)], axis=1)
            parts.append(pool[:, self._rare(rng, current, pool, rest, sought)])
        return self._named(np.concatenate(parts, axis=1))

    def _named(self, values: Values) -> dict[str, Column]:
        return dict(zip(self.operands, values, strict=True))

    @cached_property
    def _edits(self) -> tuple[npt.NDArray[np.intp], Column, Column]:
        """The singles as columns: the position of the operand, what is kept of its value, what is set."""
        position = np.array([self.operands.index(single.operand) for single in self.singles], np.intp)
        keep, to = (np.array([single.edit[part] for single in self.singles], np.uint64) for part in (0, 1))
        return position, keep, to

    def edited(self, current: Mapping[str, int] | Mapping[str, Column], chosen: npt.NDArray[np.intp]) -> dict[str, Column]:
        """Rows with one or several single edits each, made one after the other; `chosen`: their numbers, (rows, edits a row).

        `current`: what the operands start from, the same for all rows or uint64 (rows,).
        """
        start: Values = np.empty((len(self.operands), len(chosen)), np.uint64)
        for position, name in enumerate(self.operands):
            start[position] = current[name]
        return self._named(self._edited(start, chosen))

    def _edited(self, start: Values, chosen: npt.NDArray[np.intp]) -> Values:
        """As `edited`, of all operands at once: uint64 (operands, rows); `start` has as many rows, or one for all."""
        values: Values = np.empty((len(self.operands), len(chosen)), np.uint64)
        values[...] = start
        position, keep, to = self._edits
        rows = np.arange(len(chosen))
        for edits in chosen.T:
            place = position[edits], rows
            values[place] = values[place] & keep[edits] | to[edits]
        return values

    def _breaking(self, current: Mapping[str, int]) -> npt.NDArray[np.intp]:
        """Numbers of the single edits that break the requirement, whether or not it applies; of all of them where none does."""
        alone = self.edited(current, np.arange(len(self.singles))[:, None])
        must = Columns(_reader(alone, current), len(self.singles)).truth(self.compiled.must)
        kept = np.broadcast_to(np.asarray(must, np.bool_), len(self.singles))
        return np.flatnonzero(kept if kept.all() else ~kept)

    def _flipped(self, start: Values, broken: npt.NDArray[np.intp], first: int) -> Values:
        """Rows with one of the edits `broken` each, and one bit of an operand flipped: all bits in turn, from number `first` on."""
        values = self._edited(start, broken[:, None])
        position, bit = self._bits[:, _in_turn(self._bits.shape[1], first, len(broken))]
        values[position, np.arange(len(broken))] ^= np.uint64(1) << bit.astype(np.uint64)
        return values

    @cached_property
    def _bits(self) -> npt.NDArray[np.intp]:
        """Every bit of every operand: positions of the operands, and bits."""
        pairs = [(number, bit) for number, name in enumerate(self.operands) for bit in range(operand_width(name))]
        return np.array(pairs, np.intp).reshape(-1, 2).T

    def _pairs(self, rng: np.random.Generator, start: Values, breaking: npt.NDArray[np.intp], count: int) -> Values:
        """Rows with two single edits each, the first of which breaks the requirement."""
        if not self.singles:
            return self._edited(start, np.zeros((0, 1), np.intp))
        return self._edited(start, np.stack([rng.choice(breaking, count), rng.integers(0, len(self.singles), count)], axis=1))

    def _pool(
        self, rng: np.random.Generator, current: Mapping[str, int], mutators: Mapping[str, Mutator], others: Sequence[int], count: int
    ) -> Values:
        active = choose_active(rng, count, len(self.operands))
        pool: Values = np.empty((len(self.operands), count), np.uint64)
        for position, name in enumerate(self.operands):
            mutated = mutators[name].mutate(rng, current[name], others, count)
            pool[position] = np.where(active[:, position], mutated, np.uint64(current[name]))
        return pool

    def _rare(
        self, rng: np.random.Generator, current: Mapping[str, int], pool: Values, count: int, sought: Sequence[Cond]
    ) -> npt.NDArray[np.intp]:
        """`count` rows of the pool, so that each pattern of truths (of the atoms and of what is sought) has about the same share."""
        size = pool.shape[1]
        answers, truths = Columns(_reader(self._named(pool), current), size).answers([*self.atoms, *sought])
        varying = [truths[at] for at in np.flatnonzero(answers == SOMEWHERE).tolist()]
        pattern = np.zeros(size, np.uint64)
        for eight in np.packbits(varying, axis=0) if varying else ():
            pattern = pattern * _SPREAD + eight
        _, inverse, counts = np.unique(pattern, return_inverse=True, return_counts=True)
        weight = rng.random(size) * counts[inverse.ravel()]
        return np.argpartition(weight, count - 1)[:count]


def _reader(columns: Mapping[str, Column], current: Mapping[str, int]) -> Callable[[str], Value]:
    """The values of operands in rows: their columns, or else what they have now."""
    return lambda name: columns[name] if name in columns else current.get(name, 0)


def _in_turn(size: int, first: int, count: int) -> npt.NDArray[np.intp]:
    """`count` numbers below `size`, from place `first` of a fixed order on: each comes once before one comes again."""
    return _order(size)[(first + np.arange(count)) % max(1, size)]


@lru_cache(maxsize=4096)
def _order(size: int) -> npt.NDArray[np.intp]:
    return np.random.default_rng(size).permutation(size)
