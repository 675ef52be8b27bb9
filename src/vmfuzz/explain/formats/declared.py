"""Reads what a program prints from the lines of its printf: a format is declared, not programmed (the declarations: programs/, qemu.py, virtualbox.py).

In a declared line stand, where the program prints a number (hexadecimal, as `%x` or `%08lx` print it; what is printed before it is written out):

    {guest_rip}             the field, or a part of it: {vm_entry_controls.9} is its bit 9
    {guest_rip:8|16}        it has so many digits
    {+CR2}                  a value that stands beside the VMCS under this name; {+EIP guest_rip} is that and a field
    {}                      a number that says nothing here
    {name} = {value}        any name and its value; what they mean is found out as in any other text

`@` stands for the name of one of the declared registers, a blank for any blanks, ... for anything up to what follows, and [ ... ] for an end that
may be missing. A line with ~ before it is the rest of one that a mail program broke: it counts only right below a line of this format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, NamedTuple

from vmfuzz.explain.dump import ALL, Reading
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_HOLE: Final = deferred(
    r"\{(?P<what>[+\w.@ :|]*)\}|(?P<register>@)|(?P<blanks>\s+(?:\.\.\.\s+)?)|(?P<opens>\[(?=\s))|(?P<closes>\](?=$))|(?P<text>[^\s{}@]|[{}])"
)
_DIGIT: Final = "[0-9a-fA-F]"
_NAME, _VALUE = "name", "value"


class _Hole(NamedTuple):
    """What a number of a line gives, and what the line calls it."""

    what: str
    label: str


class Shown(NamedTuple):
    """What a number shows of a field: its value, which bits of it are known, and why, where the format's own reason does not say it."""

    value: int
    known: int = ALL
    why: str = ""


@dataclass(frozen=True)
class _Shape:
    """A declared line as a pattern, the beginning that is of no other program, and what each of its numbers gives."""

    pattern: re.Pattern[str]
    begins: str
    holes: tuple[_Hole, ...]


@dataclass(frozen=True)
class Declared:
    """A format: what the program is called, where its source prints this, and the lines that it prints."""

    program: str
    source: str
    #: plain strings of which one stands in any text of this format
    words: tuple[str, ...]
    lines: tuple[str, ...]
    #: what the program prints, with what is to be read of it: each declared line is in it, and it has no other lines ("" where tests/texts has it)
    sample: str = ""
    gives: dict[str, int] = field(default_factory=dict)
    registers: tuple[str, ...] = ()
    #: why what it shows is not quite the VMCS; "" where it is
    view: str = ""
    #: a line may break off, or go on with something else, behind what it calls its second number
    open_ended: bool = False
    #: the lines are parts of lines, several of which may stand on one
    within_lines: bool = False
    #: what a number of so many digits shows of a field, where that is not the whole field
    shows: Callable[[str, int, int], Shown] | None = None

    @cached_property
    def shapes(self) -> tuple[_Shape, ...]:
        """The declared lines as patterns."""
        return tuple(_shape(line.removeprefix("~ "), self.registers, self.open_ended) for line in self.lines)

    @cached_property
    def _beginnings(self) -> tuple[re.Pattern[str], ...]:
        """How the lines of this format begin, and the rest of broken ones."""
        rests = [line.startswith("~") for line in self.lines]
        anywhere = ".*?" * self.within_lines
        both = (
            [shape.begins for shape, rest in zip(self.shapes, rests, strict=True) if rest is wanted] or ["(?!)"] for wanted in (False, True)
        )
        first, later = ("|".join(one) for one in both)
        return re.compile(f"{anywhere}(?:{first})"), re.compile(later)

    def own_lines(self, lines: Sequence[Line]) -> list[Line]:
        """The lines that are of this format."""
        mine: list[Line] = []
        text = "\n".join(line.text for line in lines)
        if not any(word in text for word in self.words):
            return mine
        first, later = self._beginnings
        for index, line in enumerate(lines):
            if first.match(line.text) or (mine and mine[-1] is lines[index - 1] and later.match(line.text)):
                mine.append(line)
        return mine

    def read(self, line: Line, found: Found, beside: str = "") -> Line | None:
        """Note what a line of this format gives, as fields, or beside them under names that begin with `beside`; returns the line as any other text
        has it, where the format leaves that open, else None.
        """
        if self.within_lines:
            for shape in self.shapes:
                for part in shape.pattern.finditer(line.text):
                    self._note(part, shape, line, found, beside)
            return None
        for shape in self.shapes:
            match = shape.pattern.match(line.text) if self.open_ended else shape.pattern.fullmatch(line.text)
            if match:
                return self._note(match, shape, line, found, beside)
        return line

    def _note(self, match: re.Match[str], shape: _Shape, line: Line, found: Found, beside: str) -> Line | None:
        register = match["register"] if "register" in match.groupdict() else ""
        given = {hole: text for index, hole in enumerate(shape.holes) if (text := match[f"h{index}"]) is not None}
        texts = {hole.what: text for hole, text in given.items()}
        if _NAME in texts:
            return replace(line, text=f"{texts[_NAME]} = 0x{texts[_VALUE]}")
        for hole, text in given.items():
            label = hole.label.replace("@", register)
            for what in hole.what.split():
                if what.startswith("+"):
                    name = what[1:].replace("@", register)
                    found.beside.setdefault(f"{self.program} {name}", Reading(int(text, 16), label or name, line.number))
                    continue
                name, _, bit = what.replace("@", register.lower()).partition(".")
                shown = self.shows(name, int(text, 16), len(text)) if self.shows else _whole(int(text, 16), bit)
                if beside:
                    found.beside.setdefault(f"{beside} {label}", Reading(shown.value, label, line.number))
                else:
                    why = shown.why or self.view
                    found.put(name, shown.value, label or name, line.number, assumed=why, known=shown.known, written=text)
        return None


