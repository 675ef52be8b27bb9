"""Prediction: which outcomes the SDM allows for a VMCS on a processor with given capabilities.

A VM entry goes through stages; a violated check ends it in its stage, and among violations of one stage any may be reported. So the
prediction is a set: the outcomes of all violated checks of the first stage that has one that is certain, and those of uncertain ones (an
ambiguity of the SDM, memory that the case does not describe, or a fact of the processor that is not known) on the way there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.completions import completions
from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.outcomes import Outcome
from vmfuzz.model.check import Check, Stage
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.columns import ALWAYS_FALSE, ALWAYS_TRUE, SOMEWHERE, Columns
from vmfuzz.model.evaluate import Memo, Truth, evaluate, fold
from vmfuzz.model.expr import FALSE, Cond, Node, all_of, any_of
from vmfuzz.model.first_exit import first_exits
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import KNOWN_SUFFIX, MEMORY_OPERANDS, capability_reader
from vmfuzz.model.outcome_codes import ENTERED, mask_of, outcomes_of
from vmfuzz.model.wording import sentence_with_values
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

Mask = int | npt.NDArray[np.uint64]

#: Position of what comes after all positions that are numbered.
_LAST: Final = 1 << 16
_CONTROL_FIELDS: Final = {word.field: word for word in CONTROL_WORDS.values()}

#: A stage and a position in it: stages whose checks are made in order have one position a check (or MSR-load entry).
Step = tuple[Stage, int]


@dataclass(frozen=True)
class CompiledCheck:
    """A check on one processor: capabilities folded in."""

    check: Check
    step: Step
    outcomes: int
    when: Cond
    must: Cond
    violated: Cond
    unknown: Cond

    @cached_property
    def definite(self) -> Cond:
        """The check is violated: what is unknown does not count as violated."""
        return all_of(self.violated, ~self.unknown)

    @property
    def certain(self) -> bool:
        """Whether every processor must make the check (no ambiguity)."""
        return self.check.ambiguity is None


@dataclass
class BatchPrediction:
    """The prediction for each row of a batch.

    `allowed`: uint64 (n,), a mask of outcomes (model/outcome_codes.py). `not_modelled`: bool (n,), rows whose outcome depends on something
    that the model does not know. `violated`: for each check of `model.compiled` that some row violates for all that is known, its truth by row.
    `reached`: for each step in which some check was evaluated by row or is violated, the rows that reach it. `affected`: indices of the checks that were
    evaluated by row; `truths`: (violated, unknown) by index where not both False in all rows; `entered`: the first exits of rows that enter;
    `conditions`: the truths of more conditions over the batch.
    """

    model: Model
    batch: VmcsBatch
    allowed: npt.NDArray[np.uint64]
    not_modelled: npt.NDArray[np.bool_]
    violated: dict[int, Truth]
    reached: dict[Step, Truth]
    conditions: Columns = field(repr=False)
    affected: tuple[int, ...]
    truths: Mapping[int, tuple[Truth, Truth]] = field(repr=False)
    entered: npt.NDArray[np.uint64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.batch)

    def violations_of(self, row: int) -> list[CompiledCheck]:
        """The checks that row violates, all stages."""
        return [
            self.model.compiled[index] for index, truth in self.violated.items() if (truth if isinstance(truth, bool) else bool(truth[row]))
        ]


@dataclass
class _Walk:
    """What going through the steps gives: outcomes of failures, rows not modelled, rows that reach each step, rows that enter."""

    allowed: npt.NDArray[np.uint64]
    not_modelled: npt.NDArray[np.bool_]
    reached: dict[Step, Truth]
    going_on: Truth


class Model:
    """The SDM's checks as they apply to one processor."""

    def __init__(self, capabilities: Capabilities, checks: Sequence[Check] = CHECKS) -> None:
        self.capabilities = capabilities
        #: what the processor may be (one where all is known): how to read its facts, and the conditions in which they are folded in
        self._completions = [(capability_reader(each), dict[int, Node]()) for each in dict.fromkeys(completions(capabilities))]
        self.compiled: list[CompiledCheck] = []
        for check in checks:
            compiled = self._compile(check)
            if compiled is not None:
                self.compiled.append(compiled)
        self._by_operand = self._index()
        self._base_truths = lru_cache(maxsize=4096)(self._evaluate_base)
        #: of the states that `know` was told of: (violated, unknown) by check, where not both are False
        self._known: dict[Vmcs, dict[int, tuple[bool, bool]]] = {}
        self._twins_in: dict[Model, dict[int, int]] = {}

    def fold(self, condition: Cond) -> Cond:
        """The condition with this processor's capabilities folded in; what is not known of them counts as present."""
        return self._fold(condition, *self._completions[0])

    @staticmethod
    def _fold(condition: Cond, reader: Callable[[str], int], folded: dict[int, Node]) -> Cond:
        result: Cond = fold(condition, reader, folded)
        return result

    def _compile(self, check: Check) -> CompiledCheck | None:
        whens, violations, unknowns = [], [], []
        for completion in self._completions:
            requires, when, must, known = (self._fold(part, *completion) for part in (check.requires, check.when, check.must, check.known))
            whens.append(all_of(requires, when))
            violations.append(all_of(requires, when, ~must))
            unknowns.append(all_of(requires, when, ~known))
        when, must = any_of(*whens), self.fold(check.must)
        violated = all_of(*violations)
        # what one of the processors that this may be refuses and another one does not rests on what is not known
        unknown = any_of(*unknowns, all_of(any_of(*violations), ~violated))
        possible = [each for each in violations if each is not FALSE]
        if (violated is FALSE and unknown is FALSE) or (possible and all(self._needs_impossible_control(each) for each in possible)):
            return None
        stage = check.fails.stage
        position = 0
        if stage is Stage.BASIC:
            position = len(self.compiled)
        elif stage is Stage.MSR_LOAD:
            position = min(check.fails.outcomes[0].qualification or 0, _LAST)
        return CompiledCheck(check, (stage, position), mask_of(check.fails.outcomes), when, must, violated, unknown)

    def _needs_impossible_control(self, violated: Cond) -> bool:
        """Whether a violation needs a control to be 1 that this processor does not allow: then the check does not exist here.

        The rule on allowed settings, which fails before or with it, is all that the SDM leaves.
        """
        for condition in violated.args if violated.op == "all" else (violated,):
            if condition.op == "bit" and condition.args[0].op == "operand":
                word = _CONTROL_FIELDS.get(condition.args[0].args[0])
                if word is not None and not self.capabilities.allowed_settings(word.key)[1] >> condition.args[1] & 1:
                    return True
        return False

    def _index(self) -> dict[str, tuple[int, ...]]:
        """For each operand, the checks whose truth can change with it; the address field of a memory operand counts."""
        index: dict[str, set[int]] = {}
        for number, compiled in enumerate(self.compiled):
            for name in compiled.violated.reads | compiled.unknown.reads | compiled.when.reads:
                index.setdefault(name, set()).add(number)
                operand = MEMORY_OPERANDS.get(name.removesuffix(KNOWN_SUFFIX))
                if operand is not None:
                    index.setdefault(operand.address_field, set()).add(number)
                    index.setdefault("memory", set()).add(number)
        return {name: tuple(sorted(numbers)) for name, numbers in index.items()}

    def checks_reading(self, *operands: str) -> tuple[int, ...]:
        """Indices (in `compiled`) of the checks whose truth can change with these operands ("memory": any memory word)."""
        return tuple(sorted(set().union(*(self._by_operand.get(name, ()) for name in operands))))

    def _evaluate_base(self, base: Vmcs) -> dict[int, tuple[bool, bool]]:
        """(violated, unknown) of each check for one VMCS, by index, where not both are False: of a known-good one hardly any, and thousands are kept."""
        values = OperandValues(VmcsBatch(base, {}, count=1))
        memo: Memo = {}
        truths = ((number, _truth_of(check, values, memo)) for number, check in enumerate(self.compiled))
        return {number: truth for number, truth in truths if truth != (False, False)}

    def know(self, states: Sequence[Vmcs], prediction: BatchPrediction) -> None:
        """Keep what this model predicted for `states`, the rows of a batch: each is the base of batches to come, and need not be judged again."""
        found: list[dict[int, tuple[bool, bool]]] = [{} for _ in states]
        for number, truths in prediction.truths.items():
            violated, unknown = (np.broadcast_to(np.asarray(truth, np.bool_), len(states)) for truth in truths)
            for row in np.flatnonzero(violated | unknown):
                found[row][number] = bool(violated[row]), bool(unknown[row])
        self._known.update(zip(states, found, strict=True))

    def _truths_of_base(self, base: Vmcs, other: Model | None) -> dict[int, tuple[Truth, Truth]]:
        """What `_evaluate_base` gives of the base of a batch; conditions that the model `other` has as well are not evaluated again."""
        if base in self._known:
            return dict(self._known[base])
        if other is None or base not in other._known:
            return dict(self._base_truths(base))
        values, memo, known = OperandValues(VmcsBatch(base, {}, count=1)), dict[int, Any](), other._known[base]
        twins, truths = self._twins(other), dict[int, tuple[bool, bool]]()
        for number, check in enumerate(self.compiled):
            truth = known.get(twins[number], (False, False)) if number in twins else _truth_of(check, values, memo)
            if truth != (False, False):
                truths[number] = truth
        self._known[base] = truths
        return dict(truths)

    def _twins(self, other: Model) -> dict[int, int]:
        """The checks of this model that `other` has with the same conditions: index here, index there."""
        if other not in self._twins_in:
            there = {(check.violated.serial, check.unknown.serial): number for number, check in enumerate(other.compiled)}
            pairs = ((number, there.get((check.violated.serial, check.unknown.serial))) for number, check in enumerate(self.compiled))
            self._twins_in[other] = {number: twin for number, twin in pairs if twin is not None}
        return self._twins_in[other]

    def predict_as(self, prediction: BatchPrediction, rows: npt.NDArray[np.intp] | None = None) -> BatchPrediction:
        """Predict some rows (None: all) of a batch of which another model has a prediction: conditions that both models have are not evaluated again."""
        batch = prediction.batch if rows is None else prediction.batch.take(rows)
        affected = self._affected(batch)
        twins, known = self._twins(prediction.model), dict[int, tuple[Truth, Truth]]()
        for number in affected:
            if number in twins:
                violated, unknown = prediction.truths.get(twins[number], (False, False))
                known[number] = _of_rows(violated, rows), _of_rows(unknown, rows)
        return self._predict(batch, self._truths_of_base(batch.base, prediction.model), affected, known)

    def predict_batch(self, batch: VmcsBatch) -> BatchPrediction:
        """Predict every row of `batch`; only checks that read something that varies are evaluated over rows."""
        return self._predict(batch, self._truths_of_base(batch.base, None), self._affected(batch), {})

    def _affected(self, batch: VmcsBatch) -> tuple[int, ...]:
        return self.checks_reading(*batch.columns, *(("memory",) if batch.memory_columns else ()))

    def _predict(
        self,
        batch: VmcsBatch,
        truths: dict[int, tuple[Truth, Truth]],
        affected: tuple[int, ...],
        known: Mapping[int, tuple[Truth, Truth]],
    ) -> BatchPrediction:
        """`truths`: those of the base; `known`: (violated, unknown) of the affected checks of which they are known."""
        conditions = Columns(OperandValues(batch), len(batch), batch.base, tuple(batch.columns))
        for number in affected:
            truths.pop(number, None)
        truths.update((number, truth) for number, truth in known.items() if truth[0] is not False or truth[1] is not False)
        possible = self._evaluate(conditions, [number for number in affected if number not in known], truths)
        steps = {self.compiled[number].step for number in (*truths, *possible)}
        walk = self._walk(len(batch), truths, steps)
        entered = np.asarray(first_exits(self.fold, conditions), np.uint64)
        allowed = walk.allowed | np.where(walk.going_on, entered, np.uint64(0)).astype(np.uint64)
        violations: dict[int, Truth] = {number: truths[number][0] for number in sorted(truths) if truths[number][0] is not False}
        return BatchPrediction(self, batch, allowed, walk.not_modelled, violations, walk.reached, conditions, affected, truths, entered)

    def _evaluate(self, conditions: Columns, asked: list[int], truths: dict[int, tuple[Truth, Truth]]) -> list[int]:
        """Add the truths of these checks that are not False in every row; returns the checks with a condition that is not always False."""
        doubtful = [number for number in asked if self.compiled[number].unknown is not FALSE]
        numbers = [*asked, *doubtful]
        answers, columns = conditions.answers(
            [*(self.compiled[number].definite for number in asked), *(self.compiled[number].unknown for number in doubtful)]
        )
        for at in np.flatnonzero((answers == ALWAYS_TRUE) | (answers == SOMEWHERE)).tolist():
            truth = True if answers[at] == ALWAYS_TRUE else columns[at]
            violated, unknown = truths.get(numbers[at], (False, False))
            truths[numbers[at]] = (truth, unknown) if at < len(asked) else (violated, truth)
        return [numbers[at] for at in np.flatnonzero(answers != ALWAYS_FALSE)]

    def _walk(self, count: int, truths: Mapping[int, tuple[Truth, Truth]], steps: Collection[Step] = ()) -> _Walk:
        """Go through the steps of `count` VM entries whose checks have these truths: (violated, unknown) by index; `steps` are gone through anyway."""
        walk = _Walk(np.zeros(count, np.uint64), np.zeros(count, np.bool_), {}, True)
        by_step: dict[Step, list[int]] = {step: [] for step in steps}
        for number in truths:
            by_step.setdefault(self.compiled[number].step, []).append(number)
        for step in sorted(by_step):
            walk.reached[step] = walk.going_on
            stops: Truth = False
            fails: dict[int, Truth] = {}  # by outcomes: many checks of a step have the same
            for number in by_step[step]:
                compiled, (violated, unknown) = self.compiled[number], truths[number]
                fails[compiled.outcomes] = fails.get(compiled.outcomes, False) | violated | unknown
                if unknown is not False:
                    walk.not_modelled |= unknown & walk.going_on
                if compiled.certain:
                    stops = stops | violated
            for outcomes, truth in fails.items():
                walk.allowed |= _where(truth & walk.going_on, outcomes)
            walk.going_on = walk.going_on & _not(stops)
        return walk

    def allowed_if(self, prediction: BatchPrediction, number: int, violated: Truth) -> npt.NDArray[np.uint64]:
        """What would be allowed if check `number` (of `compiled`) were violated by the rows `violated` instead, uint64 (n,)."""
        unknown = prediction.truths.get(number, (False, False))[1]
        walk = self._walk(len(prediction), {**prediction.truths, number: (violated, unknown)})
        return walk.allowed | np.where(walk.going_on, prediction.entered, np.uint64(0)).astype(np.uint64)


