"""Judges a dump by the model: which checks are violated, which hold, and which cannot be told, and what would settle those."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final

from vmfuzz.arch.controls import Entry, Primary, Secondary
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.arch.registers import RFLAGS
from vmfuzz.explain.dump import ALL, Dump, Reading
from vmfuzz.explain.judgement.processor import WIDTH_FACTS, Knowledge
from vmfuzz.explain.reported import Reported
from vmfuzz.model.check import Check, Stage
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.operands import KNOWN_SUFFIX, MEMORY_OPERANDS
from vmfuzz.model.partial import UNKNOWN, Evaluator, Judgement, Partial


class Verdict(enum.Enum):
    """What can be said of one check."""

    VIOLATED = "violated"  # on every processor on which the check exists as far as is known
    LIKELY = "violated on most processors"  # unless the processor has a capability that the dump does not show
    DEPENDS = "depends on the processor"  # the SDM lets processors differ here
    SATISFIED = "satisfied"
    UNKNOWN = "cannot tell"


#: The verdicts on a check that fails, as far as can be known.
FAILING: Final = (Verdict.VIOLATED, Verdict.LIKELY)


@dataclass(frozen=True)
class Twin:
    """The check that is made in place of another one where bit `bit` of `field`, which is not known, is not `value` but the other."""

    check: Check
    field: str
    bit: int
    value: int


@dataclass(frozen=True)
class Finding:
    """A check and its verdict; `missing` fields and `facts` (capability facts) would settle what is not certain.

    `twin`: the check that fails in its place where a control that the text does not show is the other way.
    """

    check: Check
    verdict: Verdict
    missing: frozenset[str] = frozenset()
    facts: frozenset[str] = frozenset()
    explains: bool = True
    twin: Twin | None = None


@dataclass
class CheckedState:
    """What is known of the operands, and what each check makes of it, in the SDM's order."""

    values: Mapping[str, Partial]
    findings: list[Finding] = field(default_factory=list)

    def of(self, *verdicts: Verdict) -> list[Finding]:
        """The findings with one of these verdicts; those that can explain the reported outcome first."""
        found = [finding for finding in self.findings if finding.verdict in verdicts]
        return sorted(found, key=lambda finding: not finding.explains)


#: Facts of the moment of entry that dumps never show; the ordinary ones are assumed.
_ORDINARY: Final = {
    "live_launch_instruction": 0,
    "live_launch_state": 0,
    "live_no_current_vmcs": 0,
    "live_blocking_by_mov_ss": 0,
    "live_shadow_vmcs": 0,
    "live_rtit_ctl": 0,
    "live_smm": 0,
    "live_x2apic_mode": 0,
}
#: How many fields a source must be seen to write before those that it does not write are taken for untouched.
_WHOLE_SOURCE: Final = 30
_LONG_MODE: Final = 0x500
_PRIMARY: Final = "primary_processor_based_controls"
_SECONDARY: Final = "secondary_processor_based_controls"
_ENTRY: Final = "vm_entry_controls"
_RFLAGS: Final = "guest_rflags"
_VM: Final = int(RFLAGS.VM)
_IA32E: Final = int(Entry.IA32E_MODE_GUEST)
_ACTIVATE: Final = int(Primary.ACTIVATE_SECONDARY_CONTROLS)
_UNRESTRICTED: Final = int(Secondary.UNRESTRICTED_GUEST)
_HOST_WIDE: Final = ("host_rip", "host_rsp", "host_gdtr_base", "host_idtr_base", "host_tr_base")


