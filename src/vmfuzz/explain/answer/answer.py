"""Puts the answer together: outcome, cause, violated checks, what to change, what could not be judged."""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Final

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import FIELDS, Area
from vmfuzz.explain.answer.comparison import Comparison
from vmfuzz.explain.causes import named
from vmfuzz.explain.causes.controls import never_written
from vmfuzz.explain.causes.exchanged import exchanged
from vmfuzz.explain.causes.mistakes import Mistake, encoding_mistakes, used_wrong_definitions
from vmfuzz.explain.causes.shifts import shifted
from vmfuzz.explain.causes.values import long_mode_suspicions, value_mistakes
from vmfuzz.explain.dump import Dump
from vmfuzz.explain.judgement.judge import FAILING, CheckedState, Finding, Verdict, as_encoded, judge, may_explain, proven_passed
from vmfuzz.explain.judgement.processor import Knowledge, from_capabilities, infer
from vmfuzz.explain.outcomes.choose import KVM_EXIT
from vmfuzz.explain.repair.decisions import decided
from vmfuzz.explain.repair.search import Repair, find_repairs
from vmfuzz.explain.reported import Doubtful
from vmfuzz.model.check import Stage
from vmfuzz.model.processor_errata import Signature

#: Which MSR or CPUID leaf settles a capability fact, by the beginning of the fact's name.
FACT_SOURCES: Final = (
    ("pin_", "IA32_VMX_TRUE_PINBASED_CTLS (48DH)"),
    ("primary_", "IA32_VMX_TRUE_PROCBASED_CTLS (48EH)"),
    ("secondary_exit", "IA32_VMX_EXIT_CTLS2 (493H)"),
    ("secondary_", "IA32_VMX_PROCBASED_CTLS2 (48BH)"),
    ("tertiary_", "IA32_VMX_PROCBASED_CTLS3 (492H)"),
    ("exit_", "IA32_VMX_TRUE_EXIT_CTLS (48FH)"),
    ("entry_", "IA32_VMX_TRUE_ENTRY_CTLS (490H)"),
    ("vm_function", "IA32_VMX_VMFUNC (491H)"),
    ("cr0_", "IA32_VMX_CR0_FIXED0/1 (486H, 487H)"),
    ("cr4_", "IA32_VMX_CR4_FIXED0/1 (488H, 489H)"),
    ("cr3_target", "IA32_VMX_MISC (485H)"),
    ("activity", "IA32_VMX_MISC (485H)"),
    ("instruction_length", "IA32_VMX_MISC (485H)"),
    ("ept_vpid", "IA32_VMX_EPT_VPID_CAP (48CH)"),
    ("error_code", "IA32_VMX_BASIC (480H)"),
    ("nested", "IA32_VMX_BASIC (480H)"),
    ("dual", "IA32_VMX_BASIC (480H)"),
    ("revision", "IA32_VMX_BASIC (480H)"),
    ("beyond", "CPUID.80000008H (physical-address width)"),
    ("cr3_reserved", "CPUID.80000008H (physical-address width)"),
    ("canonical", "CPUID.80000008H (linear-address width)"),
    ("identical", "CPUID.80000008H (linear-address width)"),
    ("perf_global", "CPUID.0AH and 23H (performance counters) and IA32_PERF_CAPABILITIES (345H)"),
    ("rtit_ctl", "CPUID.14H (Intel PT)"),
    ("lbr_ctl", "CPUID.1CH (last-branch records)"),
    ("spec_ctrl", "CPUID.7.0 and 7.2 (speculation controls)"),
)


def fact_source(fact: str) -> str:
    """The MSR or CPUID leaf that settles a capability fact."""
    return next((source for beginning, source in FACT_SOURCES if fact.startswith(beginning)), "CPUID (feature bits)")


#: What would excuse a violation that is only likely, by capability fact.
_EXCUSES: Final = {
    "error_code_optional": "IA32_VMX_BASIC[56] is 1 (an error code is optional on this processor)",
    "nested_exception": "IA32_VMX_BASIC[58] is 1 (nested exceptions can be injected)",
    "instruction_length_minimum": "IA32_VMX_MISC[30] is 1 (an instruction length of 0 is allowed)",
    "canonical_limit": "the processor has linear addresses of 57 bits (5-level paging)",
}


