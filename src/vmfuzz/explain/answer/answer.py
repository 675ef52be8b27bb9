"""Puts the answer together: outcome, cause, violated checks, what to change, what could not be judged."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import FIELDS, Area
from vmfuzz.explain.answer import open_controls
from vmfuzz.explain.answer.comparison import Comparison
from vmfuzz.explain.answer.facts import FactSource, source_of
from vmfuzz.explain.causes import named
from vmfuzz.explain.causes.controls import never_written
from vmfuzz.explain.causes.exchanged import exchanged
from vmfuzz.explain.causes.mistakes import Mistake, encoding_mistakes, used_wrong_definitions
from vmfuzz.explain.causes.shifts import shifted
from vmfuzz.explain.causes.values import long_mode_suspicions, value_mistakes
from vmfuzz.explain.dump import Dump
from vmfuzz.explain.judgement.judge import (
    FAILING,
    CheckedState,
    Finding,
    Verdict,
    as_encoded,
    judge,
    may_explain,
    proven_passed,
    usual,
)
from vmfuzz.explain.judgement.processor import Knowledge, from_capabilities, infer
from vmfuzz.explain.repair.decisions import decided
from vmfuzz.explain.repair.search import Repair, find_repairs
from vmfuzz.explain.reported import Report
from vmfuzz.model.check import Stage
from vmfuzz.model.partial import Evaluator
from vmfuzz.model.processor_errata import Signature


@dataclass(frozen=True)
class Answer:
    """Everything that `vmfuzz check` says about one dump: what was found, and as properties what follows from that."""

    dump: Dump
    knowledge: Knowledge
    checked: CheckedState
    #: the state once the wrong encodings of the text are applied, if they are the cause
    as_encoded: CheckedState | None = None
    causes: tuple[Mistake, ...] = ()
    remarks: tuple[Mistake, ...] = ()
    repairs: tuple[Repair, ...] = ()
    #: the processor, where the text or the capabilities name it
    processor: Signature | None = None
    #: deviations of a person's own file that fit: (id, what happens)
    own_errata: tuple[tuple[str, str], ...] = ()
    #: how this state differs from a working one, or from the other level's
    comparison: Comparison | None = None

    @property
    def entered(self) -> bool:
        """Whether the text reports an entry that succeeded."""
        return self.dump.reported is not None and self.dump.reported.entered

    @property
    def encodings_are_the_cause(self) -> bool:
        """Whether the values as named pass and those as encoded do not."""
        return self.as_encoded is not None

    @property
    def state(self) -> CheckedState:
        """The state that the list of violated checks shows."""
        return self.as_encoded or self.checked

    @property
    def evaluator(self) -> Evaluator:
        """Evaluates conditions on the values of that state, with the usual processor's capabilities."""
        return usual(self.state.values, self.knowledge)

    def faults(self, finding: Finding) -> list[str]:
        """What keeps a violated check from holding, in words."""
        return open_controls.faults(finding, self.state.values, self.knowledge)

    @cached_property
    def violated(self) -> list[Finding]:
        """The checks that fail; those that can explain what is reported come first, then those that are certain."""
        failing = [finding for finding in self.state.of(*FAILING) if not proven_passed(finding.check, self.dump.reported)]
        return sorted(failing, key=lambda finding: (not finding.explains, finding.verdict is Verdict.LIKELY))

    @cached_property
    def contradicted(self) -> list[Finding]:
        """The checks that the values violate, and that passed by what is reported.

        One that hangs on a capability is contradicted by nothing: the processor has the capability.
        """
        return [finding for finding in self.checked.of(Verdict.VIOLATED) if proven_passed(finding.check, self.dump.reported)]

    @cached_property
    def undecided(self) -> list[Finding]:
        """The checks that can explain what is reported, and of which the text does not tell whether they fail."""
        if self.entered:
            return []
        reported = self.dump.reported
        findings = self.state.of(Verdict.UNKNOWN, Verdict.DEPENDS)
        if reported is None:
            return [finding for finding in findings if finding.check.fails.stage is not Stage.BASIC]
        return [finding for finding in findings if may_explain(finding.check, reported)]

    @property
    def explaining(self) -> list[Finding]:
        """The violated checks that explain what is reported; any does where the text has a failure without its number."""
        reported = self.dump.reported
        return [finding for finding in self.violated if finding.explains or (reported is not None and reported.error == 0)]

    @property
    def exit_code(self) -> int:
        """0: nothing wrong was found; 1: a check fails, or a failed entry is reported; 2: nothing could be read."""
        if self.dump.empty or self.dump.foreign:
            return 2
        if self.entered:
            return 0
        if self.violated or self.contradicted or any(mistake.stops for mistake in self.causes):
            return 1
        return int(self.dump.reported is not None)

    def missing_fields(self) -> list[tuple[str, int]]:
        """Fields that the dump does not give, with the number of undecided checks that each would help to settle."""
        counts = Counter(name for finding in self.undecided for name in finding.missing)
        order = {name: index for index, name in enumerate(FIELDS)}
        return sorted(counts.items(), key=lambda item: (-item[1], order.get(item[0], 999)))

    def two_readings(self) -> list[Finding]:
        """Checks that the values violate, if the processor makes them: the manual can be read in two ways."""
        return [finding for finding in self.undecided if finding.verdict is Verdict.DEPENDS and finding.check.ambiguity is not None]

    def missing_facts(self) -> list[FactSource]:
        """MSRs and CPUID leaves that would settle checks for which the dump gives every field."""
        counts = Counter(
            source for finding in self.undecided if not finding.missing for source in {source_of(fact) for fact in finding.facts}
        )
        return [source for source, _ in counts.most_common()]


