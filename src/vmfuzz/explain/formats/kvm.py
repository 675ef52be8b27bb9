"""Reads the VMCS dumps of Linux KVM (`dump_vmcs`, all variants) and Xen (`vmcs_dump_vcpu`), wrapped, prefixed, cut or shuffled.

The text's numbers are aligned with those of the declared lines (kvm_tables.py). Most have a key that stands in one place of the print order only,
and are read wherever they stand. A key that guest and host share is what its neighbours' places leave: with two choices it is not read, but named
in a warning. What a line gives to a key of another line counts only if all lines stand in the print order, and none is missing between.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise, takewhile
from typing import Final

from vmfuzz.explain.dump import Reading
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.kvm_tables import DECLARED, HEADINGS, NUMBERS, SEGMENTS, Slot, alternatives
from vmfuzz.explain.text.lines import Ends, Line
from vmfuzz.patterns import deferred

_HEX: Final = r"(?:0x)?[0-9a-fA-F]+"
_NUMBER: Final = deferred(rf"({_HEX})[;.]?")
_KEYS: Final = alternatives(slot.key for line in DECLARED for slot in line)
_HEADS: Final = alternatives({line[0].head for line in DECLARED} - {""})
_TOKEN: Final = deferred(
    r"\*\*\*\s*(?P<heading>Guest|Host|Control)\s+State\s*\*\*\*"
    # no key of QEMU's, which has several numbers behind it
    rf"|(?<![\w.:-])(?P<key>{_KEYS})\s*=(?!\w+ \w{{8,16}} \w{{8}} )\s*(?P<value>(?![^\s,]+\s*=|Sysenter\b|\*\*\*)[^\s,]+)?"
    # what is no field, Xen's own copy, a number that a console may have broken, or the end of the text
    r"(?:(?P<beside>\s*\((?:effective|autoload)\))|(?P<copy>\s\(0x)|(?P<broken>\n(?=(?:0?x)?[0-9a-fA-F]{1,16}(?:[\s,(|]|$))|(?:\s*\(\w*)?\Z))?"
    rf"|(?<![\w.])(?P<head>{_HEADS}|MSR (?:guest|host) auto(?:load|store)):(?P<columns>(?:\s+[0-9a-fA-F]+(?![\w=:]))*)"
    rf"|(?<![\w.])(?P<entry>\d+):\s*msr=(?P<msr>{_HEX})\s+value=(?P<content>{_HEX})"
)
_HEADING: Final = "***"
_LAST: Final = max(slot.rank for line in DECLARED for slot in line)


@dataclass
class Token:
    """A number of the text, or a heading."""

    key: str
    value: str
    line: int
    #: what it may be
    slots: Sequence[Slot]
    #: the line on which what the number belongs to stands, and whether the number stands on another
    opened: int = 0
    wrapped: bool = False
    #: Xen's own copy of the register stands behind the value, in brackets
    copied: bool = False
    #: behind the value the text ends, or the next line begins with a value
    broken: bool = False

    @property
    def field(self) -> str:
        """The field, or "+name"; "" if there is a choice, or none."""
        return self.slots[0].field if self.slots and all(slot.field == self.slots[0].field for slot in self.slots[1:]) else ""

    def leave(self, slots: Sequence[Slot]) -> None:
        """Leave of what it may be these, if there are any."""
        self.slots = slots or self.slots


def parse(lines: list[Line], found: Found, ends: Ends) -> None:
    """Note what the lines of one dump give; `ends`: the lines of the text that may not be whole."""
    tokens = list(_tokens(lines, ends.unfinished not in lines[-1:], found))
    _know_copies(tokens, lines)
    _pair(tokens)
    firsts = dict[str | int, Token]()  # without what is there again: a reply quotes lines below the dump
    for token in tokens:
        firsts.setdefault(token.field or id(token), token)
    first_ones = list(firsts.values())
    _place(first_ones)
    for token in first_ones:
        if not token.field and token.key != _HEADING:
            text = f"{token.key} = {token.value} may be the guest's or the host's; the lines around it do not tell, so it is not used"
            found.warn(text, token.line)
    missing = _gaps(first_ones)
    for token in (token for token in tokens if token.field):
        number = _NUMBER.fullmatch(token.value)
        doubt = _doubt(token, ends.first if ends.torn else 0, missing) if number else "is not a number"
        if doubt or not number:
            found.warn(f"{token.key} = {token.value or '(nothing)'} {doubt}; {token.field.lstrip('+')} counts as not given", token.line)
        elif token.field.startswith("+"):
            found.beside.setdefault(token.field[1:], Reading(int(number[1], 16), token.key, token.line))
        else:
            found.evidence.append(Reading(int(number[1], 16), token.key, token.line, name=token.field))


def _tokens(lines: list[Line], whole: bool, found: Found) -> Iterator[Token]:
    """The numbers and headings of the lines, which are joined to one text; `whole`: the last one is not cut."""
    joined = "\n".join(line.text for line in lines) + "\n" * whole
    ends = list(accumulate(len(line.text) + 1 for line in lines))
    head, opened = "", 0
    for match in _TOKEN.finditer(joined):
        line = lines[bisect(ends, match.start())].number
        key = "".join((match["key"] or "").split())
        if match["heading"]:
            head = ""
            yield Token(_HEADING, "", line, [HEADINGS[match["heading"]]])
        elif match["entry"]:
            if head == "MSR guest autoload" and int(match["entry"]) <= 3:
                name = f"memory_msr_load_{int(match['entry']) + 1}"
                content = int(match["content"], 16) & (1 << 64) - 1
                found.evidence.append(Reading(int(match["msr"], 16), head, line, name=f"{name}_index"))
                found.evidence.append(Reading(content, head, line, name=f"{name}_data"))
        else:
            if match["head"]:
                head, opened = match["head"], line
            elif not head or (head, key) not in NUMBERS:
                head, opened = "", line
            wrapped = opened != line or "\n" in match[0].strip()
            for text, value, slots in (
                _keyed(match, head, key, line, found) if key else _columns(head, match["columns"].split(), line, found)
            ):
                yield Token(text, value, line, slots, opened, wrapped, match["copy"] is not None, match["broken"] is not None)


def _keyed(match: re.Match[str], head: str, key: str, line: int, found: Found) -> Iterator[tuple[str, str, Sequence[Slot]]]:
    """The numbers of a key below `head`: what the text calls each, its value, what it may be."""
    value, slots = match["value"] or "", NUMBERS.get((head, key), [])
    if not slots:
        found.warn(f"{key} = {value} stands without the key before it; it is not used", line)
        return
    if match["beside"]:
        slots = [slots[0]._replace(field=f"+{key} (not the field)", section=0, rank=0)]
    parts = [value.replace("|", "", 1)] if key == "SVI|RVI" else value.split(":") if slots[-1].part else [value]
    shown = f"{head} {key}" if head.startswith(("CR", *SEGMENTS)) else key
    if len(parts) == slots[-1].part + 1:
        yield from ((shown, text, [slot for slot in slots if slot.part == part]) for part, text in enumerate(parts))


def _columns(head: str, columns: Sequence[str], line: int, found: Found) -> Iterator[tuple[str, str, Sequence[Slot]]]:
    """The same of Xen's columns, which have no keys; the digits of each tell one from another."""
    declared = next((slots for slots in DECLARED if slots[0].head == head), ())
    if [len(column) for column in columns] == [slot.digits for slot in declared]:
        yield from ((head, column, [slot]) for slot, column in zip(declared, columns, strict=True))
    elif columns:
        found.warn(f"{head} has {len(columns)} of {len(declared)} columns; which are missing cannot be told", line)


