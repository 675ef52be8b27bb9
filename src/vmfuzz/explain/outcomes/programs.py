"""What a program itself says of the failure in its log: Bochs, KVM and VirtualBox name the check that failed, Xen shows the entry of the MSR-load area.

KVM does in the tracepoint kvm_nested_vmenter_failed, for a VM entry of a hypervisor that is its guest: the text is its own source.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.outcomes import Kind
from vmfuzz.explain.dump import NamedChecks, Reading, Warned
from vmfuzz.explain.outcomes.context import is_listed, place_of
from vmfuzz.explain.outcomes.others import refused
from vmfuzz.explain.reported import FAILED_ENTRY, Report, Reported
from vmfuzz.explain.text.lines import Line
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.model.bochs_messages import MESSAGES
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.kvm_messages import CONSISTENCY_CHECKS
from vmfuzz.model.virtualbox_messages import DIAGNOSTICS
from vmfuzz.model.wording import bit_name
from vmfuzz.patterns import deferred

_KVM: Final = "KVM"
_BOCHS: Final = deferred(r"VMENTER|VMFAIL|VMX LoadMSRs")
#: A conversion of a format string: of numbers, or of the name of a segment register.
_CONVERSION: Final = deferred(r"%\d*l?[cdsx]")
#: A program that makes Bochs' checks on a VMCS, with Bochs' messages.
_AUDITOR: Final = deferred(r"VMCS[ -]?Auditor|\bCheckVMXState\b", re.IGNORECASE)
_DIAGNOSTIC: Final = deferred(r"\bkVmxVDiag_Vmentry_(\w+)")
_OWN_CHECK: Final = "{} refused this entry of a hypervisor in its guest by a check of its own, which no processor makes"
#: Xen's line on the MSR that could not be loaded.
_XEN_MSR: Final = deferred(r"msr (?P<number>[0-9a-f]{8}) val (?P<value>[0-9a-f]{1,16}) \(mbz", re.IGNORECASE)
#: ACRN's word on a control that it wanted and cannot have.
_ACRN: Final = deferred(
    r"VMX ctrl (?P<msr>0x[0-9a-f]+) not fully enabled: request (?P<wanted>0x[0-9a-f]{1,16}) but get ?(?P<got>0x[0-9a-f]+)", re.IGNORECASE
)


@dataclass
class ProgramsWord:
    """What programs say of the failure: what they name, and an outcome of a check that only such a program makes."""

    checks: list[NamedChecks] = field(default_factory=list)
    #: line, MSR, value
    msr: tuple[int, int, int] | None = None
    own_check: Reported | None = None
    beside: dict[str, Reading] = field(default_factory=dict)
    warned: list[Warned] = field(default_factory=list)

    def believed(self, heard: Reported | None) -> Reported | None:
        """The outcome: what else was heard, or what follows from the checks where they say more; a program goes before a person's words."""
        heard = heard or self.own_check
        if not self.checks:
            return heard
        first = self.checks[0]
        in_words = heard is None or heard.kind in (Report.SPOKEN, Report.UNNUMBERED)
        if in_words and first.program == _KVM:
            heard = Reported(first.text, error=0, kind=Report.REFUSED)
        if heard is not None and heard.kind is Report.REFUSED:
            return replace(heard, other=next((_reported(one) for one in self.checks if one.text == heard.text), None))
        return _reported(first) or heard if in_words else heard


def words_of_programs(lines: Sequence[Line]) -> ProgramsWord:
    """What programs say of the failure in these lines."""
    said = ProgramsWord()
    checker = "VMCS-Auditor" if any(_AUDITOR.search(line.text) for line in lines) else "Bochs"
    for line in lines:
        for program, text, ids in _named(line.text, checker):
            if ids is None:
                said.warned.append(Warned(line.number, f'{program} refused the entry by a check that is not in the table here: "{text}"'))
            elif not ids:
                said.own_check = said.own_check or Reported(text, error=0, kind=Report.UNNUMBERED, remark=_OWN_CHECK.format(program))
            elif all((one.program, one.text) != (program, text) for one in said.checks):
                said.checks.append(NamedChecks(line.number, program, text, tuple(check for check in CHECKS if check.id in ids)))
        if msr := _XEN_MSR.search(line.text):
            said.msr = (line.number, int(msr["number"], 16), int(msr["value"], 16))
        if control := _ACRN.search(line.text):
            _of_acrn(control, said)
    return said


def _named(line: str, checker: str) -> Iterator[tuple[str, str, Collection[str] | None]]:
    """What a line names: the program, its words, and ids of checks (none: the check is the program's own; None: the table here has it not)."""
    for pattern, message in _messages() if _BOCHS.search(line) else ():
        if match := pattern.search(line):
            ids = MESSAGES.checks_named(message) or frozenset()
            segment = match[1].lower() if match.lastindex else ""
            yield checker, match.group(0), {id for id in ids if f".{segment}." in f"{id}."} or ids
            break
    traced = refused(line)
    text = traced.text if traced is not None else line.strip()  # or nothing but such a text stands in the line
    if text in CONSISTENCY_CHECKS or (traced is not None and traced.kind is Report.REFUSED):
        yield _KVM, text, CONSISTENCY_CHECKS.checks_named(text)
    for match in _DIAGNOSTIC.finditer(line):
        if not is_listed(place_of(line, *match.span())):
            yield "VirtualBox", match.group(0), DIAGNOSTICS.checks_named(match[1])


@cache
def _messages() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Patterns of Bochs' messages: those with most words of their own first, as one may begin with another, and "%s" stands for any register."""
    messages = sorted(MESSAGES, key=lambda message: len(_CONVERSION.sub("", message)), reverse=True)
    return tuple((re.compile(_CONVERSION.sub(r"(-?\\w+)", re.escape(message))), message) for message in messages)


def _of_acrn(match: re.Match[str], said: ProgramsWord) -> None:
    """The controls that ACRN wanted, and that the processor does not allow."""
    msr, wanted, got = (int(number, 16) for number in match.groups())
    word = next((word for word in CONTROL_WORDS.values() if msr in (word.msr, word.true_msr)), None)
    missing = [bit for bit in range(64) if wanted & ~got & 1 << bit]
    if word is not None and missing:
        names = ", ".join(f"bit {bit} {bit_name(word.field, bit) or ''}".rstrip() for bit in missing)
        which = f"{FACT_MSRS[msr]} ({hexadecimal(msr)}) of this processor"
        means = f"the program wanted {names} of the {word.title}, which {which} does not allow to be 1; it goes on without"
        said.beside[f"VMX ctrl {hexadecimal(msr)}"] = Reading(got, match.group(0), 0)
        said.warned.append(Warned(0, means))


def _reported(said: NamedChecks) -> Reported | None:
    """The outcome that all checks of a message have, or that of their kind which they share: entries of an MSR-load area differ in qualification."""
    outcomes = [{(outcome.kind, outcome.number) for outcome in check.fails.outcomes} for check in said.checks]
    shared = sorted(set.intersection(*outcomes), key=lambda pair: pair[1] or 0)
    if not shared:
        return None
    # KVM gives the later number where the manual leaves two: it makes rules on address-space size with those of the host state
    kind, number = shared[-1] if said.program == _KVM else shared[0]
    reason = FAILED_ENTRY | (number or 0) if kind is Kind.ENTRY_FAILURE else None
    return Reported(said.text, reason, number if kind is Kind.VMFAIL_VALID else None)
