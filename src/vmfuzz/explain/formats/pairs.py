"""Reads "name: value" text: printk dumps of hobby hypervisors, lists of encodings with values, tables, CSV, code fragments, write calls."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.notes import NO_REGISTER, Manner, Notes
from vmfuzz.explain.formats.program import ProgramReader
from vmfuzz.explain.formats.rows import read_row
from vmfuzz.explain.formats.shapes import ASSIGNED, is_code, opened_by, pairs_in, tidy
from vmfuzz.explain.names.labels import match_label
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

#: That VM entry failed.
_FAILS: Final = deferred(
    r"vm_?(?:launch|resume|entry|enter)\b.{0,80}(?:fail|error)|(?:fail|error).{0,80}\bvm[ _-]?(?:launch|resume|entry|enter)|80000021",
    re.IGNORECASE,
)
#: What a kernel says of a process: the registers on the line are that process's.
_OF_PROCESS: Final = deferred(
    r"\baudit(?:\(\d|: type=)|\btype=[A-Z]+ msg=audit|\bsegfault at |\bgeneral protection fault ip[:=]|\btrap [a-z ]{2,24} ip[:=]"
)
#: What is printed behind a VMREAD that failed: the flags that it left, not the guest's.
_FLAGS_LEFT: Final = deferred(r"vm_?read\b.*\bfail.*\n[#/;\s]*[re]?flags\s*[:=]", re.IGNORECASE)
#: gdb's question, and below it the answer.
_ANSWERED: Final = deferred(r"\(gdb\)\s*(?:p|print|output|call)(?:\s*/\w+)?\s+(?P<expression>\S.*)\n\$\d+ = (?P<value>.+)")


class PairReader:
    """Reads lines one after the other; knows the line before."""

    def __init__(self, found: Found, manner: Manner) -> None:
        self.found = found
        self.manner = manner
        self.notes = Notes(found, manner)
        self.program = ProgramReader(found)
        self.before = ""

    def read(self, line: Line, in_code: bool = False) -> None:
        """Read one line; of program text (`in_code`) only calls that write a field count."""
        self.notes.line, self.notes.indent = line.number, line.indent
        if _FAILS.search(line.text):
            self.found.failed = line.number
        both, self.before = f"{self.before}\n{line.text}", line.text
        text = tidy(_ANSWERED.sub(r"\g<expression> = \g<value>", both).rpartition("\n")[2])
        if _OF_PROCESS.search(text) or self.program.call(text, line.number, self.notes.area):
            return
        opened = "" if in_code else opened_by(text)
        assigned = ASSIGNED.match(text) is not None
        if opened:
            self.notes.heading(opened)
        elif not text.strip("})],"):
            self.notes.register = NO_REGISTER
        elif _FLAGS_LEFT.search(both):
            self.found.warn("these may be the flags that a VMREAD left; they are not used as the guest's", line.number)
        elif not (in_code or (assigned and self.manner.source) or read_row(text, self.notes) or (is_code(text) and not assigned)):
            self._pairs(text)

    def _pairs(self, text: str) -> None:
        """Read the names and values of a line; it is a heading if it has none."""
        pairs = pairs_in(text)
        for pair in pairs:
            if not pair.bad:
                self.notes.store(pair)
            elif match_label(pair.bad).fields:
                why = "is cut off" if pair.value.endswith((".", "…")) else "is not a number"
                self.found.warn(f"{pair.bad} = {pair.value} {why}; the field counts as not given", self.notes.line)
        if all(pair.bad for pair in pairs):
            self.notes.heading(text)
