"""Two states in one text are two states: those of vmcs12 and vmcs02, of "before" and "after", of the - and + lines of a diff.

Each becomes a text of its own that has the lines of that state and the lines of none, on the lines on which they were pasted.
"""

from __future__ import annotations

import re
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
    for pair, pattern in _BESIDE:
        if not all(state in small for state in pair):
            continue
        parts: dict[str, list[str]] = {state: [] for state in pair}
        names: dict[str, set[str]] = {state: set() for state in pair}  # what it has values of: pairs without their numbers
        for line in text.split("\n"):
            lines = dict.fromkeys(pair, line)
            match = pattern.match(line)
            if match and (own := match["state"].lower()) in parts:
                lines = {own: match["begin"] + match["pair"]}
                names[own].add(_NUMBER.sub("#", match["pair"]))
            for state, part in parts.items():
                part.append(lines.get(state, ""))
        if set.intersection(*names.values()):
            return {state: "\n".join(part) for state, part in parts.items()}
    return {"": text}
