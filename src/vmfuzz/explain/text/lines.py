"""The lines of a text, what loggers and posters put before them taken off, so that each begins with what the program printed."""

from __future__ import annotations

from typing import Final, NamedTuple

from vmfuzz.explain.text.decoration import undecorated
from vmfuzz.patterns import deferred

#: Control characters, and what stands for bytes that are no UTF-8.
_NO_TEXT: Final = deferred(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
#: What only the end of a line begins with: of one with "LDTR:" or "IDTR Limit:", and of one with several numbers.
_END_OF_LINE: Final = deferred(r"(?i:TR)\b|\s*[0-9a-fA-F]+(?:[ :]+[0-9a-fA-F]+)+\s*$")


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
    """The lines of a text that may not be whole: the first, if the text seems to begin within it, and the last, if it has no line end.

    `first`: the number of the first line, torn or not.
    """

    torn: Line | None = None
    unfinished: Line | None = None
    first: int = 0


def ends_of(lines: list[Line], whole: bool) -> Ends:
    """The ends of a text; `whole`: its last line has a line end."""
    if not lines:
        return Ends()
    first, *others = lines
    prefixed = [line.raw.strip() != line.text for line in others]
    habit = len(prefixed) > 1 and (all(prefixed[:2]) or sum(prefixed) * 5 >= len(prefixed) * 4)
    lacks_prefix = habit and first.raw.strip() == first.text
    is_end = _END_OF_LINE.match(first.raw) and not any(_END_OF_LINE.match(line.raw) for line in others)
    return Ends(first if lacks_prefix or is_end else None, None if whole else lines[-1], first.number)
