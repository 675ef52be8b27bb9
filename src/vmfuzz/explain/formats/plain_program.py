"""Reads program text: statements that assign constants to what is clearly a field, and calls that write one."""

from __future__ import annotations

from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import half
from vmfuzz.explain.formats.constants import given_to
from vmfuzz.explain.formats.plain_calls import NO_WRITES, Write, writes_in
from vmfuzz.explain.formats.plain_forms import STATEMENT
from vmfuzz.explain.formats.plain_lines import assigned_field
from vmfuzz.explain.formats.plain_store import PlainStore
from vmfuzz.explain.names.labels import NOTHING

_IN_PROGRAM: Final = "an assignment in program text"
#: A call may go on for so many characters of the lines below.
_LONGEST_CALL: Final = 400


class ProgramReader(PlainStore):
    """Reads the lines of a text that are of a program."""

    def _call(self, text: str) -> bool:
        """Read the calls in a line that write fields, and the rest of one that began above; returns whether there are any."""
        if "(" not in text and "*/" not in text and "/*" not in text and not self.unfinished and not self.in_comment:
            return False
        text, self.unfinished = self.unfinished + text, ""
        begun = text.count("/*") - text.count("*/") if "*/" in text or "/*" in text else 0
        commented, self.in_comment = self.in_comment, (self.in_comment or begun > 0) and begun >= 0
        if "(" not in text:
            return False
        if commented:
            text = text.partition("*/")[2]
        writes = writes_in(text, self.area)
        if writes == NO_WRITES:
            return False
        if len(writes.rest) < _LONGEST_CALL:
            self.unfinished = f"{writes.rest} " if writes.rest else ""
        if writes.commented:
            self.commented.append(self.line)
        for write in writes.calls:
            if writes.failed:
                self.dump.warn(f"line {self.line}: the write of {write.label} failed, so that its value is not used")
            else:
                self._write(write)
        return True

    def _write(self, write: Write) -> None:
        if self.named_only and not any(word in write.label.lower() for word in ("guest", "host", "entry", "exit")):
            return
        if write.value is None:
            if write.field in self.by_call:
                self.dump.readings.pop(write.field, None)
            self.by_call_computed.setdefault(write.field, self.line)
        elif write.field not in self.by_call_computed and write.field not in self.computed:
            fresh = write.field not in self.dump.readings
            self._put(write.field, write.value, write.label, known=write.known)
            if fresh:
                self.by_call.add(write.field)

    def _statement(self, text: str) -> bool:
        """Read a statement of a program that assigns to what is clearly a field; returns whether it is one.

        A program may assign more than once, under conditions that the text does not show: a field whose value is not always a constant, or is
        changed afterwards, is not used.
        """
        statement = STATEMENT.match(text)
        match = assigned_field(statement["name"]) if statement else NOTHING
        if not statement or len(match.fields) != 1:
            return False
        field = match.fields[0]
        constant = None if statement["change"] else given_to(FIELDS[field], statement["value"].strip())
        if constant is None:
            reading = self.dump.readings.get(field)
            if reading is not None and reading.assumed == _IN_PROGRAM:
                del self.dump.readings[field]
            if field not in self.computed:
                self.dump.warn(f"line {self.line}: {statement['name']} is program text whose value is not in it; it is not used")
            self.computed.add(field)
        elif field not in self.computed:
            value, known = constant
            if match.high:
                value, known = value << 32, half(1)
            self._put(field, value, statement["name"], assumed=_IN_PROGRAM, known=known)
        return True
