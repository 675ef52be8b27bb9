"""Two states in one text are two states: those of vmcs12 and vmcs02, of "before" and "after", of the - and + lines of a diff.

Each becomes a text of its own that has the lines of that state and the lines of none, on the lines on which they were pasted.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from vmfuzz.patterns import deferred

#: The VMCSs of the two levels of nested virtualization.
LEVELS: Final = ("vmcs12", "vmcs02")
_SIGNS: Final = ("-", "+")
#: Names of two states in one text: (the one that works, or was there before; the one that fails).
PAIRS: Final = (LEVELS, ("before", "after"), ("old", "new"), ("good", "bad"), ("working", "failing"), _SIGNS)
#: The name of a state before a pair: `vmcs12: guest_CR0 = ...`, `[vmcs02] ...`, `before: rip = ...`.
_NAMED: Final = deferred(
    r"^(?P<begin>.{0,60}?)(?<![\w.])[\[(<]?(?P<state>vmcs[10]2|before|after|old|new|good|bad|working|failing)[\])>]?[ \t]?[:|][ \t]?"
    r"(?P<pair>[A-Za-z_][\w .\[\]>-]{0,60}[:=][ \t]*[-\w].*)",
    re.IGNORECASE | re.MULTILINE,
)
#: The sign of a diff before one.
_SIGNED: Final = deferred(
    r"^(?P<begin>)(?P<state>[-+])(?![-+])[ \t]?(?P<pair>.*?[A-Za-z_][\w\[\]) >.-]*[ \t]*(?:[:=]|->)[ \t]*[-\w].*)", re.MULTILINE
)
_NUMBER: Final = deferred(r"\b(?:0[xX])?[0-9a-fA-F]*\d[0-9a-fA-F]*\b")


def states_apart(text: str) -> dict[str, str]:
    """The text of each state by what the whole text calls it, "" where there is only one; two only where both have a value of the same name."""
    small = "\n" + text.lower()
    for pair in PAIRS:
        begin, pattern = ("\n", _SIGNED) if pair == _SIGNS else ("", _NAMED)
        if begin + pair[0] not in small or begin + pair[1] not in small:
            continue
        found = [(match["state"].lower(), _NUMBER.sub("#", match["pair"])) for match in pattern.finditer(text)]
        one, other = ({name for own, name in found if own == state} for state in pair)
        if one & other:
            return {state: pattern.sub(partial(_line_of, state, pair), text) for state in pair}
    return {"": text}


def _line_of(state: str, pair: tuple[str, str], match: re.Match[str]) -> str:
    """What a line that has a name of a state leaves of it in the text of the state."""
    own = match["state"].lower()
    return match["begin"] + match["pair"] if own == state else "" if own in pair else match[0]
