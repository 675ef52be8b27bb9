"""What a campaign counts: verdicts, outcomes, checks seen violated and deciding, readings of ambiguities, deviations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.outcomes import Kind
from vmfuzz.campaign.coverage import Coverage
from vmfuzz.comparison.compare import Comparison, Verdict
from vmfuzz.model.bochs_messages import MESSAGES
from vmfuzz.model.check import Stage
from vmfuzz.model.deviations import Deviation
from vmfuzz.model.evaluate import Truth
from vmfuzz.model.known_deviations import DEVIATIONS_BY_ID
from vmfuzz.model.kvm_messages import CONSISTENCY_CHECKS
from vmfuzz.model.outcome_codes import ENTERED
from vmfuzz.model.predict import BatchPrediction, Model


@dataclass
class Tally:
    """Counts over all candidates so far; arrays have one element a check of `model.compiled`.

    `violated`: candidates that ran and violate the check. `decided`: those in which it alone is violated in the stage that fails, and the
    processor reported its failure. `named`: failures in agreement with the model whose message names a check that the model finds violated too;
    `other_check`: those whose message names another check, by message. `readings`: for a check with an ambiguity, [strict, lenient] where
    it alone could decide.
    """

    model: Model
    deviations: Sequence[Deviation] = ()
    candidates: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    by_deviation: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    other_check: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        count = len(self.model.compiled)
        self.violated: npt.NDArray[np.int64] = np.zeros(count, np.int64)
        self.decided: npt.NDArray[np.int64] = np.zeros(count, np.int64)
        self.readings: npt.NDArray[np.int64] = np.zeros((count, 2), np.int64)
        self.coverage = Coverage(self.model)

    def add(self, comparison: Comparison, checks: Collection[int] = ()) -> None:
        """Count one batch; `checks` (of `model.compiled`) are those that it is directed at, if it is."""
        self.candidates += len(comparison.verdict)
        for verdict, number in zip(*np.unique(comparison.verdict, return_counts=True), strict=True):
            self.verdicts[Verdict(int(verdict))] += int(number)
        self._add_outcomes(comparison)
        known = comparison.deviation[comparison.deviation >= 0]
        for index, number in zip(*np.unique(known, return_counts=True), strict=True):
            self.by_deviation[self.deviations[int(index)].id] += int(number)
        self._add_checks(comparison, checks)
        self._add_messages(comparison)

    def _add_outcomes(self, comparison: Comparison) -> None:
        outcomes = comparison.outcomes
        qualified = np.where(outcomes.kind == Kind.ENTRY_FAILURE, outcomes.qualification, np.uint64(0))
        packed = outcomes.kind.astype(np.uint64) << np.uint64(48) | outcomes.number.astype(np.uint64) << np.uint64(16)
        packed |= np.minimum(qualified, np.uint64(0xFFFF))
        _, first, counts = np.unique(packed, return_index=True, return_counts=True)
        for index, number in zip(first, counts, strict=True):
            self.outcomes[outcomes[int(index)].short()] += int(number)

    def _add_checks(self, comparison: Comparison, checks: Collection[int]) -> None:
        prediction = comparison.prediction
        ran = comparison.verdict <= Verdict.DEVIATION
        per_stage = violations_per_stage(prediction)
        self.coverage.add(comparison, per_stage, checks)
        actual = np.uint64(1) << comparison.bits.astype(np.uint64)
        for index, truth in prediction.violated.items():
            compiled = self.model.compiled[index]
            violated = truth & ran
            self.violated[index] += int(np.count_nonzero(violated)) if not isinstance(violated, bool) else 0
            alone = violated & (per_stage[compiled.step[0]] == 1) & prediction.reached[compiled.step]
            failed = alone & (actual & np.uint64(compiled.outcomes) != 0)
            self.decided[index] += int(np.count_nonzero(failed))
            if not compiled.certain:
                # what a deviation explains is no reading
                read = alone & (comparison.verdict <= Verdict.NOT_MODELLED)
                strict, lenient = (read & (actual & np.uint64(mask) != 0) for mask in (compiled.outcomes, ENTERED))
                self.readings[index] += (int(np.count_nonzero(strict)), int(np.count_nonzero(lenient)))

    def _add_messages(self, comparison: Comparison) -> None:
        """The second oracle: does the executor name a check that the model finds violated?"""
        outcomes, prediction = comparison.outcomes, comparison.prediction
        rows = (comparison.verdict == Verdict.AGREES) & (outcomes.message >= 0)
        for number in np.unique(outcomes.message[rows]):
            message = outcomes.messages[int(number)]
            ids = MESSAGES.checks_named(message)
            if ids is None:
                continue
            here = rows & (outcomes.message == number)
            seen: npt.NDArray[np.bool_] = np.zeros(len(here), np.bool_)
            for index, truth in prediction.violated.items():
                if self.model.compiled[index].check.id in ids:
                    seen |= truth
            self.named[message] += int(np.count_nonzero(here & seen))
            missed = int(np.count_nonzero(here & ~seen))
            if missed:
                self.other_check[message] += missed

    def add_word(self, comparison: Comparison, row: int, word: str | None) -> None:
        """Count what KVM says of one row, if that is in the table of its checks."""
        ids = None if word is None else CONSISTENCY_CHECKS.checks_named(word)
        if word is None or not ids:
            return
        violated = {compiled.check.id for compiled in comparison.prediction.violations_of(row)}
        (self.named if ids & violated else self.other_check)[word] += 1

    @property
    def agreement(self) -> int:
        """Candidates on which processor and model agree."""
        return self.verdicts[Verdict.AGREES]

    @property
    def executed(self) -> int:
        """Candidates that the processor really ran."""
        return self.candidates - self.verdicts[Verdict.REFUSED] - self.verdicts[Verdict.NOT_RUN]

    def merge(self, other: Tally) -> None:
        """Add the counts of another tally of the same processor."""
        self.candidates += other.candidates
        self.verdicts += other.verdicts
        self.outcomes += other.outcomes
        self.by_deviation += other.by_deviation
        self.named += other.named
        self.other_check += other.other_check
        self.violated += other.violated
        self.decided += other.decided
        self.readings += other.readings
        self.coverage.merge(other.coverage)

    def to_json(self) -> dict[str, Any]:
        """A JSON object for reports and machines."""
        checks = self.model.compiled
        return {
            "candidates": self.candidates,
            "executed": self.executed,
            "verdicts": {verdict.name.lower(): self.verdicts[verdict] for verdict in Verdict},
            "outcomes": dict(self.outcomes.most_common()),
            "deviations": dict(self.by_deviation.most_common()),
            "errata": [
                _erratum_data(known) for known in self.deviations if known.id in self.by_deviation and known.id not in DEVIATIONS_BY_ID
            ],
            "same_check_named": self.named.total(),
            "other_check_named": dict(self.other_check.most_common()),
            "checks": {
                compiled.check.id: {"violated": int(self.violated[i]), "decided": int(self.decided[i])} for i, compiled in enumerate(checks)
            },
            "readings": {
                compiled.check.id: {"strict": int(self.readings[i][0]), "lenient": int(self.readings[i][1])}
                for i, compiled in enumerate(checks)
                if not compiled.certain
            },
        }


def _erratum_data(known: Deviation) -> dict[str, Any]:
    """An erratum, of the processor or from a person's file, for a report: who reads that need not have the table or the file."""
    return {"id": known.id, "title": known.title, "text": known.text, "skips": sorted(known.skips)}


def violations_per_stage(prediction: BatchPrediction) -> dict[Stage, npt.NDArray[np.uint16]]:
    """For each stage, how many of its checks each row violates, uint16 (n,)."""
    per_stage = {stage: np.zeros(len(prediction), np.uint16) for stage in Stage}
    for index, truth in prediction.violated.items():
        counted: Truth = truth
        per_stage[prediction.model.compiled[index].step[0]] += counted
    return per_stage
