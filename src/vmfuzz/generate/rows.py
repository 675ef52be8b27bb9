"""The rows of a directed family, made for all of its blocks at once: single edits, such with a bit flipped, and changes of several operands.

Up to half of a block's rows are single edits, all of which come before one comes again. An eighth break the requirement with one edit and flip a
bit, all bits in turn. The rest is chosen from three times as many rows: mutations of any kind, and pairs of edits of which the first breaks the
requirement; each pattern of truths (of the check's atoms, and of what is sought) gets about the same share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vmfuzz.generate.columns import Changes, Indices, below, chosen_operands, runs
from vmfuzz.generate.targets import Target, Values, in_turn
from vmfuzz.model.columns import SOMEWHERE, Columns
from vmfuzz.model.expr import Cond

#: Of the rows that are not single edits, so many times as many are made as are kept: mutations, and pairs of edits.
_MUTATIONS: Final = 1
_PAIRS: Final = 2
#: What a pattern of truths is multiplied with before the next truths are added (odd), and how many of its bits tell patterns apart.
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
_PATTERN_BITS: Final = 12

#: Some of the rows that are made: numbers of blocks, and of rows in these.
_Rows = tuple[Indices, Indices]


@dataclass(frozen=True)
class Aim:
    """`rows` rows directed at a check: single edits from number `first` on.

    `current`: the values that they start from, of all operands of the check. `copies`: values of other fields. `sought`: conditions of which rows in
    which they hold are preferred.
    """

    target: Target
    rows: int
    first: int
    current: Mapping[str, int]
    copies: Sequence[int]
    sought: Sequence[Cond]

    @cached_property
    def parts(self) -> tuple[int, int, int, int]:
        """How many rows are made: single edits, flips, mutations, pairs."""
        singles, any_edits = min(len(self.target.singles), (self.rows + 1) // 2), bool(self.target.singles)
        flips = self.rows // 8 if any_edits else 0
        rest = self.rows - singles - flips
        return singles, flips, rest * _MUTATIONS, rest * _PAIRS if any_edits else 0

    @property
    def bits(self) -> npt.NDArray[np.intp]:
        """Positions of operands, and bits: those whose turn it is to be flipped."""
        bits = self.target.bits
        return bits[:, in_turn(bits.shape[1], self.first, self.parts[1])]

    @property
    def rest(self) -> int:
        """How many mutations and pairs are kept."""
        return self.rows - self.parts[0] - self.parts[1]

    def kept(self, rng: np.random.Generator, made: Values) -> Values:
        """Of the rows that were made those that run."""
        return made if not self.rest else np.concatenate([made[:, : -self._pool], self._rare(rng, made[:, -self._pool :])], axis=1)

    @property
    def _pool(self) -> int:
        return self.parts[2] + self.parts[3]

    def _rare(self, rng: np.random.Generator, pool: Values) -> Values:
        """Rows of the pool, so that each pattern of truths (of the atoms and of what is sought) has about the same share."""
        values = {**self.current, **dict(zip(self.target.operands, pool, strict=True))}
        answers, truths = Columns(lambda name: values.get(name, 0), self._pool).answers([*self.target.atoms, *self.sought])
        pattern = np.zeros(self._pool, np.uint64)
        varying = [truths[at] for at in np.flatnonzero(answers == SOMEWHERE).tolist()]
        for eight in np.packbits(varying, axis=0) if varying else ():
            pattern = (pattern + eight) * _SPREAD
        pattern >>= np.uint64(64 - _PATTERN_BITS)
        weight = rng.random(self._pool) * np.bincount(pattern.astype(np.intp))[pattern.astype(np.intp)]
        return pool[:, np.argpartition(weight, self.rest - 1)[: self.rest]]


class _Sheet:
    """The rows that are made, of all blocks: block by block and operand by operand, with the values that each starts from."""

    def __init__(self, aims: Sequence[Aim], changes: Changes) -> None:
        self._changes = changes
        self._parts = np.array([aim.parts for aim in aims])
        self._made = self._parts.sum(axis=1)
        self._operands = np.array([len(aim.target.operands) for aim in aims])
        self._first = np.cumsum(self._operands) - self._operands
        self._start = np.cumsum(self._operands * self._made) - self._operands * self._made
        self._number = np.array([changes.number[name] for aim in aims for name in aim.target.operands], np.intp)
        current = np.array([aim.current[name] for aim in aims for name in aim.target.operands], np.uint64)
        self._edits = [np.concatenate(column) for column in zip(*(aim.target.edits for aim in aims), strict=True)]
        self._values = np.repeat(current, np.repeat(self._made, self._operands))

    def blocks(self) -> list[Values]:
        """Of each block its rows: uint64 (operands, rows)."""
        ends = self._start + self._operands * self._made
        shapes = zip(self._start.tolist(), ends.tolist(), self._operands.tolist(), self._made.tolist(), strict=True)
        return [self._values[start:end].reshape(operands, made) for start, end, operands, made in shapes]

    def rows(self, part: int) -> _Rows:
        """The rows that are one part of each block: their blocks, and places in these."""
        block, place = runs(self._parts[:, part])
        return block, place + self._parts[:, :part].sum(axis=1)[block]

    def _at(self, block: Indices, row: Indices, operand: Indices) -> Indices:
        at: Indices = self._start[block] + operand * self._made[block] + row
        return at

    def edit(self, rows: _Rows, edits: Indices) -> None:
        """Make a single edit in each of the rows; they are numbered through all blocks."""
        operand, keep, to = self._edits
        at = self._at(*rows, operand[edits])
        self._values[at] = self._values[at] & keep[edits] | to[edits]

    def flip(self, rows: _Rows, bits: npt.NDArray[np.intp]) -> None:
        """Flip a bit of an operand in each of the rows: (2, rows)."""
        self._values[self._at(*rows, bits[0])] ^= np.uint64(1) << bits[1].astype(np.uint64)

    def mutate(self, rows: _Rows, rng: np.random.Generator, copies: _Lists) -> None:
        """Change one or several operands of each of the rows in any way."""
        block, row = rows
        changed, operand = chosen_operands(rng, self._operands[block])
        block, row = block[changed], row[changed]
        at = self._at(block, row, operand)
        number = self._number[self._first[block] + operand]
        self._values[at] = self._changes.mutate(rng, number, self._values[at], copies.any_of(rng, block))


class _Lists:
    """A list of numbers for each block."""

    def __init__(self, lists: Sequence[npt.NDArray[Any]]) -> None:
        self._sizes = np.array([len(each) for each in lists])
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._all = np.concatenate(lists)

    def any_of(self, rng: np.random.Generator, block: Indices) -> npt.NDArray[Any]:
        """For each of these blocks any number of its list."""
        chosen: npt.NDArray[Any] = self._all[self._starts[block] + below(rng, self._sizes[block])]
        return chosen


def directed_rows(rng: np.random.Generator, aims: Sequence[Aim], changes: Changes) -> list[Values]:
    """The rows of each aim: of each operand of its check the values, uint64 (operands, rows)."""
    sheet = _Sheet(aims, changes)
    singles, flips, mutations, pairs = (sheet.rows(part) for part in range(len(aims[0].parts)))
    in_turn, breaking, every = _numbers_of_edits(aims)
    sheet.edit(singles, in_turn)
    sheet.edit(flips, breaking.any_of(rng, flips[0]))
    sheet.flip(flips, np.concatenate([aim.bits for aim in aims], axis=1))
    sheet.mutate(mutations, rng, _Lists([np.array(aim.copies, np.uint64) for aim in aims]))
    sheet.edit(pairs, breaking.any_of(rng, pairs[0]))
    sheet.edit(pairs, every.any_of(rng, pairs[0]))
    return [aim.kept(rng, made) for aim, made in zip(aims, sheet.blocks(), strict=True)]


def _numbers_of_edits(aims: Sequence[Aim]) -> tuple[Indices, _Lists, _Lists]:
    """Single edits, numbered through all aims: those whose turn it is; of each aim those that break its requirement, and all."""
    counts = [len(aim.target.singles) for aim in aims]
    numbered = list(zip(np.cumsum([0, *counts[:-1]]).tolist(), counts, aims, strict=True))
    return (
        np.concatenate([start + in_turn(count, aim.first, aim.parts[0]) for start, count, aim in numbered]),
        _Lists([start + aim.target.breaking(aim.current) for start, _, aim in numbered]),
        _Lists([np.arange(start, start + count) for start, count, _ in numbered]),
    )