def _whole(number: int, bit: str) -> Shown:
    """A number that is the field, or this bit of it."""
    return Shown(number << int(bit), 1 << int(bit)) if bit else Shown(number)


def _shape(line: str, registers: Sequence[str], open_ended: bool) -> _Shape:
    pattern, begins, whats, labels, label, opened = "", "", list[str](), list[str](), "", 0
    for part in _HOLE.finditer(line):
        if open_ended and len(whats) > 1 and not label:
            opened += 1
            pattern += "(?:"
        if part["what"] is not None:
            what, _, digits = part["what"].partition(":")
            if open_ended and len(whats) == 1:
                begins, opened = pattern, opened + 1
                pattern += "(?:"
            pattern += f"(?P<h{len(whats)}>{_number(what, digits)})"
            whats.append(what)
            labels.append(re.sub(r"(?:0x)?$", "", label).strip(" :=,/[]{("))
            label = ""
        elif part["register"]:
            pattern += f"(?P<register>{'|'.join(sorted(registers, key=len, reverse=True))})"
            label += "@"
        elif part["blanks"]:
            pattern += r"\s+(?:.*?\s)?" if "..." in part["blanks"] else r"\s+"
            label = " " if label.endswith((",", ";")) or "..." in part["blanks"] else label + " "
        else:
            pattern += "(?:" if part["opens"] else ")?" if part["closes"] else re.escape(part[0])
            label += part[0]
    pattern += ")?" * opened
    return _Shape(re.compile(pattern), re.sub(r"\?P<\w+>", "?:", begins or pattern), tuple(_holes(whats, labels)))


def _number(what: str, digits: str) -> str:
    if what == _NAME:
        return r"[A-Za-z]\w*"
    return "(?:" + "|".join(f"{_DIGIT}{{{count}}}" for count in digits.split("|")) + r")\b" if digits else f"{_DIGIT}{{1,16}}"


def _holes(whats: Sequence[str], labels: Sequence[str]) -> Iterator[_Hole]:
    """The numbers with their labels; those of a register's columns are called after it and the part of it that they give."""
    head = labels[0] if labels else ""
    columns = "@" in head or not all(labels)
    for what, label in zip(whats, labels, strict=True):
        part = what.partition("_")[2].partition("_")[2].replace("_", " ")
        yield _Hole(what, f"{head.partition(' ')[0]} {part}" if columns and part else label)


def read_declared(lines: Iterable[Line], found: Found, formats: Iterable[Declared]) -> list[Line]:
    """Note what lines of these formats give; returns the other lines."""
    rest = list(lines)
    text = "\n".join(line.text for line in rest)
    for one in formats:
        if any(word in text for word in one.words):
            rest = [left for line in rest if (left := one.read(line, found)) is not None]
    return rest
