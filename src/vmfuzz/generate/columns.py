"""Mutation of operands as columns: each value draws its own way to change, all in numpy, whatever operands the values are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.generate.vocabulary import COPY, EDGE, EDIT, FLIP, FLIP_TWO, NEAR, RANDOM, WEIGHTS, Change, changed, written

Column = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.intp]

#: How many operands of a row are changed: one, two, three, all; cumulative shares of rows.
_HOW_MANY: Final = np.array([0.55, 0.80, 0.90, 1.0])

#: The listed changes that a way begins with: of two bits the first is a listed flip, copies and random values are written over what is there.
_LISTED: Final = {EDIT: EDIT, FLIP: FLIP, NEAR: NEAR, EDGE: EDGE, FLIP_TWO: FLIP}
_WAYS: Final = tuple(way for way, _ in WEIGHTS)
#: The number of a way, once for each of its shares of a hundred.
_SHARES: Final = np.repeat(np.arange(len(_WAYS)), [weight for _, weight in WEIGHTS])


def _where(way: str) -> Column:
    """By number of a way: all ones for this one, else 0."""
    return np.array([(1 << 64) - 1 if other == way else 0 for other in _WAYS], np.uint64)


_RANDOM, _COPY, _FLIP_TWO = _where(RANDOM), _where(COPY), _where(FLIP_TWO)


def below(rng: np.random.Generator, limits: npt.NDArray[np.integer]) -> Indices:
    """A random number below each of the limits; 0 where the limit is 0."""
    return (rng.random(len(limits)) * limits).astype(np.intp)


def runs(lengths: npt.NDArray[np.integer]) -> tuple[Indices, Indices]:
    """Runs of these lengths, one after the other: of each element the number of its run, and its place in it."""
    run = np.repeat(np.arange(len(lengths)), lengths)
    return run, np.arange(len(run)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def chosen_operands(rng: np.random.Generator, operands: npt.NDArray[np.integer]) -> tuple[Indices, Indices]:
    """Which operands rows change, of rows that have so many each: numbers of rows, and operands in them; at least one in every row that has any.

    Two or three may fall on the same operand.
    """
    how_many = np.searchsorted(_HOW_MANY, rng.random(len(operands)), side="right") + 1
    every = (how_many == len(_HOW_MANY)) | (operands == 0)
    row, place = runs(np.where(every, operands, how_many))
    return row, np.where(every[row], place, below(rng, operands[row]))


class Changes:
    """The ways to change each of some operands: `widths` in bits, and `ways`, the changes that can be listed, as `changes_by_way` gives them."""

    def __init__(self, widths: Mapping[str, int], ways: Mapping[str, Mapping[str, Sequence[Change]]]) -> None:
        #: the numbers of the operands
        self.number = {name: number for number, name in enumerate(widths)}
        self._width = np.array(list(widths.values()), np.uint64)
        self._full = np.array([(1 << width) - 1 for width in widths.values()], np.uint64)
        self._start = np.zeros((len(widths), len(_WAYS)), np.intp)
        self._size = np.ones((len(widths), len(_WAYS)), np.intp)
        listed: list[Change] = [written(0)]
        for number, name in enumerate(widths):
            starts: dict[str, int] = {}
            for way, changes in ways[name].items():
                starts[way] = len(listed)
                listed += changes
            for place, way in enumerate(_WAYS):
                if way in _LISTED:
                    self._start[number, place] = starts[_LISTED[way]]
                    self._size[number, place] = len(ways[name][_LISTED[way]])
        self._listed = np.array(listed, np.uint64)

    def mutate(self, rng: np.random.Generator, operands: Indices, values: Column, copies: Column) -> Column:
        """Changed values of operands (by number) that have `values`: each in a way of its own; `copies`: what each takes if it is a copy."""
        way = _SHARES[rng.integers(0, len(_SHARES), len(values))]
        keep, to, flip, add = self._listed[self._start[operands, way] + below(rng, self._size[operands, way])].T
        drawn = rng.integers(0, 1 << 64, len(values), dtype=np.uint64)
        to = to | drawn & _RANDOM[way] | copies & _COPY[way]
        flip = flip ^ (np.uint64(1) << drawn % self._width[operands]) & _FLIP_TWO[way]
        value: Column = changed(values, (keep, to, flip, add), self._full[operands])
        return value