def answer(dump: Dump, capabilities: Capabilities | None = None, working: Dump | None = None) -> Answer:
    """Judge a dump; `capabilities` are those of the processor, where they are known, `working` is a state that entered on the same one."""
    knowledge = from_capabilities(capabilities) if capabilities is not None else infer(dump, working)
    checked = judge(dump, knowledge) if dump.readings else CheckedState({})
    result = _with_encodings(Answer(dump, knowledge, checked, processor=_processor(dump, capabilities)))
    if not result.entered:
        result = _with_named_causes(result)
    certain = sum(finding.verdict is Verdict.VIOLATED for finding in result.violated)
    shift = None if result.encodings_are_the_cause else shifted(dump, knowledge, certain)
    result = _with_value_mistakes(result, shift)
    if not dump.readings or result.encodings_are_the_cause or never_written(dump) or shift is not None:
        return result  # no single value is to be corrected
    return _with_exchanged(_with_repairs(result))


def _processor(dump: Dump, capabilities: Capabilities | None) -> Signature | None:
    if capabilities is not None and capabilities.cpuid:
        return Signature.of(capabilities.registers(1)[0])
    return dump.processor


def _and(result: Answer, causes: Iterable[Mistake] = (), remarks: Iterable[Mistake] = ()) -> Answer:
    """The answer with more causes and remarks."""
    return replace(result, causes=(*result.causes, *causes), remarks=(*result.remarks, *remarks))


def _with_encodings(result: Answer) -> Answer:
    """Apply the wrong encodings of the text and see whether they explain the failure."""
    dump = result.dump
    wrong = used_wrong_definitions(dump)
    if not wrong:
        return result
    if not dump.readings:
        return _and(result, causes=encoding_mistakes(dump, frozenset(item.field for item in wrong)))
    state = judge(dump, result.knowledge, as_encoded(dump, frozenset(item.name for item in wrong)))
    failing = [finding for finding in state.of(*FAILING) if not proven_passed(finding.check, dump.reported)]
    mistakes = encoding_mistakes(dump, frozenset(name for finding in failing for name in finding.check.fields))
    if not failing or result.entered or any(finding.explains for finding in result.violated):
        return _and(result, remarks=mistakes)
    causes = sorted(mistakes, key=lambda mistake: not mistake.stops)
    return replace(_and(result, causes=causes), as_encoded=state if any(mistake.stops for mistake in mistakes) else None)


def _with_named_causes(result: Answer) -> Answer:
    """Add what programs name in the text."""
    satisfied = frozenset(finding.check.id for finding in result.checked.findings if finding.verdict is Verdict.SATISFIED)
    mistakes = named.causes(result.dump, frozenset(finding.check.id for finding in result.violated), satisfied)
    causes, remarks = ([mistake for mistake in mistakes if mistake.stops is stops] for stops in (True, False))
    return _and(result, causes, remarks)


