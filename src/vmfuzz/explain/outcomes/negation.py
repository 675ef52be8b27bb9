"""Whether a text denies what it names: "instead of exiting with 0x80000021", "no longer fails", in eight languages."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.patterns import deferred

#: Where a clause ends: what stands before it denies nothing behind it.
_CLAUSE: Final = deferred(r"[.,;:!?](?=\s|$)|[。，；：！？、]|\s-+\s|\b(?:but|aber|pero|mais|но)\b|但")
#: What a failing entry does, of which "not" and "never" take away that it did.
_DOES: Final = r"(?:fail|exit|return|give|get|got|show|report|print|produce|end|stop|crash|see|hit|have|cause|trigger|throw|raise|panic|yield|VM_?fail)\w*"
#: What denies the words that follow it in the same clause, with at most three words between.
_BEFORE: Final = deferred(
    rf"(?:\b(?:instead of|rather than|no longer|any ?longer|used to|fixe[sd]|avoids?|prevents?)"
    rf"|\b(?:(?:does|do|did|is|was|has|have|had|should|would|will|must|could|can)(?: ?n['’]?t|n['’]t| not)|never) (?:any ?more )?{_DOES}"
    r"|\b(?:statt|anstatt|anstelle|nicht mehr)|\b(?:au lieu d[e'’]|ne [^\s]+ plus)|\b(?:en (?:lugar|vez) de|ya no)|(?:вместо|больше не)"
    r"|不再|而不是|而非|没有|未再|더 이상|대신)"
    r" ?(?:\S+\s+){0,3}[\"'“«(\w-]*$"
    r"|\b(?:(?:does|do|did|is|was|has|have|had|should|would|will|must|could|can)(?: not|n['’]t)|never) $"
    r"|\b(?:without|no|ohne|kein\w*|sans|sin|без) (?:any |an? |the )?[\"'“«(]?$",
    re.IGNORECASE,
)
#: What denies the words before it.
_BEHIND: Final = deferred(
    r"[\"'”»)]?\s*(?:\S+\s+){0,4}?(?:(?:is|are) gone|disappear(?:s|ed)?|no longer|do(?:es)? not (?:occur|happen)|(?:is|was|are|were) fixed|went away|"
    r"ist weg|tritt nicht mehr|ne se produit plus|desapareci|больше не|исчез|消失|不再|なくなった|ではなく|발생하지 않)",
    re.IGNORECASE,
)


#: The same within the words: "VMLAUNCH no longer fails with error 7".
_WITHIN: Final = deferred(
    rf"\b(?:no longer|(?:does|do|did|will|should)(?: not|n['’]t)|never) {_DOES}|\bnicht mehr\b|\bya no\b|больше не|不再|더 이상",
    re.IGNORECASE,
)


def is_negated(line: str, begin: int, end: int) -> bool:
    """Whether the line denies what stands at [begin:end]."""
    head = _CLAUSE.split(line[:begin])[-1]
    rest = _CLAUSE.split(line[end:])[0]
    return _WITHIN.search(line, begin, end) is not None or _BEFORE.search(head) is not None or _BEHIND.match(rest) is not None
