"""Reads "name: value" text: printk dumps of hobby hypervisors, lists of encodings with values, tables, JSON fragments, write calls.

A label may name its field alone (`GUEST_CS_AR_BYTES`), or with the help of what stands above it: a register with its parts in lines of their
own ("rights", "lim", "base"), a heading ("host state", "sysenter msrs:"), the beginning of its line ("entry state: intr=...").
"""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.explain.dump import Definition, Dump
from vmfuzz.explain.names import PARTS, SEGMENTS, best_label, match_label, match_msr, normalise, uneven
from vmfuzz.explain.numbers import NUMBER, read_number
from vmfuzz.explain.plain_forms import (
    CALL,
    CLOSES,
    CODE,
    ENCODED,
    ENCODINGS_OF,
    FIELD_VALUE,
    LIST_OF_PARTS,
    MSR_LINE,
    NAME_VALUE,
    NAMED_ENCODING,
    OPENS,
    PAIR,
    READ_CALL,
    RIGHTS_BITS,
)
from vmfuzz.explain.text import Line

_SYSENTER: Final = {"cs": "sysenter cs", "esp": "sysenter esp", "rsp": "sysenter esp", "eip": "sysenter eip", "rip": "sysenter eip"}
_MAX_LABEL_WORDS: Final = 7
#: Words that alone mean too many other things to be taken for a field.
_TOO_COMMON: Final = frozenset({("proc",), ("entry", "error"), ("exit", "error"), ("function",), ("tpr",)})


def is_code(text: str) -> bool:
    """Whether a line is of program text, so that its assignments are no values of a dump."""
    return bool(CODE.match(text)) and not OPENS.match(text) and not CLOSES.match(text)


