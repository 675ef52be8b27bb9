"""Reads what a program prints from the lines of its printf: a format is declared, not programmed (the declarations: programs/, qemu.py, virtualbox.py).

In a declared line stand, where the program prints a number (hexadecimal, as `%x` or `%08lx` print it; what is printed before it is written out):

    {guest_rip}             the field, or a part of it: {vm_entry_controls.9} is its bit 9, {vm_entry_controls.9<10} that, from bit 10 of the number
    {guest_rip:8|16}        it has so many digits
    {+CR2}                  a value that stands beside the VMCS under this name; {+EIP guest_rip} is that and a field
    {}                      a number that says nothing here
    {name} = {value}        any name and its value; what they mean is found out as in any other text

`@` stands for the name of one of the declared registers, and a blank for any blanks. `%#x` prints 0 without its 0x: declare such a line
in both ways. A decimal number (`%d`) is `{}`, since its digits would be read as hexadecimal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

from vmfuzz.explain.dump import ALL, Reading
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

#: A number of a declared line: what is printed before it, what it gives, and how many digits it has ("" where it is any number of them).
HOLE: Final = deferred(r"(.*?)\{([^{}:]*):?([\d|]*)\}", re.DOTALL)
_DIGIT: Final = "[0-9a-fA-F]"
_REST: Final = "~ "
_NAME, _VALUE = "name", "value"


class _Shape(NamedTuple):
    """A declared line as a pattern; what each of its numbers gives, and what the line calls it; whether it only goes on with a broken line."""

    pattern: re.Pattern[str]
    numbers: tuple[tuple[str, str], ...]
    rest: bool


@dataclass(frozen=True)
class Declared:
    """A format: what the program is called, where its source prints this, and the lines that it prints."""

    program: str
    source: str
    #: every text of this format contains at least one of these strings
    words: tuple[str, ...]
    lines: tuple[str, ...]
    #: what the program prints, with what is to be read of it: each declared line is in it, and it has no other lines ("" where tests/texts has it)
    sample: str = ""
    gives: dict[str, int] = field(default_factory=dict)
    registers: tuple[str, ...] = ()
    #: what the program prints before each line ("tiny: "); a line counts without it too, since it may have been taken off with what loggers print
    prefix: str = ""
    #: why what it shows of the guest is not quite the VMCS; "" where it is
    view: str = ""
    #: `lines` are parts of lines, of which any may be missing; one with ~ before it begins no line but the rest of one that a mail program broke
    parts: bool = False
    #: what a number of so many digits shows of a field, its value and the bits that are known, where that is not the whole field
    shows: Callable[[str, int, int], tuple[int, int]] | None = None

    @cached_property
    def shapes(self) -> tuple[_Shape, ...]:
        """The declared lines as patterns."""
        return tuple(map(self._shape, self.lines))

    def _shape(self, line: str) -> _Shape:
        printed = line.removeprefix(_REST)
        numbers = HOLE.findall(printed)
        labels = [before.removesuffix("0x").strip(" :=/[]{(") for before, _, _ in numbers]
        columns = not all(labels) or any("@" in before for before, _, _ in numbers[:1])
        pattern, given = "", list[tuple[str, str]]()
        for index, ((before, gives, digits), label) in enumerate(zip(numbers, labels, strict=True)):
            group, number = f"n{index}", f"{_DIGIT}{{1,16}}"
            if gives in (_NAME, _VALUE):
                group, number = gives, r"[A-Za-z]\w*" if gives == _NAME else number
            elif digits:
                number = "|".join(rf"{_DIGIT}{{{count}}}\b" for count in digits.split("|"))
            pattern += f"{self._pattern_of(before)}(?P<{group}>{number})"
            part = gives.partition("_")[2].partition("_")[2].replace("_", " ")  # what is in a register's columns is called after it
            given.append((gives, f"{labels[0].partition(' ')[0]} {part}" if columns and part else label))
        pattern += self._pattern_of(HOLE.sub("", printed))
        whole = rf"(?<!\w){pattern}" if self.parts else rf"^(?:{re.escape(self.prefix.strip())}\s*)?{pattern}$"
        return _Shape(re.compile(whole), tuple(given), line.startswith(_REST))

    def _pattern_of(self, text: str) -> str:
        """A pattern for what is printed around numbers."""
        register = f"(?P<register>{'|'.join(sorted(self.registers, key=len, reverse=True))})"
        return "".join(r"\s+" if one.isspace() else register if one == "@" else re.escape(one) for one in re.split(r"(\s+|@)", text))

    def own_lines(self, lines: Sequence[Line], text: str) -> list[Line]:
        """The lines that have a part of this format in them; `text`: the text that they are of."""
        mine: list[Line] = []
        for index, line in enumerate(lines if any(word in text for word in self.words) else ()):
            below = bool(mine) and mine[-1] is lines[index - 1]
            if any((below or not shape.rest) and shape.pattern.search(line.raw) for shape in self.shapes):
                mine.append(line)
        return mine

    def read(self, line: Line, found: Found, beside: bool = False) -> Line | None:
        """Note what a line of this format gives, as fields, or only beside them; returns the line as any other text has it, where the format
        leaves that open, else None.
        """
        text = line.raw if self.parts else line.text
        matches = [(shape, match) for shape in self.shapes for match in shape.pattern.finditer(text)]
        for shape, match in matches if self.parts else matches[:1]:
            if _NAME in match.groupdict():
                return line._replace(text=f"{match[_NAME]} = 0x{match[_VALUE]}")
            self._note(shape, match, line, found, beside)
        return None if matches else line

    def _note(self, shape: _Shape, match: re.Match[str], line: Line, found: Found, beside: bool) -> None:
        register = match.groupdict().get("register", "")
        for number, (gives, label) in enumerate(shape.numbers):
            text, label = match[f"n{number}"], label.replace("@", register)
            for one in gives.split():
                name, _, bit = one.replace("@", register if one.startswith("+") else register.lower()).partition(".")
                value, known = int(text, 16), ALL
                if bit:
                    to, _, of = bit.partition("<")
                    value, known = (value >> int(of or 0) & 1) << int(to), 1 << int(to)
                elif self.shows:
                    value, known = self.shows(name, value, len(text))
                if beside or name.startswith("+"):
                    title = name[1:] if name.startswith("+") else label
                    found.beside.setdefault(f"{self.program} {title}", Reading(value, label or title, line.number))
                else:
                    why = self.view if bit or name.startswith("guest") else ""
                    found.evidence.append(Reading(value, label or name, line.number, known, why, name, written=text))


def read_declared(lines: list[Line], found: Found, formats: Iterable[Declared]) -> list[Line]:
    """Note what lines of these formats give; returns the other lines."""
    text = "\n".join(line.text for line in lines)
    for one in formats:
        if any(word in text for word in one.words):
            left = [other for line in lines if (other := one.read(line, found)) is not None]
            kept = {line.number for line in left}
            found.programs[f"what {one.program} prints"] = [line for line in lines if line.number not in kept]
            lines = left
    return lines
