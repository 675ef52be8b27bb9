"""Looking for a goal in all bases at once: which of them reaches it by one boundary value, or by two.

A search (generate/reach.py) starts from one base and follows the condition. Here the condition is evaluated over every base with every boundary
value of its check, in columns, so that what is one change away from any base is always found.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.generate.bases import Bases
from vmfuzz.generate.columns import Column
from vmfuzz.generate.goals import Goal
from vmfuzz.generate.reach import Patch
from vmfuzz.generate.targets import Target
from vmfuzz.model.columns import Columns

#: Rows with one boundary value that are tried for a goal, at most, and rows with two.
_MOST_SINGLES: Final = 8192
_PAIRS: Final = 4096
#: Rows that reach a goal of which ways are handed on, two of each.
_PICKS: Final = 3

_Indices = npt.NDArray[np.intp]


class Nearby:
    """The bases of one processor, as columns."""

    def __init__(self, bases: Bases) -> None:
        self._bases = bases
        self._columns: dict[str, Column] = {}
        #: goals that no single boundary value reaches from any base
        self._not_single: set[int] = set()
        self._kinds: dict[tuple[str, ...], tuple[_Indices, _Indices]] = {}

    def patches(self, goal: Goal, target: Target, rng: np.random.Generator) -> list[tuple[str, Patch]]:
        """Some (name of a base, values) after which the goal's condition should hold, whatever other checks say; by two values where one will not do."""
        names = tuple(dict.fromkeys((*target.operands, *sorted(goal.condition.reads))))
        representatives, kind = self._distinct(names)
        bases, found = tuple(self._bases.possible), list[tuple[str, Patch]]()
        singles, pairs = self._singles(rng, len(representatives), target), self._pairs(rng, len(representatives), target)
        for which, edits in (pairs,) if goal.number in self._not_single else (singles, pairs):
            current = {name: self._column(name)[representatives[which]] for name in names}
            changed = target.edited(current, edits)
            holds = Columns({**current, **changed}.__getitem__, len(which)).truth(goal.condition)
            hits = np.flatnonzero(np.broadcast_to(np.asarray(holds, np.bool_), len(which)))
            if not len(hits):
                if which is singles[0] and len(which) == len(representatives) * len(target.singles):  # it would be so again
                    self._not_single.add(goal.number)
                continue
            weight = np.bincount(kind)[which[hits]]  # every base is as likely as the others
            for row in rng.choice(hits, _PICKS, p=weight / weight.sum()):
                alike, values = np.flatnonzero(kind == which[row]), {name: int(column[row]) for name, column in changed.items()}
                # and the same values in any base: what else is there may keep an executor from agreeing
                for base in (int(rng.choice(alike)), int(rng.integers(len(kind)))):
                    found.append((bases[base], {name: value for name, value in values.items() if value != self._column(name)[base]}))
            break
        return found

    def _singles(self, rng: np.random.Generator, bases: int, target: Target) -> tuple[_Indices, _Indices]:
        """Every base with every boundary value, or as many of these as are tried at most: (bases, edits)."""
        count = bases * len(target.singles)
        rows = np.arange(count) if count <= _MOST_SINGLES else rng.choice(count, _MOST_SINGLES, replace=False)
        which, edit = np.divmod(rows, max(1, len(target.singles)))
        return which, edit[:, None]

    def _pairs(self, rng: np.random.Generator, bases: int, target: Target) -> tuple[_Indices, _Indices]:
        count = _PAIRS if target.singles else 0
        return rng.integers(0, bases, count), rng.integers(0, max(1, len(target.singles)), (count, 2))

    def _distinct(self, names: tuple[str, ...]) -> tuple[_Indices, _Indices]:
        """Bases that differ in these operands: one of each kind, and for every base its kind."""
        if names not in self._kinds:
            values = np.stack([self._column(name) for name in names], axis=1)
            _, first, kind = np.unique(values, axis=0, return_index=True, return_inverse=True)
            self._kinds[names] = first, kind.ravel()
        return self._kinds[names]

    def _column(self, name: str) -> Column:
        """An operand's value in every base."""
        if name not in self._columns:
            self._columns[name] = np.array(np.broadcast_to(np.asarray(self._bases.values(name), np.uint64), len(self._bases.possible)))
        return self._columns[name]
