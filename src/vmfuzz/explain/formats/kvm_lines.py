"""Which lines of a text are of dumps of KVM or Xen, and of which: monitors print single lines like theirs among registers of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from vmfuzz.explain.formats.kvm_tables import CONTINUES, SEGMENTS, STARTS, begins
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_HEADING: Final = deferred(r"\*\*\* ?(?:(Guest)|Host|Control) State")
#: Lines that a dump of this format has, and lists of names and values too: alone they are no dump.
_WEAK: Final = deferred(
    r"(?:CR3|RSP|RIP|RFLAGS|EFER|PAT|SSP|S_CET|PDPT[RE]\d|ExceptionBitmap|TSC (?:Offset|Multiplier)|TPR Threshold|EPT pointer|"
    r"Virtual processor ID|CR3 target\d) ?=\s*[^\s=]+(?:\s+[<(][^=]*)?$"
)
#: Lines of programs that print like KVM but with blanks; only beside a heading.
_BLANKS: Final = deferred(r"CS = \S+ SS = |CR[034] = |reason = \S+ qual")
#: Lines so long that so many lines of a dump begin within were several, and where these begin.
_JOINED, _SEVERAL = 300, 6
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
#: A register of which a mail program broke the line before its first part.
_BROKEN: Final = deferred(r"(?:[CDSEFG]S|LDTR|TR|[GI]DTR):$")
#: So many kinds of lines like KVM's are a dump of it, whatever widths its numbers have.
_KINDS: Final = 3


def unjoined(text: str) -> str:
    """The text with a new line where one of its sections or log lines begins within a long line: whoever pasted it lost the ends of lines."""
    if all(len(line) < _JOINED for line in text.split("\n")):
        return text
    return "\n".join(
        _BEGINS.sub(r"\n\1", line) if len(line) >= _JOINED and len(STARTS.findall(line)) >= _SEVERAL else line for line in text.split("\n")
    )


def split_lines(lines: list[Line]) -> tuple[list[list[Line]], list[Line]]:
    """(the lines of each dump in the text, all other lines)."""
    if not _is_dump(lines):
        return [], lines
    mine, others = list[Line](), list[Line]()
    headed = any(_HEADING.match(line.text) for line in lines)
    for before, line, after in zip([None, *lines], lines, [*lines[1:], None], strict=False):
        broken = _BROKEN.match(line.text) and after is not None and CONTINUES.match(after.text)
        goes_on = bool(mine) and mine[-1] is before and (broken or CONTINUES.match(line.text))
        with_blanks = headed and (begins(line.text.replace(" = ", "=")) or _BLANKS.match(line.text))
        (mine if begins(line.text) or goes_on or with_blanks else others).append(line)
    quoted = _quoted_below(mine)
    if quoted:
        mine, others = mine[: -len(quoted)], sorted([*others, *quoted], key=lambda line: line.number)
    callers = sorted({line.caller for line in mine if line.caller})
    # those of several processors, interleaved
    streams = [[line for line in mine if line.caller == caller] for caller in callers] if len(callers) > 1 else [mine]
    return [dump for stream in streams for dump in _dumps(stream) if dump], others


def lost_lines(part: list[Line], others: list[Line]) -> list[Line]:
    """The lines within a dump that begin as those with values do, and of which nothing belongs to the dump: they are damaged."""
    return [line for line in others if part and part[0].number < line.number <= part[-1].number + 1 and _WITH_VALUES.match(line.text)]


def _is_dump(lines: Sequence[Line]) -> bool:
    """Whether a text has a dump of KVM's or Xen's: a line of no other program, many kinds of lines, or no lines of other forms beside them."""
    like = [line for line in lines if begins(line.text) and not _WEAK.match(line.text)]
    if any(_CERTAIN.match(line.text) for line in like):
        return True
    kinds = {"" if key in SEGMENTS else key for key in (_key(line).rstrip("=:") for line in like)}
    return len(kinds) >= _KINDS or (bool(like) and not any(_BARE.match(line.text) for line in lines if not begins(line.text)))


def _quoted_below(lines: list[Line]) -> list[Line]:
    """The last lines of a dump that somebody quoted below it: apart from it, and without what the log puts before its lines."""
    logged = [index for index, line in enumerate(lines) if _LOGGED.search(line.raw)]
    if not logged or len(logged) * 3 < len(lines):
        return []
    apart = (index for index in range(logged[-1] + 1, len(lines)) if lines[index].number > lines[index - 1].number + 1)
    return lines[next(apart, len(lines)) :]


def _dumps(lines: list[Line]) -> Iterator[list[Line]]:
    """Dumps that stand one below the other. What stands above the first heading is of another dump, or of none, if it comes again behind it."""
    headings = [index for index, line in enumerate(lines) if (found := _HEADING.match(line.text)) and found[1]]
    if not headings:
        yield lines
        return
    head, (first, *rest) = lines[: headings[0]], [lines[one:other] for one, other in pairwise([*headings, len(lines)])]
    texts, again = {line.text for line in first}, {_key(line) for line in first}
    if all(line.text in texts or line.text.startswith("VMCS ") for line in head):
        yield [line for line in head if line.text not in texts] + first  # quoted above the dump
    elif {_key(line) for line in head} <= again:
        yield from (head, first)
    else:
        yield head + first
    yield from rest


def _key(line: Line) -> str:
    """What a line begins with, up to its first sign: "CR0:" is the guest's, "CR0=" the host's."""
    return "".join(re.split(r"(?<=[=:(])", line.text, maxsplit=1)[0].split())
