"""Mutation of fields as columns: each row draws its own way to change the current value, all in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.generate.vocabulary import COPY, FLIP_TWO, RANDOM, WEIGHTS, Change, changed, flipped, written

Column = npt.NDArray[np.uint64]

#: Entries of the table that rows draw from; a way has entries in proportion to its weight.
_ENTRIES: Final = 512
#: Different random values, and different pairs of bits, in one family.
_RANDOM: Final = 16

#: How many operands of a row are changed: one, two, three, all; cumulative shares of rows.
_HOW_MANY: Final = np.array([0.55, 0.80, 0.90, 1.0])


def choose_active(rng: np.random.Generator, count: int, operands: int) -> npt.NDArray[np.bool_]:
    """Which operands each row changes, bool of shape (count, operands); at least one in every row."""
    how_many = np.searchsorted(_HOW_MANY, rng.random(count), side="right") + 1
    how_many[how_many == len(_HOW_MANY)] = operands
    order = rng.random((count, operands)).argsort(axis=1)
    active: npt.NDArray[np.bool_] = order < np.minimum(how_many, operands)[:, None]
    return active


class Mutator:
    """The ways to change one operand of `width` bits.

    `ways`: the changes of it that can be listed, by way, as `changes_by_way` gives them (generate/vocabulary.py).
    """

    def __init__(self, width: int, ways: Mapping[str, Sequence[Change]]) -> None:
        self._width = width
        self._full = (1 << width) - 1
        self._changes = np.array([change for changes in ways.values() for change in changes], np.uint64).T
        sizes = {**{way: len(changes) for way, changes in ways.items()}, FLIP_TWO: _RANDOM, RANDOM: _RANDOM}
        shares = {way: weight * _ENTRIES // 100 for way, weight in WEIGHTS}
        starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
        order = [*sizes, COPY]
        self._start = np.repeat([starts.get(way, sum(sizes.values())) for way in order], [shares[way] for way in order])
        self._size = np.repeat([sizes.get(way, 0) for way in order], [shares[way] for way in order])
        self._step = np.concatenate([np.arange(shares[way]) for way in order])

    def mutate(self, rng: np.random.Generator, current: int, others: Sequence[int], count: int) -> Column:
        """`count` changed values of an operand that has the value `current`, uint64 (count,); `others`: values of other fields to copy."""
        table = self._table(rng, others)
        chosen = table[:, rng.integers(0, table.shape[1], count)]
        value: Column = changed(np.uint64(current), chosen, np.uint64(self._full))
        return value

    def _table(self, rng: np.random.Generator, others: Sequence[int]) -> Column:
        """The changes that rows draw from, uint64 (4, entries)."""
        pairs = np.uint64(1) << rng.integers(0, self._width, (2, _RANDOM)).astype(np.uint64)
        values = [*rng.integers(0, 1 << 64, _RANDOM, dtype=np.uint64), *([other & self._full for other in others] or [0])]
        drawn = np.zeros((4, _RANDOM + len(values)), np.uint64)
        for part, (two, one) in enumerate(zip(flipped(pairs[0] ^ pairs[1]), written(np.array(values, np.uint64)), strict=True)):
            drawn[part, :_RANDOM], drawn[part, _RANDOM:] = two, one
        turn = int(rng.integers(0, 1 << 30))
        size = np.where(self._size == 0, max(1, len(others)), self._size)
        changes = np.concatenate([self._changes, drawn], axis=1)
        table: Column = changes[:, self._start + (turn + self._step) % size]
        return table
