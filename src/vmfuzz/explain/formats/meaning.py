"""Which field a label means at its place in a text: by itself, by the headings and registers above it, or by its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from vmfuzz.explain.evidence import Found
from vmfuzz.explain.names.labels import NOTHING, PARTS, SEGMENTS, match_label
from vmfuzz.explain.text.lines import Line

_SYSENTER: Final = {"cs": "sysenter cs", "esp": "sysenter esp", "rsp": "sysenter esp", "eip": "sysenter eip", "rip": "sysenter eip"}
#: The words of a label that is nothing but a part of a register.
PART_WORDS: Final = frozenset((part,) for part in PARTS)
APART: Final = "on a line that has not the form of the dump beside it"
NO_AREA: Final = "no area named: read as guest state"
#: Words beside the name of a register that take nothing from it: "guest CS segment:".
_BESIDE_REGISTER: Final = frozenset({"guest", "host", "segment", "register", "reg", "state"})
#: Words that alone mean too many other things to be taken for a field.
_TOO_COMMON: Final = frozenset({("proc",), ("entry", "error"), ("exit", "error"), ("function",), ("tpr",)})
_TABLES: Final = ("gdtr", "idtr")


@dataclass(frozen=True)
class Manner:
    """How a whole text is written."""

    #: what digits without a mark mean; None where that is not known
    hex_by_default: bool | None = None
    #: labels count only where they name guest or host themselves: the text has a dump of another format too
    named_only: bool = False
    #: the indentation of the lines that name a segment register
    top_indent: int = 0
    #: all lines have one indentation
    flat: bool = False
    #: there is program text in it
    source: bool = False
    #: lines of nothing but an encoding and a value are no accident
    encodings_first: bool = False
    #: fields that the dump beside is sure of
    sure: frozenset[str] = frozenset()


@dataclass
class Above:
    """What the lines above say of those that follow."""

    area: str = ""
    #: (area, register) that parts belong to, and the line that names it
    register: tuple[str, str] = ("", "")
    register_line: int = 0
    #: indentation and words of the last heading
    heading: tuple[int, tuple[str, ...]] = (-1, ())
    #: indentation of the heading of SYSENTER's registers, -1 outside; which of them came, in a text without indentation
    sysenter_indent: int = -1
    sysenter_seen: set[str] = field(default_factory=set)
    #: the line before says that a VMREAD failed
    after_failure: bool = False


class Where(NamedTuple):
    """Where a label stands."""

    number: int
    area: str = ""
    context: tuple[str, ...] = ()  # words that stand before it on its line
    line: Line | None = None  # its line, if it may belong to what stands above
    sentence: str = ""  # the sentence that it stands in
    member: bool = False  # it is the end of a path through a program's structures


class Meaning(NamedTuple):
    """The field that a label means, and what was assumed; no field where it is known, but not which (then that has been said)."""

    field: str
    assumed: str = ""


_UNSURE: Final = Meaning("")


class Understanding:
    """Finds out what labels mean in one text; notes which of them only their places name."""

    def __init__(self, found: Found, manner: Manner, above: Above) -> None:
        self.found = found
        self.manner = manner
        self.above = above

    def of(self, label: str, words: tuple[str, ...], where: Where) -> Meaning | None:
        """What a label means, None if nothing; `words` are those of the label, normalised."""
        if self._is_of_sysenter(words, where):
            label = _SYSENTER[words[-1]]
            for name in match_label(label, where.context, where.area).fields:
                self.found.placed.setdefault(name, False)
        elif len(words) == 1 and words[0] in PARTS:
            if any(word in SEGMENTS for word in where.context):
                return self._part_of_named(label, words[0], where)
            return self._part_of_register_above(label, words[0], where)
        return self._by_label(label, words, where)

    def _in_sysenter_group(self, where: Where) -> bool:
        return (
            self.above.sysenter_indent >= 0
            and where.line is not None
            and (self.manner.flat or where.line.indent > self.above.sysenter_indent)
        )

    def _is_of_sysenter(self, words: Sequence[str], where: Where) -> bool:
        return ("sysenter" in where.context or self._in_sysenter_group(where)) and bool(words) and words[-1] in _SYSENTER

    def _part_of_register_above(self, label: str, part: str, where: Where) -> Meaning | None:
        area, register = self.above.register
        if not register or (register in _TABLES and part in ("ar", "sel")):
            begun = bool(self.found.evidence or self.found.msrs)
            self.found.astray |= begun
            self.found.headless |= not begun
            self.found.warn(f"{label} without the name of a register above it; it is not used", where.number)
            return _UNSURE
        matched = match_label(f"{area} {register} {part}")
        if not matched.fields:
            return None
        name = matched.fields[0]
        self.found.placed[name] = self.found.placed.get(name, False) or self.above.register_line != where.number
        return Meaning(name)

    def _part_of_named(self, label: str, part: str, where: Where) -> Meaning | None:
        """A part behind the name of its register on the same line: `CS: selector=0x10, base=0x0`."""
        named = [word for word in where.context if word not in _BESIDE_REGISTER]
        area = next((word for word in where.context if word in ("guest", "host")), "")
        match = match_label(f"{area} {named[0]} {part}", area=where.area) if len(named) == 1 else NOTHING
        if not match.fields:
            self.found.warn(f"{label} behind {' '.join(where.context)} means no VMCS field; it is not used", where.number)
            return _UNSURE
        if self.manner.named_only:
            return None if match.assumed_guest else Meaning(match.fields[0], APART)
        return Meaning(match.fields[0], NO_AREA if match.assumed_guest else "")

    def _by_label(self, label: str, words: tuple[str, ...], where: Where) -> Meaning | None:
        match = match_label(label, where.context, where.area)
        if len(match.fields) > 1:
            self.found.warn(f"{label} may mean {' or '.join(match.fields)}; it is not used", where.number)
            return _UNSURE
        if not match.fields or words in _TOO_COMMON:
            return None
        if self.manner.named_only and (match.assumed_guest or not set(words) & {"guest", "host", "entry", "exit"}):
            return None
        if len(words) == 1 and words[0] in _SYSENTER:
            if self._is_under_nothing(where):
                self.found.warn(f"{label} stands indented under nothing that says what it belongs to; it is not used", where.number)
                return _UNSURE
            self.found.placed.setdefault(match.fields[0], False)
        return Meaning(match.fields[0], NO_AREA if match.assumed_guest else "")

    def _is_under_nothing(self, where: Where) -> bool:
        """Whether a line is indented although no heading above it says why, or one of MSRs."""
        if where.line is None or self._in_sysenter_group(where) or where.line.indent <= self.manner.top_indent:
            return False
        indent, words = self.above.heading
        return indent not in range(where.line.indent) or "msr" in "".join(words)
