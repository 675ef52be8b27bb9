"""What a program itself says of the failure in its log: Bochs and KVM name the check that failed, Xen shows the entry of the MSR-load area.

KVM does in the tracepoint kvm_nested_vmenter_failed, for a VM entry of a hypervisor that is its guest: the text is its own source.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

from vmfuzz.arch.outcomes import Kind
from vmfuzz.explain.dump import Named, NamedChecks, Warned
from vmfuzz.explain.outcomes.context import Place, is_listed
from vmfuzz.explain.outcomes.others import refused
from vmfuzz.explain.reported import FAILED_ENTRY, Refused, Reported, Spoken, Unnumbered
from vmfuzz.explain.text.lines import Line
from vmfuzz.explain.text.numbers import to_unsigned
from vmfuzz.model.bochs_messages import MESSAGES
from vmfuzz.model.check import Check
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.kvm_messages import BELOW, BELOW_ERRORS, CONSISTENCY_CHECKS
from vmfuzz.model.virtualbox_messages import DIAGNOSTICS
from vmfuzz.patterns import deferred

_KVM: Final = "KVM"
_DIAGNOSED: Final = "kVmxVDiag_Vmentry_"
#: A conversion of a format string -> what it prints; `%s` prints the name of a segment register.
_PRINTED: Final = {"%s": r"(?P<name>\w+)", "%d": r"-?\d+", "%x": "[0-9a-f]+", "%lx": "[0-9a-f]+", "%08x": "[0-9a-f]+"}
_FORMAT: Final = deferred(r"%(?:08x|lx|[sdx])")
_BOCHS: Final = deferred(r"VMENTER FAIL|VMFAIL|VMX LoadMSRs")
#: Xen's line on the MSR that could not be loaded.
_XEN_MSR: Final = deferred(r"msr (?P<number>[0-9a-f]{8}) val (?P<value>[0-9a-f]{1,16}) \(mbz", re.IGNORECASE)
_MARKS: Final = "\"'`"
_OWN_CHECK: Final = "VirtualBox refused this entry of a hypervisor in its guest by a check of its own, which no processor makes"
#: A program that makes Bochs' checks on a VMCS, with Bochs' messages.
_AUDITOR: Final = deferred(r"VMCS[ -]?Auditor|\bCheckVMXState\b", re.IGNORECASE)
_DIAGNOSTIC: Final = deferred(rf"\b{_DIAGNOSED}\w+")


@cache
def _messages() -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    found = []
    # the one with most words of its own first: one message may begin with another, and "%s" stands for any register
    for message, ids in sorted(MESSAGES.items(), key=lambda item: -len(_FORMAT.sub("", item[0]))):
        parts, end = "", 0
        for match in _FORMAT.finditer(message):
            printed = _PRINTED[match[0]]
            parts += re.escape(message[end : match.start()]) + (printed if "(?P<name>" not in parts else r"\w+")
            end = match.end()
        found.append((re.compile(parts + re.escape(message[end:])), ids))
    return tuple(found)


def named_checks(text: str) -> tuple[Check, ...]:
    """The checks that a message of Bochs in this text stands for."""
    if not _BOCHS.search(text):
        return ()
    for pattern, ids in _messages():
        match = pattern.search(text)
        if match:
            name = (match.groupdict().get("name") or "*").lower()
            wanted = [one.replace("*", name, 1) for one in ids]
            return tuple(check for check in CHECKS if any(fnmatch.fnmatchcase(check.id, one) for one in wanted))
    return ()


@dataclass(frozen=True)
class ProgramsWord:
    """What programs say of the failure: what they name; an outcome of VirtualBox's own checks; the error that KVM passes on from below it."""

    named: Named = field(default_factory=Named)
    own_check: Reported | None = None
    below: Reported | None = None
    warned: tuple[Warned, ...] = ()

    def believed(self, heard: Reported | None) -> Reported | None:
        """The outcome: what else was heard, or what follows from the checks where they say more; a program goes before a person's words."""
        heard = self.own_check if heard is None else heard
        if self.below is not None and (heard is None or heard.text == self.below.text):
            heard = self.below
        if not self.named.checks:
            return heard
        first = self.named.checks[0]
        in_words = heard is None or isinstance(heard, Spoken | Unnumbered)
        if in_words and first.program == _KVM:
            heard = Refused(first.text, error=0)
        if isinstance(heard, Refused):
            outcomes = {one.text: _reported(one) for one in self.named.checks}
            return replace(heard, outcome=outcomes.get(heard.text))
        return _reported(first) or heard if in_words else heard