def _narrow(one: Token, other: Token, fits: Callable[[Slot, Slot], bool]) -> None:
    """Leave of what two numbers may be what fits together, if anything does."""
    if len(one.slots) > 1:
        one.leave([slot for slot in one.slots if any(fits(slot, near) for near in other.slots)])
    if len(other.slots) > 1:
        other.leave([slot for slot in other.slots if any(fits(near, slot) for near in one.slots)])


def _know_copies(tokens: list[Token], lines: list[Line]) -> None:
    """Leave what Xen's copies say, which stand behind the guest's RSP and RIP only."""
    copied, xen = {token.line for token in tokens if token.copied}, any("(XEN)" in line.raw for line in lines)
    for token in tokens:
        if token.key in ("RSP", "RIP") and (xen or copied) and not token.broken:
            token.leave([slot for slot in token.slots if slot.field.startswith("guest") == (token.line in copied)])
            token.broken = token.line in copied and not token.copied


def _pair(tokens: list[Token]) -> None:
    """Leave what the marks of the numbers say, and of two on a line what is on one declared line, in its order: the host's RIP stands before its RSP."""
    some_marked = len({token.value.startswith("0x") for token in tokens if token.value}) > 1  # as KVM and Xen print: the guest's CR3 has 0x
    for token in tokens if some_marked else ():
        token.leave([slot for slot in token.slots if (slot.mark == "0x") == token.value.startswith("0x")])
    for one, other in pairwise(tokens):
        if one.line == other.line:
            _narrow(one, other, lambda first, second: first.line == second.line and first.place < second.place)


