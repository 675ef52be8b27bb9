"""Reads "name: value" text: printk dumps of hobby hypervisors, lists of encodings with values, tables, CSV, code fragments."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Final

from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.notes import NO_REGISTER, Notes
from vmfuzz.explain.formats.program import lines_of_program
from vmfuzz.explain.formats.rows import read_row
from vmfuzz.explain.formats.shapes import opened_by, pairs_in, tidy
from vmfuzz.explain.text.lines import Line
from vmfuzz.explain.text.numbers import bare_is_hex
from vmfuzz.patterns import deferred

#: That VM entry failed.
_FAILS: Final = deferred(
    r"vm_?(?:launch|resume|entry|enter)\b.{0,80}(?:fail|error)|(?:fail|error).{0,80}\bvm[ _-]?(?:launch|resume|entry|enter)|80000021"
)
#: Registers of somebody else that stand beside a dump, in no form that says whose they are: what Xen and Linux print of a crash of the guest or of the
#: host, and what Linux says of a process.
_OF_ANOTHER: Final = deferred(
    r"----\[ Xen|CPU: +\d|RFLAGS: [0-9a-f]+ +CONTEXT|r[a-d]x: [0-9a-f]+ +r|(?:r[sd]i|rbp|r\d+|fsb): |(?:cr[03]: [0-9a-f]+ +cr[24]|ds: [0-9a-f]{4} +es):|"
    r"R?[IS]P: +[0-9a-f]{4}:|RSP: [0-9a-f]+ EFL|(?:RAX|E[AS][XI]|CR[02]|DR[03]): [0-9a-f]+ [A-Z]|[CD]S: +[0-9a-f]{4} [DE]S: |FS: +[0-9a-f]+\(|"
    r"PKRU: |Code: |Call Trace|"
    r".*?(?:\baudit(?:\(\d|: type=)|\btype=[A-Z]+ msg=audit|\bsegfault at |\bgeneral protection fault ip[:=]|\btrap [a-z ]{2,24} ip[:=])"
)
#: gdb's question; its answer stands on the line below.
_ASKED: Final = deferred(r"\(gdb\)\s*(?:p|print|output|call)(?:\s*/\w+)?\s+(\S.*)")
_ANSWER: Final = deferred(r"\$\d+ = (.+)")


def read_pairs(lines: Sequence[Line], taken: Collection[int], found: Found, beside: bool) -> None:
    """Note what the lines give that are not `taken`; `beside`: what a dump in the same text gives goes before that."""
    text = "\n".join(line.text for line in lines if line.number not in taken)
    if _FAILS.search(text.lower()):
        found.failed = max(line.number for line in lines if _FAILS.search(line.text.lower()))
    of_program = lines_of_program(lines)
    sure = frozenset(one.name for one in found.evidence) if beside else frozenset[str]()
    notes = Notes(found, bare_is_hex(text), sure, bool(of_program))
    questions = [_ASKED.match(line.text) for line in lines]
    for line, question in zip(lines, [None, *questions], strict=False):
        if line.number not in taken and not _OF_ANOTHER.match(line.text):
            notes.line, notes.indent = line.number, line.indent
            _read_line(tidy(_answered(line.text, question)), notes, of_program.get(line.number))


def _answered(text: str, question: re.Match[str] | None) -> str:
    """The line below a question of gdb's, as a name with its value; any other line as it is."""
    answer = _ANSWER.match(text) if question else None
    return f"{question[1]} = {answer[1]}" if question and answer else text


def _read_line(text: str, notes: Notes, row_of_program: bool | None) -> None:
    """Read a line: an end of a structure, a row, names and values, or else a heading; `row_of_program`: of program text, whether it may be a row."""
    opened = opened_by(text) if row_of_program is None else ""
    if opened:
        notes.heading(opened)
    elif not text.strip("})],"):
        notes.register = NO_REGISTER
    elif row_of_program is not False and not read_row(text, notes) and row_of_program is None:
        pairs = pairs_in(text)
        for pair in pairs:
            notes.store(pair)
        if not pairs:
            notes.heading(text)
