"""Reads program text: statements that assign constants to what is clearly a field, and calls that write one."""

from __future__ import annotations

from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import half
from vmfuzz.explain.evidence import Computed, Found, Standing
from vmfuzz.explain.formats.calls import NO_WRITES, Write, writes_in
from vmfuzz.explain.formats.constants import given_to
from vmfuzz.explain.formats.forms import STATEMENT
from vmfuzz.explain.formats.meaning import Manner
from vmfuzz.explain.formats.shapes import assigned_field
from vmfuzz.explain.names.labels import NOTHING
from vmfuzz.patterns import deferred

_IN_PROGRAM: Final = "an assignment in program text"
#: A call may go on for so many characters of the lines below.
_LONGEST_CALL: Final = 400
_AREA: Final = deferred("guest|host|entry|exit")


class ProgramReader:
    """Reads the lines of a text that are of a program. It says no more than once that a field is computed."""

    def __init__(self, found: Found, manner: Manner) -> None:
        self.found = found
        self.manner = manner
        self.unfinished = ""  # the beginning of a call that goes on in the next line
        self.in_comment = False  # a comment of C goes on
        self.computed: set[str] = set()

    def call(self, text: str, number: int, area: str) -> bool:
        """Read the calls in a line that write fields, and the rest of one that began above; returns whether there are any."""
        code = self._code(text)
        writes = writes_in(code, area) if "(" in code else NO_WRITES
        if writes == NO_WRITES:
            return False
        if len(writes.rest) < _LONGEST_CALL:
            self.unfinished = f"{writes.rest} " if writes.rest else ""
        if writes.commented:
            self.found.commented.append(number)
        for write in writes.calls:
            if writes.failed:
                self.found.warn(f"the write of {write.label} failed, so that its value is not used", number)
            elif not self.manner.named_only or _AREA.search(write.label.lower()):
                self._write(write, number)
        return True

    def _code(self, text: str) -> str:
        """A line with what began above it, without the comment that goes on in it; "" if nothing of it can be a call."""
        commenting = "*/" in text or "/*" in text
        if "(" not in text and not commenting and not self.unfinished and not self.in_comment:
            return ""
        text, self.unfinished = self.unfinished + text, ""
        begun = text.count("/*") - text.count("*/") if commenting else 0
        commented, self.in_comment = self.in_comment, (self.in_comment or begun > 0) and begun >= 0
        return text.partition("*/")[2] if commented and "(" in text else text

    def _write(self, write: Write, number: int) -> None:
        if write.value is None:
            self.found.computed.append(Computed(write.field, number, by_call=True))
        elif write.field not in self.manner.sure:
            self.found.put(write.field, write.value, write.label, number, known=write.known, standing=Standing.CALL)

    def statement(self, text: str, number: int) -> bool:
        """Read a statement of a program that assigns to what is clearly a field; returns whether it is one.

        A program may assign more than once, under conditions that the text does not show: a field whose value is not always a constant, or is
        changed afterwards, is not used.
        """
        statement = STATEMENT.match(text)
        match = assigned_field(statement["name"]) if statement else NOTHING
        if not statement or len(match.fields) != 1:
            return False
        name = match.fields[0]
        constant = None if statement["change"] else given_to(FIELDS[name], statement["value"].strip())
        if constant is None:
            if name not in self.computed:
                self.found.warn(f"{statement['name']} is program text whose value is not in it; it is not used", number)
            self.computed.add(name)
            self.found.computed.append(Computed(name, number, by_call=False))
        elif name not in self.manner.sure:
            value, known = (constant[0] << 32, half(1)) if match.high else constant
            self.found.put(name, value, statement["name"], number, assumed=_IN_PROGRAM, known=known, standing=Standing.STATEMENT)
        return True
