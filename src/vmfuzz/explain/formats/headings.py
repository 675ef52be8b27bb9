"""Reads headings: "host state", "sysenter msrs:", the name of a register whose parts stand in the lines below."""

from __future__ import annotations

from typing import Final

from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.meaning import Above, Manner
from vmfuzz.explain.names.labels import SEGMENTS, match_label, normalise
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

#: What stands behind the name of a member in program text: its type, or a call.
_OF_PROGRAM: Final = deferred(r"[&*]?(?:u(?:8|16|32|64|128|size)|u?int\d*(?:_t)?|bool)\b|[A-Za-z_][\w:.]*(?:::<\w+>)?!?\(")
_AROUND: Final = "*=-# :"
#: Fields in the place of whose number programs print its name.
OUTCOME_FIELDS: Final = frozenset({"exit_reason", "vm_instruction_error"})
_MARKS: Final = ("*", "=", "-", "#")
_MOST_WORDS: Final = 5


def read_heading(text: str, line: Line, above: Above, manner: Manner, found: Found) -> None:
    """Change what stands above the lines that follow, if the text is a heading."""
    label, _, value = text.strip(_AROUND).partition(":")
    if value.strip() and (fields := match_label(label).fields):
        of_outcome = fields[0] in OUTCOME_FIELDS and not value.strip()[0].isdigit()  # outcomes/ reads their names
        if (
            not of_outcome and not manner.source and not _OF_PROGRAM.match(value.strip())
        ):  # (else a member of a structure, or what a program puts into it)
            found.warn(f"{label.strip()}: {value.strip()} is not a number; the field counts as not given", line.number)
        return
    words = normalise(text.strip(_AROUND))
    marked = text.startswith(_MARKS)
    if not words or len(words) > _MOST_WORDS or (len(text.split()) > _MOST_WORDS and not marked):
        return
    ends = text.rstrip().endswith(":")
    if marked or ends or "state" in words:
        _read_area(text, words, above)
    if ends:
        _read_name(words, line, above, _own_area(text, words, above))


def _areas(text: str, words: tuple[str, ...]) -> set[str]:
    """The areas that a heading names ("h" means one before a name only)."""
    return {word for word in words if word in ("guest", "host") and word in text.lower()}


def _own_area(text: str, words: tuple[str, ...], above: Above) -> str:
    """The area of a heading of one register, which is over with its parts."""
    areas = _areas(text, words)
    return next(iter(areas)) if len(areas) == 1 else above.area


def _read_area(text: str, words: tuple[str, ...], above: Above) -> None:
    areas = _areas(text, words)
    segment = any(word in SEGMENTS for word in words)
    alone = len(match_label(" ".join(words)).fields) == 1  # a field's name whose value is on the next line is no heading
    if len(areas) == 1 and not alone and not segment:
        above.area = areas.pop()
        above.register = ("", "")
    elif "ctl" in words:
        above.area = ""


def _read_name(words: tuple[str, ...], line: Line, above: Above, area: str) -> None:
    above.heading = line.indent, words
    if any(word.startswith("sysenter") for word in words):
        above.sysenter_indent, above.sysenter_seen = line.indent, set()
    segment = next((word for word in words if word in SEGMENTS), "")
    if segment:
        above.register, above.register_line = (area or "guest", segment), line.number
