"""The phrases in which programs and people say how a VM entry ended: what the number in one is, or which outcome one is without a number."""

from __future__ import annotations

import enum
import re
from typing import Final

from vmfuzz.arch.outcomes import ANY_EXIT
from vmfuzz.explain.reported import FAILED_ENTRY, Report, Reported
from vmfuzz.patterns import deferred


class Meaning(enum.Enum):
    """What the number of a phrase is."""

    ERROR = enum.auto()  # a VM-instruction error
    FIELD = enum.auto()  # the field that holds it, which another instruction may have written
    REASON = enum.auto()  # an exit reason
    HARDWARE = enum.auto()  # what KVM passes on: either, 0 for neither
    ALONE = enum.auto()  # an exit reason that nothing names as one
    BARE = enum.auto()  # there is nothing else


_VALUE: Final = r"(?=-?[a-fA-F]*\d)(?P<value>-?(?:0[xX])?[0-9a-fA-F]{1,16}[hH]?)\b"
_IS: Final = r"(?: is| was|[ \t=:#(<\[\"'{]){0,6}"
_LAUNCH: Final = r"(?:VMLAUNCH|VMRESUME|\bvm[ -]?entry)"
_NO_EVENT: Final = r"(?:(?!fault|exception|intr|interrupt|event)[^\n.;])"  # an event has an error code too
_RETURNS: Final = r"(?:returns?|returned|gives?|gave|reads?|contains?|holds?|shows?)\b"
_INTERNAL: Final = Reported(
    "",
    kind=Report.INTERNAL,
    means="The guest had run, or KVM had emulated it, when this came up. Suberror 1: KVM had to emulate an instruction, and could not; 2: two "
    "exceptions at once; 3: a VM exit while an event was delivered; 4: a VM exit that KVM does not expect. Look at the instruction at the guest's RIP "
    "(QEMU prints it under `Code=`) and at the kernel's log; no field of a VMCS needs to be wrong.",
)

#: Phrases, the most reliable first: parts in small letters of which each has one, found ten times as fast; what the number is, or the outcome.
PHRASES: Final[tuple[tuple[tuple[str, ...], re.Pattern[str], Meaning | Reported], ...]] = tuple(
    (tuple(needs.split("|")), deferred(pattern, re.IGNORECASE), means)
    for needs, pattern, means in (
        # KVM's users: QEMU, kvmtool, Firecracker, HAXM, old qemu-kvm; KVM of a nested guest; NoirVisor
        (
            "fail",
            r"(?:(?:KVM: )?entry failed,? *hardware error|failed entry,? *reason|hardware_entry_failure_reason|(?:KVM_EXIT_)?fail[ _-]?entry|"
            r"hw run failure|nested_vmx_exit_reflected failed vm entry|Failed at VM-?Entry,? *Code)"
            rf"[\"' :=(,]+(?:(?:signal|reason)[ :=]+)?{_VALUE}",
            Meaning.HARDWARE,
        ),
        (
            "err|fail",
            rf"(?:{_LAUNCH}|\blaunch(?=[^\n]{{0,40}}fail)|\bVM_?(?=fail)){_NO_EVENT}{{0,40}}?"
            rf"(?:err(?:or)?\b(?:;? code| number)?|fail\w*(?:[^\n]{{0,40}}?|\W{{1,6}})\b(?:code|status|number)\b){_IS}{_VALUE}",
            Meaning.ERROR,
        ),
        # (the numbers are errors of a VM entry that no compiler's intrinsic returns)
        ("vm", rf"\bVM(?:LAUNCH|RESUME)(?:\(\))? *(?:->|=>|{_RETURNS}) *(?=(?:0x)?0*(?:[4578]|1[678]|2[56])\b){_VALUE}", Meaning.ERROR),
        (
            "err",
            r"\b(?:vmx[ _-]*|(?:vmx?[ _-]*)?(?:inst|insn|instr|instruction)[ _-]*)err(?:or)?\b(?: field| number| content| value)?\)?"
            rf"(?: is| was| of| as|,? (?:it |which |and it )?{_RETURNS}|[ \t=:(#])+{_VALUE}",
            Meaning.FIELD,
        ),
        (
            "reason",
            r"(?:(?:exit[ _-]*reason|\bvm[ _-]?(?:entry|exit|enter|launch|resume)\b[^\n]{0,30}?\breason\b)"
            rf"(?: field| is| was| of| as| the| VMCS|\.raw|[ \t=:(])+|\b(?:reason|basic)\W{{1,4}}(?=(?:33|34|41)\b)){_VALUE}\)?",
            Meaning.REASON,
        ),
        (
            "8000|214748",
            r"(?<![\w.])(?P<value>(?:0x)?(?:0{8}|f{8})?8000_?00(?:21|22|29)h?|21474836(?:81|82|89)|-21474836(?:15|14|07))\b",
            Meaning.ALONE,
        ),
        # case counts: `fail_entry` is a part of a structure
        ("fail", r"\b(?-i:(?:KVM_EXIT_)?FAIL_ENTRY)\b(?! *(?:=|,\n))", Reported("", error=0, kind=Report.UNNUMBERED)),
        ("internal|emulation", r"KVM internal error\. Suberror: \d|\bKVM_EXIT_INTERNAL_ERROR\b|(?m:^emulation failure$)", _INTERNAL),
        # Linux's trace events (their other names for a failed entry are identifiers), the manual
        ("invalid_state", r"\breason\s+INVALID_STATE\s+(?:FAILED_VMENTRY|rip)\b", Reported("", FAILED_ENTRY | 33)),
        ("msr", r"VM[- ]?entry fail\w*(?: due to|[:,]) *MSR[- ]load", Reported("", FAILED_ENTRY | 34)),
        ("machine", r"VM[- ]?entry fail\w*(?: due to|[:,]) *machine[- ]check", Reported("", FAILED_ENTRY | 41)),
        ("reason", r"\breason\s+(?-i:[A-Z][A-Z_]{2,30})(?=\s+rip\b)", Reported("", ANY_EXIT)),
        ("vm", r"\bVM_?fail_?Invalid\b|\bVM(?:LAUNCH|RESUME)\b[^\n]{0,40}\bCF ?[=:] ?1\b", Reported("")),
        # nothing else stands in the text, but perhaps a qualification
        (
            "",
            rf"\A\s*{_VALUE}(?=[ ,/:;]*(?:\([^\n]*\)|qual.*)?\s*\Z|(?<=21|22|29|33|34|41)[ ,/:;]+(?:0x)?[0-9a-f]\s*\Z)",
            Meaning.BARE,
        ),
    )
)