def fact_words(fact: str) -> str:
    """What would have to be so for a check that is only likely violated to pass."""
    return _EXCUSES.get(fact, f"{fact_source(fact)} of this processor says otherwise")


@dataclass
class Answer:
    """Everything that `vmfuzz check` says about one dump."""

    dump: Dump
    knowledge: Knowledge
    checked: CheckedState
    #: the checks once the wrong encodings of the text are applied; None where there are none
    as_encoded: CheckedState | None = None
    causes: list[Mistake] = field(default_factory=list)
    remarks: list[Mistake] = field(default_factory=list)
    violated: list[Finding] = field(default_factory=list)
    contradicted: list[Finding] = field(default_factory=list)
    undecided: list[Finding] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)
    #: the processor, where the text or the capabilities name it
    processor: Signature | None = None
    #: deviations of a person's own file that fit: (id, what happens)
    own_errata: list[tuple[str, str]] = field(default_factory=list)
    #: how this state differs from a working one, or from the other level's
    comparison: Comparison | None = None
    #: all fields of a kind stand off their places: then no single value is to be mended
    shift: Mistake | None = None

    @property
    def entered(self) -> bool:
        """Whether the text reports an entry that succeeded."""
        return self.dump.reported is not None and self.dump.reported.entered

    @property
    def state(self) -> CheckedState:
        """The verdicts that the list of violated checks shows."""
        return self.as_encoded if self.encodings_are_the_cause and self.as_encoded is not None else self.checked

    @property
    def encodings_are_the_cause(self) -> bool:
        """Whether the values as named pass and those as encoded do not."""
        return self.as_encoded is not None and any(mistake.stops and mistake.of_encoding for mistake in self.causes)

    @property
    def exit_code(self) -> int:
        """0: nothing wrong was found; 1: a check fails, or a failed entry is reported; 2: nothing could be read."""
        if self.dump.empty or self.dump.machine.foreign:
            return 2
        if self.entered:
            return 0
        if self.violated or self.contradicted or any(mistake.stops for mistake in self.causes) or KVM_EXIT in self.dump.beside:
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

    def missing_facts(self) -> list[str]:
        """MSRs and CPUID leaves that would settle checks for which the dump gives every field."""
        counts = Counter(
            source for finding in self.undecided if not finding.missing for source in {fact_source(fact) for fact in finding.facts}
        )
        return [source for source, _ in counts.most_common()]


def answer(dump: Dump, capabilities: Capabilities | None = None, working: Dump | None = None) -> Answer:
    """Judge a dump; `capabilities` are those of the processor, where they are known, `working` is a state that entered on the same one."""
    knowledge = from_capabilities(capabilities) if capabilities is not None else infer(dump, working)
    checked = judge(dump, knowledge) if dump.readings else CheckedState({})
    result = Answer(dump, knowledge, checked, processor=_processor(dump, capabilities))
    if dump.readings:
        _violations(result, checked)
        _encodings(result)
    else:
        result.causes = [*encoding_mistakes(dump, frozenset(item.field for item in used_wrong_definitions(dump)))]
    _undecided(result)
    if not result.entered:
        _named_causes(result)
    _mistakes(result)
    if dump.readings and not result.encodings_are_the_cause and not never_written(dump) and result.shift is None:
        if result.violated:
            result.repairs = _repairs(result)
        pairs = _exchanged(result) if not result.entered else []
        _without_second_words(result, frozenset().union(*pairs))
    return result


def _named_causes(result: Answer) -> None:
    """Add what programs name in the text."""
    satisfied = frozenset(finding.check.id for finding in result.checked.findings if finding.verdict is Verdict.SATISFIED)
    mistakes = named.causes(result.dump, frozenset(finding.check.id for finding in result.violated), satisfied)
    result.causes += [mistake for mistake in mistakes if mistake.stops]
    result.remarks += [mistake for mistake in mistakes if not mistake.stops]


