"""Trying cases: an executor, the model, and the bases of its processor, with what a row showed in words that last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.comparison.case import Case, Mutation, applies, batch_of, lacking
from vmfuzz.comparison.compare import AlteredModel, Comparison, Verdict, compare
from vmfuzz.comparison.errata import Erratum, all_deviations_of
from vmfuzz.comparison.signature import signature_of
from vmfuzz.errors import UnknownNameError
from vmfuzz.execute.base import Executor, HasItsOwnWord, RunsInOrder
from vmfuzz.generate.families import Generator
from vmfuzz.model.outcome_codes import outcomes_of
from vmfuzz.model.predict import Model, model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

#: Columns of one batch, at most: the engine takes 256, and memory and live conditions count.
MOST_COLUMNS: Final = 120

#: Ends of which an executor may say why.
_FAILED: Final = (Kind.VMFAIL_INVALID, Kind.VMFAIL_VALID, Kind.ENTRY_FAILURE)

#: What an observation calls a mismatch, and how it begins to call a known deviation; its id follows.
MISMATCH: Final = "mismatch"
DEVIATION: Final = "deviation:"
_WORDS: Final = {
    Verdict.AGREES: "agrees",
    Verdict.NOT_MODELLED: "not modelled",
    Verdict.MISMATCH: MISMATCH,
    Verdict.REFUSED: "refused by containment",
    Verdict.EXECUTOR_CRASHED: "executor-crash",
    Verdict.NOT_RUN: "not run",
}


@dataclass(frozen=True)
class Observation:
    """What one case showed: the allowed outcomes, violated checks (first failing stage first), the outcome and the executor's word.

    `comparison` is "agrees", "mismatch", "not modelled", "executor-crash", "deviation:ID", ... `kind` and `checks` are the signature's.
    """

    predicted: tuple[str, ...]
    violated: tuple[str, ...]
    actual: str
    message: str | None
    comparison: str
    kind: str
    checks: tuple[str, ...]


class Trial:
    """Runs cases on one executor and compares them with its model; `model`, `generator` and `altered` default to those of the executor."""

    def __init__(
        self,
        executor: Executor,
        model: Model | None = None,
        generator: Generator | None = None,
        altered: AlteredModel | None = None,
        errata: Sequence[Erratum] = (),
    ) -> None:
        self.executor = executor
        self.model = model or model_of(executor.capabilities())
        self.generator = generator or Generator(self.model, executor.known_good())
        own = all_deviations_of(executor.name, errata, self.model, self.generator)
        of_a_person = {erratum.id for erratum in errata}
        #: ids of the deviations among them that a person told
        self.told = tuple(deviation.id for deviation in own if deviation.id in of_a_person)
        self.deviations = altered.deviations if altered else own
        self._altered = altered
        if altered is None and self.deviations:
            self._altered = AlteredModel(self.model.capabilities, self.deviations)
        #: candidates that were run
        self.executed = 0

    def base(self, name: str) -> Vmcs | None:
        """The known-good state of that name, or None where this processor has none (or no such parts exist)."""
        try:
            return self.generator.bases.get(name)
        except (UnknownNameError, KeyError, TypeError):
            return None

    def applies(self, case: Case) -> bool:
        """Whether this processor can have the case."""
        base = self.base(case.base)
        return base is not None and applies(base, case.mutation)

    def lacking(self, case: Case) -> list[str]:
        """The fields of a case that the executor lacks, by name; none where it lacks the base."""
        base = self.base(case.base)
        return [] if base is None else lacking(base, case.mutation)

    def compare_batch(self, batch: VmcsBatch, in_order: bool = False) -> Comparison:
        """Run and compare a batch; `in_order`: as a sequence, all rows in one new machine where the executor can tell."""
        prediction = self.model.predict_batch(batch)
        self.executed += len(batch)
        run = self.executor.run_in_order if in_order and isinstance(self.executor, RunsInOrder) else self.executor.run
        return compare(prediction, run(batch), self._altered)

    def compare(self, base: Vmcs, mutations: Sequence[Mutation]) -> Comparison:
        """Run and compare the base with each mutation, one row each."""
        return self.compare_batch(batch_of(base, mutations))

    def predict(self, base: Vmcs, mutations: Sequence[Mutation]) -> Comparison:
        """Predict without running: all outcomes are NOT_RUN."""
        prediction = self.model.predict_batch(batch_of(base, mutations))
        return compare(prediction, Outcomes.empty(len(mutations)))

    def observe(self, case: Case) -> Observation:
        """Run one case, which must apply here. An executor that has its own word only for single candidates is asked for it."""
        base = self.base(case.base)
        if base is None:
            raise UnknownNameError("base", case.base, self.generator.bases.samples())
        comparison = self.compare(base, [case.mutation])
        seen = self.observation(comparison, 0)
        if seen.message is None and isinstance(self.executor, HasItsOwnWord) and comparison.outcomes.kind[0] in _FAILED:
            return replace(seen, message=self.executor.own_word(comparison.prediction.batch.row(0)))
        return seen

    def observe_sequence(self, base: str, rows: Sequence[Mutation]) -> tuple[Observation, str | None]:
        """Run rows of a base in order, as a sequence: what the last one showed, and why one of them was not run, if one was not."""
        state = self.base(base)
        if state is None:
            raise UnknownNameError("base", base, self.generator.bases.samples())
        comparison = self.compare_batch(batch_of(state, rows), in_order=True)
        left_out = [row for row in range(len(rows)) if comparison.verdict[row] in (Verdict.REFUSED, Verdict.NOT_RUN)]
        why = (comparison.outcomes.message_of(left_out[0]) or "not run") if left_out else None
        return self.observation(comparison, len(rows) - 1), why

    def observation(self, comparison: Comparison, row: int) -> Observation:
        """What a row of a comparison showed."""
        signature = signature_of(comparison, row)
        verdict = Verdict(int(comparison.verdict[row]))
        if verdict is Verdict.DEVIATION:
            index = int(comparison.deviation[row])
            words = f"{DEVIATION}{self.deviations[index].id}" if index >= 0 else "deviation"
        else:
            words = _WORDS[verdict]
        kind = signature.kind if verdict not in (Verdict.AGREES, Verdict.NOT_MODELLED) else words
        return Observation(
            predicted=tuple(sorted(outcome.short() for outcome in outcomes_of(int(comparison.prediction.allowed[row])))),
            violated=tuple(compiled.check.id for compiled in comparison.prediction.violations_of(row)),
            actual=signature.actual,
            message=signature.message,
            comparison=words,
            kind=kind,
            checks=signature.checks,
        )


#: Which rows of a comparison still show what is being reduced.
Goal = Callable[[Comparison], npt.NDArray[np.bool_]]