def operands_of(dump: Dump) -> dict[str, Partial]:
    """What is known of each operand: the fields read, and the ordinary circumstances of an entry."""
    values = {name: reading.partial for name, reading in dump.readings.items()}
    for name, value in _ORDINARY.items():
        values.setdefault(name, Partial(value))
    for name in untouched(dump):
        values.setdefault(name, Partial(0))
    exit_controls = dump.readings.get("vm_exit_controls")
    host_is_64 = exit_controls is not None and bool(exit_controls.value >> 9 & 1)
    if host_is_64 or any(name in dump.readings and dump.readings[name].value >> 32 for name in _HOST_WIDE):
        values.setdefault("live_efer", Partial(_LONG_MODE, _LONG_MODE))
    for name, operand in MEMORY_OPERANDS.items():
        address = values.get(operand.address_field)
        word = None
        if address is not None and address.exact:
            at = (address.value & operand.address_mask) + operand.offset
            word = dump.memory.get(at & ~7)
            if word is not None:
                values[name] = Partial(word >> 8 * (at % 8) & (1 << operand.width) - 1)
        values[name + KNOWN_SUFFIX] = Partial(1 if name in values else 0)
    return values


def untouched(dump: Dump) -> list[str]:
    """The fields that are known to hold 0 because nothing has written them since the region was zeroed."""
    if dump.complete:
        return list(FIELDS)
    if not dump.program.zeroed or len(dump.program.written) < _WHOLE_SOURCE:
        return []
    touched = {item.field for item in dump.program.definitions if item.name in dump.program.written} | set(dump.readings)
    return [
        name
        for name in FIELDS
        if name not in touched and not name.startswith("vm_exit_i") and name not in ("exit_reason", "exit_qualification")
    ]


#: What each check reads, so that a verdict can be kept for what it rests on: operands, capability facts.
_RESTS_ON: Final = tuple(
    (
        tuple(sorted(check.must.reads | check.when.reads | check.known.reads | check.requires.reads)),
        tuple(sorted(check.must.caps | check.when.caps | check.known.caps | check.requires.caps)),
    )
    for check in CHECKS
)
_MOST_KEPT: Final = 1 << 18
#: the finding, and the same as one that cannot explain the reported outcome
_kept: dict[tuple[object, ...], tuple[Finding, Finding]] = {}


class Judging:
    """Judges single checks in one state of knowledge. Verdicts are kept for what they rest on, because states hardly differ from each other."""

    def __init__(self, values: Mapping[str, Partial], knowledge: Knowledge) -> None:
        self._values = values
        self._knowledge = knowledge
        self._evaluators: tuple[list[Evaluator], Evaluator] | None = None

    def finding(self, index: int, explains: bool = True) -> Finding:
        """The verdict on the check with this index in CHECKS; `explains`: whether its violation can explain the reported outcome."""
        operands, facts = _RESTS_ON[index]
        values, known = self._values, self._knowledge.facts
        key = (index, self._knowledge.widths, self._knowledge.exact, *map(values.get, operands), *map(known.get, facts))
        found = _kept.get(key)
        if found is None:
            if len(_kept) >= _MOST_KEPT:
                _kept.clear()
            finding = judge_check(CHECKS[index], *self._both())
            found = _kept[key] = finding, replace(finding, explains=False)
        return found[not explains]

    def _both(self) -> tuple[list[Evaluator], Evaluator]:
        if self._evaluators is None:
            get, knowledge = self._values.get, self._knowledge
            strict = [Evaluator(get, knowledge.lookup(width, typical=False).get) for width in knowledge.widths]
            self._evaluators = strict, Evaluator(get, knowledge.lookup(knowledge.widths[0], typical=True).get)
        return self._evaluators


@lru_cache(maxsize=256)
def _explaining(reported: Reported) -> frozenset[int]:
    return frozenset(index for index, check in enumerate(CHECKS) if may_explain(check, reported))


def judge(dump: Dump | None, knowledge: Knowledge, values: Mapping[str, Partial] | None = None) -> CheckedState:
    """Judge every check for the dump's values (or for `values` in their place, without a dump and what it reports)."""
    if values is None:
        values = operands_of(dump) if dump is not None else {}
    judging = Judging(values, knowledge)
    explaining = None if dump is None or dump.reported is None else _explaining(dump.reported)
    checked = CheckedState(values, [judging.finding(index, explaining is None or index in explaining) for index in range(len(CHECKS))])
    _by_cases(checked, knowledge)
    return checked


