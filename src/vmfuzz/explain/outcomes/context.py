"""What stands around the words of an outcome: whether it has happened, or is denied, counted, declared in a program or one of a list of outcomes.

One question for all that names an outcome (numbers, words, identifiers), and one more for a number that stands alone: 80000021H is also a usual value
of CR0, and of the MSR that fixes bits of CR0.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from vmfuzz.explain.reported import Reported
from vmfuzz.patterns import deferred

#: The beginning of a line of program text or of a list of constants, where the words name what can happen.
_DECLARED: Final = deferred(
    r"\s*(?:#\s*define\b|case\b|/\*|//|(?:pub )?const\b|static\b|\[?(?:0x)?[0-9a-f]+\]?\s*=>|\{\s*\w+\s*,\s*\"|\[\w+\]\s*=\s*\"|"
    r"[A-Za-z_]\w*\s*,\s*(?:/[/*].*)?$)",
    re.IGNORECASE,
)
#: The same, where words in the comment behind it are meant.
_COMMENTED: Final = deferred(r"\s*[A-Za-z_]\w*\s*=\s*(?:0x)?[0-9a-f]+\s*,?\s*(?:/[/*]|#)", re.IGNORECASE)
#: Behind a name: it is one of an enumeration.
_ENUMERATED: Final = deferred(r"\s*=\s*(?:0x)?[0-9a-f]+\s*,", re.IGNORECASE)
#: Before and behind the words of a string literal in a program (a log may have a quotation too).
_LITERAL_BEGINS: Final = deferred(r"(?:[(,{>\[]|\breturn|^)\s*$|^\s*(?:0x)?[0-9a-f]+\s*:\s*$")
_LITERAL_ENDS: Final = deferred(r"[^\"\n]{0,80}(?:\"\s*(?:,|\)?\s*;|\})|\\n\")")
#: A statement of a program.
_CODE: Final = deferred(r"[=!]=|\breturn\b|\|\||\b(?:if|switch)\s*\(|[(=][^\n]*[;{]\s*\}?\s*$")
#: Before what is counted, and has not just happened: `The count for exit 33`
_COUNTED: Final = deferred(r"\b(?:counts?|counters?|number|statistics?|most|many) (?:of|for)\b[^\n]{0,40}$", re.IGNORECASE)
#: Two outcomes on lines as near as this are rows of a table.
_ROWS: Final = 3
#: So much of a line before and behind an outcome is looked at.
_BEFORE_IT, _BEHIND_IT = 300, 200
#: So many words in small letters make a sentence.
_WORD: Final = deferred(r"(?<!\S)[a-z]+[,.]?(?!\S)")
_SENTENCE: Final = 6
#: Where a clause ends: what stands in another one denies nothing.
_CLAUSE: Final = deferred(r"[.,;:!?](?=\s|$)|[。，；：！？、]|\s-+\s|\b(?:but|aber|pero|mais|но)\b|但")
#: What a failing entry does, of which "not" and "never" take away that it did.
_DOES: Final = r"(?:fail|exit|return|give|get|got|show|report|print|produce|end|stop|crash|see|hit|have|cause|trigger|throw|raise|panic|yield|VM_?fail)\w*"
#: What denies words, or those that follow it in the same clause, with at most so many words between.
_DENIED: Final = deferred(
    r"\b(?:instead of|rather than|no longer|any ?longer|used to|fixe[sd]|avoids?|prevents?|statt|anstatt|nicht mehr|au lieu d[e'’]|ne [^\s]+ plus|"
    r"en (?:lugar|vez) de|ya no)|вместо|больше не|不再|而不是|而非|没有|未再|더 이상|대신|"
    rf"\b(?:(?:does|do|did|is|was|has|have|had|should|would|will|must|could|can)(?: ?n['’]?t| not)|never) (?:any ?more )?{_DOES}",
    re.IGNORECASE,
)
_BETWEEN: Final = 3
#: The same right before the words.
_WITHOUT: Final = deferred(r"\b(?:without|no|ohne|kein\w*|sans|sin|без) (?:any |an? |the )?[\"'“«(]?$", re.IGNORECASE)
#: What denies the words before it.
_GONE: Final = deferred(
    r"[\"'”»)]?\s*(?:\S+\s+){0,4}?(?:(?:is|are) gone|disappear(?:s|ed)?|no longer|do(?:es)? not (?:occur|happen)|(?:is|was|are|were) fixed|went away|"
    r"ist weg|tritt nicht mehr|ne se produit plus|desapareci|больше не|исчез|消失|不再|なくなった|ではなく|발생하지 않)",
    re.IGNORECASE,
)
#: So much of a line before a number that stands alone, and behind it, is looked at; not what stands in another sentence.
_FAR: Final = 120
_SENTENCE_ENDS: Final = deferred(r"[.;!?](?:\s|$)|\s-+\s")
#: What may stand between words and the number, or between a label and its sign.
_MARKS: Final = " \t\"'`*([{<|~,"
_SIGNS: Final = ("=", ":", "=>", "->")
#: Words behind which a number is an outcome: `error: 0x80000021`, `hv_vcpu_run ret = 0x80000021`, `and I get: 0x80000021`
_OUTCOME: Final = deferred(
    r"(?:\b|_)(?:err(?:or|no)?|ret(?:urn(?:s|ed)?|val)?|rc|reason|status|code|result|fail(?:s|ed|ure|ing)?|exit(?:[ _-]?info(?:rmation)?)?|"
    r"vm[ _-]?(?:exit|entry|enter|launch|resume)|get|got|gives?|gave|sees?|saw|prints?|printed|says?|said|shows?|following|this|kvm|qemu)"
    r"(?:[ _-]?(?:code|value)| is| was| as| of)?\b|\b21474836(?:81|82|89)$",
    re.IGNORECASE,
)
#: What else has such a value: a register, an MSR, a field of the VMCS, or a part of these.
_OWNER: Final = deferred(
    r"\b\w*(?:cr[0348]|dr[0-7]|efer|fixed[01]?|mask|shadow|r?flags)\w*|\b(?:guest|host|g|h|ia32|msr|vmcs|vmx|ctrl)_\w+|"
    r"\b[er]?(?:[abcd]x|[sd]i|[sbi]p)\b|\br(?:[89]|1[0-5])\b|\b(?:registers?|msr|controls?|ctls?|bits?|address|base|limit|rights|selector|values?|states?)\b",
    re.IGNORECASE,
)
#: What the number is said to be in or to go to: `writes 0x80000021 to CR0`; or one word of a piece of memory.
_OWNED_BEHIND: Final = deferred(
    r"[\s\"'`)]*(?:in|into|to|for|as|=|->)\s+(?:the )?(?:guest |host )?\w*(?:cr[0348]|fixed[01]?|msr)\b|[ \t,]+(?:0x)?[0-9a-f]{8,16}\b",
    re.IGNORECASE,
)
#: The number of a field or an MSR before its value, or one word of a piece of memory.
_NUMBER_BEFORE: Final = deferred(r"(?:^|[\s,;:])(?:(?:0x)?0*[46028][0-9a-f]{2,3}h?|(?:0x)?[0-9a-f]{8,16})[;:]?$", re.IGNORECASE)


class Place(NamedTuple):
    """Words of a text: their line (a very long one is cut, and a mark stands where its beginning was), and where they are in it."""

    line: str
    begin: int
    end: int

    @property
    def head(self) -> str:
        """What stands before them on their line."""
        return self.line[: self.begin]

    @property
    def is_sentence(self) -> bool:
        """Whether they stand among many words, as no program prints them."""
        return len(_WORD.findall(self.line)) >= _SENTENCE


def place_of(text: str, begin: int, end: int) -> Place:
    """The place of [begin:end] of a text."""
    first, stop = text.rfind("\n", 0, begin) + 1, text.find("\n", end)
    at = max(first, begin - _BEFORE_IT)
    mark = "\u2026" if at > first else ""
    line = text[at : min(stop if stop >= 0 else len(text), end + _BEHIND_IT)]
    return Place(mark + line, len(mark) + begin - at, len(mark) + end - at)


def has_happened(place: Place) -> bool:
    """Whether what is named has happened: it is not declared in a program, and not denied."""
    return not is_listed(place) and not is_negated(place)


def is_counted(place: Place) -> bool:
    """Whether what is named is what a text counts."""
    return _COUNTED.search(place.head) is not None


def is_code(line: str) -> bool:
    """Whether a line is a statement of a program, in which a name stands for what can happen."""
    return _CODE.search(line) is not None


def is_listed(place: Place) -> bool:
    """Whether what is named is a name in program text or in a list of constants: nothing has happened then."""
    line, begin, end = place
    commented = _COMMENTED.match(line)
    if _DECLARED.match(line) or _ENUMERATED.match(line, end) or (commented and commented.end() <= begin):
        return True
    ends = _LITERAL_ENDS.match(line, end) if line.count('"', 0, begin) % 2 else None
    return ends is not None and (ends.group(0).endswith(";") or _LITERAL_BEGINS.search(line[: line.rfind('"', 0, begin)]) is not None)


def is_negated(place: Place) -> bool:
    """Whether the line denies what is named."""
    line, begin, end = place
    head, rest = _CLAUSE.split(place.head)[-1], _CLAUSE.split(line[end:])[0]
    denied = [match.end() for match in _DENIED.finditer(head + line[begin:end])]
    near = bool(denied) and len(head[denied[-1] :].split()) <= _BETWEEN + (not head.endswith(tuple(" \t")))
    return near or _WITHOUT.search(head) is not None or _GONE.match(rest) is not None


def first_told(named: Sequence[tuple[int, Reported]]) -> Reported | None:
    """The first of the outcomes (each with its line) that is not a row of a list of outcomes: another one stands near, or several anywhere."""
    for number, found in named:
        others = {_outcome(one): at for at, one in named if _outcome(one) != _outcome(found) and any(_outcome(one))}
        if not any(_outcome(found)) or (len(others) <= 1 and not any(0 < abs(at - number) <= _ROWS for at in others.values())):
            return found
    return None


def _outcome(reported: Reported) -> tuple[int | None, int | None]:
    return reported.exit_reason, reported.error


def is_outcome(place: Place) -> bool:
    """Whether a number is an outcome by itself: no register, field, MSR or label of another kind owns it."""
    line, begin, end = place
    head = line[max(0, begin - _FAR) : begin].rstrip(_MARKS)
    if _OWNED_BEHIND.match(line[end : end + _FAR]) or _NUMBER_BEFORE.search(head) or is_code(line):
        return False
    words = _SENTENCE_ENDS.split(head.rstrip("=:-> \t\"'`*)]"))[-1]
    outcome = max((match.end() for match in _OUTCOME.finditer(words)), default=-1)
    if head.endswith(_SIGNS):
        return outcome == len(words)
    return outcome >= max((match.end() for match in _OWNER.finditer(words)), default=-1)
