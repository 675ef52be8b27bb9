"""Notes what lines of names and values give: the value as the text writes numbers, the field that the label means at its place, how it stands there.

A label may name its field alone (`GUEST_CS_AR_BYTES`), or with the help of what stands above it: a register with its parts in lines of their
own ("rights", "lim", "base"), a heading ("host state", "sysenter msrs:"), the beginning of its line ("entry state: intr=...").
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import ALL, Reading, Standing, half
from vmfuzz.explain.evidence import OUTCOME, Found
from vmfuzz.explain.formats.shapes import Pair
from vmfuzz.explain.names.labels import NOTHING, PARTS, SEGMENTS, SYSENTER, Match, area_of, match_label, match_msr, normalise, register_in
from vmfuzz.explain.text.numbers import read_number, to_unsigned
from vmfuzz.hexadecimal import hexadecimal

#: An exit reason of a failed entry, in hexadecimal whatever other numbers carry.
_FAILED_ENTRY: Final = ("80000", "8000_")
_OF_SYSENTER: Final = frozenset({"cs", "esp", "rsp", "eip", "rip"})
_NO_AREA: Final = "no area named: read as guest state"
_IN_SENTENCE: Final = "given in a sentence, not in a dump"
#: Words that alone mean too many other things to be taken for a field.
_TOO_COMMON: Final = frozenset({("proc",), ("entry", "error"), ("exit", "error"), ("function",), ("tpr",)})
#: No register stands above.
NO_REGISTER: Final = ("", "")
#: A longer label is more than a name.
_MOST_UNREAD: Final = 5
#: Single bits and spans of the access rights, as some programs print them: word -> (lowest bit, width).
_RIGHTS_BITS: Final = {
    "type": (0, 4), "type_": (0, 4), "s": (4, 1), "dpl": (5, 2), "p": (7, 1), "present": (7, 1), "avl": (12, 1), "l": (13, 1), "db": (14, 1), "g": (15, 1),
    "granularity": (15, 1), "unusable": (16, 1), "desc": (4, 1),
}  # fmt: skip
_AROUND_HEADINGS: Final = "*=-# :"
_MARKS: Final = ("*", "=", "-", "#")
_MOST_OF_HEADING: Final = 5


class _Unused(Exception):
    """Why the text does not tell what a label gives."""


class Notes:
    """Notes values in `found`; knows the line that is read and what stands above it."""

    def __init__(self, found: Found, hex_by_default: bool | None, sure: Collection[str], in_program: bool) -> None:
        self.found = found
        #: what digits without a mark mean; None where that is not known
        self.hex_by_default = hex_by_default
        #: fields that a program's dump in the same text gives: no other replaces their values, and labels beside it have to name guest or host themselves
        self.sure = sure
        #: there is program text too
        self.in_program = in_program
        self.line = self.indent = 0
        self.area = ""
        #: (area, register) that parts belong to, and the line that names it; SYSENTER's registers count as parts of "sysenter"
        self.register = NO_REGISTER
        self.register_line = 0
        #: whether indented lines may be MSRs: the last heading says so, or there is none
        self.may_be_msrs = True

    def store(self, pair: Pair) -> bool:
        """Note one pair; returns whether its label is known."""
        label, text = pair.label, pair.value
        if self.msr(label, text):
            return True
        words = normalise(label)
        try:
            meant = self._meant(words, pair)
            if not meant.fields:
                return self._rights_bits(label, text) or self._unread(label, text)
            name = meant.fields[0]
            value = self._value(name, text) << (32 if meant.high else 0)
            if words in (("esp",), ("eip",)) and value >> 32 and SYSENTER not in name:
                raise _Unused(f"= {text} is too wide for a 32-bit register; it may be SYSENTER's, so it is not used")
            if pair.of_sentence and meant.assumed_guest:
                raise _Unused(f"= {hexadecimal(value)} stands in a sentence that does not say whose it is; it is not used")
        except _Unused as why:
            self.found.warn(f"{label} {why}", self.line)
            return True
        standing = Standing.SENTENCE if pair.of_sentence else Standing.NAMED
        assumed = _NO_AREA if meant.assumed_guest else _IN_SENTENCE if pair.of_sentence and name not in OUTCOME else ""
        self.put(name, value, label, text, standing=standing, assumed=assumed, known=half(meant.high))
        self._goes_on(name, words, pair)
        return True

    def _unread(self, label: str, text: str) -> bool:
        if len(label.split()) <= _MOST_UNREAD and text.lower().startswith("0x"):
            self.found.unread.append((label, self.line))
        return False

    def _meant(self, words: tuple[str, ...], pair: Pair) -> Match:
        """What a label means at its place; notes the fields that only their places name."""
        named, part = register_in(pair.context), words[0] if len(words) == 1 else ""
        if part in PARTS:
            return self._part_of_named(part, pair) if named else self._part_of_register_above(part)
        of_sysenter = part in _OF_SYSENTER and (named or self.register[1]) == SYSENTER
        meant = match_label(f"{SYSENTER} {part}" if of_sysenter else pair.label, pair.context, self.area or pair.area)
        if len(meant.fields) > 1:
            raise _Unused(f"may mean {' or '.join(meant.fields)}; it is not used")
        if not meant.fields or self._says_too_little(words, pair, meant):
            return NOTHING
        if part in _OF_SYSENTER:
            if not of_sysenter and self.indent and self.may_be_msrs:
                raise _Unused("stands indented under nothing that says what it belongs to; it is not used")
            self.found.placed.setdefault(meant.fields[0], False)
        return meant

    def _says_too_little(self, words: tuple[str, ...], pair: Pair, meant: Match) -> bool:
        """Whether a label may mean something else than the field that it fits."""
        unsure = self.sure and (meant.assumed_guest or not set(words) & {"guest", "host", "entry", "exit"})
        return bool(unsure) or (words in _TOO_COMMON and not pair.context)

    def _part_of_named(self, part: str, pair: Pair) -> Match:
        """A part behind the name of its register on the same line: `CS: selector=0x10, base=0x0`."""
        meant = match_label(" ".join((*pair.context, part)), area=self.area or pair.area)
        if not meant.fields:
            raise _Unused(f"behind {' '.join(pair.context)} means no VMCS field; it is not used")
        return meant

    def _part_of_register_above(self, part: str) -> Match:
        area, register = self.register
        meant = match_label(f"{area or 'guest'} {register} {part}")
        if not meant.fields and area != "host":
            self.found.astray |= bool(self.found.evidence)
            raise _Unused("without the name of a register above it; it is not used")
        for name in meant.fields:
            self.found.placed[name] = self.found.placed.get(name, False) or self.register_line != self.line
        return meant

    def _goes_on(self, name: str, words: tuple[str, ...], pair: Pair) -> None:
        """A label of these words gives the field `name`: parts of its register may follow in the next lines at once."""
        register = register_in(name.split("_"))
        if pair.of_sentence or register_in(pair.context):
            self.register = NO_REGISTER  # a line that names a register before its parts lists them
        elif register in SEGMENTS:
            self.register = (name.partition("_")[0], register)
            self.register_line = self.register_line if len(words) == 1 and words[0] in PARTS else self.line
        elif not pair.context and register != self.register[1]:
            self.register = NO_REGISTER

    def _value(self, name: str, text: str) -> int:
        """The number that a text gives a field."""
        value = read_number(text, self.hex_by_default)
        if name in OUTCOME and (value is None or (name == "exit_reason" and (value >> 32 or text.startswith(_FAILED_ENTRY)))):
            value = to_unsigned(text)
        if value is None and not text.isdigit():
            raise _Unused(f"= {text} {'is cut off' if text.endswith(('.', '…')) else 'is not a number'}; the field counts as not given")
        if value is None:
            raise _Unused(f"= {text} may be decimal or hexadecimal; it is not used (write 0x{text} or say which)")
        return value & FIELDS[name].mask if text.startswith("-") else value

    def put(
        self, name: str, value: int, label: str, text: str, *, standing: Standing = Standing.NAMED, assumed: str = "", known: int = ALL
    ) -> None:
        """Note a value of a field; `text` is the number as written."""
        if name not in self.sure:
            self.found.evidence.append(Reading(value, label, self.line, known, assumed, name, standing, text))

    def msr(self, label: str, text: str, second: str = "") -> bool:
        """Note a capability MSR, if the label names one; `second`: its upper half, where the halves are printed as allowed-0 / allowed-1."""
        number = match_msr(label)
        value = read_number(text, True)
        if number is not None and value is not None:
            if second:
                value = value & 0xFFFFFFFF | (int(second, 16) & 0xFFFFFFFF) << 32
            self.found.evidence.append(Reading(value, FACT_MSRS[number], self.line, name=FACT_MSRS[number], written=text))
        return number is not None

    def _rights_bits(self, label: str, text: str) -> bool:
        """Note bits of the access rights of the register above, if the label is their name."""
        area, register = self.register
        low, width = _RIGHTS_BITS.get(label.lower(), (0, 0))
        value = read_number(text, self.hex_by_default is not False)
        if area == "host" or register not in SEGMENTS[:8] or not width or value is None or value >> width:
            return False
        known = ((1 << width) - 1) << low
        self.put(f"guest_{register}_access_rights", value << low, f"{register} {label}", text, standing=Standing.BITS, known=known)
        return True

    def heading(self, text: str) -> None:
        """Read what may be a heading; say so if it is a name with something that is no number."""
        label, _, value = map(str.strip, text.strip(_AROUND_HEADINGS).partition(":"))
        if value and (fields := match_label(label).fields):
            if not self.in_program and (fields[0] not in OUTCOME or value[0].isdigit()):  # (outcomes/ reads their names)
                self.found.warn(f"{label}: {value} is not a number; the field counts as not given", self.line)
        else:
            self._stands_above(text)

    def _stands_above(self, text: str) -> None:
        """Change what stands above the lines that follow, if the text is short enough for a heading."""
        words, marked, ends = normalise(text.strip(_AROUND_HEADINGS)), text.startswith(_MARKS), text.rstrip().endswith(":")
        if len(words if marked else text.split()) > _MOST_OF_HEADING:
            return
        area = area_of(word for word in words if word in text.lower())  # ("h" means one before a name only)
        register = register_in(words)
        if area and (ends or marked or "state" in words) and register not in SEGMENTS and not match_label(" ".join(words)).fields:
            self.area, self.register = area, NO_REGISTER  # (the value of a field may be on the next line)
        if ends and words:
            self.may_be_msrs, self.register_line = "msr" in text.lower(), self.line
            self.register = (area or self.area, register) if register else NO_REGISTER
