"""Reads "name: value" text: printk dumps of hobby hypervisors, lists of encodings with values, tables, CSV, code fragments, write calls.

A label may name its field alone (`GUEST_CS_AR_BYTES`), or with the help of what stands above it: a register with its parts in lines of their
own ("rights", "lim", "base"), a heading ("host state", "sysenter msrs:"), the beginning of its line ("entry state: intr=...").
"""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.headings import read_heading
from vmfuzz.explain.formats.meaning import Manner, Where
from vmfuzz.explain.formats.notes import Notes
from vmfuzz.explain.formats.program import ProgramReader
from vmfuzz.explain.formats.rows import Rows
from vmfuzz.explain.formats.shapes import (
    CONTROL_WORDS,
    FLAGS_LEFT,
    GOES_ON,
    OF_PROCESS,
    STATEMENT,
    Outline,
    in_sentence,
    is_of_guest,
    lists_controls,
    outline_of,
    pairs_in,
    says_failure,
)
from vmfuzz.explain.names.labels import SEGMENTS, best_label, ending_name, match_label, named_member, normalise
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_MAX_LABEL_WORDS: Final = 7
_OF_SYSENTER: Final = deferred(r"(?:(?=cs)|[er](?=[is]p))(cs|[is]p)\b", re.IGNORECASE)
#: The area that a label names for all that stand behind it on the line: `host CS=0x38 SS=0x30`.
_OWN_AREA: Final = deferred(r"(guest|host) ", re.IGNORECASE)
_LETTERS: Final = deferred(r"[^\W\d_]{2}")
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

    def finish(self) -> None:
        """Note what only the whole text can tell: whether numbers beside names are encodings."""
        self.rows.finish()

    def read(self, line: Line, in_code: bool = False) -> None:
        """Read one line; of program text (`in_code`) only calls that write a field count."""
        self.notes.line = line.number
        if says_failure(line.text):
            self.found.failed = self.notes.line
        self._leave_sysenter(line)
        outline = outline_of(line.text, self.manner.source)
        text = outline.text
        self.above.after_failure, failed = outline.fails, self.above.after_failure
        if OF_PROCESS.search(text) or self.program.call(text, self.notes.line, self.above.area):
            return
        if outline.opens and not in_code:
            read_heading(outline.opens, line, self.above, self.manner, self.found)
        elif outline.closes:
            self.above.register = ("", "")
        elif not in_code and not (self.manner.source and STATEMENT.match(text)):
            self._read_line(outline, line, failed)

    def _read_line(self, outline: Outline, line: Line, failed: bool) -> None:
        """Read a line that is of no program; `failed`: the line before says that a VMREAD failed."""
        text = outline.text
        if FLAGS_LEFT.match(text) and (failed or (text[0] in "#/;" and not self.above.area)):
            self.found.warn("these may be the flags that a VMREAD left; they are not used as the guest's", self.notes.line)
        elif failed and not text[:1].isupper():
            return  # what a program says of a VMREAD that failed
        elif not (self.rows.read(text) or outline.code):
            self._pairs(text, line)

    def _leave_sysenter(self, line: Line) -> None:
        """The group of SYSENTER's registers is over with its indentation; where that is lost, each of them comes once, at once."""
        above = self.above
        if above.sysenter_indent < 0 or line.indent > above.sysenter_indent:
            return
        found = _OF_SYSENTER.match(line.text)
        if self.manner.flat and found and found[1].lower() not in above.sysenter_seen:
            above.sysenter_seen.add(found[1].lower())
        else:
            above.sysenter_indent = -1

    # Pairs in a line

    def _pairs(self, text: str, line: Line) -> None:
        end, context, known, parts, whose = 0, tuple[str, ...](), False, 0, ""
        for start, stop, written, value, bad in pairs_in(text):
            if bad:
                self._warn_of_bad(bad, value)
                continue
            if self.manner.source and GOES_ON.match(text, stop):
                self.found.warn(f"{written.strip()} = {value} goes on as an expression; it is not used", self.notes.line)
                continue
            context = self._context(text, text[end:start].strip(" ,;()[]-")) or context
            whose = next((word for word in context if word in ("guest", "host")), whose)
            end = stop
            label = self._label(written, lists_controls(text))
            if label is None:
                continue
            own = _OWN_AREA.match(label)
            whose = own[1].lower() if own else whose
            sentence = text if _is_cut_off(label, written) or in_sentence(text, start) else ""
            member = bool(label) and named_member(written.strip(_AROUND_LABELS)) == label
            where = Where(self.notes.line, self.above.area or whose, context, line, sentence, member)
            known = self.notes.store(label, value, where) or known
            parts += any(word in SEGMENTS for word in context)
        if parts > 1:  # a line that lists the parts of the register that it names: a part below is another's
            self.above.register = ("", "")
        if not known and end == 0:
            read_heading(text, line, self.above, self.manner, self.found)

    def _warn_of_bad(self, label: str, value: str) -> None:
        if match_label(label).fields:
            why = "is cut off" if value.endswith((".", "…")) else "is not a number"
            self.found.warn(f"{label} = {value} {why}; the field counts as not given", self.notes.line)

    def _context(self, text: str, before: str) -> tuple[str, ...]:
        """The words that stand before a pair and say whose it is: `CS: sel=...`, `entry state: intr=...`."""
        if not before.endswith(":") or len(before.split()) > 4:
            return ()
        context = normalise(before)
        return ("guest", *context) if not self.above.area and is_of_guest(text) and "host" not in context else context

    def _label(self, written: str, of_controls: bool) -> str | None:
        """The part of what stands before a number that names it; None where that is more than a label. `of_controls`: its line has control words."""
        label = best_label(written.strip(_AROUND_LABELS), self.above.area)
        if of_controls and normalise(label) in CONTROL_WORDS:
            return f"{label} controls"
        if len(label.split()) > _MAX_LABEL_WORDS:
            label = " ".join(label.split()[-_MAX_LABEL_WORDS:])
            return label if match_label(label).fields else None
        return label


def _is_cut_off(label: str, written: str) -> bool:
    """Whether the label is the end of words: they are of a sentence."""
    return label == ending_name(written) and _LETTERS.search(written.replace(label, "")) is not None
