"""Which lines of a text are of dumps of KVM or Xen, and of which: monitors print single lines like theirs among registers of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from vmfuzz.explain.formats.kvm_tables import CONTINUES, STARTS
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_VMCS: Final = deferred(r"VMCS [0-9a-fA-Fx]+, last attempted")
_GUEST_HEADING: Final = deferred(r"\*\*\* ?Guest State")
#: Lines that a dump of this format has, and lists of names and values too: alone they are no dump.
_WEAK: Final = deferred(
    r"(?:CR3|RSP|RIP|RFLAGS|EFER|PAT|SSP|S_CET|PDPT[RE]\d|ExceptionBitmap|TSC (?:Offset|Multiplier)|TPR Threshold|EPT pointer|"
    r"Virtual processor ID|CR3 target\d) ?=\s*[^\s=]+(?:\s+[<(][^=]*)?$"
)
_HEADING: Final = deferred(r"\*\*\* ?(?:Guest|Host|Control) State")
#: Lines of programs that print like KVM but with blanks; only beside a heading.
_BLANKS: Final = deferred(r"CS = \S+ SS = |CR[034] = |reason = \S+ qual")
#: Lines so long that have so many keys of this format were several lines.
_JOINED, _SEVERAL = 300, 6
_OF_MANY_LINES: Final = ("actual=", "limit=", "RIP = 0x", "DR7 = 0x", "Sysenter RSP=", "CR4=", "PinBased=", "intr_info=", "reason=")
_BEGINS: Final = deferred(
    r"[ \t](\*\*\* ?(?:Guest|Host|Control) State|\(XEN\)|\[ *\d+\.\d+\]|[A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d |"
    r"VMCS [0-9a-fA-F]+, last|CR0: ?actual)"
)
#: What a kernel's log or Xen's console puts before its lines.
_LOGGED: Final = deferred(r"\(XEN\)|\[ *\d+\.\d+\]")
#: The beginning of lines of a dump that have values.
_WITH_VALUES: Final = deferred(r"(?:[C-GS]S|LDTR|TR|GDTR|IDTR|CR[034]|RFLAGS|DR7|PinBased|EntryControls|ExitControls) *[:=]")
#: Lines that no other program prints.
_CERTAIN: Final = deferred(
    r"\*\*\* ?(?:Guest|Host|Control) State|VMCS [0-9a-fA-Fx]+, last attempted|CR[034]: ?actual|sel\s+attr\s+limit\s+base|SVI\|RVI|EFER\((?:VMCS|MSR LL)\)|"
    r"(?:[CDSEFG]S|LDTR|TR):\s+[0-9a-fA-F]{4}\s+[0-9a-fA-F]{4,8}\s+[0-9a-fA-F]{8}\s|[GI]DTR:\s+[0-9a-fA-F]{4,8}\s+[0-9a-fA-F]{16}|"
    r"MSR (?:guest|host) auto|Sysenter RSP=\S+ +CS:RIP=|(?:[FG]S|TR|GDT|IDT)Base=[0-9a-fA-F]{16}"
)
#: Registers as monitors print them, in no form of KVM's or Xen's.
_BARE: Final = deferred(
    r"(?:guest[_. ])?(?:cr[034]|e?[re]?flags|[re]?[is]p|dr7|efer|[c-gs]s|tr|ldtr|[gi]dtr)(?:[._ ](?:sel\w*|base|limit|ar|access|attr\w*))?"
    r" ?[:=] ?(?:0x)?[0-9a-f]",
    re.IGNORECASE,
)
_SEGMENT: Final = deferred(r"(?:[CDSEFG]S|LDTR|TR|[GI]DTR):")
#: A register of which a mail program broke the line before its first part.
_BROKEN: Final = deferred(r"(?:[CDSEFG]S|LDTR|TR|[GI]DTR):$")
#: So many kinds of lines like KVM's are a dump of it, whatever widths its numbers have.
_KINDS: Final = 3


def unjoined(text: str) -> str:
    """The text with a new line where one of its sections or log lines begins within a long line: whoever pasted it lost the ends of lines."""
    if all(len(line) < _JOINED for line in text.split("\n")):
        return text
    return "\n".join(
        _BEGINS.sub(r"\n\1", line) if len(line) >= _JOINED and sum(map(line.count, _OF_MANY_LINES)) >= _SEVERAL else line
        for line in text.split("\n")
    )


@lru_cache(maxsize=1 << 13)
def _begins(text: str) -> bool:
    """Whether a line (without prefixes) begins like one of this format."""
    return STARTS.match(text) is not None or _VMCS.match(text) is not None


def split_lines(lines: list[Line]) -> tuple[list[list[Line]], list[Line]]:
    """(the lines of each dump in the text, all other lines)."""
    if not _is_dump(
        [line for line in lines if _begins(line.text) and not _WEAK.match(line.text)], [line for line in lines if not _begins(line.text)]
    ):
        return [], lines
    mine, others = _divided(lines)
    quoted = _quoted_below(mine)
    if quoted:
        mine, others = mine[: -len(quoted)], sorted([*others, *quoted], key=lambda line: line.number)
    callers = {line.caller for line in mine if line.caller}
    streams = [mine]
    if len(callers) > 1:  # dumps of several processors, interleaved
        streams = [[line for line in mine if line.caller == caller] for caller in sorted(callers)]
    return [dump for stream in streams for dump in _split_at_heading(stream)], others


def _divided(lines: list[Line]) -> tuple[list[Line], list[Line]]:
    """(the lines of KVM's and Xen's dumps, all others) of a text that has one."""
    mine: list[Line] = []
    others: list[Line] = []
    headed = any(_HEADING.match(line.text) for line in lines)
    for index, line in enumerate(lines):
        broken = _BROKEN.match(line.text) and index + 1 < len(lines) and CONTINUES.match(lines[index + 1].text)
        beside = bool(mine) and mine[-1] is lines[index - 1] and (CONTINUES.match(line.text) or broken)
        (
            mine
            if _begins(line.text) or beside or (headed and (STARTS.match(line.text.replace(" = ", "=")) or _BLANKS.match(line.text)))
            else others
        ).append(line)
    return mine, others


def _quoted_below(lines: list[Line]) -> list[Line]:
    """The last lines of a dump that somebody quoted below it: apart from it, and without what the log puts before its lines."""
    logged = [index for index, line in enumerate(lines) if _LOGGED.search(line.raw)]
    if len(logged) * 3 < len(lines):
        return []
    apart = (index for index in range(logged[-1] + 1, len(lines)) if lines[index].number > lines[index - 1].number + 1) if logged else ()
    return lines[next(iter(apart), len(lines)) :]


def _split_at_heading(lines: list[Line]) -> list[list[Line]]:
    dumps: list[list[Line]] = [[]]
    seen = False
    for line in lines:
        if _GUEST_HEADING.match(line.text):
            if seen:
                dumps.append([])
            seen = True
        dumps[-1].append(line)
    return [part for dump in dumps for part in _without_head(dump) if part]


def lost_lines(part: list[Line], others: list[Line]) -> list[Line]:
    """The lines within a dump that begin as those with values do, and of which nothing belongs to the dump: they are damaged."""
    if not part:
        return []
    first, last = part[0].number, part[-1].number + 1
    return [line for line in others if first < line.number <= last and _WITH_VALUES.match(line.text)]


def _without_head(lines: list[Line]) -> list[list[Line]]:
    """A dump, and apart from it what stands before its first heading if that comes again behind it: it is of another dump, or of none."""
    first = next((index for index, line in enumerate(lines) if _GUEST_HEADING.match(line.text)), 0)
    keys = [_key(line) for line in lines]
    again = set(keys[first:])
    texts = {line.text for line in lines[first:]}
    if all(line.text in texts or line.text.startswith("VMCS ") for line in lines[:first]):
        lines = [line for line in lines[:first] if line.text not in texts] + lines[first:]  # quoted above the dump
        return [lines]
    if first and all(key in again or key.startswith("VMCS ") for key in keys[:first]) and any(key in again for key in keys[:first]):
        return [lines[:first], lines[first:]]
    return [lines]


def _key(line: Line) -> str:
    """What a line begins with, up to its first sign: "CR0:" is the guest's, "CR0=" the host's."""
    return "".join(re.split(r"(?<=[=:(])", line.text, maxsplit=1)[0].split())


def _is_dump(like: Sequence[Line], unlike: Sequence[Line]) -> bool:
    """Whether the lines `like` KVM's and Xen's are a dump of theirs; `unlike`: the other lines of the text."""
    if any(_CERTAIN.match(line.text) for line in like):
        return True
    return _kinds(like) >= _KINDS or (bool(like) and not any(_BARE.match(line.text) for line in unlike))


def _kinds(lines: Iterable[Line]) -> int:
    """How many different keys the lines begin with; those of segments count as one."""
    return len({"segment" if _SEGMENT.match(line.text) else re.split("[=:]", line.text, maxsplit=1)[0].strip() for line in lines})
