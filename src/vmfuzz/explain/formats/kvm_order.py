"""Whether the lines of a VMCS dump stand as KVM and Xen print them, so that a value on a line of its own belongs to the key before it."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from vmfuzz.explain.formats.kvm_tables import RANKS
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


def gaps(tokens: list[Token]) -> frozenset[int]:
    """The lines behind which a line is missing that is always printed next: the rest of a wrapped line may be that one's."""
    ranks: dict[int, int] = {}
    for token in tokens:
        if token.field in RANKS:
            ranks.setdefault(token.opened if token.opened > 0 else token.line, RANKS[token.field])
    if len(ranks) == 1:
        return frozenset(ranks)
    return frozenset(line for (line, rank), (_, after) in pairwise(ranks.items()) if after > rank + 1)