def words_of_programs(lines: Sequence[Line], hm_error: int | None) -> ProgramsWord:
    """What programs say of the failure in these lines; `hm_error`: VirtualBox's own number for it."""
    checker = "VMCS-Auditor" if any(_AUDITOR.search(line.text) for line in lines) else "Bochs"
    of_kvm = _of_kvm(lines)
    checks = [*_of_bochs(lines, checker), *of_kvm.named.checks]
    own_check = None
    for line, name in _diagnostics(lines):
        ids = DIAGNOSTICS.checks_named(name.removeprefix(_DIAGNOSED))
        if ids:
            checks.append(NamedChecks(line.number, "VirtualBox", name, tuple(check for check in CHECKS if check.id in ids)))
        elif ids is not None:  # of a check that only VirtualBox makes
            own_check = own_check or Unnumbered(name, error=0, remark=_OWN_CHECK)
    checks.sort(key=lambda one: one.line)
    refused = [(line.number, match) for line in lines if (match := _XEN_MSR.search(line.text))]
    msr = next(((line, int(match["number"], 16), int(match["value"], 16)) for line, match in reversed(refused)), None)
    return replace(of_kvm, named=Named(tuple(checks), msr, hm_error), own_check=own_check)


def _of_bochs(lines: Iterable[Line], checker: str) -> Iterator[NamedChecks]:
    for line in lines:
        begins = _BOCHS.search(line.text)
        checks = named_checks(line.text) if begins else ()
        if begins and checks:
            yield NamedChecks(line.number, checker, _quoted(line.text, begins.start()), checks)


def _of_kvm(lines: Iterable[Line]) -> ProgramsWord:
    """What KVM's tracepoint says, or a line that is nothing but such a text."""
    checks, below, warned = dict[str, NamedChecks](), None, []
    for line in lines:
        traced = refused(line.text)
        text = traced.text if traced is not None else line.text.strip()
        ids = CONSISTENCY_CHECKS.checks_named(text)
        if ids:
            checks.setdefault(text, NamedChecks(line.number, _KVM, text, tuple(check for check in CHECKS if check.id in ids)))
        elif traced is not None and text.startswith(BELOW.strip()):
            below = below or _processor_below(text)
        elif traced is not None and ids is None:
            warned.append(Warned(line.number, f'KVM refused the entry by a check that is not in the table here: "{text}"'))
    return ProgramsWord(Named(tuple(checks.values())), below=below, warned=tuple(warned))


def _diagnostics(lines: Iterable[Line]) -> Iterator[tuple[Line, str]]:
    """The diagnostics of VirtualBox's nested VMX."""
    for line in lines:
        for match in _DIAGNOSTIC.finditer(line.text):
            if not is_listed(Place(line.text, match.start(), match.end())):
                yield line, match.group(0)


def _processor_below(text: str) -> Reported:
    """KVM passes on a VM-instruction error of the processor below; without one that had no current VMCS."""
    error = text.removeprefix(BELOW.strip()).strip()
    return Reported(text, error=BELOW_ERRORS.get(error, to_unsigned(error)) if error else None)


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


def _quoted(line: str, begin: int) -> str:
    """The message that begins at `begin`: to the end of the line, or to the quotation mark that closes it where one opens before it."""
    if begin and line[begin - 1] in _MARKS:
        end = line.find(line[begin - 1], begin)
        return line[begin : end if end >= 0 else len(line)]
    return line[begin:]
