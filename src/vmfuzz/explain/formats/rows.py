"""Reads lines of one name, or of several between slashes, and their numbers: rows of tables, a name with its encoding and value, an MSR."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from vmfuzz.arch.fields import BY_ENCODING
from vmfuzz.explain.dump import ALL, SMALLEST_ENCODING, Definition, half, may_be_meant
from vmfuzz.explain.formats.notes import Notes
from vmfuzz.explain.formats.shapes import Pair
from vmfuzz.explain.names.labels import match_label, names_one
from vmfuzz.explain.text.numbers import NUMBER, read_number
from vmfuzz.hexadecimal import encoded, hexadecimal
from vmfuzz.patterns import deferred

#: An encoding has at least this many digits, so that it cannot be a count; in brackets behind a name fewer will do.
_ENCODING: Final = r"(?:0[xX][0-9a-fA-F]{3,8}|[0-9a-fA-F]{4}[hH]?)"
_BEHIND: Final = r"(?:0[xX][0-9a-fA-F]{1,8}|[0-9a-fA-F]{3,4}[hH]?)"
_NAME: Final = r"[A-Za-z_](?:[\w@./>-]|:+(?=\w)| (?=[A-Za-z]))*?"
#: `GUEST_CR0 (0x6800) = 0x80000031`, `4802 GUEST_CS_LIMIT: ffff`, `(0x4802) @before@guest_CS_limit = 0xffff`, `0x4802 = 0xffff`,
#: `[GUEST_CR0] 0x80000031`, `486 IA32_VMX_CR0_FIXED0 0x80000021`; a capability MSR may come in halves, `0x16 / 0x7f`.
_ROW: Final = deferred(
    rf"(?:[(\[<]?\s*+(?P<before>{_ENCODING})\b(?:\s*+[)\]>])?)?"
    rf"(?:[\s:=-]*+[(\[<@.]?(?P<name>{_NAME})[)\]>]?)?\s*+"
    rf"(?:[(\[]\s*+(?P<behind>{_BEHIND})\s*+[)\]]\s*+)?"
    rf"(?:(?P<sign>=>|->|[:=]+)\s*+)?(?<!\w)"
    rf"(?P<value>{NUMBER})(?:\s*+/\s*+(?P<high>{NUMBER}))?\s*+(?:[(#;<!].*)?$"
)
#: `GUEST_DS_BASE/LIMIT/AR = 0 / 0xFFFFFFFF / 0xC093`, `GUEST_DS_AR/ES_AR encodings: 0x4818, 0x481a`, `HOST_SS/DS = 0x10`,
#: `GUEST_ES/FS/GS = 0x10, base 0, limit 0xffffffff, AR 0xc093`
_SEVERAL: Final = deferred(
    rf"(?<!\S)(?P<names>\w+(?:/\w+)+)(?P<encodings>\s+encodings?)?\s*[:=]\s*(?P<values>{NUMBER}(?:\s*[/,]\s*{NUMBER})*)"
    rf"(?P<parts>(?:,\s*[A-Za-z]+[\s:=]+{NUMBER})*)\s*(?:[(#;<!.].*)?$"
)
_BETWEEN_VALUES: Final = deferred(r"\s*[/,]\s*")
_PART: Final = deferred(rf"([A-Za-z]+)[\s:=]+({NUMBER})")
#: What stands between the cells of a row.
_BETWEEN: Final = (r"\|", r"\t", ";", ",", r"\s{2,}|\s*\.{2,}\s*")
_CELL: Final = deferred(r"[\w .()/-]+")
_LAST_NAME: Final = deferred(r"[@:.]+|->")
#: Limits that are printed with four digits although they have more.
_CUT: Final = deferred(r"guest_(?![gi]dtr)\w+_limit")
_CUT_DIGITS: Final = deferred(r"0x[0-9a-fA-F]{4}")
_CUT_LIMIT: Final = ALL - 0xFFFF0000


class _Wrong(NamedTuple):
    """A name beside another field's encoding, and the value of one of the two: that of the name, if its author wrote it first."""

    definition: Definition
    value: int
    written: str
    name_first: bool


