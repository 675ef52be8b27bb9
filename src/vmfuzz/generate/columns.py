"""Mutation of fields as columns: each row draws its own way to change the base's values, all in numpy."""

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
_CUMULATIVE: Final = np.cumsum([weight for _, weight in WEIGHTS])

#: How many operands of a row are changed: one, two, three, all; cumulative shares of rows.
_HOW_MANY: Final = np.array([0.55, 0.80, 0.90, 1.0])


def choose_active(rng: np.random.Generator, count: int, operands: int) -> npt.NDArray[np.bool_]:
    """Which operands each row changes, bool of shape (count, operands); at least one in every row."""
    how_many = np.searchsorted(_HOW_MANY, rng.random(count), side="right") + 1
    how_many[how_many == len(_HOW_MANY)] = operands
    order = rng.random((count, operands)).argsort(axis=1)
    active: npt.NDArray[np.bool_] = order < np.minimum(how_many, operands)[:, None]
    return active


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
    way = np.searchsorted(_CUMULATIVE, rng.integers(0, int(_CUMULATIVE[-1]), count), side="right")
    value = start ^ _one_bit(rng, count, width)

    rows = np.flatnonzero(way == 0)
    if edits and len(rows):
        table = np.array(edits, np.uint64)
        chosen = table[rng.integers(0, len(table), len(rows))]
        value[rows] = (start & chosen[:, 0]) | chosen[:, 1]
    rows = np.flatnonzero(way == 2)
    value[rows] ^= _one_bit(rng, len(rows), width)
    rows = np.flatnonzero(way == 3)
    pool = np.array([other & int(full) for other in others] or [base], np.uint64)
    value[rows] = pool[rng.integers(0, len(pool), len(rows))]
    rows = np.flatnonzero(way == 4)
    value[rows] = start + (rng.integers(0, 33, len(rows)).astype(np.uint64) - np.uint64(16))
    rows = np.flatnonzero(way == 5)
    value[rows] = _address_edges(rng, len(rows), base, edges)
    rows = np.flatnonzero(way == 6)
    value[rows] = rng.integers(0, 1 << 64, len(rows), dtype=np.uint64)
    return value & full


def _one_bit(rng: np.random.Generator, count: int, width: int) -> Column:
    result: Column = np.uint64(1) << rng.integers(0, width, count).astype(np.uint64)
    return result


def _address_edges(rng: np.random.Generator, count: int, base: int, edges: Sequence[int]) -> Column:
    """Addresses at the edge of a width: one bit there flipped, all bits from there up set or cleared, or the last 16 bytes below."""
    single = np.uint64(1) << np.array(edges, np.uint64)[rng.integers(0, len(edges), count)]
    upward = ~(single - np.uint64(1))
    start = np.uint64(base)
    kinds = np.stack([start ^ single, start | upward, start & ~upward, single - np.uint64(16)])
    return kinds[rng.integers(0, len(kinds), count), np.arange(count)]
