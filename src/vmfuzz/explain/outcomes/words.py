"""Outcomes that programs, and the manual, put into words instead of a number: "VM-entry failure due to MSR loading", "VMfailInvalid", CF = 1."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.explain.outcomes.context import first_told, has_happened, is_counted, place_of
from vmfuzz.explain.reported import FAILED_ENTRY, Reported
from vmfuzz.patterns import deferred

_TRACED: Final = "the name that Linux's trace events have for it"
_NO_BIT: Final = "bit 31 is not shown; this exit reason occurs only with it"
_INVALID: Final = r"(?:(?:reason|basic)\W{1,4}(?:\w+::)*(?:\w+_)?(?:INVALID_?GUEST_?STATE|33))"
_FAILS_TRUE: Final = r"entry_?fail\w*\W{1,4}true"
#: The compiler's function for VMLAUNCH or VMRESUME, before what it returns.
_INTRINSIC: Final = r"__vmx_vm(?:launch|resume)\b[^\n]{0,20}\b(?:returns?|returned|status|=|:)"
_ENTRY_FAIL: Final = ("entry_fail", "entryfail")
_CF: Final = tuple(f"cf{before}{sign}{behind}1" for before in ("", " ") for sign in "=:" for behind in ("", " "))
#: (words of which all stand in the text, or one of several, pattern, exit reason, VM-instruction error, remark). Error 0: a failure without its number.
_WORDS: Final = tuple(
    (words, deferred(pattern, re.IGNORECASE | re.MULTILINE), reason, error, remark)
    for words, pattern, reason, error, remark in (
        (("entry with invalid",), r"VM[- ]?entry with invalid (?:VM[- ])?control", None, 7, ""),
        (("invalid host",), r"VM[- ]?entry with invalid host", None, 8, ""),
        # the manual's names of the three exit reasons, and those of Linux's trace events
        (("entry fail", "msr"), r"VM[- ]?entry fail\w*(?: due to|[:,]) *MSR[- ]load", FAILED_ENTRY | 34, None, ""),
        (("entry fail", "machine"), r"VM[- ]?entry fail\w*(?: due to|[:,]) *machine[- ]check", FAILED_ENTRY | 41, None, ""),
        (
            ("invalid_state",),
            r"\bINVALID_STATE\s+FAILED_VMENTRY\b|\bkvm_(?:nested_vm)?exit:[^:]{0,60}\breason\s+INVALID_STATE\b",
            FAILED_ENTRY | 33,
            None,
            _TRACED,
        ),
        (("failed_vmentry",), r"\bMSR_LOAD_FAIL\s+FAILED_VMENTRY\b", FAILED_ENTRY | 34, None, _TRACED),
        (("failed_vmentry",), r"\bMCE_DURING_VMENTRY\s+FAILED_VMENTRY\b", FAILED_ENTRY | 41, None, _TRACED),
        # a structure of Rust, on one line or spread over several
        (
            ("true", _ENTRY_FAIL),
            rf"\b{_FAILS_TRUE}\b[^{{}}]{{0,200}}?\b{_INVALID}|\b{_INVALID}\b[^{{}}]{{0,200}}?\b{_FAILS_TRUE}\b",
            FAILED_ENTRY | 33,
            None,
            "",
        ),
        (
            (("exit reason", "exit_reason", "exit-reason", "exitreason"), "invalid"),
            r"\bexit[ _-]?reason[\"']?[ :=(]{1,4}(?:\w+::)*(?:\w+_)?INVALID_?GUEST_?STATE\b",
            FAILED_ENTRY | 33,
            None,
            _NO_BIT,
        ),
        (
            (("hardware error", "hardware_entry", "failentry(0"),),
            r"hardware error (?:0x)?0+\b|hardware_entry_failure_reason\W+(?:0x)?0+\b|FailEntry\(0\b",
            None,
            0,
            "",
        ),
        (
            ("__vmx_vm",),
            rf"{_INTRINSIC}[ :=]*1\b",
            None,
            0,
            "1 from the compiler's intrinsic: there is a number",
        ),
        (
            (("vmfailvalid", "vm_fail_valid"), "control"),
            r"\bVM_?Fail_?Valid\W{1,3}(?:\w+::)*\w{0,20}Invalid_?(?:VM_?)?Control",
            None,
            7,
            "",
        ),
        ((("vmfailvalid", "vm_fail_valid"), "host"), r"\bVM_?Fail_?Valid\W{1,3}(?:\w+::)*\w{0,20}Invalid_?Host", None, 8, ""),
        ((("vmfail", "vm_fail"), "invalid"), r"\bVM_?fail_?Invalid\b", None, None, ""),
        ((_CF,), r"\bVM(?:LAUNCH|RESUME)\b[^\n]{0,40}\bCF ?[=:] ?1\b", None, None, ""),
        (("__vmx_vm",), rf"{_INTRINSIC}[ :=]*2\b", None, None, "2 from the compiler's intrinsic"),
    )
)


def in_words(text: str) -> Reported | None:
    """The outcome that a text names in words, the most telling words first; none from program text or from a table of outcomes."""
    small = text.lower()
    named: list[tuple[int, Reported]] = []
    for words, pattern, reason, error, remark in _WORDS:
        if not all(any(one in small for one in ((word,) if isinstance(word, str) else word)) for word in words):
            continue
        for match in pattern.finditer(text):
            place = place_of(text, match.start(), match.end())
            if has_happened(place) and not is_counted(place):
                named.append((text.count("\n", 0, match.start()), Reported(" ".join(match.group(0).split()), reason, error, remark=remark)))
                break
    return first_told(named)
