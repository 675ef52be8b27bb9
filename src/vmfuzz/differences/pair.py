"""Two executors on the same candidates: a batch carried over to the other's bases, and the two comparisons laid side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.outcomes import Kind
from vmfuzz.comparison.case import Case, Mutation, applies, lacking, without_idle_parts
from vmfuzz.comparison.compare import Comparison, Verdict
from vmfuzz.comparison.trial import Observation, Trial
from vmfuzz.model.outcome_codes import exit_unknown
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

_DEPARTS: Final = (Verdict.MISMATCH, Verdict.DEVIATION, Verdict.EXECUTOR_CRASHED)
_RAN: Final = (Verdict.AGREES, Verdict.NOT_MODELLED, *_DEPARTS)


@dataclass
class Both(Comparison):
    """The first processor's comparison of a batch, with the second's of those rows that it can have.

    `other`: its comparison; `place`: row of `other` for each row, -1 where the second cannot have it. bool (n,): `comparable` (both ran, and
    some outcome is allowed to both), `differs` (comparable, other outcomes, and not for a difference in what is allowed to them),
    `explained` (comparable, other outcomes, each allowed, and not the same is allowed to both).
    """

    other: Comparison
    place: npt.NDArray[np.intp]
    comparable: npt.NDArray[np.bool_]
    differs: npt.NDArray[np.bool_]
    explained: npt.NDArray[np.bool_]


def together(first: Comparison, other: Comparison, place: npt.NDArray[np.intp]) -> Both:
    """Lay two comparisons side by side."""
    has = place >= 0
    rows, there = np.flatnonzero(has), place[has]
    comparable = np.zeros(len(place), np.bool_)
    overlap = first.prediction.allowed[rows] & other.prediction.allowed[there] != 0
    comparable[rows] = overlap & np.isin(first.verdict[rows], _RAN) & np.isin(other.verdict[there], _RAN)
    one, two = first.outcomes, other.outcomes
    same = one.kind[rows] == two.kind[there]
    for name in ("number", "qualification"):
        same &= getattr(one, name)[rows] == getattr(two, name)[there]
    # the qualification of an exit after a successful entry says where the guest was, not what the entry did
    entered = (one.kind[rows] == Kind.EXIT) & (two.kind[there] == Kind.EXIT)
    same |= entered & ((one.number[rows] == two.number[there]) | exit_unknown(one)[rows] | exit_unknown(two)[there])
    departs = np.isin(first.verdict[rows], _DEPARTS) | np.isin(other.verdict[there], _DEPARTS)
    own_reason = ~departs & (first.prediction.allowed[rows] != other.prediction.allowed[there])
    differs, explained = np.zeros((2, len(place)), np.bool_)
    differs[rows] = ~same & ~own_reason
    explained[rows] = ~same & own_reason
    differs, explained = differs & comparable, explained & comparable
    parts = (first.prediction, first.outcomes, first.verdict, first.bits, first.deviation)
    return Both(*parts, other, place, comparable, differs, explained)


class PairTrial(Trial):
    """A trial on two processors at once: compares as the first does, and lays the second beside it."""

    def __init__(self, first: Trial, other: Trial) -> None:
        super().__init__(first.executor, first.model, first.generator)
        self.first, self.other = first, other
        self._names: dict[int, str] = {}

    def base(self, name: str) -> Vmcs | None:
        """The first's known-good state of that name."""
        found = super().base(name)
        if found is not None:
            self._names[id(found)] = name
        return found

    def observe_alone(self, case: Case) -> tuple[Observation, Observation]:
        """What each of the two does with a case that both can have."""
        return self.first.observe(case), self.other.observe(case)

    def compare(self, base: Vmcs, mutations: Sequence[Mutation]) -> Both:
        """Run the base with each mutation on both."""
        first = super().compare(base, mutations)
        there = self.other.base(self._names[id(base)])
        rows = [row for row, mutation in enumerate(mutations) if there is not None and applies(there, without_idle_parts(base, mutation))]
        place = np.full(len(mutations), -1, np.intp)
        place[rows] = np.arange(len(rows))
        if there is None or not rows:
            return together(first, first, np.full(len(mutations), -1, np.intp))
        other = self.other.compare(there, [without_idle_parts(base, mutations[row]) for row in rows])
        return together(first, other, place)


def lacking_rows(batch: VmcsBatch, there: Vmcs) -> dict[str, int]:
    """For each field that the batch changes and another processor, whose base is `there`, lacks: the number of rows that change it."""
    missing = lacking(there, batch.columns)
    return {name: rows for name in missing if (rows := int((batch.columns[name] != np.uint64(batch.base.get(name) or 0)).sum()))}


def translated(batch: VmcsBatch, there: Vmcs) -> tuple[VmcsBatch, npt.NDArray[np.intp]] | None:
    """The batch on another processor's base, with the same changes, and the row of each row in it (-1: it changes what is not there)."""
    keep = np.ones(len(batch), np.bool_)
    columns: dict[str, npt.NDArray[np.uint64]] = {}
    words: dict[int, npt.NDArray[np.uint64]] = {}
    for name, column in batch.columns.items():
        own = batch.base.get(name) or 0
        if not applies(there, {name: 0}):
            keep &= column == np.uint64(own)
        else:
            columns[name] = np.where(column == np.uint64(own), np.uint64(there.get(name) or 0), column)
    for address, column in batch.memory_columns.items():
        own = batch.base.memory.get(address, 0)
        if address not in there.memory:
            keep &= column == np.uint64(own)
        else:
            words[address] = np.where(column == np.uint64(own), np.uint64(there.memory[address]), column)
    if not keep.any():
        return None
    place = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.intp)
    moved = VmcsBatch(there, columns, words, count=len(batch))
    return (moved if keep.all() else moved.take(keep)), place
