"""Reads "name: value" text: printk dumps of hobby hypervisors, lists of encodings with values, tables, CSV, code fragments, write calls.

A label may name its field alone (`GUEST_CS_AR_BYTES`), or with the help of what stands above it: a register with its parts in lines of their
own ("rights", "lim", "base"), a heading ("host state", "sysenter msrs:"), the beginning of its line ("entry state: intr=...").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.explain.dump import Definition, half
from vmfuzz.explain.formats.plain_forms import (
    ENCODED,
    ENCODINGS_OF,
    FIELD_VALUE,
    FLAGS_LEFT,
    GOES_ON,
    LIST_OF_PARTS,
    MSR_LINE,
    NAMED_ENCODING,
    OF_PROCESS,
    SAME_IN_HEX,
    SLASHED,
    SPACED,
    STATEMENT,
)
from vmfuzz.explain.formats.plain_lines import (
    columns_of,
    in_sentence,
    is_of_guest,
    names_field,
    outline_of,
    pairs_in,
    row_of,
    whole_line_forms,
)
from vmfuzz.explain.formats.plain_program import ProgramReader
from vmfuzz.explain.formats.plain_states import says_failure
from vmfuzz.explain.formats.plain_store import PART_WORDS
from vmfuzz.explain.names.labels import SEGMENTS, best_label, ending_name, match_label, match_msr, named_member, normalise
from vmfuzz.explain.text.lines import Line
from vmfuzz.explain.text.numbers import NUMBER, read_number

_MAX_LABEL_WORDS: Final = 7
_OF_SYSENTER: Final = re.compile(r"(?:(?=cs)|[er](?=[is]p))(cs|[is]p)\b", re.IGNORECASE)
_LAST_NAME: Final = re.compile(r"[@:.]+|->")
#: What stands behind the name of a member in program text: its type, or a call.
_OF_PROGRAM: Final = re.compile(r"[&*]?(?:u(?:8|16|32|64|128|size)|u?int\d*(?:_t)?|bool)\b|[A-Za-z_][\w:.]*(?:::<\w+>)?!?\(")
#: The area that a label names for all that stand behind it on the line: `host CS=0x38 SS=0x30`.
_OWN_AREA: Final = re.compile(r"(guest|host) ", re.IGNORECASE)
_LETTERS: Final = re.compile(r"[^\W\d_]{2}")
_PIN: Final = re.compile(r"\bpin(?:[ _-]?based)?\s*[:=]", re.IGNORECASE)
#: So many lines below the pin-based controls are beside them; and no exit or entry controls are smaller than this.
_NEAR, _LEAST_CONTROLS = 6, 0x1000
#: A word of letters a to f is a number only where it is long.
_SURE_NUMBER: Final = re.compile(r".*\d|.{4}")
#: No row of nothing but such numbers is one of values, where all of them are encodings.
_LEAST_ENCODING: Final = 0x800
#: Fewer digits than this are not padding that shows a number to be hexadecimal.
_PADDED: Final = 4


class PlainReader(ProgramReader):
    """Reads lines one after the other; knows the headings above and the register last named."""

    def read(self, line: Line, in_code: bool = False) -> None:
        """Read one line; of program text (`in_code`) only calls that write a field count."""
        self.line = line.number
        if says_failure(line.text):
            self.failed = self.line
        if self.sysenter_indent >= 0 and line.indent <= self.sysenter_indent and not self._is_next_of_sysenter(line.text):
            self.sysenter_indent = -1
        text, opens, closes, comment, fails, code = outline_of(line.text, self.source)
        self.after_failure, failed = fails, self.after_failure
        if OF_PROCESS.search(text) or self._call(text + "," * line.text.endswith(",")):
            return
        if opens and not in_code:
            self._heading(opens, line)
        elif closes:
            self.register = ("", "")
        elif (self.source and not self.named_only and self._statement(text)) or in_code or (self.source and STATEMENT.match(text)):
            return
        elif FLAGS_LEFT.match(text) and (failed or (text[0] in "#/;" and not self.area)):
            self.dump.warn(f"line {self.line}: these may be the flags that a VMREAD left; they are not used as the guest's")
        elif comment:
            if match_label(comment[0]).fields and not match_label(comment[0]).assumed_guest:
                self._store(*comment)
        elif failed and not text[:1].isupper():
            return  # what a program says of a VMREAD that failed
        elif not (self._special(text) or self._separated(text) or code):
            self._pairs(text, line)

    def _is_next_of_sysenter(self, text: str) -> bool:
        """Whether the group of SYSENTER's registers goes on, in a text whose indentation is lost: each of them comes once, at once."""
        found = _OF_SYSENTER.match(text)
        if not self.flat or not found or found[1].lower() in self.sysenter_seen:
            return False
        self.sysenter_seen.add(found[1].lower())
        return True

    # Forms of a whole line

    def _special(self, text: str) -> bool:
        for match in whole_line_forms(text):
            if match.re is ENCODINGS_OF:
                self._encodings_of(match["names"], re.findall(r"0x[0-9a-fA-F]+", match["values"]))
                return True
            if match.re is MSR_LINE:
                self._msr(match["name"], match["value"], match["second"])
                return True
            if match.re in (NAMED_ENCODING, ENCODED) and self._encoded(match, needs_name=match.re is NAMED_ENCODING):
                return True
            if match.re is LIST_OF_PARTS:
                self._list_of_parts(match)
                return True
            if match.re is FIELD_VALUE:
                self._store(match["name"], match["value"])
                return True
            if match.re is SPACED and self._spaced(match["name"], match["gap"], match["value"]):
                return True
            if match.re is SLASHED and self._slashed(match["names"], match["values"]):
                return True
        return False

    def _spaced(self, name: str, gap: str, value: str) -> bool:
        """`GUEST_CR0   0x80000031`: blanks in the place of a separator; a number must show that it is hexadecimal."""
        marked = re.match(r"0[xX]|.*[hH]$", value) or (len(value) >= _PADDED and (self.hex_by_default or value.startswith("0")))
        match = match_label(name, area=self.area)
        if not marked or len(match.fields) != 1 or (match.assumed_guest and gap == " "):
            return match_msr(name) is not None and self._store(name, value)
        return self._store(name, value)

    def _encoded(self, match: re.Match[str], needs_name: bool) -> bool:
        digits = match["encoding"] or ("" if needs_name else match["bare"])
        encoding, name = int(digits, 16), match["name"]
        named = match_label(name) if name else None
        if named and not named.fields:  # (XMHF puts where it prints before the name: `@before02@guest_CR0`)
            named = match_label(_LAST_NAME.split(name)[-1])
        if needs_name and not (named and named.fields):
            return False
        if not name and not needs_name and match["sep"].isspace() and "0x" not in match.group(0).lower() and not self.encodings_first:
            return False
        field = BY_ENCODING.get(encoding & ~1)
        if field is None and not needs_name:
            return False
        if named is not None and not named.fields and encoding < 0x800:
            return False  # a small number before a name that means no field is no encoding
        value = read_number(match["value"], True if not needs_name else self.hex_by_default)
        if value is None:
            return False
        if named and len(named.fields) == 1:
            if field is not None and named.fields[0] == field.name:
                self.agreeing += 1
                if needs_name:
                    self.dump.definitions.append(Definition(name, named.fields[0], encoding, self.line))
            elif len(digits) < 3 and encoding < 0x100:
                return False  # a number in brackets that is no encoding
            else:
                self.disagreeing.append((name, named.fields[0], encoding, match["value"], value, self.line, needs_name))
                return True
        if field is not None:
            self._note_digits(field.name, match["value"])
            self._put(field.name, value << 32 if encoding & 1 else value, name or f"{encoding:04X}H", known=half(encoding))
        return True

    def _encodings_of(self, names: str, values: list[str]) -> None:
        labels = names.split("/")
        prefix = labels[0].rpartition("_")[0].rpartition("_")[0]
        for label, value in zip(labels, values, strict=False):
            match = match_label(label)
            if label != labels[0] and prefix and match.assumed_guest:
                label = f"{prefix}_{label}"
                match = match_label(label)
            if len(match.fields) == 1:
                self.dump.definitions.append(Definition(label, match.fields[0], int(value, 16), self.line))

    def _slashed(self, names: str, given: str) -> bool:
        """`GUEST_DS_BASE/LIMIT/AR = 0 / 0xFFFFFFFF / 0xC093` and `HOST_SS/DS/ES = 0x10`."""
        labels = names.split("/")
        values = [value.strip() for value in given.split("/")]
        if len(values) not in (1, len(labels)) or not match_label(labels[0]).fields:
            return False
        words = labels[0].split("_")
        for index, label in enumerate(labels):
            full = label if not index else "_".join([*words[:-1], label])
            number = read_number(values[index if len(values) > 1 else 0], self.hex_by_default)
            match = match_label(full, area=self.area)
            if number is None or len(match.fields) != 1:
                self.dump.warn(f"line {self.line}: {full} = {values[index if len(values) > 1 else 0]} cannot be read")
                continue
            narrow = (
                len(values) > 1
                and full.lower().endswith("limit")
                and "dtr" not in full.lower().replace("ldtr", "")
                and re.fullmatch(r"0x[0-9a-fA-F]{4}", values[index])
            )
            self._note_digits(match.fields[0], values[index if len(values) > 1 else 0])
            # a limit printed with four digits may have been cut to them
            self._put(match.fields[0], number, full, known=(1 << 64) - 1 - 0xFFFF0000 if narrow else (1 << 64) - 1)
        return True

    def _list_of_parts(self, match: re.Match[str]) -> None:
        """`GUEST_ES/FS/GS = 0x10, base 0, limit 0xffffffff, AR 0xc093`."""
        first, *others = match["label"].split("/")
        for label in [first, *(f"{first.rpartition('_')[0]}_{other}" for other in others)]:
            self._store(label, match["value"])
            for part, value in re.findall(rf"([A-Za-z]+)\s*[:=]?\s*({NUMBER})", match["rest"]):
                self._store(part, value)

    def _separated(self, text: str) -> bool:
        """A row of a table: cells between bars, tabs, semicolons or commas, of which one names a field and one is a number."""
        columns = columns_of(text)
        if columns:
            return self._columns(columns)
        if text.startswith("|"):
            row = [cell.strip(" `*") for cell in text.strip("|").split("|")]
            if not (self._parts_in_cells(row) or self._cells(row)):
                self._warn_of_row(row)
            return True
        cells = row_of(text)
        return bool(cells) and self._cells(cells)

    def _columns(self, columns: Sequence[tuple[str, str]]) -> bool:
        """`GUEST_CR0  0x31  GUEST_CR4  0x2000`: each number is the value of the name before it, if the numbers are no encodings."""
        fields = [match_label(name).fields for name, _ in columns]
        numbers = [read_number(number, True) or 0 for _, number in columns]
        if all(number >= _LEAST_ENCODING and number & ~1 in BY_ENCODING for number in numbers):
            for (name, _), found, number in zip(columns, fields, numbers, strict=True):
                if found and FIELDS[found[0]].encoding == number:
                    self.dump.definitions.append(Definition(name, found[0], number, self.line))
            self.dump.warn(f"line {self.line}: the numbers of this row are encodings; none is used as a value")
            return True
        for name, written in columns:
            self._store(name, written)
        return True

    def _parts_in_cells(self, cells: Sequence[str]) -> bool:
        """`| GUEST_TR | Sel=0x28, Base=0x1000 | ...`: a register with its parts in another cell."""
        context = normalise(cells[0])
        if not any(word in SEGMENTS for word in context):
            return False
        pairs = [(label, value) for cell in cells[1:] for _, _, label, value, bad in pairs_in(cell) if not bad]
        parts = [(label.strip(" ,;"), value) for label, value in pairs if normalise(label) in PART_WORDS]
        for label, value in parts:
            self._store(label, value, context)
        self.register = ("", "") if parts else self.register
        return bool(parts)

    def _warn_of_row(self, cells: Sequence[str]) -> None:
        first = cells[0].partition("/")[0]
        if names_field(first) and any("0x" in cell for cell in cells[1:]):
            self.dump.warn(f"line {self.line}: which numbers of this row are the values of {cells[0]} cannot be told; none is used")

    def _cells(self, cells: Sequence[str]) -> bool:
        label = next((cell for cell in cells if names_field(cell)), "")
        numbers = [(cell, read_number(cell, self.hex_by_default)) for cell in cells if cell != label and _SURE_NUMBER.match(cell)]
        values = [(cell, value) for cell, value in numbers if value is not None]
        if not label or not values:
            return False
        fields = match_label(label).fields
        first = values[0][1]
        if len(values) > 1 and len(fields) == 1 and first & ~1 in BY_ENCODING:
            if first == FIELDS[fields[0]].encoding:
                self.agreeing += 1
                self.dump.definitions.append(Definition(label, fields[0], first, self.line))
                values = values[1:]
            elif first >= 0x800 and len(values) == 2:
                cell, value = values[1]
                self.disagreeing.append((label, fields[0], first, cell, value, self.line, True))
                return True
        if len({value for _, value in values}) > 1:
            self.dump.warn(f"line {self.line}: {label} stands with several numbers; which is the value cannot be told, so none is used")
            return True
        return self._store(label, values[0][0])

    # Pairs in a line

    def _pairs(self, text: str, line: Line) -> None:
        end, context, found, parts, whose = 0, tuple[str, ...](), False, 0, ""
        for start, stop, written, value, bad in pairs_in(text):
            if bad:
                if match_label(bad).fields:
                    why = "is cut off" if value.endswith((".", "…")) else "is not a number"
                    self.dump.warn(f"line {self.line}: {bad} = {value} {why}; the field counts as not given")
                continue
            if self.source and GOES_ON.match(text, stop):
                self.dump.warn(f"line {self.line}: {written.strip()} = {value} goes on as an expression; it is not used")
                continue
            before = text[end:start].strip(" ,;()[]-")
            if before.endswith(":") and len(before.split()) <= 4:
                context = normalise(before)
                if not self.area and is_of_guest(text) and "host" not in context:
                    context = ("guest", *context)
            end = stop
            label = self._beside_pin(best_label(written.strip(" ,;()[]\"'"), self.area), value, text)
            if len(label.split()) > _MAX_LABEL_WORDS:
                label = " ".join(label.split()[-_MAX_LABEL_WORDS:])
                if not match_label(label).fields:
                    continue
            again = SAME_IN_HEX.match(text, end)
            if again and value.isdigit() and int(again[1], 16) in (int(value), int(value, 16)):
                value = again[1]
            cut = label == ending_name(written) and _LETTERS.search(written.replace(label, "")) is not None
            self.member = bool(label) and named_member(written.strip(" ,;()[]\"'")) == label
            self.sentence = text if cut or in_sentence(text, start) else ""
            own = _OWN_AREA.match(label)
            whose = own[1].lower() if own else whose
            above, self.area = self.area, self.area or whose
            found = self._store(label, value, context, line) or found
            self.sentence, self.area, self.member = "", above, False
            parts += any(word in SEGMENTS for word in context)
        if parts > 1:  # a line that lists the parts of the register that it names: a part below is another's
            self.register = ("", "")
        if not found and end == 0:
            self._heading(text, line)

    def _beside_pin(self, label: str, value: str, text: str) -> str:
        """The label, of a control word that is named as such only by the pin-based controls beside it: `PIN=... PROC=... EXIT=... ENTRY=...`."""
        if normalise(label) in (("pin",), ("ctl", "pin")):
            self.pin_line = self.line
        word = label.lower()
        if word not in ("proc", "exit", "entry"):
            return label
        near = 0 < self.line - self.pin_line <= _NEAR and (read_number(value, True) or 0) >= _LEAST_CONTROLS
        return f"{label} controls" if near or _PIN.search(text) else label

    def _heading(self, text: str, line: Line) -> None:
        label, _, value = text.strip("*=-# :").partition(":")
        if value.strip() and match_label(label).fields:
            if self.source or _OF_PROGRAM.match(value.strip()):
                return  # a member of a structure, or what a program puts into it
            self.dump.warn(f"line {self.line}: {label.strip()}: {value.strip()} is not a number; the field counts as not given")
            return
        words = normalise(text.strip("*=-# :"))
        if not words or len(words) > 5 or (len(text.split()) > 5 and not text.startswith(("*", "=", "-", "#"))):
            return
        marked = text.rstrip().endswith(":") or text.startswith(("*", "=", "-", "#")) or "state" in words
        areas = {word for word in words if word in ("guest", "host") and word in text.lower()}  # ("h" means one before a name only)
        alone = len(match_label(" ".join(words)).fields) == 1 and not any(word in SEGMENTS for word in words)
        segment = next((word for word in words if word in SEGMENTS), "")
        own = next(iter(areas)) if segment and len(areas) == 1 else self.area  # (a heading of one register is over with its parts)
        if marked and len(areas) == 1 and not alone and not segment:  # (a field's name whose value is on the next line is no heading)
            self.area = areas.pop()
            self.register = ("", "")
        elif marked and "ctl" in words:
            self.area = ""
        if text.rstrip().endswith(":"):
            self.heading = line.indent, words
        if text.rstrip().endswith(":") and any(word.startswith("sysenter") for word in words):
            self.sysenter_indent, self.sysenter_seen = line.indent, set()
        if text.rstrip().endswith(":") and segment:
            self.register, self.register_line = (own or "guest", segment), self.line
