"""Two states in one text are two states: those of vmcs12 and vmcs02, of "before" and "after", of the - and + lines of a diff.

Each becomes a text of its own that has the lines of that state and the lines of none, on the lines on which they were pasted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from vmfuzz.patterns import deferred

#: The name of a state before a pair: `vmcs12: guest_CR0 = ...`, `[vmcs02] ...`, `before: rip = ...`.
_NAMED: Final = deferred(
    r"(?P<begin>.{0,60}?)(?<![\w.])[\[(<]?(?P<state>vmcs(?:12|02|01)|before|after|old|new|good|bad|working|failing)[\])>]?\s?[:|]\s?"
    r"(?P<pair>[A-Za-z_][\w .\[\]>-]{0,60}[:=]\s*[-\w].*)",
    re.IGNORECASE,
)
#: The sign of a diff before one.
_SIGNED: Final = deferred(r"(?P<begin>)(?P<state>[-+])(?![-+])\s?(?P<pair>.*?[A-Za-z_][\w\[\]) >.-]*\s*(?:[:=]|->)\s*[-\w].*)")
_NUMBER: Final = deferred(r"\b(?:0[xX])?[0-9a-fA-F]*\d[0-9a-fA-F]*\b")
#: Which states stand beside each other in a text, and what their lines look like.
_BESIDE: Final = (
    *((pair, _NAMED) for pair in (("vmcs12", "vmcs02"), ("vmcs12", "vmcs01"), ("vmcs01", "vmcs02"))),
    *((pair, _NAMED) for pair in (("before", "after"), ("old", "new"), ("good", "bad"), ("working", "failing"))),
    (("-", "+"), _SIGNED),
)


def states_apart(text: str) -> dict[str, str]:
    """The text of each state by what the whole text calls it, "" where there is only one; two only where both have a value of the same name."""
    small = text.lower()
    lines = text.split("\n")
    for pair, pattern in _BESIDE:
        if all(state in small for state in pair):
            found = [match if (match := pattern.match(line)) and match["state"].lower() in pair else None for line in lines]
            if _names(pair[0], found) & _names(pair[1], found):
                return {state: _text_of(state, lines, found) for state in pair}
    return {"": text}


def _names(state: str, found: Sequence[re.Match[str] | None]) -> set[str]:
    """What a state has values of: its pairs without their numbers."""
    return {_NUMBER.sub("#", match["pair"]) for match in found if match and match["state"].lower() == state}


def _text_of(state: str, lines: Sequence[str], found: Sequence[re.Match[str] | None]) -> str:
    """The lines of a state and those of none, on their lines."""
    return "\n".join(
        line if match is None else match["begin"] + match["pair"] if match["state"].lower() == state else ""
        for line, match in zip(lines, found, strict=True)
    )