class Rows:
    """Reads such lines; `right` counts those that give a name and the encoding that its field has."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.right = 0
        self.wrong: list[_Wrong] = []

    def read(self, text: str) -> bool:
        """Read a line; returns whether it is one."""
        return self._cells(cells_of(text)) or (text.startswith("|") and "=" not in text) or self._row(text) or self._several(text)

    def _cells(self, cells: Sequence[str]) -> bool:
        """Read a row of which one cell names a field, and others are numbers."""
        label = next((cell for cell in cells if names_one(cell)), "")
        numbers = [cell for cell in cells if cell != label and read_number(cell, True) is not None]
        if not label or not numbers:
            return False
        if len(numbers) == 2 and self._encoded(label, numbers[0], numbers[1], cells.index(label) < cells.index(numbers[0])):
            return True
        if len({read_number(number, True) for number in numbers}) > 1:
            text = f"{label} stands with several numbers; which is the value cannot be told, so none is used"
            self.notes.found.warn(text, self.notes.line)
            return True
        return self.notes.store(Pair(label, numbers[0]))

    def _row(self, text: str) -> bool:
        row = _ROW.match(text)
        if not row:
            return False
        name, encoding, value = row["name"] or "", row["before"] or row["behind"], row["value"]
        if self.notes.msr(name, value, row["high"]):
            return True
        if row["high"]:
            return False  # (only an MSR has halves)
        if encoding:
            two_numbers = not (name or row["sign"])  # these may be anything, unless many lines are of them
            return (not two_numbers or self.notes.manner.encodings_first) and self._encoded(name, encoding, value, not row["before"])
        if row["sign"] or not (value[:2] in ("0x", "0X") or value[-1] in "hH"):
            return False  # (a blank in the place of a sign may stand before any number)
        meant = match_label(name, area=self.notes.area)
        return len(meant.fields) == 1 and not meant.assumed_guest and self.notes.store(Pair(name, value))

    def _encoded(self, name: str, digits: str, written: str, name_first: bool) -> bool:
        """Note the value of a field that is named by an encoding, or by both; returns False where the digits are no encoding."""
        encoding = read_number(digits, True)
        value = read_number(written, self.notes.manner.hex_by_default if name_first else True)
        if encoding is None or value is None:
            return False
        name = name if match_label(name).fields else _LAST_NAME.split(name)[-1]
        meant, field = match_label(name), BY_ENCODING.get(encoding & ~1)
        if len(meant.fields) != 1:
            unknown = name and not meant.fields and name_first  # (the author believes in the name)
            if field is None or unknown or (name and encoding < SMALLEST_ENCODING):
                return False
        elif field is not None and field.name == meant.fields[0]:
            self.right += 1
            self._define(Definition(name, field.name, encoding - meant.high, self.notes.line))
        else:
            return self._keep_wrong(_Wrong(Definition(name, meant.fields[0], encoding, self.notes.line), value, written, name_first))
        self._put(encoding, value, name or encoded(encoding), written)
        return True

    def _keep_wrong(self, one: _Wrong) -> bool:
        """Keep a name with what may be meant as its field's encoding; before a name stands only what a field can be read with."""
        field, encoding = one.definition.field, one.definition.encoding
        if not may_be_meant(field, encoding) or not (one.name_first or encoding & ~1 in BY_ENCODING):
            return False
        self.wrong.append(one)
        return True

    def _define(self, definition: Definition) -> None:
        self.notes.found.definitions.append(definition)

    def _put(self, encoding: int, value: int, label: str, written: str) -> None:
        value = value << 32 if encoding & 1 else value
        self.notes.put(BY_ENCODING[encoding & ~1].name, value, label, written, known=half(encoding))

    def finish(self) -> None:
        """Decide what only the whole text can tell: so many wrong encodings are no encodings."""
        for definition, value, written, name_first in self.wrong:
            name, encoding = definition.name, definition.encoding
            self.notes.line = line = definition.line
            if len(self.wrong) > self.right:
                text = f"{name} stands with {hexadecimal(encoding)} and {written}; which is the value cannot be told, so none is used"
                self.notes.found.warn(text, line)
                continue
            self._define(definition)
            if name_first:  # what the encoding makes of it is judged apart
                self.notes.put(definition.field, value, name, written)
                continue
            target = BY_ENCODING[encoding & ~1].name
            self.notes.found.warn(f"{encoded(encoding)} is {target}, but the line says {name}; the encoding is believed", line)
            self._put(encoding, value, name, written)

    def _several(self, text: str) -> bool:
        """Read a line of several names; a number that stands alone is that of all of them, and so are the parts behind it."""
        several = _SEVERAL.search(text) if "/" in text else None
        if several is None:
            return False
        names, values = _completed(several["names"].split("/")), _BETWEEN_VALUES.split(several["values"])
        if len(values) not in (1, len(names)) or not match_label(names[0]).fields:
            return False
        for name, written in zip(names, values * (len(names) // len(values)), strict=True):
            meant = match_label(name, area=self.notes.area).fields
            number = read_number(written, self.notes.manner.hex_by_default)
            if number is None or len(meant) != 1:
                self.notes.found.warn(f"{name} = {written} cannot be read", self.notes.line)
            elif several["encodings"]:
                self._define(Definition(name, meant[0], number, self.notes.line))
            elif several["parts"]:
                for part, value in ((name, written), *_PART.findall(several["parts"])):
                    self.notes.store(Pair(part, value))
            else:
                cut = _CUT.fullmatch(meant[0]) and _CUT_DIGITS.fullmatch(written)
                self.notes.put(meant[0], number, name, written, known=_CUT_LIMIT if cut else ALL)
        return True


def _completed(names: list[str]) -> list[str]:
    """Full names: each takes the place of the last words of the first one."""
    words = names[0].split("_")
    return [names[0], *("_".join([*words[: -1 - name.count("_")], name]) for name in names[1:])]


@lru_cache(maxsize=1 << 13)
def cells_of(text: str) -> tuple[str, ...]:
    """The cells of a row of a table; () if the line is none."""
    if text.startswith("|"):
        return tuple(cell.strip(" `*") for cell in text.strip("|").split("|"))
    for mark in _BETWEEN:
        cells = tuple(cell for part in re.split(mark, text) if (cell := part.strip(" `*\"'")))
        if len(cells) > 1 and all(map(_CELL.fullmatch, cells)) and any(map(names_one, cells)):
            return cells
    return ()
