"""Whether 80000021H that stands in no phrase is an exit reason: it is also a usual value of CR0, and of the MSR that fixes bits of CR0."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.patterns import deferred

#: So much of a line before the number, and behind it, is looked at.
_FAR: Final = 120
#: What may stand between a name or a sentence and the number.
_MARKS: Final = " \t\"'`*([{<|~"
#: The last words of a label whose number is an outcome: `error: 0x80000021`, `hv_vcpu_run ret = 0x80000021`, `and I get: 0x80000021`
_OUTCOME: Final = (
    r"(?:err(?:or|no)?(?:[ _-]?code)?|ret(?:urn(?:s|ed)?)?(?:[ _-]?(?:code|value))?|retval|rc|reason|status|code|result|fail(?:s|ed|ure|ing)?|"
    r"exit(?:[ _-]?info(?:rmation)?)?|vm[ _-]?(?:exit|entry|enter|launch|resume)|"
    r"get|got|gives?|gave|sees?|saw|prints?|printed|says?|said|shows?|following|this|kvm|qemu)"
)
_OUTCOME_LABEL: Final = deferred(rf"(?:\b|_){_OUTCOME}(?: (?:is|was|as|of))?$|\b21474836(?:81|82|89)$", re.IGNORECASE)
_OUTCOME_WORD: Final = deferred(rf"(?:\b|_){_OUTCOME}\b", re.IGNORECASE)
#: A name written in one: `ExitReason`, `vmExitReason`
_JOINED_LABEL: Final = deferred(r"(?:Reason|Error|Code|Status|Result)$")
#: What else has such a value: a register, an MSR, a field of the VMCS, or a part of these.
_OWNER: Final = deferred(
    r"\b\w*(?:cr[0348]|dr[0-7]|efer|fixed[01]?|mask|shadow|r?flags)\w*|\b(?:guest|host|g|h|ia32|msr|vmcs|vmx|ctrl)_\w+|"
    r"\b[er]?(?:[abcd]x|[sd]i|[sbi]p)\b|\br(?:[89]|1[0-5])\b|\b(?:registers?|msr|controls?|ctls?|bits?|address|base|limit|rights|selector|values?|states?)\b",
    re.IGNORECASE,
)
#: What the number is said to be in or to go to: `writes 0x80000021 to CR0`
_OWNED_AFTER: Final = deferred(
    r"[\s\"'`)]*(?:in|into|to|for|as|=|->)\s+(?:the )?(?:guest |host )?\w*(?:cr[0348]|fixed[01]?|msr)\b", re.IGNORECASE
)
#: The number of a field or an MSR before its value, or one word of a piece of memory.
_NUMBERS_BEFORE: Final = deferred(r"(?:^|[\s,;:])(?:(?:0x)?0*[46028][0-9a-f]{2,3}h?|(?:0x)?[0-9a-f]{8,16})[,;:]?$", re.IGNORECASE)
_NUMBERS_BEHIND: Final = deferred(r"[ \t,]+(?:0x)?[0-9a-f]{8,16}\b", re.IGNORECASE)
#: What a program does with a constant.
_OF_PROGRAM: Final = deferred(r"\s*#\s*(?:define|if)\b|\bcase$|[=!]=$|[&^]$|\bconst\b")
_CLAUSE: Final = deferred(r"[.;!?](?:\s|$)|\s-+\s")


def is_outcome(line: str, begin: int, end: int) -> bool:
    """Whether the number at [begin:end] of a line is an outcome by itself: no register, field, MSR or label of another kind owns it."""
    head, rest = line[max(0, begin - _FAR) : begin].rstrip(_MARKS), line[end : end + _FAR]
    if _NUMBERS_BEHIND.match(rest) or _NUMBERS_BEFORE.search(head) or _OWNED_AFTER.match(rest) or _OF_PROGRAM.search(head):
        return False
    if head.endswith(("=", ":", "=>", "->")):
        label = re.split(r"[,;({|\t]|\s{2,}", head.rstrip("=:-> \t\"'`*)]"))[-1]
        return _OUTCOME_LABEL.search(label) is not None or _JOINED_LABEL.search(label) is not None
    clause = _CLAUSE.split(head)[-1]
    owner = _last(_OWNER, clause)
    return owner < 0 or _last(_OUTCOME_WORD, clause) >= owner


def _last(pattern: re.Pattern[str], text: str) -> int:
    """Where the last match ends, -1 if there is none."""
    return max((match.end() for match in pattern.finditer(text)), default=-1)
