"""Reads what a program prints from the lines of its printf: a format is declared, not programmed (the declarations: programs/).

In a declared line stand, where the program prints a number (hexadecimal, as `%x` or `%08lx` print it; what is printed before it is written out):

    {guest_rip}             the field, or a part of it: {vm_entry_controls.9} is its bit 9
    {+CR2}                  a value that stands beside the VMCS under this name
    {}                      a number that says nothing here
    {name} = {value}        any name and its value; what they mean is found out as in any other text

`@` stands for the name of one of the declared registers, a blank for any blanks, and [ ... ] for an end that may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

from vmfuzz.explain.dump import ALL, Reading
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_HOLE: Final = deferred(
    r"\{(?P<what>[+\w.@ ]*)\}|(?P<register>@)|(?P<blanks>\s+)|(?P<opens>\[(?=\s))|(?P<closes>\](?=$))|(?P<text>[^\s{}@]|[{}])"
)
_NUMBER: Final = r"[0-9a-fA-F]{1,16}"
_NAME, _VALUE = "name", "value"


@dataclass(frozen=True)
class _Shape:
    """A declared line as a pattern, and what each of its groups gives."""

    pattern: re.Pattern[str]
    holes: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True)
class Declared:
    """A format: what the program is called, where its source prints this, and the lines that it prints."""

    program: str
    source: str
    #: plain strings of which one stands in any text of this format
    words: tuple[str, ...]
    lines: tuple[str, ...]
    #: what the program prints, with what is to be read of it: each declared line is in it, and it has no other lines
    sample: str
    gives: dict[str, int] = field(default_factory=dict)
    registers: tuple[str, ...] = ()
    #: why what it shows is not quite the VMCS; "" where it is
    view: str = ""

    @cached_property
    def shapes(self) -> tuple[_Shape, ...]:
        """The declared lines as patterns."""
        return tuple(_shape(line, self.registers) for line in self.lines)

    def read(self, line: Line, found: Found) -> Line | None:
        """Note what a line of this format gives; returns the line as any other text has it, where the format leaves that open, else None."""
        for shape in self.shapes:
            match = shape.pattern.fullmatch(line.text)
            if match:
                return self._note(match, shape, line, found)
        return line

    def _note(self, match: re.Match[str], shape: _Shape, line: Line, found: Found) -> Line | None:
        register = match["register"] if "register" in match.groupdict() else ""
        given = {what: text for what, text in zip(shape.holes, _texts(match, len(shape.holes)), strict=True) if text is not None}
        if _NAME in given:
            return replace(line, text=f"{given[_NAME]} = 0x{given[_VALUE]}")
        for what, label in zip(shape.holes, shape.labels, strict=True):
            if not what or what not in given:
                continue
            value = int(given[what], 16)
            if what.startswith("+"):
                found.beside.setdefault(f"{self.program} {what[1:]}", Reading(value, label, line.number))
                continue
            name, _, bit = what.replace("@", register).partition(".")
            known = 1 << int(bit) if bit else ALL
            shown = label.replace("@", register) or name
            found.put(name, value << int(bit or 0), shown, line.number, assumed=self.view, known=known, written=given[what])
        return None


def _texts(match: re.Match[str], count: int) -> list[str | None]:
    return [match[f"h{index}"] for index in range(count)]


def _shape(line: str, registers: Sequence[str]) -> _Shape:
    pattern, holes, labels, label = "", list[str](), list[str](), ""
    for part in _HOLE.finditer(line):
        if part["what"] is not None:
            number = r"[A-Za-z]\w*" if part["what"] == _NAME else _NUMBER
            pattern += f"(?P<h{len(holes)}>{number})"
            holes.append(part["what"])
            labels.append(re.sub(r"(?:0x)?$", "", label).strip(" :=,/["))
            label = ""
        elif part["register"]:
            pattern += f"(?P<register>{'|'.join(sorted(registers, key=len, reverse=True))})"
            label += "@"
        else:
            pattern += r"\s+" if part["blanks"] else "(?:" if part["opens"] else ")?" if part["closes"] else re.escape(part[0])
            label = " " if part["blanks"] and label.endswith((",", ";")) else label + part[0]
    return _Shape(re.compile(pattern), tuple(holes), tuple(labels))


def read_declared(lines: Iterable[Line], found: Found, formats: Iterable[Declared]) -> list[Line]:
    """Note what lines of these formats give; returns the other lines."""
    rest = list(lines)
    text = "\n".join(line.text for line in rest)
    for one in formats:
        if any(word in text for word in one.words):
            rest = [left for line in rest if (left := one.read(line, found)) is not None]
    return rest
