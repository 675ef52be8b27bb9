"""What a program itself says of the failure in its log: Bochs and KVM name the check that failed, Xen shows the entry of the MSR-load area.

KVM does in the tracepoint kvm_nested_vmenter_failed, for a VM entry of a hypervisor that is its guest: the text is its own source.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from typing import Final

from vmfuzz.arch.outcomes import Kind
from vmfuzz.explain.dump import Dump, Reported, Saying
from vmfuzz.explain.outcomes.asides import Refused, refused
from vmfuzz.explain.outcomes.languages import Spoken
from vmfuzz.explain.outcomes.outcome_words import is_listed
from vmfuzz.explain.outcomes.reported import Unnumbered
from vmfuzz.explain.text.lines import Line
from vmfuzz.explain.text.numbers import to_unsigned
from vmfuzz.model.bochs_messages import MESSAGES
from vmfuzz.model.check import Check
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.kvm_messages import BELOW, BELOW_ERRORS, CONSISTENCY_CHECKS
from vmfuzz.model.virtualbox_messages import DIAGNOSTICS
from vmfuzz.patterns import deferred

_ENTRY_FAILED: Final = 1 << 31
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
_DIAGNOSTIC: Final = deferred(r"\bkVmxVDiag_Vmentry_(?P<name>\w+)")


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


def find(lines: Iterable[Line], dump: Dump) -> None:
    """Note in `dump` what programs say of the failure, and the outcome that follows from it where the text has none."""
    lines = list(lines)
    checker = "VMCS-Auditor" if any(_AUDITOR.search(line.text) for line in lines) else "Bochs"
    for line in lines:
        checks = named_checks(line.text)
        begins = _BOCHS.search(line.text)
        if checks and begins:
            dump.said.append(Saying(line.number, checker, _quoted(line.text, begins.start()), checks))
        _find_kvm(line, dump)
        _find_virtualbox(line, dump)
        match = _XEN_MSR.search(line.text)
        if match:
            dump.refused_msr = (line.number, int(match["number"], 16), int(match["value"], 16))
    if not dump.said:
        return
    first = dump.said[0]
    in_words = isinstance(dump.reported, Spoken | Unnumbered)  # what a program says goes before a person's words
    if (dump.reported is None or in_words) and first.program == "KVM":
        dump.reported = Refused(first.text, error=0)
    if isinstance(dump.reported, Refused):
        outcomes = {said.text: _reported(said) for said in dump.said}
        dump.reported = replace(dump.reported, outcome=outcomes.get(dump.reported.text))
    elif dump.reported is None or in_words:
        dump.reported = _reported(first) or dump.reported


def _find_kvm(line: Line, dump: Dump) -> None:
    """Note what KVM's tracepoint says in a line, or the line itself where it is nothing but such a text."""
    traced = refused(line.text)
    text = traced.text if traced is not None else line.text.strip()
    ids = CONSISTENCY_CHECKS.checks_named(text)
    if ids and all(text != said.text for said in dump.said):
        dump.said.append(Saying(line.number, "KVM", text, tuple(check for check in CHECKS if check.id in ids)))
    elif traced is not None and text.startswith(BELOW.strip()):
        _processor_below(text, dump)
    elif traced is not None and ids is None:
        dump.warn(f'KVM refused the entry by a check that is not in the table here: "{text}"', line.number)


def _find_virtualbox(line: Line, dump: Dump) -> None:
    """Note the diagnostic of VirtualBox's nested VMX in a line; one without checks is of a check that only VirtualBox makes."""
    for match in _DIAGNOSTIC.finditer(line.text):
        ids = DIAGNOSTICS.checks_named(match["name"])
        if ids is None or is_listed(line.text, match.start(), match.end()):
            continue
        checks = tuple(check for check in CHECKS if check.id in ids)
        if checks:
            dump.said.append(Saying(line.number, "VirtualBox", match.group(0), checks))
        elif dump.reported is None:
            dump.reported = Unnumbered(match.group(0), error=0, remark=_OWN_CHECK)


def _processor_below(text: str, dump: Dump) -> None:
    """KVM passes on a VM-instruction error of the processor below; without one that had no current VMCS."""
    error = text.removeprefix(BELOW.strip()).strip()
    if dump.reported is None or dump.reported.text == text:
        dump.reported = Reported(text, error=BELOW_ERRORS.get(error, to_unsigned(error)) if error else None)


def _reported(said: Saying) -> Reported | None:
    """The outcome that all checks of a message have, or that of their kind which they share: entries of an MSR-load area differ in qualification."""
    outcomes = [{(outcome.kind, outcome.number) for outcome in check.fails.outcomes} for check in said.checks]
    shared = sorted(set.intersection(*outcomes), key=lambda pair: pair[1] or 0)
    if not shared:
        return None
    # KVM gives the later number where the manual leaves two: it makes rules on address-space size with those of the host state
    kind, number = shared[-1] if said.program == "KVM" else shared[0]
    if kind is Kind.ENTRY_FAILURE:
        return Reported(said.text, _ENTRY_FAILED | (number or 0))
    return Reported(said.text, error=number if kind is Kind.VMFAIL_VALID else None)


def _quoted(line: str, begin: int) -> str:
    """The message that begins at `begin`: to the end of the line, or to the quotation mark that closes it where one opens before it."""
    if begin and line[begin - 1] in _MARKS:
        end = line.find(line[begin - 1], begin)
        return line[begin : end if end >= 0 else len(line)]
    return line[begin:]
