"""What a program itself says of the failure in its log: Bochs, KVM and VirtualBox name the check that failed, Xen shows the entry of the MSR-load area.

KVM does in the tracepoint kvm_nested_vmenter_failed, for a VM entry of a hypervisor that is its guest: the text is its own source.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Final

from vmfuzz.arch.outcomes import Kind
from vmfuzz.explain.dump import NamedChecks
from vmfuzz.explain.outcomes.context import is_listed, place_of
from vmfuzz.explain.reported import FAILED_ENTRY, Report, Reported
from vmfuzz.explain.text.lines import Line
from vmfuzz.model.bochs_messages import MESSAGES
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.kvm_messages import BELOW, CONSISTENCY_CHECKS
from vmfuzz.model.virtualbox_messages import DIAGNOSTICS
from vmfuzz.patterns import deferred

_KVM: Final = "KVM"
_BOCHS: Final = ("VMENTER", "VMFAIL", "VMX LoadMSRs")
#: A conversion of a format string: of numbers, or of the name of a segment register.
_CONVERSION: Final = deferred(r"%\d*l?[cdsx]")
#: A program that makes Bochs' checks on a VMCS, with Bochs' messages.
_AUDITOR: Final = deferred(r"VMCS[ -]?Auditor|\bCheckVMXState\b", re.IGNORECASE)
_TRACEPOINT: Final = "kvm_nested_vmenter_failed:"
_DIAGNOSTIC: Final = deferred(r"\bkVmxVDiag_Vmentry_(\w+)")
#: One of these is in a text in which a program names a check, or a line of it is one of KVM's conditions.
_SIGNS: Final = (*_BOCHS, _TRACEPOINT, "kVmxVDiag_Vmentry_")
_CONDITIONS: Final = frozenset(CONSISTENCY_CHECKS)
#: Xen's line on the MSR that could not be loaded.
_XEN_MSR: Final = deferred(r"msr (?P<number>[0-9a-f]{8}) val (?P<value>[0-9a-f]{1,16}) \(mbz", re.IGNORECASE)


def named_checks(lines: Sequence[Line], text: str) -> list[NamedChecks]:
    """The checks that programs name in lines of a text, each once; () for one that no processor makes, or that the tables here have not."""
    if not any(sign in text for sign in _SIGNS) and _CONDITIONS.isdisjoint(line.text for line in lines):
        return []
    checker = "VMCS-Auditor" if _AUDITOR.search(text) else "Bochs"
    named: dict[tuple[str, str], NamedChecks] = {}
    for line in lines:
        for program, words, ids in _named(line.text, checker):
            checks = tuple(check for check in CHECKS if check.id in ids)
            named.setdefault((program, words), NamedChecks(line.number, program, words, checks))
    return list(named.values())


def _named(line: str, checker: str) -> Iterator[tuple[str, str, Collection[str]]]:
    """What a line names: the program, its words, and ids of checks."""
    message = _message_in(line) if any(sign in line for sign in _BOCHS) else None
    if message is not None:
        yield checker, *message
    *_, traced, text = line.rpartition(_TRACEPOINT)
    text = text.strip()
    if text in _CONDITIONS or (traced and text and not text.startswith(BELOW)):
        yield _KVM, text, CONSISTENCY_CHECKS.checks_named(text) or ()
    for match in _DIAGNOSTIC.finditer(line):
        if not is_listed(place_of(line, *match.span())):
            yield "VirtualBox", match.group(0), DIAGNOSTICS.checks_named(match[1]) or ()


def _message_in(line: str) -> tuple[str, Collection[str]] | None:
    """Bochs' message in a line, and the checks that it names: of the one segment register that it names, if it names one."""
    for message in _messages():
        if message.partition("%")[0] in line and (match := re.search(_CONVERSION.sub(r"(-?\\w+)", re.escape(message)), line)):
            ids = MESSAGES.checks_named(message) or frozenset()
            segment = match[1].lower() if match.lastindex else ""
            return match.group(0), {id for id in ids if f".{segment}." in f"{id}."} or ids
    return None


@cache
def _messages() -> list[str]:
    """Bochs' messages, those with most words of their own first: one may begin with another, and "%s" stands for any register."""
    return sorted(MESSAGES, key=lambda message: len(_CONVERSION.sub("", message)), reverse=True)


def outcome_of(named: NamedChecks) -> Reported:
    """The outcome that follows from what a program names; of KVM's own check, what the hypervisor in its guest gets is another."""
    outcome = _shared(named) if named.checks else None
    if named.program == _KVM:
        return Reported(named.text, error=0, kind=Report.REFUSED, other=outcome)
    return outcome or Reported(named.text, error=0, kind=Report.UNNUMBERED)


def _shared(named: NamedChecks) -> Reported | None:
    """The outcome that all checks of a message have, or that of their kind which they share: entries of an MSR-load area differ in qualification."""
    outcomes = [{(outcome.kind, outcome.number) for outcome in check.fails.outcomes} for check in named.checks]
    shared = sorted(set.intersection(*outcomes), key=lambda pair: pair[1] or 0)
    if not shared:
        return None
    # KVM gives the later number where the manual leaves two: it makes rules on address-space size with those of the host state
    kind, number = shared[-1] if named.program == _KVM else shared[0]
    reason = FAILED_ENTRY | (number or 0) if kind is Kind.ENTRY_FAILURE else None
    return Reported(named.text, reason, number if kind is Kind.VMFAIL_VALID else None)


def refused_msr(lines: Sequence[Line], text: str) -> tuple[int, int, int] | None:
    """Line, MSR and value of the entry of the MSR-load area that Xen shows as refused."""
    found = ((line.number, _XEN_MSR.search(line.text)) for line in (lines if "(mbz" in text else ()))
    return next(((number, int(msr["number"], 16), int(msr["value"], 16)) for number, msr in found if msr), None)