def certain(values: Mapping[str, Partial], knowledge: Knowledge) -> Evaluator:
    """Evaluates conditions on these values with what is certain of the processor."""
    return Evaluator(values.get, knowledge.lookup(knowledge.widths[0], typical=False).get)


def usual(values: Mapping[str, Partial], knowledge: Knowledge) -> Evaluator:
    """Evaluates conditions on these values; what is not known of the processor is taken to be as on the usual one."""
    return Evaluator(values.get, knowledge.lookup(knowledge.widths[0], typical=True).get)


def _by_cases(checked: CheckedState, knowledge: Knowledge) -> None:
    """Where a control is not known by which some checks come in two forms, what fails in both forms is violated."""
    values = checked.values
    primary, secondary, entry = (values.get(name, UNKNOWN) for name in (_PRIMARY, _SECONDARY, _ENTRY))
    off = primary.known >> _ACTIVATE & 1 and not primary.value >> _ACTIVATE & 1
    if not off and not secondary.known >> _UNRESTRICTED & 1:
        active = {_PRIMARY: _with(primary, _ACTIVATE, 1), _SECONDARY: _with(secondary, _UNRESTRICTED, 1)}
        _decide(checked, knowledge, (_SECONDARY, _UNRESTRICTED), {_SECONDARY: _with(secondary, _UNRESTRICTED, 0)}, active)
    rflags = values.get(_RFLAGS, UNKNOWN)
    if not rflags.known >> _VM & 1:
        _decide(checked, knowledge, (_RFLAGS, _VM), {_RFLAGS: _with(rflags, _VM, 0)}, {_RFLAGS: _with(rflags, _VM, 1)})
    if not entry.known >> _IA32E & 1:
        _decide(checked, knowledge, (_ENTRY, _IA32E), {_ENTRY: _with(entry, _IA32E, 0)}, {_ENTRY: _with(entry, _IA32E, 1)})


def _with(partial: Partial, bit: int, value: int) -> Partial:
    return Partial(partial.value & ~(1 << bit) | value << bit, partial.known | 1 << bit)


def _decide(checked: CheckedState, knowledge: Knowledge, control: tuple[str, int], *cases: Mapping[str, Partial]) -> None:
    """Call violated what fails in both cases: the bit `control` is 0, it is 1."""
    reads, bit = control
    facts = knowledge.lookup(knowledge.widths[0], typical=False).get
    evaluators = [Evaluator({**checked.values, **case}.get, facts) for case in cases]
    open_ones = [
        index
        for index, finding in enumerate(checked.findings)
        if finding.verdict is Verdict.UNKNOWN and reads in finding.check.must.reads | finding.check.when.reads
    ]
    fails = [{index for index in open_ones if _violated(checked.findings[index].check, one).truth is True} for one in evaluators]
    for index in sorted(fails[0]):
        twins = [other for other in fails[1] if _own(checked.findings[other]) == _own(checked.findings[index])]
        if twins:
            twin = Twin(checked.findings[twins[0]].check, reads, bit, 0) if twins[0] != index else None
            checked.findings[index] = replace(
                checked.findings[index], verdict=Verdict.VIOLATED, missing=frozenset(), facts=frozenset(), twin=twin
            )


def _own(finding: Finding) -> frozenset[str]:
    """What a check is about: what it reads beside the controls that say how."""
    return frozenset(name for name in finding.check.must.reads if name not in (_PRIMARY, _SECONDARY, _ENTRY)) or finding.check.must.reads


def _violated(check: Check, evaluator: Evaluator) -> Judgement:
    """Whether the check exists, applies and fails."""
    parts = []
    for condition, wanted in ((check.requires, True), (check.when, True), (check.must, False)):
        part = evaluator.judge(condition) if wanted else ~evaluator.judge(condition)
        if part.truth is False:
            return part
        parts.append(part)
    known = evaluator.judge(check.known)
    if known.truth is not True:
        memory = frozenset(name for name in check.must.reads if name.startswith("memory_"))
        return Judgement(None, memory)
    open_parts = [part for part in parts if part.truth is None]
    if not open_parts:
        return Judgement(True)
    missing = frozenset[str]().union(*(part.missing for part in open_parts))
    return Judgement(None, missing, frozenset[str]().union(*(part.facts for part in open_parts)))


