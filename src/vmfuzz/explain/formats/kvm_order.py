"""Whether the lines of a VMCS dump stand as KVM and Xen print them, so that a value on a line of its own belongs to the key before it."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from vmfuzz.explain.formats.kvm_tables import GUEST, HOST, RANKS, SEGMENT_KEYS
from vmfuzz.explain.formats.kvm_tokens import Token
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_TIME: Final = deferred(r"\[\s*(\d+)[.,](\d+)\]")


def in_print_order(tokens: list[Token]) -> bool:
    """Whether the fields stand in the order in which the programs print them. The tokens have their sections."""
    placed = (token.field or f"{token.section}_{token.ending}" for token in tokens if token.section != "apart")
    ranks = [RANKS[field] for field in placed if field in RANKS]
    return all(first <= second for first, second in pairwise(ranks))


def pairs_match(tokens: list[Token]) -> bool:
    """Whether RSP and RIP are printed as in their section: Xen's copies stand behind both of the guest's, and never behind the host's RSP."""
    return all(
        first.copied == second.copied if first.ending == "rsp" else not second.copied
        for first, second in pairwise(tokens)
        if first.line == second.line and {first.ending, second.ending} == {"rip", "rsp"}
    )


def shared_keys_agree(tokens: list[Token]) -> bool:
    """Whether no key that guest and host share gives two values for one section: if it does, a line stands in the wrong one."""
    seen: dict[tuple[str, str], str] = {}
    return all(
        seen.setdefault((token.section, token.ending), token.value) == token.value for token in tokens if token.ending and token.section
    )


def times_rise(lines: list[Line]) -> bool:
    """Whether the times that the kernel's log puts before its lines never fall, but for once at a heading: there two logs were put together."""
    times = [(int(found[1]), found[2], line.text) for line in lines if (found := _TIME.search(line.raw, 0, 80))]
    falls = [text for (*before, _), (*time, text) in pairwise(times) if before > time]
    return not falls or (len(falls) == 1 and falls[0].startswith("***"))


#: The order in which KVM and Xen print the registers that have parts, with what stands between and after them.
_ORDER: Final = ("cr0", "cr4", "cr3", *(key.lower() for key in SEGMENT_KEYS), "end")
_AFTER_TR: Final = frozenset({"efer", "pat", "debugctl", "debugexceptions", "interruptibility", "preemptiontimer"})


def gaps(tokens: list[Token]) -> frozenset[int]:
    """The lines of registers after which the next register is missing: the rest of their wrapped lines may be that register's."""
    opened: dict[int, str] = {}
    last = 0
    for token in tokens:
        register = token.key.partition(" ")[0].lower()
        ends = register in _AFTER_TR and token.section != HOST
        if opened and token.line not in opened and (ends or (list(opened.values())[-1] == "cr0" and not token.opened)):
            opened[token.line] = "end"  # CR4 stands right after CR0, and nothing of TR's after it
        if register in _ORDER and token.section == GUEST:
            opened.setdefault(token.opened if token.opened > 0 else token.line, register)
            last = token.line
    if opened and (tokens[-1].line > last or [*opened.values()] == ["cr0"]):  # CR0 and nothing more: its rest may be CR4's
        opened[tokens[-1].line + 1] = "end"
    return frozenset(
        line
        for (line, register), (_, after) in pairwise(opened.items())
        if register != "end" and _ORDER.index(after) != (_ORDER.index(register) + 1) % len(_ORDER)
    )
