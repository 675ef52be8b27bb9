"""What generation knows of each check: operands that decide it, every boundary value of each, its atoms; and rows directed at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.generate.boundary import Edit, edits_of
from vmfuzz.generate.columns import Column, Mutator, choose_active
from vmfuzz.model.atoms import ATOMIC, nodes_of
from vmfuzz.model.evaluate import Memo, evaluate
from vmfuzz.model.expr import Cond
from vmfuzz.model.predict import CompiledCheck

#: Operands that one check's rows vary, at most.
MOST_OPERANDS: Final = 10
#: Of the rows that are not single edits, so many times as many are made as are kept.
_POOL: Final = 2
#: Atoms by whose truths rows are told apart.
_MOST_ATOMS: Final = 63


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
        self.operands = tuple([*own, *gate][:MOST_OPERANDS])
        self.can_be_violated = bool(own)
        self.singles = tuple(
            Single(name, edit)
            for name in self.operands
            for edit in dict.fromkeys([*edits_of(compiled.violated, name), *edits_of(compiled.when, name)])
        )
        atoms = [node for node in nodes_of(compiled.violated) if node.op in ATOMIC and isinstance(node, Cond)]
        self.atoms = tuple(atoms[:_MOST_ATOMS])

    def rows(
        self,
        rng: np.random.Generator,
        current: Mapping[str, int],
        mutators: Mapping[str, Mutator],
        others: Sequence[int],
        first: int,
        count: int,
    ) -> dict[str, Column]:
        """`count` rows directed at the check: each operand's values, uint64 (count,).

        `current`: the values of all operands of the check that start from. Up to half of the rows are single edits, from number `first` on in an
        order of their own (all of them come before one comes again); the others change several operands, and such with rare truths of the atoms
        are preferred.
        """
        singles = min(len(self.singles), (count + 1) // 2)
        order = np.random.default_rng(len(self.singles)).permutation(len(self.singles))
        columns = {name: np.full(count, current[name], np.uint64) for name in self.operands}
        for row in range(singles):
            single = self.singles[order[(first + row) % len(order)]]
            keep, to = single.edit
            columns[single.operand][row] = current[single.operand] & keep | to
        rest = count - singles
        if rest:
            pool = self._pool(rng, current, mutators, others, rest * _POOL)
            kept = self._rare(rng, current, pool, rest)
            for name in self.operands:
                columns[name][singles:] = pool[name][kept]
        return columns

    def _pool(
        self, rng: np.random.Generator, current: Mapping[str, int], mutators: Mapping[str, Mutator], others: Sequence[int], count: int
    ) -> dict[str, Column]:
        active = choose_active(rng, count, len(self.operands))
        pool = {}
        for position, name in enumerate(self.operands):
            mutated = mutators[name].mutate(rng, current[name], others, count)
            pool[name] = np.where(active[:, position], mutated, np.uint64(current[name]))
        return pool

    def _rare(self, rng: np.random.Generator, current: Mapping[str, int], pool: Mapping[str, Column], count: int) -> npt.NDArray[np.intp]:
        """`count` rows of the pool, so that each pattern of the atoms' truths has about the same share."""
        size = len(next(iter(pool.values())))
        pattern = np.zeros(size, np.uint64)
        memo: Memo = {}
        for number, atom in enumerate(self.atoms):
            truth = evaluate(atom, lambda name: pool.get(name, current.get(name, 0)), memo)
            pattern |= np.asarray(truth, np.uint64) << np.uint64(number)
        _, inverse, counts = np.unique(pattern, return_inverse=True, return_counts=True)
        weight = rng.random(size) * counts[inverse.ravel()]
        return np.argpartition(weight, count - 1)[:count]
