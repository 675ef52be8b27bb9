"""The phrases with a number in which programs and people say that a VM entry failed, and where they stand in a text."""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import Final

from vmfuzz.patterns import deferred


class Meaning(enum.Enum):
    """What the number of a phrase is."""

    ERROR = enum.auto()  # a VM-instruction error
    FIELD = enum.auto()  # the field that holds it, which another instruction may have written
    REASON = enum.auto()  # an exit reason, bit 31 and all
    BASIC = enum.auto()  # its low 16 bits
    RAW = enum.auto()  # an exit reason in hexadecimal without a mark
    HARDWARE = enum.auto()  # what KVM passes on: either, 0 for neither
    ALONE = enum.auto()  # an exit reason that nothing names as one


_VALUE: Final = r"(?=-?[a-fA-F]*\d)(?P<value>-?(?:0[xX])?[0-9a-fA-F]{1,16}[hH]?)\b"

#: Numbers that are VM-instruction errors of a VM entry, and no compiler's intrinsic returns.
_ENTRY_ERROR: Final = r"(?:0x)?0*(?:[4578]|1[678]|2[56])\b"
_FIELD_OF_ERROR: Final = (
    r"VM[ _-]*instruction[ _-]*error(?: field| number| content| value)?\)?"
    rf"(?: is| was| of| as|,? (?:it |which |and it )?(?:returns?|returned|gives?|gave|reads?|contains?|holds?|shows?)\b|[ \t=:(])+{_VALUE}"
)
#: How programs and people say that an entry failed, most reliable first: (pattern, what the number is, parts of it in small letters, which
#: are found ten times as fast).
_PHRASES: Final = tuple(
    (deferred(pattern, re.IGNORECASE), meaning, words)
    for words, pattern, meaning in (
        (("vm", "error"), rf"(?:VMLAUNCH|VMRESUME)[ _]error *(?:code)? *[:=#]* *{_VALUE}", Meaning.ERROR),
        # KVM's users: QEMU, kvmtool, Firecracker, HAXM, old qemu-kvm
        (
            ("fail",),
            rf"(?:(?:\w+: )?entry failed,? *hardware error|failed entry,? *reason[ :=]*|hardware_entry_failure_reason[\"' :=(]+) *{_VALUE}",
            Meaning.HARDWARE,
        ),
        (
            ("fail",),
            rf"(?:fail[ _-]?entry|hw run failure|KVM_EXIT_FAIL_ENTRY)[ :=(,]+(?:(?:signal|reason)[ :=]+)?{_VALUE}",
            Meaning.HARDWARE,
        ),
        (
            (),
            r"(?:VMLAUNCH|VMRESUME|vm[ -]?entry|launch)\b[^\n]{0,40}\b(?:fail|error)[^\n=:]{0,30}\b(?:error|code|err|status)\b"
            rf"(?: is| was|[ =:#(<])*{_VALUE}",
            Meaning.ERROR,
        ),
        (
            ("fail", " to "),
            rf"fail\w* to (?:execute |run )?(?:VMLAUNCH|VMRESUME|enter)[^\n]{{0,10}}\b(?:error|err|code)\b(?: number| code)?[ :=#]*{_VALUE}",
            Meaning.ERROR,
        ),
        (
            (),
            rf"\b(?:VMLAUNCH|VMRESUME)\b(?:\(\))? *(?:->|=>|gives?|gave|returns?|returned|(?:stops?|ends?|ended|comes back|came back) with)\W{{0,3}}"
            rf"(?:an? )?(?:VM[X-]? ?)?(?:error|err)\b\W{{0,3}}{_VALUE}",
            Meaning.ERROR,
        ),
        ((), rf"\b(?:VMLAUNCH|VMRESUME)\b(?:\(\))? *(?:->|=>|gives?|gave|returns?|returned) *(?={_ENTRY_ERROR}){_VALUE}", Meaning.ERROR),
        (
            ("error",),
            rf"\berror\W{{0,2}}(?:code |number )?{_VALUE}\W{{0,3}}(?:from|by|of|on|at|after) (?:the |my )?(?:VMLAUNCH|VMRESUME)\b",
            Meaning.ERROR,
        ),
        (("zf", "err"), rf"\bZF ?[=:] ?1\b[^\n]{{0,30}}\berr(?:or)?\b(?: code| number)?\W{{0,3}}{_VALUE}", Meaning.ERROR),
        (
            ("error", "invalid"),
            r"\berror\W{0,3}(?P<value>(?:0x)?0*[78])\b\W{1,4}(?:VM[- ]?entry with )?invalid (?:(?:VM[- ]?)?control|host)",
            Meaning.ERROR,
        ),
        (("fail",), rf"\bVM_?Fail\w{{0,10}}\W{{1,6}}(?:code|error|number)\W{{1,3}}{_VALUE}", Meaning.ERROR),
        # Chinese and Russian for "failed" and "error"
        ((), rf"\b(?:VMLAUNCH|VMRESUME)\b[^\n]{{0,20}}(?:失败|错误|ошибк)[^\n\d]{{0,20}}{_VALUE}", Meaning.ERROR),
        (
            ("vm", "fail"),
            rf"\bvm_?(?:write|read|ptrld|clear)\b[^\n]{{0,30}}\bfail[^\n]{{0,20}}\b(?:error|code)\b[ :=#]*{_VALUE}",
            Meaning.ERROR,
        ),
        (("instruction", "error"), _FIELD_OF_ERROR, Meaning.FIELD),
        (("err",), rf"\b(?:vmx_?|(?:vmx?_?)?(?:inst|insn|instr|instruction)[_ ]?)err(?:or)?\b(?: number)?[ =:#(]*{_VALUE}", Meaning.FIELD),
        (("failed vm entry",), rf"nested_vmx_exit_reflected failed vm entry {_VALUE}", Meaning.ERROR),
        (("failed at vm",), rf"Failed at VM-?Entry,? *Code *= *{_VALUE}", Meaning.ERROR),  # NoirVisor
        (("exit_reason.raw",), r"exit_reason\.raw\W+(?P<value>[0-9a-fA-F]{1,8})\b", Meaning.RAW),
        (("basic exit reason",), rf"basic exit reason(?: is| was| of|[ \t=:(])+{_VALUE}", Meaning.BASIC),
        (("vm", "reason"), rf"\bvm[ _-]?(?:entry|exit|enter)\b[^\n]{{0,30}}\breason\b[ :=(]+{_VALUE}\)?", Meaning.REASON),
        (("exit", "reason"), rf"exit[ _-]*reason(?: field| is| was| of| as| the| VMCS|[ \t=:(])+{_VALUE}", Meaning.REASON),
        (("8000",), r"(?<![\w.])(?P<value>(?:0x)?(?:0{8}|f{8})?8000_?00(?:21|22|29)[hH]?)\b", Meaning.ALONE),
        (("2147483",), r"(?<![\w.])(?P<value>21474836(?:81|82|89)|-21474836(?:15|14|07))\b", Meaning.ALONE),
        (("reason ",), r"\breason (?P<value>33|34|41)\b", Meaning.BASIC),
    )
)
#: Every phrase has one of these in it.
_TELLING: Final = ("err", "fail", "reason", "8000", "2147483", "vmlaunch", "vmresume")
#: The phrases that may reach over the end of a line, at most so far: their words.
_MOST_OVER: Final = 40
_OVER_LINES: Final = {
    index: deferred(pattern.pattern.partition(r"\W")[0], re.IGNORECASE)
    for index, (pattern, _, _) in enumerate(_PHRASES)
    if r"\W" in pattern.pattern
}


@lru_cache(maxsize=1 << 13)
def _phrases_in(line: str) -> frozenset[int]:
    """Which of the phrases a line may hold (one whose number stands on the next line is held by the line with its words)."""
    small = line.lower()
    if not any(word in small for word in _TELLING):
        return frozenset()
    return frozenset(
        index
        for index, (pattern, _, words) in enumerate(_PHRASES)
        if all(word in small for word in words) and _OVER_LINES.get(index, pattern).search(line)
    )


def spots(text: str) -> list[tuple[re.Pattern[str], Meaning, int, int]]:
    """Where to look for which phrase, the most reliable phrase first: (pattern, what the number is, beginning, end)."""
    found, begin = [], 0
    for line in text.split("\n"):
        end = begin + len(line)
        found += [(index, begin, end + _MOST_OVER if index in _OVER_LINES else end) for index in _phrases_in(line)]
        begin = end + 1
    return [(*_PHRASES[index][:2], begin, end) for index, begin, end in sorted(found)]
