"""The search for the shortest sequence of candidates behind which a case does what it does not do otherwise (behind.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from vmfuzz.comparison.behind import Behind
from vmfuzz.comparison.case import Case, Mutation, batch_of, mutation_between
from vmfuzz.comparison.compare import Comparison, Verdict
from vmfuzz.comparison.trial import Trial
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

#: How often a sequence and what it is compared with run again before it is called a finding.
REPEATS: Final = 8


@dataclass(frozen=True)
class Found:
    """The shortest sequence that was found: the case at its end, and what runs before it."""

    case: Case
    behind: Behind


def shortest(trial: Trial, case: Case, actual: str, rows: VmcsBatch | None, time_left: Callable[[], bool]) -> Found | None:
    """The shortest sequence at whose end `case` has the outcome `actual` and disagrees with the model, which it does not otherwise.

    `rows`: what ran when it did, in order and of the same base, the case last. None where no sequence does it each time, or the case does it
    alone and behind an entry of its base as well.
    """
    return _Search(trial, case, actual, time_left).run(rows)


@dataclass
class _Search:
    trial: Trial
    case: Case
    actual: str
    time_left: Callable[[], bool]

    def run(self, rows: VmcsBatch | None) -> Found | None:
        base = self.trial.base(self.case.base)
        assert base is not None
        if self._shows(base, [self.case.mutation]):
            return self._confirmed(self.case, (), ({},))
        if rows is None or not self._is_it(self.trial.compare_batch(rows, in_order=True)):
            return None
        fewest = self._fewest(self._suffix(rows))
        *before, last = self._simplified(base, [mutation_between(base, fewest.row(index)) for index in range(len(fewest))])
        return self._confirmed(Case(self.case.base, last), tuple(before), ())

    # Which rows

    def _suffix(self, rows: VmcsBatch) -> VmcsBatch:
        """So few of the last rows that it shows, in steps of a power of two: a sequence is seldom long."""
        count = 2
        while count < len(rows):
            last = rows.take(np.arange(len(rows) - count, len(rows)))
            if self._is_it(self.trial.compare_batch(last, in_order=True)):
                return last
            count *= 2
        return rows

    def _fewest(self, rows: VmcsBatch) -> VmcsBatch:
        """Rows of which none before the last can be left out: halves go first, then quarters, down to single ones."""
        kept, last = np.arange(len(rows) - 1), len(rows) - 1
        size = max(1, last // 2)
        while len(kept) and self.time_left():
            for start in range(0, len(kept), size):
                rest = np.delete(kept, np.arange(start, min(start + size, len(kept))))
                if self._is_it(self.trial.compare_batch(rows.take([*rest, last]), in_order=True)):
                    kept = rest
                    break
            else:
                if size == 1:
                    break
                size //= 2
            size = max(1, min(size, len(kept)))
        return rows.take([*kept, last])

    def _simplified(self, base: Vmcs, rows: list[Mutation]) -> list[Mutation]:
        """Each row with as few operands as show it; the last one stays one that does not show it alone."""
        for index in range(len(rows)):
            for key in list(rows[index]):
                less = {name: value for name, value in rows[index].items() if name != key}
                tried = [*rows[:index], less, *rows[index + 1 :]]
                if self.time_left() and self._shows(base, tried) and not self._shows(base, tried[-1:]):
                    rows = tried
        return rows

    # Whether it shows

    def _confirmed(self, case: Case, before: tuple[Mutation, ...], otherwise: tuple[Mutation, ...]) -> Found | None:
        """The finding, where the sequence shows it each time and the other one does the same other thing each time."""
        base = self.trial.base(case.base)
        assert base is not None
        others = set()
        for _ in range(REPEATS):
            if not self._shows(base, [*before, case.mutation]):
                return None
            others.add(_last(self._compare(base, [*otherwise, case.mutation])))
        if len(others) > 1 or self.actual in others:
            return None
        return Found(case, Behind(before, otherwise, others.pop()))

    def _shows(self, base: Vmcs, rows: Sequence[Mutation]) -> bool:
        return self._is_it(self._compare(base, rows))

    def _compare(self, base: Vmcs, rows: Sequence[Mutation]) -> Comparison:
        return self.trial.compare_batch(batch_of(base, rows), in_order=True)

    def _is_it(self, comparison: Comparison) -> bool:
        differs = comparison.verdict[-1] in (Verdict.MISMATCH, Verdict.EXECUTOR_CRASHED)
        return bool(differs) and _last(comparison) == self.actual


def _last(comparison: Comparison) -> str:
    return comparison.outcomes[len(comparison.verdict) - 1].short()
