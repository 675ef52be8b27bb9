"""The phrases in which programs and people say how a VM entry ended: what the number in one is, or which outcome one is without a number."""

from __future__ import annotations

import enum
import re
from typing import Final, NamedTuple

from vmfuzz.explain.reported import FAILED_ENTRY, Reported, Unnumbered
from vmfuzz.patterns import deferred


class Meaning(enum.Enum):
    """What the number of a phrase is."""

    ERROR = enum.auto()  # a VM-instruction error
    FIELD = enum.auto()  # the field that holds it, which another instruction may have written
    REASON = enum.auto()  # an exit reason
    HARDWARE = enum.auto()  # what KVM passes on: either, 0 for neither
    ALONE = enum.auto()  # an exit reason that nothing names as one
    NONE = enum.auto()  # there is none: KVM, or a program of its, says only that an entry failed


class Phrase(NamedTuple):
    """A phrase: parts of it in small letters, which are found ten times as fast; what its number is, or its outcome."""

    needs: tuple[str, ...]
    pattern: re.Pattern[str]
    means: Meaning | Reported


_VALUE: Final = r"(?=-?[a-fA-F]*\d)(?P<value>-?(?:0[xX])?[0-9a-fA-F]{1,16}[hH]?)\b"
_IS: Final = r"(?: is| was|[ \t=:#(<\[\"'{]){0,6}"
_LAUNCH: Final = r"(?:VMLAUNCH|VMRESUME|\bvm[ -]?entry)"
_NO_EVENT: Final = r"(?:(?!fault|exception|intr|interrupt|event)[^\n.;])"  # an event has an error code too
_ERROR: Final = r"err(?:or)?\b(?:;? code| number)?|(?:失败|错误|ошибк)[^\n\d]{0,20}"  # in English, Chinese, Russian
#: VM-instruction errors of a VM entry, none of which a compiler's intrinsic returns.
_ENTRY_ERROR: Final = r"(?:0x)?0*(?:[4578]|1[678]|2[56])\b"
_RETURNS: Final = r"(?:returns?|returned|gives?|gave|reads?|contains?|holds?|shows?)\b"
#: The compiler's function for VMLAUNCH or VMRESUME, before what it returns.
_INTRINSIC: Final = r"__vmx_vm(?:launch|resume)\b[^\n]{0,20}\b(?:returns?|returned|status|=|:)[ :=]*"

#: The most reliable first.
PHRASES: Final = tuple(
    Phrase(tuple(needs.split()), deferred(pattern, re.IGNORECASE), means)
    for needs, pattern, means in (
        # KVM's users: QEMU, kvmtool, Firecracker, HAXM, old qemu-kvm
        (
            "fail",
            r"(?:(?:\w+: )?entry failed,? *hardware error|failed entry,? *reason|hardware_entry_failure_reason|"
            rf"(?:KVM_EXIT_)?fail[ _-]?entry|hw run failure)[\"' :=(,]+(?:(?:signal|reason)[ :=]+)?{_VALUE}",
            Meaning.HARDWARE,
        ),
        # KVM of a nested guest; NoirVisor
        ("failed", rf"(?:nested_vmx_exit_reflected failed vm entry|Failed at VM-?Entry,? *Code) *=? *{_VALUE}", Meaning.ERROR),
        ("", rf"{_LAUNCH}(?:\b|_){_NO_EVENT}{{0,20}}?(?:{_ERROR}){_IS}{_VALUE}", Meaning.ERROR),
        (
            "",
            rf"(?:(?:{_LAUNCH}|\blaunch)\b{_NO_EVENT}{{0,40}}?\b(?:fail|err)[^\n]{{0,40}}?|\bVM_?Fail\w{{0,10}}\W{{1,6}})"
            rf"\b(?:err|error|code|status|number)\b{_IS}{_VALUE}",
            Meaning.ERROR,
        ),
        ("", rf"\bVM(?:LAUNCH|RESUME)(?:\(\))? *(?:->|=>|{_RETURNS}) *(?={_ENTRY_ERROR}){_VALUE}", Meaning.ERROR),
        ("error", rf"\berror\W{{0,2}}{_VALUE} (?:from|by|of|on|at|after) (?:the |my )?VM(?:LAUNCH|RESUME)\b", Meaning.ERROR),
        (
            "err",
            r"\b(?:vmx[ _-]*|(?:vmx?[ _-]*)?(?:inst|insn|instr|instruction)[ _-]*)err(?:or)?\b(?: field| number| content| value)?\)?"
            rf"(?: is| was| of| as|,? (?:it |which |and it )?{_RETURNS}|[ \t=:(#])+{_VALUE}",
            Meaning.FIELD,
        ),
        (
            "reason",
            r"(?:(?:exit[ _-]*reason|\bvm[ _-]?(?:entry|exit|enter|launch|resume)\b[^\n]{0,30}?\breason\b)"
            rf"(?: field| is| was| of| as| the| VMCS|\.raw|[ \t=:(])+|\breason (?=(?:33|34|41)\b)){_VALUE}\)?",
            Meaning.REASON,
        ),
        (
            "",
            r"(?<![\w.])(?P<value>(?:0x)?(?:0{8}|f{8})?8000_?00(?:21|22|29)h?|21474836(?:81|82|89)|-21474836(?:15|14|07))\b",
            Meaning.ALONE,
        ),
        # case counts: `fail_entry` is a part of a structure
        ("fail", r"\b(?-i:(?:KVM_EXIT_)?FAIL_ENTRY)\b(?! *(?:=|,\n))|(?<=[kh]vm_run: )failed entry(?:, reason \d+)?", Meaning.NONE),
        # names of exit reasons in Linux's trace events (the others are identifiers), in Rust's structures, in the manual
        (
            "invalid_state",
            r"\bINVALID_STATE\s+FAILED_VMENTRY\b|\bkvm_(?:nested_vm)?exit:[^:]{0,60}\breason\s+INVALID_STATE\b",
            Reported("", FAILED_ENTRY | 33, remark="the name that Linux's trace events have for it"),
        ),
        ("true", r"\b(?:reason|basic)\W{1,4}33\b[^{}]{0,200}?\bentry_?fail\w*\W{1,4}true\b", Reported("", FAILED_ENTRY | 33)),
        ("msr", r"VM[- ]?entry fail\w*(?: due to|[:,]) *MSR[- ]load", Reported("", FAILED_ENTRY | 34)),
        ("machine", r"VM[- ]?entry fail\w*(?: due to|[:,]) *machine[- ]check", Reported("", FAILED_ENTRY | 41)),
        ("__vmx_vm", rf"{_INTRINSIC}1\b", Unnumbered("", error=0, remark="1 from the compiler's intrinsic: there is a number")),
        ("__vmx_vm", rf"{_INTRINSIC}2\b", Reported("", remark="2 from the compiler's intrinsic")),
        ("vm", r"\bVM_?fail_?Invalid\b|\bVM(?:LAUNCH|RESUME)\b[^\n]{0,40}\bCF ?[=:] ?1\b", Reported("")),
    )
)
