"""Two states of one VMCS, side by side: what differs, and what of that the reported failure can come from.

A working state and a failing one, or the two levels of nested virtualization: vmcs12, which the hypervisor in a guest (L1) writes, and vmcs02, which
the hypervisor below (L0) makes of it and the processor enters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from vmfuzz.arch.fields import FIELDS, Area
from vmfuzz.explain.dump import Dump
from vmfuzz.explain.judgement.judge import FAILING, CheckedState, Finding, Verdict, may_explain
from vmfuzz.explain.reported import Reported
from vmfuzz.model.partial import Partial

#: What differs from one moment to the next, and no check of the failing kind is about.
_OF_THE_MOMENT: Final = frozenset({"guest_rip", "guest_rsp", "guest_cr3", "host_rsp", "guest_rflags"})


@dataclass(frozen=True)
class Difference:
    """A field that the two states have with different values; only bits known in both count.

    `violates`: a check that can explain the failure is violated by the failing value. `open`: one such check cannot be judged.
    """

    field: str
    failing: Partial
    working: Partial
    violates: bool
    open: bool


@dataclass(frozen=True)
class Comparison:
    """What two states have in common and what not; `shared`: fields that both show alike.

    `levels`: the states are vmcs12 ("working") and vmcs02 ("failing"). `violated_by_working`: the checks that explain the failure and that the
    working state violates too.
    """

    failing: str
    working: str
    levels: bool
    differences: tuple[Difference, ...]
    shared: int
    only_failing: tuple[str, ...]
    only_working: tuple[str, ...]
    violated_by_working: tuple[str, ...]

    @property
    def suspects(self) -> list[Difference]:
        """The differences from which the failure can come: those that violate a check, or where none does, those of which a check is open."""
        certain = [each for each in self.differences if each.violates]
        return certain or [each for each in self.differences if each.open]


def compared(failing: tuple[Dump, CheckedState], working: tuple[Dump, CheckedState], levels: bool) -> Comparison:
    """Compare two states, each with its verdicts."""
    (dump, checked), (other, other_checked) = failing, working
    relevant = _relevant(checked.findings, dump.reported)
    mine, theirs = _comparable(dump), _comparable(other)
    only = [tuple(name for name in FIELDS if name in one and name not in another) for one, another in ((mine, theirs), (theirs, mine))]
    differences = _differences(mine, theirs, relevant)
    own = {finding.check.id for finding in relevant if finding.verdict in FAILING}
    return Comparison(
        dump.state or dump.source,
        other.state or other.source,
        levels,
        tuple(differences),
        len(mine.keys() & theirs.keys()) - len(differences),
        only[0],
        only[1],
        tuple(finding.check.id for finding in other_checked.of(*FAILING) if finding.check.id in own),
    )


def _differences(failing: Mapping[str, Partial], working: Mapping[str, Partial], relevant: list[Finding]) -> list[Difference]:
    """The fields that differ; those that violate a check come first, those of the moment last."""
    violates = _fields_of(relevant, FAILING)
    open_ones = _fields_of(relevant, (Verdict.UNKNOWN, Verdict.DEPENDS))
    differences = [
        Difference(name, failing[name], working[name], name in violates, name in open_ones)
        for name in FIELDS
        if name in failing and name in working and _differ(failing[name], working[name])
    ]
    return sorted(differences, key=lambda each: (not each.violates, not each.open, each.field in _OF_THE_MOMENT))


def _relevant(findings: Iterable[Finding], reported: Reported | None) -> list[Finding]:
    """The findings on checks that can end in what is reported; all where that is not known."""
    known = reported is not None and not reported.entered and reported.error != 0
    return [finding for finding in findings if not known or reported is None or may_explain(finding.check, reported)]


def _fields_of(findings: Iterable[Finding], verdicts: Iterable[Verdict]) -> frozenset[str]:
    """The fields that the checks with one of these verdicts read."""
    checks = [finding.check for finding in findings if finding.verdict in verdicts]
    return frozenset(name for check in checks for name in {*check.must.reads, *check.when.reads} if name in FIELDS)


def _comparable(dump: Dump) -> dict[str, Partial]:
    """The fields of a state, without those that a VM exit writes."""
    return {
        name: reading.partial.within(FIELDS[name].width)
        for name, reading in dump.readings.items()
        if name in FIELDS and FIELDS[name].area is not Area.READ_ONLY
    }


def _differ(one: Partial, other: Partial) -> bool:
    return bool((one.value ^ other.value) & one.known & other.known)