class PlainReader:
    """Reads lines one after the other; knows the headings above and the register last named."""

    def __init__(self, dump: Dump, hex_by_default: bool | None, named_only: bool = False, top_indent: int = 0) -> None:
        """`named_only`: labels count only where they name guest or host themselves (the text has a dump of another format too).

        `top_indent`: the indentation of the lines of the text that name a segment register.
        """
        self.top_indent = top_indent
        self.dump = dump
        self.hex_by_default = hex_by_default
        self.named_only = named_only
        self.by_place: list[str] = []  # fields whose label alone would not have named them
        self.headless = False
        self.disorder = 0  # how often a part came where none could be
        self.last = ("", "", 0)  # the field stored last, its number as written, and its line
        self.digits: dict[str, int] = {}  # last word of a label -> digits of its longest number
        self.area = ""
        self.register = ("", "")  # (area, register) that parts belong to
        self.sysenter_indent = -1
        self.heading: tuple[int, tuple[str, ...]] = (-1, ())  # indentation and words of the last heading
        self.line = 0

    def read(self, line: Line, in_code: bool = False) -> None:
        """Read one line; of program text (`in_code`) only calls that write a field count."""
        self.line = line.number
        if self.sysenter_indent >= 0 and line.indent <= self.sysenter_indent:
            self.sysenter_indent = -1
        text = READ_CALL.sub(r"\1", line.text.strip().rstrip(","))
        opens = OPENS.match(text)
        if opens and not in_code:
            self._heading(f"{opens['member'] or opens['type'].rpartition('::')[2]}:", line)
        elif CLOSES.match(text):
            self.register = ("", "")
        elif in_code:
            self._call(text)
        elif text.startswith("|"):
            self._cells([cell.strip(" `*") for cell in text.strip("|").split("|")])
        elif self._special(text):
            return
        elif CODE.match(text) or CALL.search(text):
            self._call(text)
        elif text.count("\t") >= 2 or (text.count(",") == 2 and re.fullmatch(r"[\w:]+,\s*\w+,\s*\w+", text)):
            self._cells([cell.strip() for cell in re.split(r"[\t,]", text) if cell.strip()])
        else:
            self._pairs(text, line)

    def finish(self) -> None:
        """Take back what was understood by its place, if places mean nothing here because the lines are not in their order."""
        if not (self.disorder or (self.headless and uneven(self.by_place))) or not self.by_place:
            return
        taken = [name for name in dict.fromkeys(self.by_place) if self.dump.readings.pop(name, None) is not None]
        self.dump.warn(
            f"parts of registers stand where they cannot belong, so the lines are not in their order; {len(taken)} values that only their "
            f"place names are not used ({', '.join(taken[:6])}{' ...' if len(taken) > 6 else ''})"
        )

    def drop_cut(self, end: Line) -> None:
        """The text ends with `end` and has no line end there: if its number is shorter than its like, it has been cut."""
        field, text, line = self.last
        if line == end.number and text and end.text.rstrip().endswith(text) and len(text) < self.digits.get(field.rpartition("_")[2], 0):
            if self.dump.readings.get(field) is not None and self.dump.readings[field].line == line:
                del self.dump.readings[field]
                self.dump.warn(f"line {line}: the text ends within {field} = {text}; the value is not used")
        elif line == end.number and text and end.text.rstrip().endswith(text):
            self.dump.warn(f"line {line}: the text ends with {field} = {text}; if it has been cut there, the value is wrong")

    # Forms of a whole line

    def _special(self, text: str) -> bool:
        match = ENCODINGS_OF.match(text)
        if match:
            self._encodings_of(match["names"], re.findall(r"0x[0-9a-fA-F]+", match["values"]))
            return True
        match = MSR_LINE.match(text)
        if match:
            self._msr(match["name"], match["value"], match["second"])
            return True
        for pattern in (NAMED_ENCODING, ENCODED):
            match = pattern.match(text)
            if match and self._encoded(match, needs_name=pattern is NAMED_ENCODING):
                return True
        match = LIST_OF_PARTS.match(text)
        if match:
            self._list_of_parts(match)
            return True
        match = FIELD_VALUE.search(text) or NAME_VALUE.match(text)
        if match:
            self._store(match["name"], match["value"])
            return True
        return bool(re.match(r"[\w/]+\s*=\s*[^=]*$", text)) and "/" in text.partition("=")[0] and self._slashed(text)

    def _encoded(self, match: re.Match[str], needs_name: bool) -> bool:
        encoding, name = int(match["encoding"], 16), match["name"]
        named = match_label(name) if name else None
        if needs_name and not (named and named.fields):
            return False
        if not name and not needs_name and match["sep"].isspace() and "0x" not in match.group(0).lower():
            return False
        field = BY_ENCODING.get(encoding & ~1)
        if field is None and not needs_name:
            return False
        value = read_number(match["value"], True if not needs_name else self.hex_by_default)
        if value is None:
            return False
        if named and len(named.fields) == 1 and (field is None or named.fields[0] != field.name):
            self.dump.definitions.append(Definition(name, named.fields[0], encoding, self.line))
            if needs_name:  # the author believes in the name; what the encoding makes of it is judged apart
                self._note_digits(named.fields[0], match["value"])
                self._put(named.fields[0], value, name)
                return True
            self.dump.warn(
                f"line {self.line}: {encoding:04X}H is {field.name if field else 'no field'}, but the line says {name}; the encoding is believed"
            )
        elif named and len(named.fields) == 1 and needs_name:
            self.dump.definitions.append(Definition(name, named.fields[0], encoding, self.line))
        if field is not None:
            self._note_digits(field.name, match["value"])
            self._put(field.name, value << 32 if encoding & 1 else value, name or f"{encoding:04X}H", known=_half(encoding))
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

    def _slashed(self, text: str) -> bool:
        """`GUEST_DS_BASE/LIMIT/AR = 0 / 0xFFFFFFFF / 0xC093` and `HOST_SS/DS/ES = 0x10`."""
        left, _, right = text.partition("=")
        labels = [label.strip() for label in left.split("/")]
        values = [value.strip() for value in right.split("/")]
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

    def _cells(self, cells: list[str]) -> None:
        numbers = [(index, value) for index, cell in enumerate(cells) if (value := read_number(cell, None)) is not None]
        label = next((cell for cell in cells if match_label(cell).fields or match_msr(cell) is not None), "")
        if not label or not numbers:
            return
        fields = match_label(label).fields
        encodings = [value for _, value in numbers if value & ~1 in BY_ENCODING] if len(numbers) > 1 else []
        if encodings and len(fields) == 1:
            self.dump.definitions.append(Definition(label, fields[0], encodings[0], self.line))
            numbers = [(index, value) for index, value in numbers if value != encodings[0]] or numbers[-1:]
        if len(numbers) > 1 and len({value for _, value in numbers}) > 1:
            self.dump.warn(f"line {self.line}: {label} stands with several numbers; which is the value cannot be told, so none is used")
            return
        self._store(label, hex(numbers[0][1]))

    def _call(self, text: str) -> None:
        for match in CALL.finditer(text):
            for name, value in ((match["first"], match["second"]), (match["second"], match["first"])):
                if re.fullmatch(r"(?:-1|~0)[uUlL]*", value) and match_label(name).fields:
                    value = hex(FIELDS[match_label(name).fields[0]].mask)
                if not re.fullmatch(r"0[xX][0-9a-fA-F]+[uUlL]*|\d+", value):
                    continue
                encoded = re.fullmatch(r"0[xX]0*([0-9a-fA-F]{3,4})", name)
                if encoded and int(encoded[1], 16) in BY_ENCODING:
                    self._put(BY_ENCODING[int(encoded[1], 16)].name, int(value.rstrip("uUlL"), 0), name)
                    break
                if match_label(name).fields:
                    self._store(name, value)
                    break

    # Pairs in a line

    def _pairs(self, text: str, line: Line) -> None:
        end, context, found = 0, tuple[str, ...](), False
        for match in PAIR.finditer(text):
            if match["bad"]:
                if match_label(match["bad"]).fields:
                    self.dump.warn(f"line {self.line}: {match['bad']} = {match['badvalue']} is not a number; the field counts as not given")
                continue
            before = text[end : match.start()].strip(" ,;()[]-")
            if before.endswith(":") and len(before.split()) <= 4:
                context = normalise(before)
            end = match.end()
            label = best_label(match["label"].strip(" ,;()[]\"'"), self.area)
            if len(label.split()) > _MAX_LABEL_WORDS:
                label = " ".join(label.split()[-_MAX_LABEL_WORDS:])
                if not match_label(label).fields:
                    continue
            found = self._store(label, match["value"], context, line) or found
        if not found and end == 0:
            self._heading(text, line)

    def _heading(self, text: str, line: Line) -> None:
        words = normalise(text.strip("*=-# :"))
        if not words or len(words) > 5 or (len(text.split()) > 5 and not text.startswith(("*", "=", "-", "#"))):
            return
        marked = text.rstrip().endswith(":") or text.startswith(("*", "=", "-", "#")) or "state" in words
        areas = {word for word in words if word in ("guest", "host")}
        if marked and len(areas) == 1:
            self.area = areas.pop()
            self.register = ("", "")
        elif marked and "ctl" in words:
            self.area = ""
        if text.rstrip().endswith(":"):
            self.heading = line.indent, words
        if text.rstrip().endswith(":") and any(word.startswith("sysenter") for word in words):
            self.sysenter_indent = line.indent
        segment = next((word for word in words if word in SEGMENTS), "")
        if text.rstrip().endswith(":") and segment:
            self.register = (self.area or "guest", segment)

    # Storing

    def _store(self, label: str, text: str, context: tuple[str, ...] = (), line: Line | None = None) -> bool:
        """Store one pair; returns whether the label was known."""
        msr = match_msr(label)
        if msr is not None:
            self._msr(label, text, None)
            return True
        words = normalise(label)
        field, assumed = self._resolve(label, words, context, line)
        if field == "?":
            return True
        if not field:
            return self._rights_bits(words, text) or self._unknown(label, text)
        if field in ("exit_reason", "vm_instruction_error", "exit_qualification"):
            value = read_number(text, self.hex_by_default if len(text) < 8 else True)
        else:
            value = read_number(text, self.hex_by_default)
        if value is None:
            self.dump.warn(
                f"line {self.line}: {label} = {text} may be decimal or hexadecimal; it is not used (write 0x{text} or say which)"
                if re.fullmatch(r"\d+", text)
                else f"line {self.line}: {label} = {text} is not a number; {field} counts as not given"
            )
            return True
        if words in (("esp",), ("eip",)) and value >> 32 and "sysenter" not in field:
            self.dump.warn(f"line {self.line}: {label} = {text} is too wide for a 32-bit register; it may be SYSENTER's, so it is not used")
            return True
        self._note_digits(field, text)
        high = match_label(label, context, self.area).high
        self._put(field, value << 32 if high else value, label, assumed=assumed, known=_half(1) if high else (1 << 64) - 1)
        parts = field.split("_")
        if parts[0] in ("guest", "host") and parts[1] in SEGMENTS:
            self.register = (parts[0], parts[1])
        elif not context:
            self.register = ("", "")  # parts follow their register at once
        return True

    def _note_digits(self, field: str, text: str) -> None:
        kind = field.rpartition("_")[2]
        self.last = field, text, self.line
        self.digits[kind] = max(self.digits.get(kind, 0), len(text))

    def _resolve(self, label: str, words: tuple[str, ...], context: tuple[str, ...], line: Line | None) -> tuple[str, str]:
        """(field, what was assumed); "" if unknown, "?" if ambiguous and warned of."""
        in_group = self.sysenter_indent >= 0 and line is not None and line.indent > self.sysenter_indent
        if ("sysenter" in context or in_group) and words and words[-1] in _SYSENTER:
            label = _SYSENTER[words[-1]]
            self.by_place += match_label(label, context, self.area).fields
        elif len(words) == 1 and words[0] in PARTS:
            area, register = self.register
            if not register or (register in ("gdtr", "idtr") and words[0] in ("ar", "sel")):
                self.disorder += self.last[2] > 0
                self.headless |= not self.last[2]  # the text may just have lost its head
                self.dump.warn(f"line {self.line}: {label} without the name of a register above it; it is not used")
                return "?", ""
            matched = match_label(f"{area} {register} {words[0]}")
            if not matched.fields:
                return "", ""
            own_base = register in ("gdtr", "idtr") and words[0] == "base" and matched.fields[0] in self.dump.readings
            self.disorder += own_base and line is not None and matched.fields[0] not in self.by_place
            if line is not None and matched.fields[0] in self.by_place:
                self.disorder += matched.fields[0] in self.dump.readings
            self.by_place.append(matched.fields[0])
            return matched.fields[0], ""
        match = match_label(label, context, self.area)
        if len(match.fields) > 1:
            self.dump.warn(f"line {self.line}: {label} may mean {' or '.join(match.fields)}; it is not used")
            return "?", ""
        if not match.fields or words in _TOO_COMMON:
            return "", ""
        if self.named_only and (match.assumed_guest or not set(words) & {"guest", "host", "entry", "exit"}):
            return "", ""
        if len(words) == 1 and words[0] in _SYSENTER:
            if (
                line is not None
                and not in_group
                and line.indent > self.top_indent
                and (self.heading[0] not in range(line.indent) or "msr" in "".join(self.heading[1]))
            ):
                self.dump.warn(f"line {self.line}: {label} stands indented under nothing that says what it belongs to; it is not used")
                return "?", ""
            self.by_place.append(match.fields[0])
        return match.fields[0], "no area named: read as guest state" if match.assumed_guest else ""

    def _rights_bits(self, words: tuple[str, ...], text: str) -> bool:
        area, register = self.register
        if area != "guest" or register in ("", "gdtr", "idtr") or len(words) != 1 or words[0] not in RIGHTS_BITS:
            return False
        low, width = RIGHTS_BITS[words[0]]
        self.last = f"guest_{register}_access_rights", text, self.line
        value = read_number(text, True)
        if value is None or value >> width:
            return False
        self._put(f"guest_{register}_access_rights", value << low, f"{register} {words[0]}", known=((1 << width) - 1) << low)
        return True

    def _unknown(self, label: str, text: str) -> bool:
        if len(label.split()) <= 5 and text.lower().startswith("0x"):
            self.dump.unread.append((label, self.line))
        return False

    def _msr(self, label: str, text: str, second: str | None) -> None:
        number = match_msr(label)
        value = read_number(text, True)
        if number is None or value is None:
            return
        if second is not None:  # printed as allowed-0 / allowed-1
            value = value & 0xFFFFFFFF | (int(second, 16) & 0xFFFFFFFF) << 32
        self.dump.put_msr(number, value, self.line)

    def _put(self, field: str, value: int, label: str, *, assumed: str = "", known: int = (1 << 64) - 1) -> None:
        self.dump.put_named(field, value, label, self.line, assumed=assumed, known=known)


def _half(encoding: int) -> int:
    """Which bits of a 64-bit field an access with this encoding covers: all, or 63:32 with the high encoding."""
    return (1 << 64) - (1 << 32) if encoding & 1 else (1 << 64) - 1
