"""Reads "name: value" text: printk dumps of hobby hypervisors, lists of encodings with values, tables, CSV, code fragments, write calls.

A label may name its field alone (`GUEST_CS_AR_BYTES`), or with the help of what stands above it: a register with its parts in lines of their
own ("rights", "lim", "base"), a heading ("host state", "sysenter msrs:"), the beginning of its line ("entry state: intr=...").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from vmfuzz.explain.evidence import Found, Standing
from vmfuzz.explain.formats.headings import read_heading
from vmfuzz.explain.formats.meaning import NO_REGISTER, Manner, Where
from vmfuzz.explain.formats.notes import Notes
from vmfuzz.explain.formats.program import ProgramReader
from vmfuzz.explain.formats.rows import Rows
from vmfuzz.explain.formats.shapes import (
    CLOSES,
    CODE,
    FAILS,
    FLAGS_LEFT,
    OF_PROCESS,
    READ_FAILED,
    REGISTER_HEAD,
    STATEMENT,
    Pair,
    in_sentence,
    opened_by,
    pairs_in,
    tidy,
)
from vmfuzz.explain.names.labels import area_of, cut_label, match_label, normalise
from vmfuzz.explain.text.lines import Line

_MAX_CONTEXT: Final = 4
#: Words of control words that mean others where the pin-based ones do not stand beside them: `Pin: 16 Proc: 401e172 Exit: 36fff Entry: 11ff`.
_CONTROL_WORDS: Final = frozenset({("proc",), ("exit",), ("entry",)})
#: Parts that the VMCS has of the guest's registers only.
_OF_GUEST: Final = frozenset({("ar",), ("limit",)})
_AROUND_LABELS: Final = " ,;()[]\"'"


class PairReader:
    """Reads lines one after the other; knows the headings above and the register last named."""

    def __init__(self, found: Found, manner: Manner) -> None:
        self.found = found
        self.manner = manner
        self.notes = Notes(found, manner)
        self.above = self.notes.above
        self.program = ProgramReader(found)
        self.rows = Rows(self.notes)
        self.read_failed = False  # the line before says that a VMREAD failed

    def finish(self) -> None:
        """Note what only the whole text can tell: whether numbers beside names are encodings."""
        self.rows.finish()

    def read(self, line: Line, in_code: bool = False) -> None:
        """Read one line; of program text (`in_code`) only calls that write a field count."""
        self.notes.line = line.number
        if FAILS.search(line.text):
            self.found.failed = line.number
        text = tidy(line.text, self.manner.source)
        after_failure, self.read_failed = self.read_failed, READ_FAILED.search(text) is not None
        if OF_PROCESS.search(text) or self.program.call(text, line.number, self.above.area):
            return
        opened = "" if in_code else opened_by(text)
        if opened:
            read_heading(opened, line, self.above, self.manner, self.found)
        elif CLOSES.match(text):
            self.above.register = NO_REGISTER
        elif in_code or (self.manner.source and STATEMENT.match(text)):
            return
        elif after_failure and FLAGS_LEFT.match(text):
            self.found.warn("these may be the flags that a VMREAD left; they are not used as the guest's", line.number)
        elif not (self.rows.read(text) or CODE.match(text)):
            self._pairs(text, line)

    def _pairs(self, text: str, line: Line) -> None:
        """Read the names and values of a line; it is a heading if it has none."""
        pairs = pairs_in(text)
        whose = ""
        for pair, context in _in_context(text, pairs, not self.above.area):
            label, of_sentence = cut_label(pair.label.strip(_AROUND_LABELS), self.above.area)
            whose = area_of(label.lower().split()[:1]) or area_of(context) or whose  # `host CS=0x38 SS=0x30`
            standing = Standing.NAMED
            if of_sentence or in_sentence(text):
                standing = Standing.SENTENCE
                whose = whose or ("guest" if "guest" in text.lower() else "")
            self.notes.store(label, pair.value, Where(line.number, self.above.area or whose, context, line.indent, standing))
        if all(pair.bad for pair in pairs):
            read_heading(text, line, self.above, self.manner, self.found)
        for pair in pairs:
            if match_label(pair.bad).fields:
                why = "is cut off" if pair.value.endswith((".", "…")) else "is not a number"
                self.found.warn(f"{pair.bad} = {pair.value} {why}; the field counts as not given", line.number)


def _in_context(text: str, pairs: Sequence[Pair], free: bool) -> Iterator[tuple[Pair, tuple[str, ...]]]:
    """The pairs that have numbers, each with the words that stand before it, or before one before it: `CS: sel=...`, `entry state: intr=...`.

    `free`: nothing above says whose the line is.
    """
    words = {normalise(pair.label.strip(_AROUND_LABELS))[-1:] for pair in pairs}
    of_guest = free and len(REGISTER_HEAD.findall(text)) == 1 and not words.isdisjoint(_OF_GUEST)
    context = ("ctl",) if ("pin",) in words and len(words & _CONTROL_WORDS) > 1 else tuple[str, ...]()
    end = 0
    for pair in pairs:
        before = text[end : pair.start].strip(" ,;()[]-")
        if before.endswith(":") and len(before.split()) <= _MAX_CONTEXT and context != ("ctl",):
            context = normalise(before)
            context = ("guest", *context) if of_guest and "host" not in context else context
        if not pair.bad:
            end = pair.end
            yield pair, context
