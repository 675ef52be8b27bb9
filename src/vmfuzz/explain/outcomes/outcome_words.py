"""Outcomes in words, where no number is to be found, and how a report of one differs from a list of all of them."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.explain.dump import Reported
from vmfuzz.explain.outcomes.negation import is_negated
from vmfuzz.patterns import deferred

FAILED_ENTRY: Final = 1 << 31
#: VM-instruction errors of VMLAUNCH and VMRESUME; the others are those of other instructions.
ENTRY_ERRORS: Final = (4, 5, 6, 7, 8, 16, 17, 18, 25, 26)
_TRACED: Final = "the name that Linux's trace events have for it"
_NO_BIT: Final = "bit 31 is not shown; this exit reason occurs only with it"
_INVALID: Final = r"INVALID_?GUEST_?STATE"
_ENTRY_FAIL: Final = ("entry_fail", "entryfail")
_CF: Final = tuple(f"cf{before}{sign}{behind}1" for before in ("", " ") for sign in "=:" for behind in ("", " "))
#: (words of which all stand in the text, or one of several, pattern, exit reason, VM-instruction error, remark). Error 0: a failure without its number.
_WORDS: Final = tuple(
    (words, deferred(pattern, re.IGNORECASE | re.MULTILINE), reason, error, remark)
    for words, pattern, reason, error, remark in (
        (("entry with invalid",), r"VM[- ]?entry with invalid (?:VM[- ])?control", None, 7, ""),
        (("invalid host",), r"VM[- ]?entry with invalid host", None, 8, ""),
        (("entry fail", "guest"), r"VM[- ]?entry fail\w*(?: due to|[:,]) *invalid guest[- ]state", FAILED_ENTRY | 33, None, ""),
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
            rf"\bentry_?fail\w*\W{{1,4}}true\b[^{{}}]{{0,200}}?\breason\W{{1,4}}(?:\w+::)*(?:\w+_)?{_INVALID}|"
            rf"\b(?:reason|basic)\W{{1,4}}(?:\w+::)*(?:\w+_)?(?:{_INVALID}|33)\b[^{{}}]{{0,200}}?\bentry_?fail\w*\W{{1,4}}true\b|"
            rf"\bentry_?fail\w*\W{{1,4}}true\b[^{{}}]{{0,200}}?\b(?:reason|basic)\W{{1,4}}33\b",
            FAILED_ENTRY | 33,
            None,
            "",
        ),
        (
            ("true", "msr", _ENTRY_FAIL),
            r"\bentry_?fail\w*\W{1,4}true\b[^{}]{0,200}?\breason\W{1,4}(?:\w+::)*(?:\w+_)?MSR_?LOAD|"
            r"\breason\W{1,4}(?:\w+::)*(?:\w+_)?MSR_?LOAD\w*[^{}]{0,200}?\bentry_?fail\w*\W{1,4}true\b",
            FAILED_ENTRY | 34,
            None,
            "",
        ),
        (
            (("exit reason", "exit_reason", "exit-reason", "exitreason"), "invalid"),
            rf"\bexit[ _-]?reason[\"']?[ :=(]{{1,4}}(?:\w+::)*(?:\w+_)?{_INVALID}\b",
            FAILED_ENTRY | 33,
            None,
            _NO_BIT,
        ),
        (
            ("exit_reason_",),
            r"^\W*(?:\w+: *)?\w*EXIT_REASON_(?:ERROR_)?INVALID_(?:GUEST_)?STATE(?!\W*,[^\n]*$)\W*$",
            FAILED_ENTRY | 33,
            None,
            "",
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
            r"__vmx_vm(?:launch|resume)\b[^\n]{0,20}\b(?:returns?|returned|status|=|:)[ :=]*1\b",
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
        (
            ("__vmx_vm",),
            r"__vmx_vm(?:launch|resume)\b[^\n]{0,20}\b(?:returns?|returned|status|=|:)[ :=]*2\b",
            None,
            None,
            "2 from the compiler's intrinsic",
        ),
    )
)
#: The beginning of a line of program text or of a list of constants, where the words name what can happen.
_DECLARED: Final = deferred(
    r"\s*(?:#\s*define\b|case\b|/\*|//|(?:pub )?const\b|static\b|\[?(?:0x)?[0-9a-f]+\]?\s*=>|\{\s*\w+\s*,\s*\"|\[\w+\]\s*=\s*\"|"
    r"[A-Za-z_]\w*\s*=\s*(?:0x)?[0-9a-f]+\s*,?\s*(?:/[/*]|#)|[A-Za-z_]\w*\s*,\s*(?:/[/*].*)?$)",
    re.IGNORECASE,
)
#: Before and behind the words of a string literal in a program (a log may have a quotation too).
_LITERAL_BEGINS: Final = deferred(r"(?:[(,{>\[]|\breturn|^)\s*$|^\s*(?:0x)?[0-9a-f]+\s*:\s*$")
_LITERAL_ENDS: Final = deferred(r"[^\"\n]{0,80}(?:\"\s*(?:,|\)?\s*;|\})|\\n\")")
#: Before what is counted, and has not just happened: `The count for exit 33`
OF_A_COUNT: Final = deferred(r"\b(?:counts?|counters?|number|statistics?|most|many) (?:of|for)\b[^\n]{0,40}$", re.IGNORECASE)
#: Two outcomes on lines as near as this are rows of a table.
_ROWS: Final = 3
#: So much of a line before and behind an outcome is looked at.
_BEFORE, _BEHIND = 300, 200


def around(text: str, begin: int, end: int) -> tuple[str, int]:
    """(the line around [begin:end], where that begins in it); a very long line is cut, and a mark stands where its beginning was."""
    at = text.rfind("\n", 0, begin) + 1
    cut = begin - at > _BEFORE
    at = begin - _BEFORE if cut else at
    stop = text.find("\n", end)
    line = text[at : min(stop if stop >= 0 else len(text), end + _BEHIND)]
    return ("\u2026" + line, begin - at + 1) if cut else (line, begin - at)


def is_listed(line: str, begin: int, end: int) -> bool:
    """Whether what stands at [begin:end] of a line is a name in program text or in a list of constants: nothing has happened then."""
    declared = _DECLARED.match(line)
    if declared and (begin == 0 or declared.end() <= begin or not line[begin : declared.end()].rstrip().endswith(("//", "/*", "#"))):
        return True
    ends = _LITERAL_ENDS.match(line, end) if line.count('"', 0, begin) % 2 else None
    return ends is not None and (ends.group(0).endswith(";") or _LITERAL_BEGINS.search(line[: line.rfind('"', 0, begin)]) is not None)


def of_another_instruction(reported: Reported) -> bool:
    """Whether this is a VM-instruction error that no VM entry gives."""
    return bool(reported.error) and reported.error not in ENTRY_ERRORS


def in_words(text: str) -> Reported | None:
    """The outcome that a text names in words, the most telling words first; none from program text or from a table of outcomes."""
    small = text.lower()
    hits: list[tuple[int, Reported]] = []
    for words, pattern, reason, error, remark in _WORDS:
        if not all(any(one in small for one in ((word,) if isinstance(word, str) else word)) for word in words):
            continue
        for match in pattern.finditer(text):
            line, begin = around(text, match.start(), match.end())
            end = begin + match.end() - match.start()
            if not is_listed(line, begin, end) and not is_negated(line, begin, end) and not OF_A_COUNT.search(line[:begin]):
                hits.append((text.count("\n", 0, match.start()), Reported(" ".join(match.group(0).split()), reason, error, remark=remark)))
                break
    return next((found for number, found in hits if not _in_table(number, found, hits)), None)


def _in_table(number: int, found: Reported, hits: list[tuple[int, Reported]]) -> bool:
    """Whether another outcome stands so near, or so many others anywhere, that the text lists outcomes."""
    others = {(one.exit_reason, one.error): at for at, one in hits if (one.exit_reason, one.error) != (found.exit_reason, found.error)}
    numbered = [at for (reason, error), at in others.items() if reason or error]
    if not (found.exit_reason or found.error):
        return False
    return len(numbered) > 1 or any(0 < abs(at - number) <= _ROWS for at in numbered)
