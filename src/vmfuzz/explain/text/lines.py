"""The lines of a text, what loggers and posters put before them taken off, so that each begins with what the program printed."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from vmfuzz.explain.text.decoration import undecorated
from vmfuzz.patterns import deferred

#: Control characters, and what stands for bytes that are no UTF-8.
_NO_TEXT: Final = deferred(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
#: What only the end of a line begins with: of one with "LDTR:" or "IDTR_LIMIT", or with "ACCESS_RIGHTS".
_END_OF_LINE: Final = deferred(r"TR(?![^\W_])|SS.?RIGHTS", re.IGNORECASE)


class Line(NamedTuple):
    """A line without its prefixes: its number in the text, and its indentation. `raw`: with them."""

    number: int
    text: str
    indent: int
    raw: str


def lines_of(text: str) -> list[Line]:
    """The lines of a mended text without prefixes; empty lines are left out."""
    result = []
    raws = text.split("\n")
    for number, (raw, body) in enumerate(zip(raws, undecorated(raws), strict=True), 1):
        if bare := body.strip():
            expanded = body.expandtabs()
            result.append(Line(number, bare, len(expanded) - len(expanded.lstrip()), raw))
    return result


def garbled(lines: list[Line]) -> frozenset[int]:
    """The numbers of lines with characters that no program prints; none where nearly all lines have some, as logs of terminals do."""
    found = frozenset(line.number for line in lines if not (line.raw.isascii() and line.raw.isprintable()) and _NO_TEXT.search(line.raw))
    return found if len(found) * 4 <= len(lines) * 3 else frozenset()


class Ends(NamedTuple):
    """The lines of a text that may not be whole: the first, if it is `torn`, and the last, if it has no line end. `first`: the number of the first."""

    first: int = 0
    torn: bool = False
    unfinished: Line | None = None


def ends_of(lines: list[Line], whole: bool) -> Ends:
    """The ends of a text; `whole`: its last line has a line end. It seems to begin within its first line if that lacks the prefix of the next two."""
    if not lines:
        return Ends()
    first, *others = lines
    lacks_prefix = [line.raw.strip() != line.text for line in lines[:3]] == [False, True, True]
    is_end = _END_OF_LINE.match(first.raw) and not any(_END_OF_LINE.match(line.raw) for line in others)
    return Ends(first.number, lacks_prefix or bool(is_end), None if whole else lines[-1])
