"""The lines of a text, what loggers and posters put before them taken off, so that each begins with what the program printed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vmfuzz.explain.text.decoration import undecorated
from vmfuzz.patterns import deferred

#: Fewer lines than this show no habit.
_ENOUGH: Final = 2
#: Control characters, and what stands for bytes that are no UTF-8.
_NO_TEXT: Final = deferred(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
_CALLER: Final = deferred(r"^[^A-Za-z]*\[\s*\d+\.\d+\]\s*\[\s*([TC]\d+)\]")


@dataclass(frozen=True)
class Line:
    """A line without its prefixes: its number in the text, its indentation, and who logged it (dmesg caller id, "" if not shown)."""

    number: int
    text: str
    indent: int
    caller: str
    raw: str


@lru_cache(maxsize=1 << 13)
def _indent(body: str) -> int:
    expanded = body.expandtabs(8)
    return len(expanded) - len(expanded.lstrip())


def lines_of(text: str) -> list[Line]:
    """The lines of a mended text without prefixes; empty lines are left out."""
    result = []
    raws = text.split("\n")
    for number, (raw, body) in enumerate(zip(raws, undecorated(raws), strict=True), 1):
        if body and not body.isspace():
            caller = _CALLER.match(raw)
            result.append(Line(number, body.strip(), _indent(body), caller[1] if caller else "", raw))
    return result


#: First lines that are the end of a line: of one with "LDTR:" or "IDTR Limit:", and of one with several numbers.
_END_OF_NAME: Final = deferred(r"TR\b", re.IGNORECASE)
_PAIR: Final = deferred(r"[A-Za-z][\w .]{0,40}[:=] *(?:0x)?[0-9a-fA-F]+$")
_NUMBERS: Final = deferred(r"[0-9a-fA-F]+(?:[ :]+[0-9a-fA-F]+)+$")


def garbled(lines: list[Line]) -> frozenset[int]:
    """The numbers of lines with characters that no program prints; none where nearly all lines have some, as logs of terminals do."""
    found = frozenset(line.number for line in lines if not line.raw.isascii() or not line.raw.isprintable() if _NO_TEXT.search(line.raw))
    return found if len(found) * 4 <= len(lines) * 3 else frozenset()


@dataclass(frozen=True)
class Ends:
    """The lines of a text that may not be whole: the first, if the text seems to begin within it, and the last, if it has no line end."""

    torn: Line | None = None
    unfinished: Line | None = None


def begins_within(lines: list[Line]) -> Line | None:
    """The first line of a text if it seems to have lost its beginning: the prefix that most others have, or most of its name."""
    if not lines:
        return None
    first, *others = lines
    if not others:
        return first if _END_OF_NAME.match(first.raw) else None
    logged = sum(line.raw.strip() != line.text for line in others)
    below = [line for line in others[:_ENOUGH] if line.raw.strip() != line.text and _PAIR.match(line.text)]
    habit = logged * 5 >= len(others) * 4 or (len(below) == _ENOUGH and _PAIR.match(first.text))
    lost = first.raw.strip() == first.text and len(others) >= _ENOUGH and habit
    numbers = _NUMBERS.match(first.text) and not any(_NUMBERS.match(line.text) for line in others)
    return first if lost or numbers or _END_OF_NAME.match(first.text) else None


def ranges(numbers: Iterable[int]) -> str:
    """Line numbers as a person writes them: "lines 3 to 40, 42"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)
    return f"line {shown}" if shown.isdecimal() else f"lines {shown}"
