"""Mutation of fields as columns: each row draws its own way to change the current value, all in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.generate.boundary import Edit

Column = npt.NDArray[np.uint64]

#: Ways to change a value, and how often each is taken; "edit" takes its values from the checks, the others know nothing of them.
WEIGHTS: Final = (
    ("edit", 50),
    ("flip one bit", 20),
    ("flip two bits", 5),
    ("copy another field", 5),
    ("near the value", 6),
    ("address edge", 7),
    ("random", 7),
)
#: Entries of the table that rows draw from; a way has entries in proportion to its weight.
_ENTRIES: Final = 512
_MASK64: Final = (1 << 64) - 1
#: Different random values, and different pairs of bits, in one family.
_RANDOM: Final = 16

#: How many operands of a row are changed: one, two, three, all; cumulative shares of rows.
_HOW_MANY: Final = np.array([0.55, 0.80, 0.90, 1.0])

#: A change of a value: ((value & keep | set) ^ flip) + add, modulo 2^64.
Change = tuple[int, int, int, int]


def choose_active(rng: np.random.Generator, count: int, operands: int) -> npt.NDArray[np.bool_]:
    """Which operands each row changes, bool of shape (count, operands); at least one in every row."""
    how_many = np.searchsorted(_HOW_MANY, rng.random(count), side="right") + 1
    how_many[how_many == len(_HOW_MANY)] = operands
    order = rng.random((count, operands)).argsort(axis=1)
    active: npt.NDArray[np.bool_] = order < np.minimum(how_many, operands)[:, None]
    return active


class Mutator:
    """The ways to change one operand of `width` bits.

    `edits`: (keep, set) pairs from the checks; `edges`: bits at which addresses change their validity (physical and linear width).
    """

    def __init__(self, width: int, edits: Sequence[Edit], edges: Sequence[int]) -> None:
        self._width = width
        self._full = (1 << width) - 1
        flips = [(_MASK64, 0, 1 << bit, 0) for bit in range(width)]
        ways = {
            "edit": [(keep, to, 0, 0) for keep, to in edits] or flips,
            "flip one bit": flips,
            "near the value": [(_MASK64, 0, 0, step & _MASK64) for step in range(-16, 17)],
            "address edge": [change for edge in edges for change in _at_edge(edge)],
        }
        self._changes = np.array([change for changes in ways.values() for change in changes], np.uint64).T
        sizes = {**{way: len(changes) for way, changes in ways.items()}, "flip two bits": _RANDOM, "random": _RANDOM}
        shares = {way: weight * _ENTRIES // 100 for way, weight in WEIGHTS}
        starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
        order = [*sizes, "copy another field"]
        self._start = np.repeat([starts.get(way, sum(sizes.values())) for way in order], [shares[way] for way in order])
        self._size = np.repeat([sizes.get(way, 0) for way in order], [shares[way] for way in order])
        self._step = np.concatenate([np.arange(shares[way]) for way in order])

    def mutate(self, rng: np.random.Generator, current: int, others: Sequence[int], count: int) -> Column:
        """`count` changed values of an operand that has the value `current`, uint64 (count,); `others`: values of other fields to copy."""
        table = self._table(rng, others)
        chosen = table[:, rng.integers(0, table.shape[1], count)]
        value: Column = ((np.uint64(current) & chosen[0] | chosen[1]) ^ chosen[2]) + chosen[3] & np.uint64(self._full)
        return value

    def _table(self, rng: np.random.Generator, others: Sequence[int]) -> Column:
        """The changes that rows draw from, uint64 (4, entries)."""
        drawn = np.zeros((4, 2 * _RANDOM + max(1, len(others))), np.uint64)
        drawn[0, :_RANDOM] = _MASK64
        pairs = np.uint64(1) << rng.integers(0, self._width, (2, _RANDOM)).astype(np.uint64)
        drawn[2, :_RANDOM] = pairs[0] ^ pairs[1]
        drawn[1, _RANDOM : 2 * _RANDOM] = rng.integers(0, 1 << 64, _RANDOM, dtype=np.uint64)
        drawn[1, 2 * _RANDOM :] = [other & self._full for other in others] or [0]
        turn = int(rng.integers(0, 1 << 30))
        size = np.where(self._size == 0, max(1, len(others)), self._size)
        changes = np.concatenate([self._changes, drawn], axis=1)
        table: Column = changes[:, self._start + (turn + self._step) % size]
        return table


def _at_edge(edge: int) -> list[Change]:
    """Addresses at the edge of a width: one bit there flipped, all bits from there up set or cleared, or the last 16 bytes below."""
    single = 1 << edge
    upward = _MASK64 & ~(single - 1)
    return [(_MASK64, 0, single, 0), (_MASK64, upward, 0, 0), (_MASK64 & ~upward, 0, 0, 0), (0, single - 16 & _MASK64, 0, 0)]
