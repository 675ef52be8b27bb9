"""Where lines of names and values are kept: which field a label means at its place, what makes a place doubtful, what is taken back at the end."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from vmfuzz.arch.capabilities import CAPABILITY_MSRS
from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.explain.dump import Definition, Dump, Reading, half, plausible
from vmfuzz.explain.formats.plain_forms import RIGHTS_BITS
from vmfuzz.explain.formats.plain_order import Place, Places
from vmfuzz.explain.formats.plain_states import Put, choose_state
from vmfuzz.explain.names.labels import NOTHING, PARTS, SEGMENTS, match_label, match_msr, normalise
from vmfuzz.explain.text.lines import Ends, Line
from vmfuzz.explain.text.numbers import read_number, to_unsigned

_SYSENTER: Final = {"cs": "sysenter cs", "esp": "sysenter esp", "rsp": "sysenter esp", "eip": "sysenter eip", "rip": "sysenter eip"}
#: So many lines (numbers) that look alike are no accident.
_ALIKE: Final = 4
#: So many fields given in two ways are those of two structures.
_SAME: Final = 3
_AREA: Final = re.compile(r"guest|host|ctrl|control|vmcs|exit|entry", re.IGNORECASE)
#: An exit reason of a failed entry, in hexadecimal whatever other numbers carry.
_FAILED_ENTRY: Final = re.compile(r"8000_?00(?:21|22|29)")
#: The label of a line that has no name, but an encoding.
_ENCODING: Final = re.compile(r"[0-9A-F]{4}H")
#: Fields that people write above a dump, in words that are no others' end.
_OUTCOME: Final = frozenset({"exit_reason", "vm_instruction_error", "exit_qualification"})
#: The words of a label that is nothing but a part of a register.
PART_WORDS: Final = frozenset((part,) for part in PARTS)
#: So many names a warning lists.
_SHOWN: Final = 6
_IN_SENTENCE: Final = "given in a sentence, not in a dump"
_APART: Final = "on a line that has not the form of the dump beside it"
_NO_AREA: Final = "no area named: read as guest state"
#: Words beside the name of a register that take nothing from it: "guest CS segment:".
_BESIDE_REGISTER: Final = frozenset({"guest", "host", "segment", "register", "reg", "state"})
#: Words that alone mean too many other things to be taken for a field.
_TOO_COMMON: Final = frozenset({("proc",), ("entry", "error"), ("exit", "error"), ("function",), ("tpr",)})


class PlainStore:
    """Keeps what has been read of lines of names and values in a dump, and the headings and registers by which a label is understood."""

    def __init__(self, dump: Dump, hex_by_default: bool | None, named_only: bool = False, top_indent: int = 0) -> None:
        """`named_only`: labels count only where they name guest or host themselves (the text has a dump of another format too).

        `top_indent`: the indentation of the lines of the text that name a segment register.
        """
        self.top_indent = top_indent
        self.dump = dump
        self.hex_by_default = hex_by_default
        self.named_only = named_only
        self.taken = frozenset(dump.readings) if named_only else frozenset[str]()  # the dump beside is sure of these
        self.places = Places()
        self.register_line = 0
        self.last = ("", "", 0)  # the field stored last, its number as written, and its line
        self.digits: dict[str, int] = {}  # last word of a label -> digits of its longest number
        self.widths: dict[int, Counter[int]] = {}  # width of a field -> how often its numbers had so many digits
        self.area = ""
        self.register = ("", "")  # (area, register) that parts belong to
        self.sysenter_indent = -1
        self.sysenter_seen: set[str] = set()  # its registers, of a group in a text without indentation
        self.flat = False  # all lines of the text have one indentation
        self.heading: tuple[int, tuple[str, ...]] = (-1, ())  # indentation and words of the last heading
        self.line = 0
        self.source = False  # the text has program text in it
        self.computed: set[str] = set()  # fields that the program text assigns something to that is no constant
        self.by_call: set[str] = set()  # fields that a call in program text gave a constant
        self.by_call_computed: dict[str, int] = {}  # fields that a call gave something else, with the line
        self.pin_line = -1 << 10  # where the pin-based controls stand
        self.puts: list[Put] = []  # what lines gave, in order
        self.failed = 0  # the last line that says that VM entry failed
        self.sentence = ""  # the sentence that the pair stands in
        self.member = False  # the label is the end of a path through a program's structures
        self.members: list[Put] = []  # what such labels gave
        self.said: list[tuple[str, Reading]] = []  # values that sentences give
        self.unfinished = ""  # the beginning of a call that goes on in the next line
        self.commented: list[int] = []  # lines whose calls stand in a comment
        self.in_comment = False  # a comment of C goes on
        self.encodings_first = False  # lines of nothing but an encoding and a value are no accident in this text
        self.after_failure = False  # the line before says that a VMREAD failed
        self.agreeing = 0  # lines that give a name and the encoding that the field has
        #: lines whose name and encoding are not of the same field: (name, its field, encoding, number as written, value, line, name first)
        self.disagreeing: list[tuple[str, str, int, str, int, int, bool]] = []

    def finish(self) -> None:
        """Decide what only the whole text can decide: whether numbers beside names are encodings, and whether places mean anything."""
        self._settle_encodings()
        self._settle_members()
        choose_state(self.dump, self.puts, self.failed)
        self._settle_sentences()
        self.places.judge(self.dump, self.puts)
        self._sum_up_calls()

    def _settle_encodings(self) -> None:
        last = self.last
        for name, field, encoding, text, value, line, name_first in self.disagreeing:
            self.line = line
            if len(self.disagreeing) > self.agreeing:  # so many wrong encodings are no encodings
                self.dump.warn(
                    f"line {line}: {name} stands with {encoding:#x} and {text}; which is the value cannot be told, so none is used"
                )
                continue
            self.dump.definitions.append(Definition(name, field, encoding, line))
            if name_first:  # the author believes in the name; what the encoding makes of it is judged apart
                self._note_digits(field, text)
                self._put(field, value, name)
                continue
            target = BY_ENCODING[encoding & ~1].name
            self.dump.warn(f"line {line}: {encoding:04X}H is {target}, but the line says {name}; the encoding is believed")
            self._note_digits(target, text)
            self._put(target, value << 32 if encoding & 1 else value, name, known=half(encoding))
        if last[2] > self.last[2]:
            self.last = last

    def _settle_members(self) -> None:
        """What a path through a program's structures names is not of the VMCS that the text shows without one, if both give the same fields."""
        direct = {put.field for put in self.puts}
        if len({put.field for put in self.members} & direct) >= _SAME:
            self.dump.warn(
                f"line {self.members[0].line}: the members of a program's structure are not used, since the text shows a VMCS beside it"
            )
            return
        for put in self.members:
            self.dump.put_named(put.field, put.value, put.label, put.line, assumed=put.assumed, known=put.known)
        if self.members:
            self.puts = sorted([*self.puts, *self.members], key=lambda put: put.line)

    def _settle_sentences(self) -> None:
        """What a sentence says of a field counts only where no dump shows the field."""
        shown = dict(self.dump.readings)
        for name, said in self.said:
            reading = shown.get(name)
            if reading is None:
                self.dump.put_named(
                    name,
                    said.value,
                    said.label,
                    said.line,
                    assumed=said.assumed or ("" if name in _OUTCOME else _IN_SENTENCE),
                    known=said.known,
                )
            elif (reading.value ^ said.value) & reading.known & said.known:
                self.dump.warn(
                    f"line {said.line}: {said.label} = {said.value:#x} stands in a sentence; line {reading.line} says {reading.value:#x}, "
                    "and that is used"
                )

    def _sum_up_calls(self) -> None:
        computed = {field: line for field, line in self.by_call_computed.items() if field not in self.dump.readings}
        if computed and (self.by_call or not self.dump.readings):  # (a dump shows what has become of them)
            names = ", ".join([*computed][:_SHOWN]) + (f" and {len(computed) - _SHOWN} more" if len(computed) > _SHOWN else "")
            self.dump.warn(f"line {min(computed.values())}: the program computes what it writes to {names}: not given by this text")
        if self.commented and self.by_call:
            others = f" (and on {len(self.commented) - 1} more lines)" if len(self.commented) > 1 else ""
            self.dump.warn(f"line {self.commented[0]}: a call that writes a field stands in a comment{others}; its value is not used")

    def drop_cut(self, end: Line) -> None:
        """The text ends with `end` and has no line end there: if its number is shorter than its like, it has been cut."""
        field, text, line = self.last
        if line != end.number or not text:
            return
        number = match_msr(field)
        if number is not None:
            self.dump.msrs.pop(number, None)
            self.dump.warn(f"line {line}: the text ends with {field} = {text}, which may have been cut there; the value is not used")
            return
        if not end.text.rstrip().endswith(text):
            return
        usual = self.widths.get(FIELDS[field].width if field in FIELDS else 0, Counter())
        usual[len(text)] -= 1  # its own
        uniform = {count for count, times in usual.items() if times > 0}
        alike = len(uniform) == 1 and sum(usual.values()) >= _ALIKE and len(text) < max(uniform)
        reading = self.dump.readings.get(field)
        if (alike or len(text) < self.digits.get(field.rpartition("_")[2], 0)) and reading is not None and reading.line == line:
            for name in [
                name for name, other in self.dump.readings.items() if other.line == line and (name == field or other.label == reading.label)
            ]:
                del self.dump.readings[name]
            self.dump.warn(f"line {line}: the text ends within {field} = {text}; the value is not used")
        else:
            self.dump.warn(f"line {line}: the text ends with {field} = {text}; if it has been cut there, the value is wrong")

    def drop_head(self, lines: list[Line], ends: Ends) -> None:
        """A text may begin within a line: what its first line gives is not used if that line lacks what all that follow begin with."""
        if not lines:
            return
        first = lines[0]
        mine = {name: reading for name, reading in self.dump.readings.items() if reading.line == first.number and name not in _OUTCOME}
        others = [reading.label for reading in self.dump.readings.values() if reading.line != first.number]
        named = len(lines) > _ALIKE and sum(bool(_AREA.search(label)) for label in others) * 10 >= len(others) * 9 and len(others) >= _ALIKE
        nameless = len(others) >= _ALIKE and not any(_ENCODING.fullmatch(label) for label in others)
        for name, reading in mine.items():
            lost = (named and not _AREA.search(reading.label) and name.startswith(("guest", "host"))) or (
                nameless and _ENCODING.fullmatch(reading.label)
            )
            if first is ends.torn or lost:
                del self.dump.readings[name]
                self.dump.warn(
                    f"line {first.number}: the text may begin within this line, so that {reading.label} = {reading.value:#x} is not used"
                )

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
        if field in _OUTCOME:
            marked = (
                None if _FAILED_ENTRY.fullmatch(text) else self.hex_by_default if len(text) < 8 or self.hex_by_default is False else True
            )
            value = read_number(text, marked)
            value = to_unsigned(text) if value is None or (value >> 32 and field == "exit_reason") else value
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
        self._put(field, value << 32 if high else value, label, assumed=assumed, known=half(1) if high else (1 << 64) - 1)
        parts = field.split("_")
        if self.sentence:
            self.register = ("", "")  # below a sentence no part of a register follows
        elif parts[0] in ("guest", "host") and parts[1] in SEGMENTS:
            self.register = (parts[0], parts[1])
            if words not in PART_WORDS:
                self.register_line = self.line
        elif not context:
            self.register = ("", "")  # parts follow their register at once
        return True

    def _note_digits(self, field: str, text: str) -> None:
        kind = field.rpartition("_")[2]
        self.widths.setdefault(FIELDS[field].width if field in FIELDS else 0, Counter())[len(text)] += 1
        self.last = field, text, self.line
        self.digits[kind] = max(self.digits.get(kind, 0), len(text))

    def _resolve(self, label: str, words: tuple[str, ...], context: tuple[str, ...], line: Line | None) -> tuple[str, str]:
        """(field, what was assumed); "" if unknown, "?" if ambiguous and warned of."""
        in_group = self.sysenter_indent >= 0 and line is not None and (self.flat or line.indent > self.sysenter_indent)
        if ("sysenter" in context or in_group) and words and words[-1] in _SYSENTER:
            label = _SYSENTER[words[-1]]
            for name in match_label(label, context, self.area).fields:
                self.places.add(Place(name, self.line))
        elif len(words) == 1 and words[0] in PARTS:
            if any(word in SEGMENTS for word in context):
                return self._part_of_named(label, words[0], context)
            area, register = self.register
            if not register or (register in ("gdtr", "idtr") and words[0] in ("ar", "sel")):
                (self.places.odd if self.last[2] else self.places.headless).append(self.line)  # (the text may just have lost its head)
                self.dump.warn(f"line {self.line}: {label} without the name of a register above it; it is not used")
                return "?", ""
            matched = match_label(f"{area} {register} {words[0]}")
            if not matched.fields:
                return "", ""
            place = Place(matched.fields[0], self.line)
            if line is not None and place.field in self.dump.readings:
                if place.field in self.places.named:
                    self.places.again.append(place)
                elif register in ("gdtr", "idtr") and words[0] == "base":
                    self.places.odd.append(self.line)  # its base stands beside its name
            self.places.add(place, below=self.register_line != self.line)
            return place.field, ""
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
            self.places.add(Place(match.fields[0], self.line))
        return match.fields[0], _NO_AREA if match.assumed_guest else ""

    def _part_of_named(self, label: str, part: str, context: tuple[str, ...]) -> tuple[str, str]:
        """As `_resolve`, for a part behind the name of its register on the same line: `CS: selector=0x10, base=0x0`."""
        named = [word for word in context if word not in _BESIDE_REGISTER]
        area = next((word for word in context if word in ("guest", "host")), "")
        match = match_label(f"{area} {named[0]} {part}", area=self.area) if len(named) == 1 else NOTHING
        if not match.fields:
            self.dump.warn(f"line {self.line}: {label} behind {' '.join(context)} means no VMCS field; it is not used")
            return "?", ""
        if self.named_only:
            return ("", "") if match.assumed_guest else (match.fields[0], _APART)
        return match.fields[0], _NO_AREA if match.assumed_guest else ""

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
        if label[:1].isdigit() and not plausible(number, value):
            return  # a number that stands for something else in a table
        if second is not None:  # printed as allowed-0 / allowed-1
            value = value & 0xFFFFFFFF | (int(second, 16) & 0xFFFFFFFF) << 32
        self.dump.put_msr(number, value, self.line)
        self.last = CAPABILITY_MSRS[number], text, self.line

    def _put(self, field: str, value: int, label: str, *, assumed: str = "", known: int = (1 << 64) - 1) -> None:
        if field in self.taken:
            return
        if self.sentence and assumed == _NO_AREA and "guest" not in self.sentence.lower():
            self.dump.warn(f"line {self.line}: {label} = {value:#x} stands in a sentence that does not say whose it is; it is not used")
        elif self.member and not self.sentence:
            self.members.append(Put(field, value, label, self.line, known, assumed))
        elif self.sentence:
            self.said.append((field, Reading(value, label, self.line, known, assumed)))
        else:
            self.puts.append(Put(field, value, label, self.line, known, assumed))
            self.dump.put_named(field, value, label, self.line, assumed=assumed, known=known)
