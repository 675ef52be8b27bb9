"""Comparison of what a processor did with what the model allows, for a whole batch at once."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.deviations import MARK, Deviation, altered_checks
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.outcome_codes import ENTERED, bits_of, exit_unknown, masks_of
from vmfuzz.model.predict import BatchPrediction, CompiledCheck, Model


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
    bits = _bits(prediction, outcomes)
    verdict = np.where(_allows(prediction, bits), np.uint8(Verdict.AGREES), np.uint8(Verdict.MISMATCH)).astype(np.uint8)
    verdict[(verdict == Verdict.AGREES) & prediction.not_modelled] = Verdict.NOT_MODELLED
    for kind, special in _NOT_EXECUTED:
        verdict[outcomes.kind == kind] = special
    verdict[(verdict <= Verdict.NOT_MODELLED) & _wrong_interruption_info(prediction, outcomes)] = Verdict.MISMATCH
    deviation = np.full(len(outcomes), -1, np.int16)
    if altered is not None:
        altered.explain(prediction, bits, masks_of(outcomes, bits), verdict, deviation)
    return Comparison(prediction, outcomes, verdict, bits, deviation)


def _bits(prediction: BatchPrediction, outcomes: Outcomes) -> npt.NDArray[np.uint8]:
    """The bit of each outcome; of an entry whose exit is not known the lowest exit that is allowed, if one is."""
    bits = bits_of(outcomes)
    unknown = exit_unknown(outcomes)
    if unknown.any():
        entered = prediction.allowed & np.uint64(ENTERED)
        lowest = np.bitwise_count((entered & (~entered + np.uint64(1))) - np.uint64(1))
        bits = np.where(unknown & (entered != 0), lowest, bits).astype(np.uint8)
    return bits


def _wrong_interruption_info(prediction: BatchPrediction, outcomes: Outcomes) -> npt.NDArray[np.bool_]:
    """Rows whose VM-entry interruption-information field was not left as the SDM says.

    The exit after a successful entry clears its valid bit; a VM-entry failure leaves the field alone (SDM "VM-Entry Failures During or After
    Loading Guest State").
    """
    written = OperandValues(prediction.batch)("vm_entry_interruption_info")
    info = outcomes.entry_interruption_info.astype(np.uint64)
    kept = (outcomes.kind == Kind.ENTRY_FAILURE) & (info != written)
    cleared = (outcomes.kind == Kind.EXIT) & (info >> np.uint64(31) != 0)
    return np.asarray(kept | cleared, np.bool_)


def _allows(prediction: BatchPrediction, bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    result: npt.NDArray[np.bool_] = (prediction.allowed >> bits.astype(np.uint64)) & np.uint64(1) != 0
    return result


class AlteredModel:
    """The model of a processor with known deviations: explains mismatches and names the deviation."""

    def __init__(self, capabilities: Capabilities, deviations: Sequence[Deviation]) -> None:
        self.deviations = tuple(deviations)
        self._number = {MARK + deviation.id: index for index, deviation in enumerate(self.deviations)}
        self._model = Model(capabilities, altered_checks(deviations))

    def disputes(self, prediction: BatchPrediction) -> npt.NDArray[np.bool_]:
        """Rows in which a deviation may give another outcome than the model: bool (n,)."""
        altered = self._model.predict_as(prediction)
        disputed: npt.NDArray[np.bool_] = altered.allowed != prediction.allowed
        for _, here, exits in self._other_exits(altered):
            disputed |= here & (prediction.allowed & exits == 0)
        return disputed

    def _other_exits(self, altered: BatchPrediction) -> Iterator[tuple[int, npt.NDArray[np.bool_], np.uint64]]:
        """(number of a deviation, rows that enter and meet it, the exits that it gives) for each that is about exits."""
        entered = altered.allowed & np.uint64(ENTERED) != 0
        about = [(number, condition, exits) for number, known in enumerate(self.deviations) for condition, exits in known.exits]
        truths = altered.conditions.truths([self._model.fold(condition) for _, condition, _ in about])
        for (number, _, exits), here in zip(about, truths, strict=True):
            if here is not False:
                yield number, np.asarray(here & entered, np.bool_), np.uint64(exits)

    def explain(
        self,
        prediction: BatchPrediction,
        bits: npt.NDArray[np.uint8],
        masks: npt.NDArray[np.uint64],
        verdict: npt.NDArray[np.uint8],
        deviation: npt.NDArray[np.int16],
    ) -> None:
        """Turn mismatches that deviations explain into DEVIATION and note the deviation that explains the row most directly.

        `masks`: what each outcome may be, where not all of it is known.
        """
        # what the model allows is a mismatch for another reason, which no deviation explains
        rows = np.flatnonzero((verdict == Verdict.MISMATCH) & ~_allows(prediction, bits))
        if not len(rows):
            return
        altered = self._model.predict_as(prediction, rows)
        actual = masks[rows]
        by_checks = altered.allowed & actual != 0
        by_exits = [(number, here & (actual & exits != 0)) for number, here, exits in self._other_exits(altered)]
        explained = np.logical_or.reduce([by_checks, *(taken for _, taken in by_exits)])
        verdict[rows[explained]] = Verdict.DEVIATION
        names = np.full(len(rows), -1, np.int16)
        met = self._met(altered)
        fails = prediction.allowed[rows] & np.uint64(ENTERED) == 0
        # most directly: a check left out that had to fail; then one made that has this outcome; then another first exit
        reasons = [(number, here & fails) for number, compiled, here in met if compiled.check.id in BY_ID]
        reasons += [(number, here & (actual & np.uint64(compiled.outcomes) != 0)) for number, compiled, here in met]
        reasons += [(number, taken & ~by_checks) for number, taken in by_exits]
        reasons += [(number, here) for number, _, here in met]
        for number, here in reasons:
            names[here & explained & (names < 0)] = number
        deviation[rows] = names

    def _met(self, altered: BatchPrediction) -> list[tuple[int, CompiledCheck, npt.NDArray[np.bool_]]]:
        """(number of a deviation, a check that it alters, the rows that meet it) in the order of the checks."""
        found = []
        for index, truth in sorted(altered.violated.items()):
            compiled = altered.model.compiled[index]
            number = self._number.get(compiled.check.ambiguity or "")
            if number is not None:
                found.append((number, compiled, np.broadcast_to(np.asarray(truth, np.bool_), len(altered))))
        return found