def _truth_of(check: CompiledCheck, values: OperandValues, memo: Memo) -> tuple[Any, Any]:
    """(violated, unknown): what is unknown does not count as violated."""
    violated = evaluate(check.violated, values, memo)
    if check.unknown is FALSE:
        return violated, False
    unknown = evaluate(check.unknown, values, memo)
    return (violated if unknown is False else violated & _not(unknown)), unknown


def _of_rows(truth: Truth, rows: npt.NDArray[np.intp] | None) -> Truth:
    return truth if rows is None or isinstance(truth, bool) else truth[rows]


def _not(truth: Truth) -> Truth:
    return (not truth) if isinstance(truth, bool) else ~truth


def _where(truth: Truth, mask: int) -> Mask:
    if isinstance(truth, bool):
        return mask if truth else 0
    return truth.astype(np.uint64) * np.uint64(mask)


@dataclass(frozen=True)
class Violation:
    """A check that a VMCS violates.

    - `check`: the check, with `id` ("guest.gs.p"), `text` (the requirement), `section` (`title`, `number`) and `fields` (what it reads).
    - `sentence: str`: the requirement, followed by the values that violate it.

    >>> violation = vmfuzz.predict(bad, capabilities).violations[0]
    >>> violation.check.id, violation.check.section.title
    ('guest.gs.type.accessed', 'Checks on Guest Segment Registers')
    """

    check: Check
    sentence: str

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what the check reads: fields, live conditions, words of memory."""
        return self.check.fields


@dataclass(frozen=True)
class Prediction:
    """What the SDM allows VM entry to do with one VMCS.

    - `outcomes: frozenset[Outcome]`: each outcome that is allowed. There are several where the SDM leaves the order of checks open.
    - `violations: tuple[Violation, ...]`: each check that the VMCS violates, in the order of the SDM.
    - `not_modelled: bool`: whether the outcome depends on something that the model does not have. It may then be wrong.

    >>> prediction = vmfuzz.predict(bad, capabilities)
    >>> [violation.check.id for violation in prediction.violations]
    ['guest.gs.type.accessed', 'guest.gs.s', 'guest.gs.p', 'guest.gs.g.high']
    """

    outcomes: frozenset[Outcome]
    violations: tuple[Violation, ...]
    not_modelled: bool
    mask: int = field(repr=False, default=0)

    @cached_property
    def enters(self) -> bool:
        """Whether VM entry may succeed."""
        return bool(self.mask & ENTERED)


@lru_cache(maxsize=64)
def model_of(capabilities: Capabilities) -> Model:
    """The model for a processor (kept, since compiling all checks takes a moment)."""
    return Model(capabilities)


def predict(vmcs: Vmcs, capabilities: Capabilities) -> Prediction:
    """What the SDM allows VM entry to do with `vmcs` on a processor with `capabilities`.

    Fields that were never written count as 0. Violations of all stages are listed; those of the first stage that has one decide the outcome.

    >>> vmfuzz.predict(good, capabilities).enters
    True
    """
    model = model_of(capabilities)
    batch = VmcsBatch(vmcs, {}, count=1)
    result = model.predict_batch(batch)
    values = OperandValues(batch)
    violations = tuple(
        Violation(compiled.check, sentence_with_values(compiled.check, model.fold, values)) for compiled in result.violations_of(0)
    )
    mask = int(result.allowed[0])
    return Prediction(outcomes_of(mask), violations, bool(result.not_modelled[0]), mask)


__all__: Final = ["BatchPrediction", "CompiledCheck", "Model", "Prediction", "Violation", "model_of", "predict"]
