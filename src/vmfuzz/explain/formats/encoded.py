"""Reads lines that are of one form as a whole: a name with its encoding and value, an MSR, a register with its parts, names set apart by blanks."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING
from vmfuzz.explain.dump import ALL, Definition, half
from vmfuzz.explain.formats.meaning import Where
from vmfuzz.explain.formats.notes import Notes
from vmfuzz.explain.formats.shapes import (
    ENCODED,
    ENCODINGS_OF,
    LIST_OF_PARTS,
    MSR_LINE,
    NAMED_ENCODING,
    SLASHED,
    SPACED,
    whole_line_forms,
)
from vmfuzz.explain.names.labels import Match, match_label, match_msr
from vmfuzz.explain.text.numbers import NUMBER, read_number
from vmfuzz.hexadecimal import encoded, hexadecimal
from vmfuzz.patterns import deferred

_LAST_NAME: Final = deferred(r"[@:.]+|->")
#: Fewer digits than this are not padding that shows a number to be hexadecimal.
_PADDED: Final = 4
#: Encodings below this are those of a few fields only.
_SMALL: Final = 0x800
#: A limit of which four digits are printed may have been cut to them.
_CUT_LIMIT: Final = ALL - 0xFFFF0000


@dataclass(frozen=True)
class Disagreement:
    """A line whose name and encoding are not of the same field. `name_first`: the author believes in the name."""

    name: str
    field: str
    encoding: int
    written: str
    value: int
    line: int
    name_first: bool


class EncodedLines:
    """Reads such lines; `agreeing` counts those that give a name and the encoding that the field has."""

    def __init__(self, notes: Notes) -> None:
        self.notes = notes
        self.agreeing = 0
        self.disagreeing: list[Disagreement] = []
        self._readers: dict[str, Callable[[re.Match[str]], bool]] = {
            ENCODINGS_OF.pattern: self._encodings_of,
            MSR_LINE.pattern: self._msr,
            NAMED_ENCODING.pattern: self._named_encoding,
            ENCODED.pattern: self._encoding,
            LIST_OF_PARTS.pattern: self._list_of_parts,
            SPACED.pattern: self._spaced,
            SLASHED.pattern: self._slashed,
        }

    def read(self, text: str) -> bool:
        """Read a line; returns whether it is of one of these forms."""
        return any(self._readers[match.re.pattern](match) for match in whole_line_forms(text))

    def define(self, name: str, field: str, encoding: int, line: int = 0) -> None:
        """Note a name and its encoding."""
        self.notes.found.definitions.append(Definition(name, field, encoding, line or self.notes.line))

    def _msr(self, match: re.Match[str]) -> bool:
        self.notes.msr(match["name"], match["value"], match["second"])
        return True

    def _spaced(self, match: re.Match[str]) -> bool:
        """`GUEST_CR0   0x80000031`: blanks in the place of a separator; a number must show that it is hexadecimal."""
        name, value = match["name"], match["value"]
        by_default = self.notes.manner.hex_by_default
        marked = re.match(r"0[xX]|.*[hH]$", value) or (len(value) >= _PADDED and (by_default or value.startswith("0")))
        meant = match_label(name, area=self.notes.above.area)
        if not marked or len(meant.fields) != 1 or (meant.assumed_guest and match["gap"] == " "):
            return match_msr(name) is not None and self.notes.store(name, value)
        return self.notes.store(name, value)

    def _named_encoding(self, match: re.Match[str]) -> bool:
        """`GUEST_CR0 (0x6800) = 0x80000031`."""
        named = _meant(match["name"])
        value = read_number(match["value"], self.notes.manner.hex_by_default)
        if named is None or not named.fields or value is None:
            return False
        return self._note(match["name"], named, match["encoding"], match["value"], value, name_first=True)

    def _encoding(self, match: re.Match[str]) -> bool:
        """`6800 GUEST_CR0: 80000031`, `(0x6800) = 0x80000031`."""
        digits, name = match["encoding"] or match["bare"], match["name"]
        if not name and match["sep"].isspace() and "0x" not in match.group(0).lower() and not self.notes.manner.encodings_first:
            return False
        encoding, named = int(digits, 16), _meant(name) if name else None
        value = read_number(match["value"], True)
        small = named is not None and not named.fields and encoding < _SMALL  # before a name that means no field it is no encoding
        if encoding & ~1 not in BY_ENCODING or small or value is None:
            return False
        return self._note(name, named, digits, match["value"], value, name_first=False)

    def _note(self, name: str, named: Match | None, digits: str, written: str, value: int, name_first: bool) -> bool:
        encoding = int(digits, 16)
        field = BY_ENCODING.get(encoding & ~1)
        if named is not None and len(named.fields) == 1:
            if field is not None and named.fields[0] == field.name:
                self.agreeing += 1
                if name_first:
                    self.define(name, named.fields[0], encoding)
            elif len(digits) < 3 and encoding < 0x100:
                return False  # a number in brackets that is no encoding
            else:
                self.disagreeing.append(Disagreement(name, named.fields[0], encoding, written, value, self.notes.line, name_first))
                return True
        if field is not None:
            self._put_encoded(encoding, value, name or encoded(encoding), written)
        return True

    def _put_encoded(self, encoding: int, value: int, label: str, written: str, line: int = 0) -> None:
        name = BY_ENCODING[encoding & ~1].name
        where = Where(line or self.notes.line)
        self.notes.put(name, value << 32 if encoding & 1 else value, label, where, written, known=half(encoding))

    def _encodings_of(self, match: re.Match[str]) -> bool:
        """`GUEST_CS_SELECTOR/BASE encodings: 0x802, 0x6808`."""
        labels = match["names"].split("/")
        prefix = labels[0].rpartition("_")[0].rpartition("_")[0]
        for label, value in zip(labels, re.findall(r"0x[0-9a-fA-F]+", match["values"]), strict=False):
            meant = match_label(label)
            if label != labels[0] and prefix and meant.assumed_guest:
                label = f"{prefix}_{label}"
                meant = match_label(label)
            if len(meant.fields) == 1:
                self.define(label, meant.fields[0], int(value, 16))
        return True

    def _slashed(self, match: re.Match[str]) -> bool:
        """`GUEST_DS_BASE/LIMIT/AR = 0 / 0xFFFFFFFF / 0xC093` and `HOST_SS/DS/ES = 0x10`."""
        labels = match["names"].split("/")
        values = [value.strip() for value in match["values"].split("/")]
        if len(values) not in (1, len(labels)) or not match_label(labels[0]).fields:
            return False
        words = labels[0].split("_")
        several = len(values) > 1
        for index, label in enumerate(labels):
            full = label if not index else "_".join([*words[:-1], label])
            written = values[index if several else 0]
            number = read_number(written, self.notes.manner.hex_by_default)
            meant = match_label(full, area=self.notes.above.area)
            if number is None or len(meant.fields) != 1:
                self.notes.found.warn(f"{full} = {written} cannot be read", self.notes.line)
                continue
            narrow = several and _is_limit(full) and re.fullmatch(r"0x[0-9a-fA-F]{4}", written)
            self.notes.put(meant.fields[0], number, full, None, written, known=_CUT_LIMIT if narrow else ALL)
        return True

    def _list_of_parts(self, match: re.Match[str]) -> bool:
        """`GUEST_ES/FS/GS = 0x10, base 0, limit 0xffffffff, AR 0xc093`."""
        first, *others = match["label"].split("/")
        for label in [first, *(f"{first.rpartition('_')[0]}_{other}" for other in others)]:
            self.notes.store(label, match["value"])
            for part, value in re.findall(rf"([A-Za-z]+)\s*[:=]?\s*({NUMBER})", match["rest"]):
                self.notes.store(part, value)
        return True

    def finish(self) -> None:
        """Decide what only the whole text can tell: so many wrong encodings are no encodings."""
        for one in self.disagreeing:
            if len(self.disagreeing) > self.agreeing:
                text = f"{one.name} stands with {hexadecimal(one.encoding)} and {one.written}; which is the value cannot be told, so none is used"
                self.notes.found.warn(text, one.line)
                continue
            self.define(one.name, one.field, one.encoding, one.line)
            if one.name_first:  # the author believes in the name; what the encoding makes of it is judged apart
                self.notes.put(one.field, one.value, one.name, Where(one.line), one.written)
                continue
            target = BY_ENCODING[one.encoding & ~1].name
            text = f"{encoded(one.encoding)} is {target}, but the line says {one.name}; the encoding is believed"
            self.notes.found.warn(text, one.line)
            self._put_encoded(one.encoding, one.value, one.name, one.written, one.line)


def _meant(name: str) -> Match:
    """What a name beside an encoding means; XMHF puts where it prints before the name: `@before02@guest_CR0`."""
    named = match_label(name)
    return named if named.fields else match_label(_LAST_NAME.split(name)[-1])


def _is_limit(label: str) -> bool:
    """Whether this is the limit of a segment, which a descriptor table has not."""
    return label.lower().endswith("limit") and "dtr" not in label.lower().replace("ldtr", "")
