"""What a program itself says of the failure in its log: Bochs, KVM and VirtualBox name the check that failed, Xen shows the entry of the MSR-load area.

KVM does in the tracepoint kvm_nested_vmenter_failed, for a VM entry of a hypervisor that is its guest: the text is its own source.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.outcomes import Kind
from vmfuzz.explain.dump import NamedChecks, Reading, Warned
from vmfuzz.explain.outcomes.context import LISTED, place_of
from vmfuzz.explain.outcomes.others import refused
from vmfuzz.explain.reported import FAILED_ENTRY, Refused, Reported, Spoken, Unnumbered
from vmfuzz.explain.text.lines import Line
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.model.bochs_messages import MESSAGES
from vmfuzz.model.check import Check
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.kvm_messages import CONSISTENCY_CHECKS
from vmfuzz.model.virtualbox_messages import DIAGNOSTICS
from vmfuzz.model.wording import bit_name
from vmfuzz.patterns import deferred

_KVM: Final = "KVM"
#: A conversion of a format string -> what it prints; `%s` prints the name of a segment register.
_PRINTED: Final = (("%d", r"-?\d+"), ("%x", "[0-9a-f]+"), ("%lx", "[0-9a-f]+"), ("%08x", "[0-9a-f]+"), ("%s", r"\w+"))
_BOCHS: Final = deferred(r"(?P<mark>[\"'`])?(?P<message>VMENTER FAIL.*|VMFAIL.*|VMX LoadMSRs.*)")
#: A program that makes Bochs' checks on a VMCS, with Bochs' messages.
_AUDITOR: Final = deferred(r"VMCS[ -]?Auditor|\bCheckVMXState\b", re.IGNORECASE)
_DIAGNOSTIC: Final = deferred(r"\bkVmxVDiag_Vmentry_(\w+)")
_OWN_CHECK: Final = "VirtualBox refused this entry of a hypervisor in its guest by a check of its own, which no processor makes"
#: Xen's line on the MSR that could not be loaded.
_XEN_MSR: Final = deferred(r"msr (?P<number>[0-9a-f]{8}) val (?P<value>[0-9a-f]{1,16}) \(mbz", re.IGNORECASE)
#: ACRN's word on a control that it wanted and cannot have.
_ACRN: Final = deferred(
    r"VMX ctrl (?P<msr>0x[0-9a-f]+) not fully enabled: request (?P<wanted>0x[0-9a-f]{1,16}) but get ?(?P<got>0x[0-9a-f]+)", re.IGNORECASE
)


@cache
def _messages() -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    """Patterns of Bochs' messages: those with most words of their own first, as one may begin with another, and "%s" stands for any register."""
    found = []
    for message, ids in MESSAGES.items():
        pattern = re.escape(message).replace("%s", r"(?P<name>\w+)", 1)
        words = message
        for conversion, printed in _PRINTED:
            pattern, words = pattern.replace(conversion, printed), words.replace(conversion, "")
        found.append((len(words), re.compile(pattern), ids))
    return tuple((pattern, ids) for _, pattern, ids in sorted(found, key=lambda one: -one[0]))


def named_checks(text: str) -> tuple[Check, ...]:
    """The checks that a message of Bochs in this text stands for."""
    for pattern, ids in _messages() if _BOCHS.search(text) else ():
        match = pattern.search(text)
        if match:
            name = (match.groupdict().get("name") or "*").lower()
            wanted = [one.replace("*", name, 1) for one in ids]
            return tuple(check for check in CHECKS if any(fnmatch.fnmatchcase(check.id, one) for one in wanted))
    return ()


@dataclass
class ProgramsWord:
    """What programs say of the failure: what they name, and an outcome of VirtualBox's own checks."""

    checks: list[NamedChecks] = field(default_factory=list)
    #: line, MSR, value
    msr: tuple[int, int, int] | None = None
    own_check: Reported | None = None
    beside: dict[str, Reading] = field(default_factory=dict)
    warned: list[Warned] = field(default_factory=list)

    def believed(self, heard: Reported | None) -> Reported | None:
        """The outcome: what else was heard, or what follows from the checks where they say more; a program goes before a person's words."""
        heard = self.own_check if heard is None else heard
        if not self.checks:
            return heard
        first = self.checks[0]
        in_words = heard is None or isinstance(heard, Spoken | Unnumbered)
        if in_words and first.program == _KVM:
            heard = Refused(first.text, error=0)
        if isinstance(heard, Refused):
            outcomes = {one.text: _reported(one) for one in self.checks}
            return replace(heard, outcome=outcomes.get(heard.text))
        return _reported(first) or heard if in_words else heard

    def name(self, line: Line, program: str, text: str, ids: Collection[str]) -> None:
        """Note the checks that a program names."""
        self.checks.append(NamedChecks(line.number, program, text, tuple(check for check in CHECKS if check.id in ids)))


def words_of_programs(lines: Sequence[Line]) -> ProgramsWord:
    """What programs say of the failure in these lines."""
    said = ProgramsWord()
    checker = "VMCS-Auditor" if any(_AUDITOR.search(line.text) for line in lines) else "Bochs"
    for line in lines:
        _of_bochs(line, checker, said)
        _of_kvm(line, said)
        _of_virtualbox(line, said)
        msr, control = _XEN_MSR.search(line.text), _ACRN.search(line.text)
        if msr:
            said.msr = (line.number, int(msr["number"], 16), int(msr["value"], 16))
        if control:
            _of_acrn(control, said)
    return said


def _of_bochs(line: Line, checker: str, said: ProgramsWord) -> None:
    match = _BOCHS.search(line.text)
    checks = named_checks(line.text) if match else ()
    if match and checks:
        quoted = match["message"].partition(match["mark"])[0] if match["mark"] else match["message"]
        said.checks.append(NamedChecks(line.number, checker, quoted, checks))


def _of_kvm(line: Line, said: ProgramsWord) -> None:
    """What KVM's tracepoint says, or a line that is nothing but such a text."""
    traced = refused(line.text)
    text = traced.text if traced is not None else line.text.strip()
    ids = CONSISTENCY_CHECKS.checks_named(text)
    if ids:
        if all((one.program, one.text) != (_KVM, text) for one in said.checks):
            said.name(line, _KVM, text, ids)
    elif isinstance(traced, Refused) and ids is None:
        said.warned.append(Warned(line.number, f'KVM refused the entry by a check that is not in the table here: "{text}"'))


def _of_virtualbox(line: Line, said: ProgramsWord) -> None:
    """The diagnostics of VirtualBox's nested VMX, some of them of checks that only VirtualBox makes."""
    for match in _DIAGNOSTIC.finditer(line.text):
        ids = DIAGNOSTICS.checks_named(match[1])
        if ids is None or LISTED.on(place_of(line.text, *match.span())):
            continue
        if ids:
            said.name(line, "VirtualBox", match.group(0), ids)
        else:
            said.own_check = said.own_check or Unnumbered(match.group(0), error=0, remark=_OWN_CHECK)


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
    if kind is Kind.ENTRY_FAILURE:
        return Reported(said.text, FAILED_ENTRY | (number or 0))
    return Reported(said.text, error=number if kind is Kind.VMFAIL_VALID else None)
