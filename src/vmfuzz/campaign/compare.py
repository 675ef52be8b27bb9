"""Comparison of what a processor did with what the model allows, for a whole batch at once."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.model.deviations import MARK, Deviation, altered_checks
from vmfuzz.model.outcome_codes import bits_of
from vmfuzz.model.predict import BatchPrediction, Model


class Verdict(enum.IntEnum):
    """What the comparison of one candidate says."""

    AGREES = 0
    NOT_MODELLED = 1  # the outcome is allowed, but rests on something that the model does not know
    MISMATCH = 2
    DEVIATION = 3  # a mismatch that is a known deviation of this executor
    REFUSED = 4  # containment did not let it run
    EXECUTOR_CRASHED = 5
    NOT_RUN = 6


@dataclass
class Comparison:
    """Verdicts of a batch: `verdict` uint8 (n,), `bits` the bit of each actual outcome uint8 (n,), `deviation` index or -1 int16 (n,)."""

    prediction: BatchPrediction
    outcomes: Outcomes
    verdict: npt.NDArray[np.uint8]
    bits: npt.NDArray[np.uint8]
    deviation: npt.NDArray[np.int16]


_NOT_EXECUTED = (
    (Kind.REFUSED, Verdict.REFUSED),
    (Kind.EXECUTOR_CRASHED, Verdict.EXECUTOR_CRASHED),
    (Kind.NOT_RUN, Verdict.NOT_RUN),
)


def compare(prediction: BatchPrediction, outcomes: Outcomes, altered: AlteredModel | None = None) -> Comparison:
    """Compare outcomes with predictions; `altered` is the model with the executor's known deviations."""
    bits = bits_of(outcomes)
    verdict = np.where(_allows(prediction, bits), np.uint8(Verdict.AGREES), np.uint8(Verdict.MISMATCH)).astype(np.uint8)
    verdict[(verdict == Verdict.AGREES) & prediction.not_modelled] = Verdict.NOT_MODELLED
    for kind, special in _NOT_EXECUTED:
        verdict[outcomes.kind == kind] = special
    deviation = np.full(len(outcomes), -1, np.int16)
    if altered is not None:
        altered.explain(prediction, bits, verdict, deviation)
    return Comparison(prediction, outcomes, verdict, bits, deviation)


def _allows(prediction: BatchPrediction, bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    result: npt.NDArray[np.bool_] = (prediction.allowed >> bits.astype(np.uint64)) & np.uint64(1) != 0
    return result


class AlteredModel:
    """The model of a processor with known deviations: explains mismatches and names the deviation."""

    def __init__(self, capabilities: Capabilities, deviations: Sequence[Deviation]) -> None:
        self.deviations = tuple(deviations)
        self._number = {MARK + deviation.id: index for index, deviation in enumerate(self.deviations)}
        self._model = Model(capabilities, altered_checks(deviations))

    def explain(
        self,
        prediction: BatchPrediction,
        bits: npt.NDArray[np.uint8],
        verdict: npt.NDArray[np.uint8],
        deviation: npt.NDArray[np.int16],
    ) -> None:
        """Turn mismatches that deviations explain into DEVIATION and note the first deviation that the row meets."""
        rows = np.flatnonzero(verdict == Verdict.MISMATCH)
        if not len(rows):
            return
        altered = self._model.predict_batch(prediction.batch.take(rows))
        explained = _allows(altered, bits[rows])
        verdict[rows[explained]] = Verdict.DEVIATION
        for index, truth in altered.violated.items():
            number = self._number.get(altered.model.compiled[index].check.ambiguity or "")
            if number is not None:
                met = np.broadcast_to(truth, len(rows)) & explained & (deviation[rows] < 0)
                deviation[rows[met]] = number