def _with_value_mistakes(result: Answer, shift: Mistake | None) -> Answer:
    """Add the mistakes that the values show: as causes where they can stop this entry, else as remarks.

    `shift`: all fields of a kind stand off their places, so that no single value is the cause.
    """
    dump, stage = result.dump, _failing_stage(result)
    can_be_the_cause = shift is None and not result.entered
    causes, remarks = [], []
    for mistake in value_mistakes(dump, _suspect_fields(result)):
        when = _in_time(_stage_of(mistake), stage)
        if when is _When.PASSED:
            remarks.append(replace(mistake, stops=False))  # what is reported proves that it was passed
        elif when is _When.NOW and mistake.stops and can_be_the_cause:
            causes.append(mistake)
        elif when is _When.NOW or not never_written(dump):  # what was never written holds no mistake of its own
            remarks.append(mistake)
    if not result.entered and stage in (None, Stage.GUEST):
        remarks += long_mode_suspicions(dump)
    result = _and(result, causes, remarks)
    return result if shift is None else replace(result, causes=(shift, *result.causes))


def _with_repairs(result: Answer) -> Answer:
    """Add the decisions, or else the changes, after which no check fails that may have failed; of changes in several fields only the cheapest set."""
    if not result.violated:
        return result
    ignored = frozenset(finding.check.id for finding in result.contradicted)
    found = decided(result.checked, result.knowledge, ignored) or find_repairs(result.checked, result.knowledge, ignored)
    return replace(result, repairs=tuple(found[:1] if found and not found[0].title and len(found[0].changes) > 1 else found))


def _with_exchanged(result: Answer) -> Answer:
    """Values in each other's field are the cause, before whatever else shows in one of the two."""
    stage, settled = _failing_stage(result), frozenset[str]()
    pairs = [] if result.entered else exchanged(result.dump, result.checked, result.knowledge, result.repairs)
    for mistake, pair in pairs:
        if stage is not None and _stage_of(mistake) is not stage:
            result = _and(result, remarks=[replace(mistake, stops=False)])
            continue
        settled |= pair
        causes, remarks = (tuple(other for other in mistakes if other.field not in pair) for mistakes in (result.causes, result.remarks))
        result = replace(result, causes=(mistake, *causes), remarks=remarks)
    return _without_second_words(result, settled)


def _without_second_words(result: Answer, settled: frozenset[str]) -> Answer:
    """Take out of the repairs the fields that are `settled`, and those of which a cause says another value."""
    kept = []
    for repair in result.repairs:
        changes = tuple(
            change
            for change in repair.changes
            if change.field not in settled and all(cause.field != change.field or change.new in cause.writes for cause in result.causes)
        )
        if changes:
            kept.append(replace(repair, changes=changes, partial=repair.partial or changes != repair.changes))
    return replace(result, repairs=tuple(kept))


def _suspect_fields(result: Answer) -> list[str]:
    """The fields that violated checks read; what looks wrong in a field of which no check can be decided for want of others is a suspect too."""
    failing = [name for finding in result.violated for name in finding.check.fields]
    readers = (name for finding in result.undecided for name in finding.check.must.reads)
    parts = ("_access_rights", "_limit")
    return [*failing, *(name for name in readers if name == "vmcs_link_pointer" or (name.startswith("guest_") and name.endswith(parts)))]


class _When(enum.Enum):
    """When a field is looked at: in the stage that fails (or that may be it), before it, or never because that failed."""

    NOW = enum.auto()
    PASSED = enum.auto()
    LATER = enum.auto()


def _in_time(own: Stage | None, failing: Stage | None) -> _When:
    if failing is None or own is None or own is failing:
        return _When.NOW
    return _When.PASSED if own < failing else _When.LATER


def _failing_stage(result: Answer) -> Stage | None:
    """The stage in which the entry fails, by what is reported, else by the checks that are certain to fail; None where neither tells."""
    reported = result.dump.reported
    if reported is not None and reported.kind is Report.DOUBTFUL:
        return None
    if reported is not None and reported.exit_reason is not None:
        return None if reported.entered else Stage.GUEST
    if reported is not None and reported.error in (7, 8):
        return Stage.CONTROLS_AND_HOST
    certain = [finding.check.fails.stage for finding in result.violated if finding.verdict is Verdict.VIOLATED]
    return min(certain, default=None) if reported is None else None


def _stage_of(mistake: Mistake) -> Stage | None:
    """The stage whose checks look at the field of a mistake."""
    if mistake.field not in FIELDS:
        return None
    return Stage.GUEST if FIELDS[mistake.field].area is Area.GUEST else Stage.CONTROLS_AND_HOST
