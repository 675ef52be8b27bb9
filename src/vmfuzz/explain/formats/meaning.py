"""Which field a label means at its place in a text: by itself, by the headings and registers above it, or by its neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from vmfuzz.explain.evidence import Found, Standing
from vmfuzz.explain.names.labels import NOTHING, PARTS, SEGMENTS, area_of, match_label

#: A group of registers that stand below its name as parts do below a segment register's.
SYSENTER: Final = "sysenter"
_OF_SYSENTER: Final = frozenset({"cs", "esp", "rsp", "eip", "rip"})
#: The words of a label that is nothing but a part of a register.
PART_WORDS: Final = frozenset((part,) for part in PARTS)
NO_AREA: Final = "no area named: read as guest state"
#: Words beside the name of a register that take nothing from it: "guest CS segment:".
_BESIDE_REGISTER: Final = frozenset({"guest", "host", "segment", "register", "reg", "state"})
#: Words that alone mean too many other things to be taken for a field.
_TOO_COMMON: Final = frozenset({("proc",), ("entry", "error"), ("exit", "error"), ("function",), ("tpr",)})


@dataclass(frozen=True)
class Manner:
    """How a whole text is written."""

    #: what digits without a mark mean; None where that is not known
    hex_by_default: bool | None = None
    #: labels count only where they name guest or host themselves: the text has a dump of another format too
    named_only: bool = False
    #: there is program text in it
    source: bool = False
    #: lines of nothing but an encoding and a value are no accident
    encodings_first: bool = False
    #: fields that a program's dump in the same text gives; a value elsewhere does not replace them
    sure: frozenset[str] = frozenset()


NO_REGISTER: Final = ("", "")


def register_in(words: Iterable[str]) -> str:
    """The register, with parts, that is named in a heading or before the pairs of a line; "" if there is none."""
    return next((word for word in words if word in SEGMENTS or word == SYSENTER), "")


class Where(NamedTuple):
    """Where a label stands."""

    number: int
    area: str = ""
    context: tuple[str, ...] = ()  # words that stand before it on its line
    indent: int = 0
    standing: Standing = Standing.NAMED


@dataclass
class Above:
    """What the lines above say of those that follow."""

    area: str = ""
    #: (area, register) that parts belong to, and the line that names it; SYSENTER's registers count as parts of "sysenter"
    register: tuple[str, str] = NO_REGISTER
    register_line: int = 0
    #: whether indented lines may be MSRs: the last heading says so, or there is none
    may_be_msrs: bool = True

    def goes_on(self, name: str, words: tuple[str, ...], where: Where) -> None:
        """A label of these words gives the field `name`: parts of its register may follow in the next lines at once."""
        area, register, *_ = [*name.split("_"), ""]
        if where.standing is Standing.SENTENCE or register_in(where.context):
            self.register = NO_REGISTER  # a line that names a register before its parts lists them
        elif register in SEGMENTS:
            self.register = (area, register)
            self.register_line = self.register_line if words in PART_WORDS else where.number
        elif not (where.context or (self.register[1] == SYSENTER and SYSENTER in name)):
            self.register = NO_REGISTER


class Meaning(NamedTuple):
    """The field that a label means, or its high half, and what was assumed.

    `field` is "" where the label means some field, but the text does not tell which; a warning has been noted.
    """

    field: str
    assumed: str = ""
    high: bool = False


_AMBIGUOUS: Final = Meaning("")


class Understanding:
    """Finds out what labels mean in one text; notes which of them only their places name."""

    def __init__(self, found: Found, manner: Manner, above: Above) -> None:
        self.found = found
        self.manner = manner
        self.above = above

    def of(self, label: str, words: tuple[str, ...], where: Where) -> Meaning | None:
        """What a label means, None if nothing; `words` are those of the label, normalised."""
        part = words[0] if len(words) == 1 else ""
        named = register_in(where.context)
        if part in _OF_SYSENTER and SYSENTER in (named, self.above.register[1]):
            label = f"sysenter {part}"
        elif part in PARTS:
            return self._part_of_named(label, part, where) if named else self._part_of_register_above(label, part, where)
        return self._by_label(label, words, where)

    def _part_of_register_above(self, label: str, part: str, where: Where) -> Meaning | None:
        area, register = self.above.register
        if register not in SEGMENTS or (register in ("gdtr", "idtr") and part in ("ar", "sel")):
            self.found.astray |= bool(self.found.evidence)
            self.found.warn(f"{label} without the name of a register above it; it is not used", where.number)
            return _AMBIGUOUS
        matched = match_label(f"{area} {register} {part}")
        if not matched.fields:
            return None
        name = matched.fields[0]
        self.found.placed[name] = self.found.placed.get(name, False) or self.above.register_line != where.number
        return Meaning(name)

    def _part_of_named(self, label: str, part: str, where: Where) -> Meaning | None:
        """A part behind the name of its register on the same line: `CS: selector=0x10, base=0x0`."""
        named = [word for word in where.context if word not in _BESIDE_REGISTER]
        match = match_label(f"{area_of(where.context)} {named[0]} {part}", area=where.area) if len(named) == 1 else NOTHING
        if not match.fields:
            self.found.warn(f"{label} behind {' '.join(where.context)} means no VMCS field; it is not used", where.number)
            return _AMBIGUOUS
        return Meaning(match.fields[0], NO_AREA if match.assumed_guest else "")

    def _by_label(self, label: str, words: tuple[str, ...], where: Where) -> Meaning | None:
        match = match_label(label, where.context, where.area)
        if len(match.fields) > 1:
            self.found.warn(f"{label} may mean {' or '.join(match.fields)}; it is not used", where.number)
            return _AMBIGUOUS
        if not match.fields or (words in _TOO_COMMON and not where.context):
            return None
        if self.manner.named_only and (match.assumed_guest or not set(words) & {"guest", "host", "entry", "exit"}):
            return None
        if len(words) == 1 and words[0] in _OF_SYSENTER:
            if SYSENTER not in label and where.indent and self.above.may_be_msrs:
                self.found.warn(f"{label} stands indented under nothing that says what it belongs to; it is not used", where.number)
                return _AMBIGUOUS
            self.found.placed.setdefault(match.fields[0], False)
        return Meaning(match.fields[0], NO_AREA if match.assumed_guest else "", match.high)
