"""Rewrites names in one list and their values in another into pairs: `(EXIT_REASON, EXIT_QUALIFICATION): 80000021, 0`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Final

from vmfuzz.explain.names.labels import match_label, match_msr
from vmfuzz.explain.text.lines import Line
from vmfuzz.explain.text.numbers import NUMBER
from vmfuzz.patterns import deferred

_NAME: Final = r"[A-Za-z_][\w.]{0,50}(?: [A-Za-z]\w{0,30}){0,3}"
_LISTS: Final = deferred(
    rf"(?:^|.*?[\s(\[{{])(?P<names>{_NAME}(?:\s*[,|]\s*{_NAME})+)\s*[)\]}}]?\s*(?:=|:|->|=>|is|are|was)\s*[(\[{{]?\s*"
    rf"(?P<values>{NUMBER}(?:\s*[,|]\s*{NUMBER})+)\s*[)\]}}]?[.;]?$"
)
_LONGEST: Final = 400


def paired(lines: Iterable[Line]) -> list[Line]:
    """The lines, those that list names and then their values in the form that pairs.py reads."""
    return [replace(line, text=text) if (text := _paired(line.text)) else line for line in lines]


@lru_cache(maxsize=1 << 13)
def _paired(text: str) -> str:
    """A line of two lists as pairs, "" if it is none: as many names as values, and each name that of a field."""
    if ("," not in text and "|" not in text) or len(text) > _LONGEST:
        return ""
    match = _LISTS.match(text)
    if match is None:
        return ""
    names = [name.strip() for name in re.split(r"[,|]", match["names"])]
    values = [value.strip() for value in re.split(r"[,|]", match["values"])]
    known = all(len(match_label(name).fields) == 1 or match_msr(name) is not None for name in names)
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True)) if known and len(names) == len(values) else ""