def _place(tokens: list[Token]) -> None:
    """Leave of what a number may be what the numbers before and behind it leave, if these stand in the order in which the programs print them."""
    sections = [token.slots[0].section // 2 for token in tokens if token.key == _HEADING or (token.field and token.slots[0].rank)]
    left = tokens if sections == sorted(sections) else []
    for fits in (_are_next, _in_order):
        pairs = [pair for pair in pairwise(left) if len(pair[0].slots) > 1 or len(pair[1].slots) > 1]
        for one, other in [*pairs, *reversed(pairs)]:
            _narrow(one, other, fits)
        left = [token for token in left if token.field or not token.slots[0].rank]  # elsewhere a line may be a copy of the other section's
    _end(left)


def _end(tokens: list[Token]) -> None:
    """Leave of what numbers behind all that is known may be what is in the section of what is known last."""
    behind = list(takewhile(lambda token: not token.field and token.key != _HEADING, reversed(tokens)))
    for token in behind if len(behind) < len(tokens) else ():
        token.leave([slot for slot in token.slots if slot.section == tokens[-1 - len(behind)].slots[0].section | 1])


def _are_next(one: Slot, other: Slot) -> bool:
    """Whether all versions print the two lines, one directly below the other."""
    return one.rank * other.rank > 0 and one.section == other.section and abs(one.rank - other.rank) <= 1


def _in_order(one: Slot, other: Slot) -> bool:
    """Whether the programs print the first in no later section."""
    return one.section <= other.section


def _gaps(tokens: Collection[Token]) -> frozenset[int]:
    """The lines behind which a line is missing that is always printed next; all lines if they do not stand in the print order."""
    ranks = [(token.opened, token.slots[0].rank) for token in tokens if token.field and token.slots[0].rank]
    following = [*pairwise([*ranks, (0, _LAST + 1)])]
    if any(rank > after for (_, rank), (_, after) in following):
        return frozenset(token.opened for token in tokens)
    return frozenset(line for (line, rank), (_, after) in following if after > rank + 1)


def _doubt(token: Token, torn: int, missing: frozenset[int]) -> str:
    """Why a token's value may be none, or another field's; "" if nothing says so. `torn`: a line's number; `missing`: what `_gaps` gives."""
    if token.line == torn:
        return "stands on a line within which the text may begin"
    short = len(token.value.removeprefix("0x")) < token.slots[0].digits
    padded = not token.value.startswith("0x") and all(slot.mark == "#" for slot in token.slots)
    copy_of_another = token.copied and token.key not in ("RSP", "RIP", "RFLAGS")
    # RFLAGS may have 16 digits; "(effective)" may have stood behind EFER; of two lines of values one is another's
    if (short and padded) or copy_of_another or (token.broken and (short or token.wrapped or token.key in ("RFLAGS", "EFER"))):
        return "may be cut off, or another's"
    if token.wrapped and token.opened in missing:
        return "stands on another line than what it belongs to, and the lines of this dump are not all there in their order"
    return ""
