"""Which lines of a text are of which dump: KVM's and Xen's, of several processors too, and QEMU's, quoted or one below the other."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise
from typing import Final

from vmfuzz.explain.formats.kvm_tables import CONTINUES, OWN, STARTS
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

#: Who logged a line: dmesg's caller id.
_CALLER: Final = deferred(r"^[^A-Za-z]*\[\s*\d+\.\d+\]\s*\[\s*([TC]\d+)\]")
_GUEST: Final = deferred(r"\*\*\* ?Guest State")


def split_lines(lines: list[Line]) -> tuple[list[list[Line]], list[Line]]:
    """(the lines of each dump of KVM or Xen in the text, all other lines)."""
    if not any(OWN.match(line.text) for line in lines):
        return [], lines
    streams, others = defaultdict[str, list[Line]](list), list[Line]()  # lines of several processors may be interleaved
    caller = next((match[1] for line in lines if (match := _CALLER.match(line.raw))), "")
    goes_on = False
    for line in lines:
        goes_on = bool(STARTS.match(line.text) or (goes_on and CONTINUES.match(line.text)))
        if goes_on and (logged := _CALLER.match(line.raw)):
            caller = logged[1]
        (streams[caller] if goes_on else others).append(line)
    return [dump for stream in streams.values() for dump in divided(stream, _GUEST)], others


def divided(lines: list[Line], first: re.Pattern[str]) -> list[list[Line]]:
    """Dumps that stand one below the other, and begin with such lines, without those that are quoted from another.

    What stands above the first beginning is of another dump, or of none, if it comes again behind it; else the lines are not in their order.
    """
    begins = [index for index, line in enumerate(lines) if first.match(line.text)]
    dumps = [lines[one:other] for one, other in pairwise([0, *begins, len(lines)])]
    if begins:
        again = {line.text for line in dumps[1]}
        dumps[0] = [line for line in dumps[0] if line.text not in again]
        if not set(map(_key, dumps[0])) <= set(map(_key, dumps[1])):
            dumps[:2] = [dumps[0] + dumps[1]]
    different: dict[frozenset[str], list[Line]] = {}
    for dump in dumps:
        different.setdefault(frozenset(line.text for line in dump), dump)
    return [dump for texts, dump in different.items() if not any(texts < others for others in different)]


def _key(line: Line) -> str:
    """What a line begins with, up to its first sign: "CR0:" is the guest's, "CR0=" the host's."""
    return "".join(re.split(r"(?<=[=:(])", line.text, maxsplit=1)[0].split())
