"""What stands around the words of an outcome, and whether that takes away that it has happened.

One table of doubts for all that names an outcome (numbers, words, identifiers), and one more question for a number that stands alone: 80000021H is
also a usual value of CR0, and of the MSR that fixes bits of CR0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from vmfuzz.explain.reported import Reported
from vmfuzz.patterns import deferred

#: So much of a line before and behind an outcome is looked at.
_BEFORE_IT, _BEHIND_IT = 300, 200
#: Two outcomes on lines as near as this are rows of a table.
_ROWS: Final = 3
#: Where a sentence ends, and where a clause ends.
SENTENCE_ENDS: Final = deferred(r"[.;!?](?=\s|$|[^\x00-\x7f])|[。；！？]")
_CLAUSE_ENDS: Final = deferred(rf"{SENTENCE_ENDS.pattern}|[,:](?=\s|$)|[，：、]|\s-+\s|\b(?:but|aber|pero|mais|но)\b|但")


class Place(NamedTuple):
    """Words of a text, and what stands before and behind them on their line (of a very long one not all)."""

    head: str
    words: str
    rest: str


def place_of(text: str, begin: int, end: int) -> Place:
    """The place of [begin:end] of a text."""
    before, behind = text[max(0, begin - _BEFORE_IT) : begin], text[end : end + _BEHIND_IT]
    return Place(before.rpartition("\n")[2], text[begin:end], behind.partition("\n")[0])


def _shown_by(*patterns: str, ends: re.Pattern[str] | None = None) -> Callable[[Place], bool]:
    """What takes away that an outcome has happened: whether one of these is on its line, or in the part of it up to these ends.

    In the patterns, \\x02 stands before the words of the outcome and \\x03 behind them.
    """
    shown = deferred("|".join(patterns), re.IGNORECASE)

    def is_there(place: Place) -> bool:
        head, rest = (ends.split(place.head)[-1], ends.split(place.rest)[0]) if ends else (place.head, place.rest)
        return shown.search(f"{head}\x02{place.words}\x03{rest}") is not None

    return is_there


#: A name in a program's text or in a list of constants.
is_listed: Final = _shown_by(
    r"^\s*(?:#\s*define\b|case\b|/\*|//|(?:pub )?const\b|static\b|\[?(?:0x)?[0-9a-f]+\]?\s*=>|\{\s*\w+\s*,\s*\"|\[\w+\]\s*=\s*\")",
    r"^\s*[a-z_]\w*\s*(?:=\s*(?:0x)?[0-9a-f]+\s*,?|,)\s*(?:/[/*]|#)[^\x02]*\x02",  # in the comment behind a constant
    r"\x03\s*=\s*(?:0x)?[0-9a-f]+\s*,|^\s*(?:(?:\[\w+\]\s*)?=\s*)?\x02[a-z_]\w*\x03\s*,\s*(?:/[/*].*)?$",  # a constant of an enumeration
    # a string literal (a log may have a quotation too)
    r"(?:[(,{>\[]|\breturn|^|^\s*(?:0x)?[0-9a-f]+\s*:)\s*\"[^\"\x02]*\x02[^\"]*\x03[^\"\n]{0,80}(?:\"\s*(?:,|\)?\s*;|\})|\\n\")",
)
#: A statement of a program, in which a name stands for what can happen; a line of a patch.
is_code: Final = _shown_by(
    r"[=!]=|\breturn\b|\|\||\b(?:if|switch|printk?f?)\s*\(|->\w+\(|[(=][^\n]*[;{]\s*\}?\s*$|%[#0-9]*l{0,2}[dxus]\b|^@@ |^diff --git",
)
#: What is counted: `The count for exit 33`
_is_counted: Final = _shown_by(r"\b(?:counts?|counters?|number|statistics?|most|many) (?:of|for)\b[^\n\x02]{0,40}\x02")
#: What a failing entry does, of which "not" and "never" take away that it did.
_DOES: Final = r"(?:fail|exit|return|give|get|got|show|report|print|produce|end|stop|crash|see|hit|have|cause|trigger|throw|raise|panic|yield|VM_?fail)\w*"
#: Behind what denies: few words before the outcome, or it stands in the words of the outcome themselves.
_FEW: Final = r"(?:[^\x02]*\x03|\S*(?:\s+\S+){0,3}\s*\S*\x02)"
#: What is denied in its clause.
is_denied: Final = _shown_by(
    r"(?:\b(?:instead of|rather than|no longer|any ?longer|used to|fixe[sd]|avoids?|prevents?|statt|anstatt|nicht mehr|au lieu d[e'’]|ne [^\s]+ plus|"
    rf"en (?:lugar|vez) de|ya no)|вместо|больше не|不再|而不是|而非|没有|未再|더 이상|대신){_FEW}",
    r"\b(?:(?:does|do|did|is|was|has|have|had|should|would|will|must|could|can)(?: ?n['’]?t| not)|never) (?:any ?more )?"
    rf"(?:\x02{_DOES}|{_DOES}{_FEW})",
    r"\b(?:without|no|ohne|kein\w*|sans|sin|без) (?:any |an? |the )?[\"'“«(]?\x02",
    r"\x03[\"'”»)]?\s*(?:\S+\s+){0,4}?(?:(?:is|are) gone|disappear(?:s|ed)?|no longer|do(?:es)? not (?:occur|happen)|(?:is|was|are|were) fixed|"
    r"went away|ist weg|tritt nicht mehr|ne se produit plus|desapareci|больше не|исчез|消失|不再|なくなった|ではなく|발생하지 않)",
    ends=_CLAUSE_ENDS,
)
#: What may happen ("if", "whether"); what a chapter, a program or the title of a change is about; the error code of an event.
is_supposed: Final = _shown_by(
    r"(?:\b(?:if|whether|unless|in case|should|may|might|can|could|would|will|until|every time|section|chapter|SDM|manual|wenn|falls|si|если|когда)\b"
    r"(?! (?:I|we|my|it)\b)|如果|若|もし|만약)[^\x02]*\x02",
    r"\b(?:emulat\w+|handl\w+|check\w*|debug\w*|cause[sd]?|reasons? for|kinds? of|about|(?<!\d )(?<!fails )(?<!failed )(?<!error )on|for|why)"
    r"[ _-](?:an? |the |of )*\x02",
    r"^\s*\* |^\W*(?:(?:[\w/]+: ?){1,3})?"
    r"(?-i:Handle|Fix(?:es|ed)?|Add|Improve|Check|Detect|Report|Print|Return|Make|Move|Clean ?up|Refactor|Emulate|Support|Test)\b",
    r"\b(?:event|fault|exception|interruption)\b[^.;]{0,30}\b\x02?error\x03?[ _-]?code",
    ends=SENTENCE_ENDS,
)
#: Many words in small letters, as no program prints them.
_SMALL: Final = r"\x02?[a-z]+[\x03,.]*(?:\s+|$)"
is_prose: Final = _shown_by(rf"(?<!\S)(?-i:(?:(?!{_SMALL})(?>\S+)\s+)*{_SMALL}){{6}}")


def has_happened(place: Place, *doubts: Callable[[Place], bool]) -> bool:
    """Whether what is named has happened: not listed in a program, counted or denied, and none of the doubts that count here too is there."""
    return not any(doubt(place) for doubt in (is_listed, _is_counted, is_denied, *doubts))


def first_told(named: Sequence[tuple[int, Reported]]) -> Reported | None:
    """The first of the outcomes (each with its line) that is not a row of a list of outcomes: no other one with a number stands near."""
    for number, found in named:
        own, near = (found.exit_reason, found.error), [other for at, other in named if 0 < abs(at - number) <= _ROWS]
        if not any(own) or all((other.exit_reason, other.error) in (own, (None, None)) for other in near):
            return found
    return None


#: Before a number: words of an outcome (`error: 0x80000021`, `hv_vcpu_run ret = 0x80000021`, `and I get: 0x80000021`), and what else has such a
#: value: a register, an MSR, a field of the VMCS, or a part of these.
_BEFORE_A_NUMBER: Final = deferred(
    r"(?P<outcome>(?:\b|(?<=_))(?:err(?:or|no)?|ret(?:urn(?:s|ed)?|val)?|rc|reason|status|code|result|fail(?:s|ed|ure|ing)?|exit(?:[ _-]?info)?|get|got|"
    r"vm[ _-]?(?:exit|entry|enter|launch|resume)|gives?|gave|sees?|saw|prints?|printed|says?|said|shows?|following|this|kvm|qemu)"
    r"(?:[ _-]?(?:code|value)| is| was| as| of)?\b|\b21474836(?:81|82|89)$)|"
    r"cr[0348]|fixed|mask|shadow|\b(?:guest|host|ia32|msr|vmcs|vmx|ctrl)_|\b(?:[er]?[abcd]x|registers?|msr|controls?|bits?|address|base|values?)\b",
    re.IGNORECASE,
)
#: A number is said to be in or to go to one of these; it stands behind the number of a field or an MSR; or it is one word of a piece of memory.
_is_owned: Final = _shown_by(
    r"\x03[\s\"'`)]*(?:in|into|to|for|as|=|->)\s+(?:the )?(?:guest |host )?\w*(?:cr[0348]|fixed[01]?|msr)\b|\x03[ \t,]+(?:0x)?[0-9a-f]{8,16}\b",
    r"(?:^|[\s,;:])(?:(?:0x)?0*[46028][0-9a-f]{2,3}h?|(?:0x)?[0-9a-f]{8,16})[;:]?[ \t\"'`*([{<|~,]*\x02",
)


def is_outcome(place: Place) -> bool:
    """Whether a number that stands alone is an outcome: no register, field, MSR or label of another kind owns it."""
    if _is_owned(place) or is_code(place):
        return False
    head = place.head.rstrip(" \t\"'`*([{<|~,")
    words = SENTENCE_ENDS.split(head.rstrip("=:-> \t\"'`*)]"))[-1]
    *_, last = (None, *_BEFORE_A_NUMBER.finditer(words))
    if head.endswith(("=", ":", "=>", "->")):  # the sign of a label
        return last is not None and last["outcome"] is not None and last.end() == len(words)
    return last is None or last["outcome"] is not None
