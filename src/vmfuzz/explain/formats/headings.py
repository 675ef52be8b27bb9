"""Reads headings: "host state", "sysenter msrs:", the name of a register whose parts stand in the lines below."""

from __future__ import annotations

from typing import Final

from vmfuzz.explain.evidence import OUTCOME, Found
from vmfuzz.explain.formats.meaning import NO_REGISTER, Above, Manner, register_in
from vmfuzz.explain.names.labels import SEGMENTS, area_of, match_label, names_one, normalise
from vmfuzz.explain.text.lines import Line

_AROUND: Final = "*=-# :"
_MARKS: Final = ("*", "=", "-", "#")
_MOST_WORDS: Final = 5


def read_heading(text: str, line: Line, above: Above, manner: Manner, found: Found) -> None:
    """Change what stands above the lines that follow, if the text is a heading; say so if it is a name with something that is no number."""
    label, _, value = map(str.strip, text.strip(_AROUND).partition(":"))
    fields = match_label(label).fields if value else ()
    if not fields:
        words = normalise(text.strip(_AROUND))
        marked = text.startswith(_MARKS)
        if words and len(words if marked else text.split()) <= _MOST_WORDS:
            _head(text, words, line.number, above)
    elif not manner.source and (fields[0] not in OUTCOME or value[0].isdigit()):  # (outcomes/ reads their names)
        found.warn(f"{label}: {value} is not a number; the field counts as not given", line.number)


def _head(text: str, words: tuple[str, ...], line: int, above: Above) -> None:
    area = area_of(word for word in words if word in text.lower())  # ("h" means one before a name only)
    ends = text.rstrip().endswith(":")
    register = register_in(words)
    marked = ends or text.startswith(_MARKS) or "state" in words
    if area and marked and register not in SEGMENTS and not names_one(" ".join(words)):  # (the value of a field may be on the next line)
        above.area, above.register = area, NO_REGISTER
    if ends:
        above.may_be_msrs, above.register_line = "msr" in "".join(words), line
        above.register = (area or above.area or "guest", register) if register else NO_REGISTER