def _repairs(result: Answer) -> list[Repair]:
    """The decisions, or else the changes, after which no check fails that may have failed; of changes in several fields only the cheapest set."""
    ignored = frozenset(finding.check.id for finding in result.contradicted)
    found = decided(result.checked, result.knowledge, ignored) or find_repairs(result.checked, result.knowledge, ignored)
    return found[:1] if found and not found[0].title and len(found[0].changes) > 1 else found


def _processor(dump: Dump, capabilities: Capabilities | None) -> Signature | None:
    if capabilities is not None and capabilities.cpuid:
        return Signature.of(capabilities.registers(1)[0])
    return dump.machine.processor


def _exchanged(result: Answer) -> list[frozenset[str]]:
    """Values in each other's field are the cause, before whatever else shows in one of the two; returns the pairs of fields."""
    stage = _failing_stage(result)
    pairs = []
    for mistake, pair in exchanged(result.dump, result.checked, result.knowledge, result.repairs):
        if stage is not None and _stage_of(mistake) is not stage:
            result.remarks.append(replace(mistake, stops=False))
            continue
        pairs.append(pair)
        result.causes = [mistake, *(cause for cause in result.causes if cause.field not in pair)]
        result.remarks = [remark for remark in result.remarks if remark.field not in pair]
    return pairs


def _without_second_words(result: Answer, settled: frozenset[str]) -> None:
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
    result.repairs = kept


def _violations(result: Answer, checked: CheckedState) -> None:
    reported = result.dump.reported
    for finding in checked.of(*FAILING):
        if reported is not None and proven_passed(finding.check, reported):
            # one that hangs on a capability is contradicted by nothing: the processor has the capability
            if finding.verdict is Verdict.VIOLATED:
                result.contradicted.append(finding)
        else:
            result.violated.append(finding)
    result.violated.sort(key=lambda finding: (not finding.explains, finding.verdict is Verdict.LIKELY))


def _encodings(result: Answer) -> None:
    """Apply the wrong encodings of the text and see whether they explain the failure."""
    dump = result.dump
    wrong = used_wrong_definitions(dump)
    if not wrong:
        return
    values = as_encoded(dump, frozenset(item.name for item in wrong))
    result.as_encoded = judge(dump, result.knowledge, values)
    new = [finding for finding in result.as_encoded.of(*FAILING) if not proven_passed(finding.check, dump.reported)]
    stopping = frozenset(name for finding in new for name in finding.check.fields)
    mistakes = encoding_mistakes(dump, stopping)
    explained = any(finding.explains for finding in result.violated)
    if new and not explained and not result.entered:
        result.causes += sorted(mistakes, key=lambda mistake: not mistake.stops)
        result.violated = new
    else:
        result.remarks += mistakes


def _undecided(result: Answer) -> None:
    reported = result.dump.reported
    for finding in result.state.of(Verdict.UNKNOWN, Verdict.DEPENDS):
        if result.entered or (reported is not None and not may_explain(finding.check, reported)):
            continue
        if finding.check.fails.stage is Stage.BASIC and reported is None:
            continue
        result.undecided.append(finding)


def _mistakes(result: Answer) -> None:
    """Add the mistakes that the values show: as causes where they can stop this entry, else as remarks."""
    dump = result.dump
    count = len([finding for finding in result.violated if finding.verdict is Verdict.VIOLATED])
    result.shift = shifted(dump, result.knowledge, count) if not result.encodings_are_the_cause else None
    if result.shift is not None:
        result.causes.insert(0, result.shift)
    stage = _failing_stage(result)
    can_be_the_cause = result.shift is None and not result.entered
    for mistake in value_mistakes(dump, _suspect_fields(result)):
        when = _in_time(_stage_of(mistake), stage)
        if mistake.stops and can_be_the_cause and when is _When.NOW:
            result.causes.append(mistake)
        elif when is _When.PASSED:
            result.remarks.append(replace(mistake, stops=False))  # what is reported proves that it was passed
        elif when is not _When.LATER or not never_written(dump):  # what was never written holds no mistake of its own
            result.remarks.append(mistake)
    if not result.entered and stage in (None, Stage.GUEST):
        result.remarks += long_mode_suspicions(dump)


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
    if isinstance(reported, Doubtful):
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