def judge_check(check: Check, strict: list[Evaluator], typical: Evaluator) -> Finding:
    """The verdict on one check; `strict` evaluators know what is certain (one a linear-address width), `typical` what is usual."""
    answers = [_violated(check, strict[0])]
    if len(strict) > 1 and not WIDTH_FACTS.isdisjoint(check.must.caps | check.when.caps):
        answers += [_violated(check, evaluator) for evaluator in strict[1:]]
    truths = {answer.truth for answer in answers}
    missing = frozenset[str]().union(*(answer.missing for answer in answers))
    facts = frozenset[str]().union(*(answer.facts for answer in answers))
    if truths == {False}:
        return Finding(check, Verdict.SATISFIED)
    if truths == {True}:
        return Finding(check, Verdict.VIOLATED if check.ambiguity is None else Verdict.DEPENDS)
    if len(truths) > 1 and None not in truths:
        facts = frozenset({"canonical_limit"})
    if not missing and _violated(check, typical).truth is True:
        return Finding(check, Verdict.LIKELY if check.ambiguity is None else Verdict.DEPENDS, missing, facts)
    return Finding(check, Verdict.UNKNOWN, missing, facts)


def may_explain(check: Check, reported: Reported) -> bool:
    """Whether a violation of the check can end in the outcome that was reported."""
    return any(_same(outcome, reported) for outcome in check.fails.outcomes)


def _same(outcome: Outcome, reported: Reported) -> bool:
    if reported.exit_reason is not None:
        if outcome.kind is not Kind.ENTRY_FAILURE or reported.entered or outcome.number != reported.exit_reason & 0xFFFF:
            return False
        if reported.msr_entry is not None:
            return outcome.qualification == reported.msr_entry
        return reported.qualification is None or outcome.qualification == reported.qualification
    if reported.error is not None:
        return outcome.kind is Kind.VMFAIL_VALID and outcome.number == reported.error
    return outcome.kind is Kind.VMFAIL_INVALID


def proven_passed(check: Check, reported: Reported | None) -> bool:
    """Whether the reported outcome proves that the check passed (it belongs to a stage before the one that failed)."""
    if reported is None or reported.exit_reason is None:
        return False
    if reported.entered:
        return True
    stage = Stage.MSR_LOAD if reported.exit_reason & 0xFFFF == 34 else Stage.GUEST
    return check.fails.stage < stage


def as_encoded(dump: Dump, used: frozenset[str]) -> dict[str, Partial]:
    """What the VMCS holds if every field was written with the encoding that the text's list gives its name.

    `used`: names of the definitions that are wrong and count. A field meant by a wrong definition and written by no other keeps 0
    (or, where nothing says that the region was zeroed, what it had).
    """
    values = operands_of(dump)
    wrong = [item for item in dump.program.definitions if item.name in used]
    moved: dict[str, Partial] = {}
    by_encoding = {entry.encoding: entry for entry in FIELDS.values()}
    for item in wrong:
        target = by_encoding.get(item.encoding)
        reading = dump.readings.get(item.field)
        if target is not None and reading is not None:
            moved[target.name] = reading.partial
    right = {item.field for item in dump.program.definitions if FIELDS[item.field].encoding == item.encoding}
    for item in wrong:
        if item.field not in right:
            values[item.field] = Partial(0)
    for name, partial in moved.items():
        own = dump.readings.get(name)
        values[name] = own.partial.merge(partial) if own is not None and name in right else partial.within(FIELDS[name].width)
    return values


def assumed_readings(dump: Dump) -> list[tuple[str, Reading]]:
    """The readings that rest on an assumption."""
    return [(name, reading) for name, reading in dump.readings.items() if reading.assumed]


def exact(readings: Mapping[str, Reading], name: str) -> int | None:
    """The value of a field that is known in all its bits."""
    reading = readings.get(name)
    return reading.value if reading is not None and reading.known == ALL else None
