"""Mutation of one field as a column: each row draws its own way to change the base's value, all in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.generate.boundary import Edit

Column = npt.NDArray[np.uint64]

#: Ways to change a value, and how often each is taken.
WEIGHTS: Final = (
    ("keep", 20),
    ("edit", 40),
    ("flip one bit", 16),
    ("flip two bits", 4),
    ("copy another field", 4),
    ("near the value", 4),
    ("address edge", 6),
    ("random", 6),
)
_CUMULATIVE: Final = np.cumsum([weight for _, weight in WEIGHTS])


def mutate(
    rng: np.random.Generator,
    count: int,
    base: int,
    width: int,
    edits: Sequence[Edit],
    others: Sequence[int],
    edges: Sequence[int],
) -> Column:
    """`count` values of a field of `width` bits whose base value is `base`, uint64 of shape (count,).

    `edits`: (keep, set) pairs from the checks; `others`: values of other fields to copy; `edges`: bits at which addresses change
    their validity (physical and linear width).
    """
    full = np.uint64((1 << width) - 1)
    start = np.uint64(base)
    value = np.full(count, start, np.uint64)
    way = np.searchsorted(_CUMULATIVE, rng.integers(0, int(_CUMULATIVE[-1]), count), side="right")
    bit = np.uint64(1) << rng.integers(0, width, count).astype(np.uint64)

    rows = way == 1
    if edits and rows.any():
        table = np.array(edits, np.uint64)
        chosen = table[rng.integers(0, len(table), int(rows.sum()))]
        value[rows] = (start & chosen[:, 0]) | chosen[:, 1]
    else:
        value[rows] = start ^ bit[rows]
    rows = (way == 2) | (way == 3)
    value[rows] = start ^ bit[rows]
    rows = way == 3
    value[rows] ^= np.uint64(1) << rng.integers(0, width, int(rows.sum())).astype(np.uint64)
    rows = way == 4
    pool = np.array([other & int(full) for other in others] or [base], np.uint64)
    value[rows] = pool[rng.integers(0, len(pool), int(rows.sum()))]
    rows = way == 5
    value[rows] = start + (rng.integers(0, 33, int(rows.sum())).astype(np.uint64) - np.uint64(16))
    rows = way == 6
    value[rows] = _address_edges(rng, int(rows.sum()), base, edges)
    rows = way == 7
    value[rows] = rng.integers(0, 1 << 64, int(rows.sum()), dtype=np.uint64)
    return value & full


def _address_edges(rng: np.random.Generator, count: int, base: int, edges: Sequence[int]) -> Column:
    """Addresses that differ from the base at the edge of a width: one bit there set, or all bits from there up set."""
    at = np.array(edges, np.uint64)[rng.integers(0, len(edges), count)]
    single = np.uint64(1) << at
    upward = ~(single - np.uint64(1))
    which = rng.integers(0, 3, count)
    start = np.uint64(base)
    return np.where(which == 0, start ^ single, np.where(which == 1, start | upward, start & ~upward)).astype(np.uint64)
