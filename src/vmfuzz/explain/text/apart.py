"""Two states in one text are two states: those of vmcs12 and vmcs02, of "before" and "after", of the - and + lines of a diff.

Each becomes a text of its own that has the lines of that state and the lines of none, on the lines on which they were pasted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from vmfuzz.patterns import deferred

#: `vmcs12: guest_CR0 = ...`, `[vmcs02] ...`, `before: rip = ...`: the name of a state before a pair.
_NAMED: Final = deferred(
    r"(?P<begin>.{0,60}?)(?<![\w.])[\[(<]?(?P<state>vmcs(?:12|02|01)|before|after|old|new|good|bad|working|failing)[\])>]?\s?[:|]\s?"
    r"(?=[A-Za-z_][\w .\[\]>-]{0,60}[:=]\s*[-\w])",
    re.IGNORECASE,
)
_SIGNED: Final = deferred(r"(?P<sign>[-+])(?![-+])\s?(?P<body>.*?[A-Za-z_][\w\[\]) >.-]*\s*(?:[:=]|->)\s*[-\w].*)$")
_NUMBER: Final = deferred(r"\b(?:0[xX])?[0-9a-fA-F]*\d[0-9a-fA-F]*\b")
#: A state has so many lines of its own at least; one is a remark, unless the text is a diff.
_FEWEST: Final = 2
_PAIRS: Final = (
    ("vmcs12", "vmcs02"),
    ("vmcs12", "vmcs01"),
    ("vmcs01", "vmcs02"),
    ("before", "after"),
    ("old", "new"),
    ("good", "bad"),
    ("working", "failing"),
)
_STATES: Final = frozenset(name for pair in _PAIRS for name in pair)


class State(NamedTuple):
    """One state: what the text calls it ("" where the text has one only), and its text."""

    name: str
    text: str


def states_apart(text: str) -> list[State]:
    """The states of a text, at least one."""
    small = text.lower()
    lines = text.split("\n")
    named = _named(lines) if any(one in small and other in small for one, other in _PAIRS) else []
    diff = _of_diff(lines) if not named and "\n-" in f"\n{text}" and "\n+" in f"\n{text}" else []
    return named or diff or [State("", text)]


def _named(lines: Sequence[str]) -> list[State]:
    found = [_NAMED.match(line) for line in lines]
    names = [match["state"].lower() if match else "" for match in found]
    pair = next((pair for pair in _PAIRS if all(names.count(name) >= _FEWEST for name in pair)), None)
    if pair is None:
        return []
    bare = [
        match["begin"] + line[match.end() :] if match and match["state"].lower() in pair else line
        for match, line in zip(found, lines, strict=True)
    ]
    return [State(name, _of(bare, names, {"", name, *_STATES} - (set(pair) - {name}))) for name in pair]


def _of_diff(lines: Sequence[str]) -> list[State]:
    """The states of a diff: some line is there with - and with +, and differs in its numbers only."""
    found = [_SIGNED.match(line) for line in lines]
    bodies = {
        sign: {_NUMBER.sub("#", match["body"]): match["body"] for match in found if match and match["sign"] == sign} for sign in ("-", "+")
    }
    common = bodies["-"].keys() & bodies["+"].keys()
    if not any(bodies["-"][one] != bodies["+"][one] for one in common):
        return []
    signs = [match["sign"] if match else "" for match in found]
    bare = [match["body"] if match else line for match, line in zip(found, lines, strict=True)]
    return [State(sign, _of(bare, signs, {"", sign})) for sign in ("-", "+")]


def _of(lines: Sequence[str], names: Sequence[str], kept: set[str]) -> str:
    """The lines of the states `kept`, on their lines."""
    return "\n".join(line if name in kept else "" for line, name in zip(lines, names, strict=True))
