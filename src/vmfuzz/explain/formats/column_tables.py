"""Reads tables of segment registers: a header that names the parts, and below it a register in each row.

The columns may stand apart by blanks, by the bars of Markdown, by commas, semicolons or tabs. Rows become `CS: sel=..., base=...`, which plain.py reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Final

from vmfuzz.explain.names.labels import PARTS, SEGMENTS, normalise
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

#: What the first column is called.
_OF_REGISTER: Final = frozenset({"segment", "register", "reg", "sreg", "name", "guest", "host"})
#: A column that is called so has access rights, beside other parts.
_ALONE: Final = {"access": "ar", "arb": "ar"}
_TWO_WORDS: Final = deferred(r"\b(access|type) (rights?|bytes?|attr)\b|\bar bytes?\b", re.IGNORECASE)
_RULE: Final = deferred(r"[\s|:+=_-]+$")
_VALUE: Final = deferred(r"(?:0[xX])?[0-9a-fA-F]+[hH]?$")
#: What stands where a register has no such part.
_NO_VALUE: Final = frozenset({"-", "--", "---", "n/a", "na", "–", "—", ""})
#: A row is no longer than this, and no table has more columns.
_LONGEST, _MOST_COLUMNS = 300, 8


def read_columns(lines: Iterable[Line]) -> list[Line]:
    """The lines; each row of such a table names the parts of its register."""
    result = list[Line]()
    header: tuple[str, ...] = ()
    for line in lines:
        found = _header(line.text)
        text = _row(line.text, header) if header and not found else ""
        if found or not (header and (text or _RULE.match(line.text))):
            header = found
        result.append(replace(line, text=text) if text else line)
    return result


@lru_cache(maxsize=1 << 13)
def _ways(text: str) -> tuple[tuple[str, ...], ...]:
    """How a line may be divided into cells, likeliest first."""
    if not text or len(text) > _LONGEST:
        return ()
    for mark in "|,;\t":
        if mark in text:
            body = text.strip().strip("|") if mark == "|" else text
            return (tuple(cell.strip(" `*\"'") for cell in body.split(mark)),)
    joined = _TWO_WORDS.sub(lambda match: match[0].replace(" ", "_"), text)
    return (tuple(joined.split()),)


@lru_cache(maxsize=1 << 13)
def _header(text: str) -> tuple[str, ...]:
    """(area, part of each column after the register's); () if the line is no header."""
    for cells in _ways(text):
        first = normalise(cells[0])
        parts = [_part(cell) for cell in cells]
        area = next((word for word in first if word in ("guest", "host")), "")
        named = not parts[0] and (not first or _OF_REGISTER.issuperset(first))
        parts = parts[1:] if named else parts
        if 2 <= len(parts) <= min(_MOST_COLUMNS, len(set(parts))) and all(parts):
            return area, *parts
    return ()


def _part(cell: str) -> str:
    words = normalise(cell)
    if len(words) != 1:
        return ""
    return words[0] if words[0] in PARTS else _ALONE.get(words[0], "")


@lru_cache(maxsize=1 << 13)
def _row(text: str, header: tuple[str, ...]) -> str:
    """The row as a register with its parts; "" if the line is none, or has not as many cells as the header has columns."""
    area, *parts = header
    for cells in _ways(text):
        head = normalise(cells[0].rstrip(":="))
        registers = [word for word in head if word in SEGMENTS]
        if len(registers) != 1 or not {"guest", "host", "segment", registers[0]}.issuperset(head) or len(cells) != len(parts) + 1:
            continue
        if not all(_VALUE.match(cell) or cell.lower() in _NO_VALUE for cell in cells[1:]):
            continue
        whose = next((word for word in head if word in ("guest", "host")), area)
        pairs = [f"{part}={cell}" for part, cell in zip(parts, cells[1:], strict=True) if cell.lower() not in _NO_VALUE]
        return f"{whose} {registers[0]}: {', '.join(pairs)}".strip() if pairs else ""
    return ""
