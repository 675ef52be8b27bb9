"""Completes the names of control words that only the pin-based controls beside them on the line tell: `Pin: 16 Proc: 401e172 Exit: 36fff Entry: 11ff`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Final

from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_PIN: Final = deferred(r"\bpin(?:[ _-]?based)?\s{0,20}[:=]", re.IGNORECASE)
_OTHERS: Final = deferred(r"\b(?P<word>proc|cpu|exit|entry)(?=\s{0,20}[:=]\s{0,20}[0-9a-f])", re.IGNORECASE)
#: So many of the other words make a line one of control words: a "pin" alone may be one of a device.
_FEWEST: Final = 2


def completed(lines: Iterable[Line]) -> list[Line]:
    """The lines, those of control words with each name completed ("Exit" to "Exit controls")."""
    return [replace(line, text=text) if (text := _completed(line.text)) != line.text else line for line in lines]


@lru_cache(maxsize=1 << 13)
def _completed(text: str) -> str:
    if "pin" not in text.lower() or not _PIN.search(text):
        return text
    words = {match["word"].lower() for match in _OTHERS.finditer(text)}
    return _OTHERS.sub(r"\g<word> controls", text) if len(words) >= _FEWEST else text
