"""Which lines of a text are of dumps of KVM or Xen, and of which: monitors print single lines like theirs among registers of their own."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from vmfuzz.explain.formats.kvm_tables import CERTAIN, CONTINUES, STARTS
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_GUEST: Final = deferred(r"\*\*\* ?Guest State")
#: Where a line of a dump may begin within another one.
_WITHIN: Final = deferred(r"[ \t]+(?=\*\*\* ?(?:Guest|Host|Control) State|\(XEN\)|\[ *\d+\.\d+\]|VMCS [0-9a-fA-F]+, last)")


def unjoined(text: str) -> str:
    """The text with new lines within a line that has several sections of a dump: whoever pasted it lost the ends of lines."""
    return "\n".join(_WITHIN.sub("\n", line) if line.count(" State *") > 1 else line for line in text.split("\n"))


def split_lines(lines: list[Line]) -> tuple[list[list[Line]], list[Line]]:
    """(the lines of each dump in the text, all other lines); without a line that no other program prints there is none."""
    if not any(CERTAIN.match(line.text) for line in lines):
        return [], lines
    mine, others = list[Line](), list[Line]()
    for index, line in enumerate(lines):
        goes_on = bool(mine) and mine[-1] is lines[index - 1] and CONTINUES.match(line.text)
        (mine if goes_on or STARTS.match(line.text) else others).append(line)
    return [dump for stream in _streams(mine) for dump in _dumps(stream) if dump], others


def _streams(lines: list[Line]) -> list[list[Line]]:
    """The lines of each processor: those of several may be interleaved."""
    callers = sorted({line.caller for line in lines if line.caller})
    return [[line for line in lines if line.caller == caller] for caller in callers] if len(callers) > 1 else [lines]


def _dumps(lines: list[Line]) -> list[list[Line]]:
    """Dumps that stand one below the other. What stands above the first heading is of another dump, or of none, if it comes again behind it."""
    headings = [index for index, line in enumerate(lines) if _GUEST.match(line.text)]
    head, *dumps = (lines[one:other] for one, other in pairwise([0, *headings, len(lines)]))
    if dumps:
        texts = {line.text for line in dumps[0]}
        head = [line for line in head if line.text not in texts]  # without what is quoted above the dump
        if not {_key(line) for line in head} <= {_key(line) for line in dumps[0]}:
            return [head + dumps[0], *dumps[1:]]
    return [head, *dumps]


def _key(line: Line) -> str:
    """What a line begins with, up to its first sign: "CR0:" is the guest's, "CR0=" the host's."""
    return "".join(re.split(r"(?<=[=:(])", line.text, maxsplit=1)[0].split())
