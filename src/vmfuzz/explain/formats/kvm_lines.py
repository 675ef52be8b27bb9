"""Which lines of a text are of dumps of KVM or Xen, and of which: monitors print single lines like theirs among registers of their own."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from vmfuzz.explain.formats.kvm_tables import CERTAIN, CONTINUES, HEADED, SEGMENTS, STARTS
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

#: So many kinds of lines like KVM's or Xen's are a dump, whatever stands beside them.
_KINDS: Final = 3
#: Registers as monitors print them, in no form of KVM's or Xen's.
_BARE: Final = deferred(
    r"(?:guest[_. ])?(?:cr[034]|e?[re]?flags|[re]?[is]p|dr7|efer|[c-gs]s|tr|ldtr|[gi]dtr)(?:[._ ](?:sel\w*|base|limit|ar|access|attr\w*))?"
    r" ?[:=] ?(?:0x)?[0-9a-f]",
    re.IGNORECASE,
)
#: The beginning of lines of a dump that have values.
_WITH_VALUES: Final = deferred(r"(?:[C-GS]S|LDTR|TR|GDTR|IDTR|CR[034]|RFLAGS|DR7|PinBased|EntryControls|ExitControls) *[:=]")
#: Who logged a line: dmesg's caller id.
_CALLER: Final = deferred(r"^[^A-Za-z]*\[\s*\d+\.\d+\]\s*\[\s*([TC]\d+)\]")
_GUEST: Final = deferred(r"\*\*\* ?Guest State")
#: No line of a dump is so long.
_JOINED: Final = 300
#: Where a line of a dump may begin within another one.
_WITHIN: Final = deferred(r"[ \t]+(?=\*\*\* ?(?:Guest|Host|Control) State|\(XEN\)|\[ *\d+\.\d+\]|VMCS [0-9a-fA-F]+, last)")


def unjoined(text: str) -> str:
    """The text with new lines within a long line that has sections of a dump: whoever pasted it lost the ends of lines."""
    return "\n".join(_WITHIN.sub("\n", line) if len(line) >= _JOINED and " State *" in line else line for line in text.split("\n"))


def split_lines(lines: list[Line]) -> tuple[list[list[Line]], list[Line]]:
    """(the lines of each dump in the text, all other lines)."""
    if not _is_dump(lines):
        return [], lines
    mine, others = list[Line](), list[Line]()
    for index, line in enumerate(lines):
        goes_on = bool(mine) and mine[-1] is lines[index - 1] and CONTINUES.match(line.text)
        (mine if goes_on or STARTS.match(line.text) else others).append(line)
    return [dump for stream in _streams(mine) for dump in _dumps(stream) if dump], others


def lost_lines(part: list[Line], others: list[Line]) -> list[Line]:
    """The lines within a dump that begin as those with values do, and of which nothing belongs to the dump: they are damaged."""
    return [line for line in others if part and part[0].number < line.number <= part[-1].number + 1 and _WITH_VALUES.match(line.text)]


def _is_dump(lines: list[Line]) -> bool:
    """Whether a text has a dump: a line of no other program, several kinds of lines like KVM's, or no registers in other forms beside one."""
    if any(HEADED.match(line.text) for line in lines):
        return True
    like = {line.number: _key(line) for line in lines if CERTAIN.match(line.text)}
    kinds = {"" if key.rstrip(":") in SEGMENTS else key for key in like.values()}
    beside = (line for line in lines if line.number not in like)
    return len(kinds) >= _KINDS or (bool(like) and not any(_BARE.match(line.text) for line in beside))


def _streams(lines: list[Line]) -> list[list[Line]]:
    """The lines of each processor: those of several may be interleaved."""
    callers = [match[1] if (match := _CALLER.match(line.raw)) else "" for line in lines]
    several = sorted({*callers} - {""})
    return [[line for line, its in zip(lines, callers, strict=True) if its == one] for one in several] if len(several) > 1 else [lines]


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
