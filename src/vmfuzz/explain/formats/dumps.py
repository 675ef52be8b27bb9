"""Which lines of a text are of which dump: KVM's and Xen's, of which monitors print single lines among registers of their own, and QEMU's."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

from vmfuzz.explain.formats.kvm_tables import CERTAIN, CONTINUES, DECLARED, HEADED, SEGMENTS, STARTS, alternatives
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
#: What stands at the beginning of lines of a dump that have values.
_WITH_VALUES: Final = deferred(alternatives(f"{line[0].head} :" if line[0].head else f"{line[0].key} =" for line in DECLARED))
#: Who logged a line: dmesg's caller id.
_CALLER: Final = deferred(r"^[^A-Za-z]*\[\s*\d+\.\d+\]\s*\[\s*([TC]\d+)\]")
_GUEST: Final = deferred(r"\*\*\* ?Guest State")


def split_lines(lines: list[Line]) -> tuple[list[list[Line]], list[Line]]:
    """(the lines of each dump of KVM or Xen in the text, all other lines)."""
    if not _is_dump(lines):
        return [], lines
    mine, others = list[Line](), list[Line]()
    for index, line in enumerate(lines):
        goes_on = bool(mine) and mine[-1] is lines[index - 1] and CONTINUES.match(line.text)
        (mine if goes_on or STARTS.match(line.text) else others).append(line)
    callers = {line.number: match[1] for line in mine if (match := _CALLER.match(line.raw))}
    several = sorted(set(callers.values()))  # lines of several processors may be interleaved
    streams = [[line for line in mine if callers.get(line.number) == caller] for caller in several] if len(several) > 1 else [mine]
    return [dump for stream in streams for dump in divided(stream, _GUEST)], others


def _is_dump(lines: list[Line]) -> bool:
    """Whether a text has a dump: a line of no other program, several kinds of lines like KVM's, or no registers in other forms beside one."""
    if any(HEADED.match(line.text) for line in lines):
        return True
    like = {line.number: _key(line) for line in lines if CERTAIN.match(line.text)}
    kinds = {key.rstrip(":") in SEGMENTS or key for key in like.values()}
    return len(kinds) >= _KINDS or (bool(like) and not any(_BARE.match(line.text) for line in lines if line.number not in like))


def divided(lines: list[Line], first: re.Pattern[str]) -> list[list[Line]]:
    """Dumps that stand one below the other, and begin with such lines, without those that are quoted.

    What stands above the first beginning is of another dump, or of none, if it comes again behind it; else the lines are not in their order.
    """
    begins = [index for index, line in enumerate(lines) if first.match(line.text)]
    head, *dumps = (lines[one:other] for one, other in pairwise([0, *begins, len(lines)]))
    if dumps:
        head = _unquoted(head, dumps[0])
        if not {_key(line) for line in head} <= {_key(line) for line in dumps[0]}:
            head, dumps = head + dumps[0], dumps[1:]
    found: list[list[Line]] = []
    for dump in (head, *dumps):
        if all(_unquoted(dump, earlier) for earlier in (found or [[]])):
            found.append(dump)
    return found


def _unquoted(lines: list[Line], dump: list[Line]) -> list[Line]:
    """Those of the lines that are not in the dump too."""
    texts = {line.text for line in dump}
    return [line for line in lines if line.text not in texts]


def lost_lines(part: list[Line], others: list[Line]) -> list[Line]:
    """The lines within a dump that begin as those with values do, and of which nothing belongs to the dump: they are damaged."""
    return [line for line in others if part and part[0].number < line.number <= part[-1].number + 1 and _WITH_VALUES.match(line.text)]


def _key(line: Line) -> str:
    """What a line begins with, up to its first sign: "CR0:" is the guest's, "CR0=" the host's."""
    return "".join(re.split(r"(?<=[=:(])", line.text, maxsplit=1)[0].split())
