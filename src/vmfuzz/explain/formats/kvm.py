"""Reads the VMCS dumps of Linux KVM (`dump_vmcs`, all variants) and Xen (`vmcs_dump_vcpu`), wrapped, prefixed, cut or shuffled.

The text's numbers are aligned with those of the declared lines (kvm_tables.py). Most have a key that stands in one place of the print order only,
and are read wherever they stand. A key that guest and host share is what its neighbours' places leave: with two choices it is not read, but named
in a warning. What a line gives to a key of another line counts only if all lines stand in the print order, and none is missing between.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Final

from vmfuzz.explain.dump import Reading
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.kvm_tables import DECLARED, NUMBERS, SEGMENTS, May, Slot, begins, may_be, usual_digits, without_blanks
from vmfuzz.explain.text.lines import Ends, Line
from vmfuzz.patterns import deferred

_HEX: Final = r"(?:0x)?[0-9a-fA-F]+"
_NUMBER: Final = deferred(_HEX)
_KEYS: Final = sorted({slot.key for slots in DECLARED for slot in slots} | {key for _, key in NUMBERS}, key=len, reverse=True)
_TOKEN: Final = deferred(
    r"\*\*\*\s*(?P<heading>Guest|Host|Control)\s+State\s*\*\*\*"
    rf"|(?<![\w.:-])(?P<key>{'|'.join(re.escape(key) for key in _KEYS)})".replace(r"\ ", r"\s*")
    + r"\s*=\s*(?P<value>(?![^\s,]+\s*=|Sysenter\b|\*\*\*)[^\s,]+)?(?:(?P<suffix>\s*\((?:effective|autoload)\))|(?P<copy>\s\(0x))?"
    rf"|(?<![\w.])(?P<segment>{'|'.join(SEGMENTS)}):(?P<columns>(?:\s+[0-9a-fA-F]+(?![\w=]))*)"
    r"|(?<![\w.])(?P<head>CR[034]|VMEntry|VMExit|IDTVectoring):"
    r"|(?P<list>MSR (?:guest|host) auto(?:load|store)):"
    rf"|(?<![\w.])(?P<entry>\d+):\s*msr=(?P<msr>{_HEX})\s+value=(?P<content>{_HEX})"
)
_HEADINGS: Final = {"Guest": May((), bounds=(0, 0)), "Host": May((), bounds=(2, 2)), "Control": May((), bounds=(4, 4))}
_NOTHING: Final = May(())
#: A line that begins with a value: it goes on a line that a mail program broke. Fewer digits than the second are no value of a line of its own.
_VALUE_ALONE: Final = deferred(r"x?([0-9a-fA-F]{1,16})(?:[\s,(|]|$)|(0x[0-9a-fA-F]{1,16})(?:[\s,(]|$)")
_WHOLE: Final = 4
#: Lines that only Xen before 4.6 prints so.
_OLD_XEN: Final = deferred(r"CS=[0-9a-fA-F]{4} DS=|Interruptibility=|DebugCtl=")
_TIME: Final = deferred(r"\[\s*(\d+)[.,](\d+)\]")


@dataclass
class Token:
    """A number of the text, or a heading."""

    key: str
    value: str
    line: int
    may: May
    #: the line on which what the number belongs to stands (0: its own, -1: its key stands on another)
    opened: int = 0
    #: Xen's own copy of the register stands behind the value, in brackets
    copied: bool = False
    #: the value may not be whole
    cut: bool = False
    #: guest and host print the key alike
    shared: bool = False


def parse(lines: list[Line], found: Found, ends: Ends) -> None:
    """Note what the lines of one dump give; `ends`: the lines of the text that may not be whole."""
    if not lines:
        return
    tokens, astray = _tokens(lines, found)
    if ends.unfinished is not None and lines[-1].number == ends.unfinished.number:
        _note_cut(tokens, "\n".join(line.text for line in lines))
    xen = any("(XEN)" in line.raw or _OLD_XEN.match(line.text) for line in lines)
    orderly = _aligned(tokens, found, xen, _times_rise(lines)) and not astray
    missing = _gaps(tokens)
    for token in tokens:
        name = token.may.field
        doubt = _doubt(token, ends.torn, orderly, missing) if name else ""
        value = _number(token, found) if name and not doubt else None
        if doubt:
            found.warn(doubt, token.line)
        elif value is not None and name.startswith("+"):
            found.beside.setdefault(name[1:], Reading(value, token.key, token.line))
        elif value is not None:
            found.put(name, value, token.key, token.line)


def _tokens(lines: list[Line], found: Found) -> tuple[list[Token], bool]:
    """(the numbers, whether a value stands on a line of its own where no key waits for one)."""
    tokens = list[Token]()
    joined = "\n".join(line.text for line in lines) + "\n"
    matches = _TOKEN.finditer(joined)
    match = next(matches, None)
    head, opened, listed, astray, begins, end = "", 0, "", False, 0, 0
    for line in lines:
        starts, is_value, is_long = _beginning(line.text)
        if starts:
            head = ""
        if is_value and begins >= end:
            astray = astray or is_long
            for token in tokens[-1:]:
                token.cut = _is_short(token)  # a console may have broken its number
        begins += len(line.text) + 1
        while match is not None and match.start() < begins:
            before, end = len(tokens), match.end()
            if match["heading"]:
                head = ""
                tokens.append(Token("***", "", line.number, _HEADINGS[match["heading"]]))
            elif match["key"]:
                key = without_blanks(match["key"])
                head = head if (head, key) in NUMBERS else ""
                tokens += _keyed(match, head, key, line.number, found)
                for token in tokens[before:] if head else ():
                    token.opened = opened
            elif match["list"]:
                listed = match["list"]
            elif match["entry"]:
                if listed == "MSR guest autoload" and int(match["entry"]) <= 3:
                    name = f"memory_msr_load_{int(match['entry']) + 1}"
                    found.put(f"{name}_index", int(match["msr"], 16), listed, line.number)
                    found.put(f"{name}_data", int(match["content"], 16) & (1 << 64) - 1, listed, line.number)
            else:
                head, opened = match["segment"] or match["head"], line.number
                tokens += _columns(head, (match["columns"] or "").split(), line.number, found)
            if "\n" in match[0].strip():
                for token in tokens[before:]:
                    token.opened = token.opened or -1
            match = next(matches, None)
    return tokens, astray


def _keyed(match: re.Match[str], head: str, key: str, line: int, found: Found) -> Iterator[Token]:
    """The numbers of a key below `head`."""
    value, mays = match["value"] or "", NUMBERS.get((head, key), ())
    if not mays:
        found.warn(f"{key} = {value} stands without the key before it; it is not used", line)
    elif match["suffix"]:
        yield Token(key, value, line, May((), f"+{key} (not the field)"))
    else:
        if key == "CR3":
            spaced = match[0][3].isspace() or value.startswith("0x")
            mays = (may_be(slot for slot in mays[0].slots if slot.sign.startswith(" ") == spaced),)
        parts = [value.replace("|", "", 1)] if key == "SVI|RVI" else value.split(":") if len(mays) > 1 else [value]
        shown = f"{head} {key}" if head.startswith(("CR", *SEGMENTS)) else key
        for may, part in zip(mays, parts, strict=False) if len(parts) == len(mays) else ():
            yield Token(shown, part, line, may, copied=bool(match["copy"]), shared=not may.field)


def _columns(head: str, columns: Sequence[str], line: int, found: Found) -> Iterator[Token]:
    """Xen's columns, which have no keys; the digits of each tell one from another."""
    mays = [mays[0] for (one, _), mays in NUMBERS.items() if one == head] if columns else []
    if len(columns) != len(mays) and any(len(column) != usual_digits(may.field) for column, may in zip(columns, mays, strict=False)):
        found.warn(f"{head} has {len(columns)} of {len(mays)} columns; which are missing cannot be told", line)
        return
    for may, column in zip(mays, columns, strict=False):
        yield Token(head, column, line, may)


@lru_cache(maxsize=1 << 13)
def _beginning(text: str) -> tuple[bool, bool, bool]:
    """(whether a line begins with a key, whether it begins with a value, whether that may be a whole one)."""
    value = _VALUE_ALONE.match(text)
    return begins(text), value is not None, value is not None and text[0] != "x" and len(value[1] or value[2]) >= _WHOLE


def _note_cut(tokens: list[Token], joined: str) -> None:
    """Mark the last token if the text ends with it and it is shorter than what the programs print."""
    last = tokens[-1] if tokens else None
    if last is not None and re.sub(r"\s*\(\w*$", "", joined.rstrip()).endswith(last.value):
        # "(effective)" may have stood behind EFER's value; RFLAGS has 8 digits or 16, and DR7 behind it
        last.cut = _is_short(last) or _digits(last.value) not in (4, 5, 8, 16) or last.key in ("EFER", "RFLAGS")


def _is_short(token: Token) -> bool:
    """Whether a value has fewer digits than the programs print for its field."""
    return _digits(token.value) < max((usual_digits(slot.field) for slot in token.may.slots[:1]), default=0)


def _digits(value: str) -> int:
    return len(value.removeprefix("0x"))


def _aligned(tokens: list[Token], found: Found, xen: bool, in_time: bool) -> bool:
    """Leave of what a number may be what its neighbours leave; returns whether all stand in the order in which the programs print them.

    `in_time`: the times before the lines never fall.
    """
    pairs = [(first, second) for first, second in pairwise(tokens) if first.line == second.line and first.may.slots and second.may.slots]
    for first, second in pairs:
        if first.shared or second.shared:
            _narrow_pair(first, second, xen)
    in_order = _placed(tokens, found, in_time)
    agree = _agree(tokens, found)
    ranks = [token.may.rank for token in tokens if token.may.rank and all(slot.fixed for slot in token.may.slots)]
    registers = [pair for pair in pairs if {token.key for token in pair} == {"RSP", "RIP"}]
    # a copy behind only one of them: the other is the host's
    return in_order and agree and ranks == sorted(ranks) and all(first.copied == second.copied for first, second in registers)


def _placed(tokens: list[Token], found: Found, in_time: bool) -> bool:
    """Leave to each key that guest and host share the section that the numbers before and behind it leave; returns whether all sections rise."""
    bounds = [token.may.bounds for token in tokens if token.may.bounds]
    lows = [0, *accumulate((low for low, _ in bounds), max)]
    highs = list(accumulate((high or 1 for _, high in reversed(bounds)), min))[::-1]
    in_order = in_time and all(low // 2 <= high // 2 for low, high in zip(lows[1:], highs, strict=True))
    copies = Counter((token.may.slots, token.value) for token in tokens if token.shared)
    at, previous = 0, None
    for token in tokens:
        if token.may.bounds:
            at += 1
        elif not token.may.field and token.may.slots:
            reach = (max(1, lows[at]), min(highs[at], bounds[at][1]) if at < len(bounds) else lows[at] | 1)
            left = _choice(token, previous, reach, copies[token.may.slots, token.value] > 1) if in_order and bounds else ()
            token.may = may_be(left)
            if not token.may.field:
                token.may = _NOTHING
                text = f"{token.key} = {token.value} may be the guest's or the host's; the lines around it do not tell, so it is not used"
                found.warn(text, token.line)
        previous = token
    return in_order


def _narrow_pair(first: Token, second: Token, xen: bool) -> None:
    """Two numbers on a line are of one declared line, in its order: KVM and Xen print the guest's RSP before its RIP, the host's RIP before its RSP.

    Xen before 4.6 does so for neither; there copies stand behind the guest's.
    """
    both = [(one, other) for one in first.may.slots for other in second.may.slots if one.line == other.line and one.place < other.place]
    if first.key == "RSP":
        both = [(one, other) for one, other in both if one.section == (1 if first.copied or not xen else 3)]
    if both:
        first.may, second.may = may_be(dict.fromkeys(one for one, _ in both)), may_be(dict.fromkeys(other for _, other in both))


def _choice(token: Token, previous: Token | None, reach: tuple[int, int], again: bool) -> Iterable[Slot]:
    """What a number may be between the sections of `reach`; `again`: the same stands elsewhere, so that one may be a copied line."""
    slots = token.may.slots
    if previous is not None and previous.may.slots:
        next_line = [slot for slot in slots if slot.fixed and previous.may.rank in (slot.rank, slot.rank - 1)]
        if next_line:
            return next_line
    if again and slots[0].fixed:
        return ()
    return (slot for slot in slots if reach[0] <= slot.section <= reach[1])


def _agree(tokens: list[Token], found: Found) -> bool:
    """Whether no key that guest and host share gives two values for one field; if it does, a line stands in the wrong section, and all are left out."""
    shared = [token for token in tokens if token.shared and token.may.field]
    if len({(token.may.field, token.value) for token in shared}) == len({token.may.field for token in shared}):
        return True
    for token in shared:
        if token.key not in ("RSP", "RIP"):
            found.warn(f"{token.key} = {token.value} may be the guest's or the host's, of which one has two; it is not used", token.line)
            token.may = _NOTHING
    return False


def _times_rise(lines: list[Line]) -> bool:
    """Whether the times that the kernel's log puts before its lines never fall, but for once at a heading: there two logs were put together."""
    times = [(int(found[1]), found[2], line.text) for line in lines if (found := _TIME.search(line.raw, 0, 80))]
    falls = [text for (*before, _), (*time, text) in pairwise(times) if before > time]
    return not falls or (len(falls) == 1 and falls[0].startswith("***"))


def _gaps(tokens: list[Token]) -> frozenset[int]:
    """The lines behind which a line is missing that is always printed next: the rest of a wrapped line may be that one's."""
    ranks: dict[int, int] = {}
    for token in tokens:
        if token.may.rank:
            ranks.setdefault(token.opened if token.opened > 0 else token.line, token.may.rank)
    if len(ranks) == 1:
        return frozenset(ranks)
    return frozenset(line for (line, rank), (_, after) in pairwise(ranks.items()) if after > rank + 1)


def _doubt(token: Token, torn: Line | None, orderly: bool, missing: frozenset[int]) -> str:
    """Why a token's value may be none, or another field's; "" if nothing says so. `missing`: lines behind which a register is missing."""
    what = f"{token.key} = {token.value}"
    if torn is not None and token.line == torn.number:
        return f"the text may begin within this line, so that {what} is not used"
    if token.cut:
        return f"{what} may be cut off; the value is not used"
    if not orderly and token.opened not in (0, token.line):
        return f"{what} stands on another line than what it belongs to, and the lines of this dump are not in their order; it is not used"
    if token.opened in missing and token.line != token.opened:
        return f"{what} stands on a line of its own, and the register that should come next is missing; it may be that one's, so it is not used"
    return ""


def _number(token: Token, found: Found) -> int | None:
    text = token.value.rstrip(",;.")
    if _NUMBER.fullmatch(text) and not token.value.endswith(".."):
        return int(text, 16)
    why = "is cut off" if token.value.endswith(("..", "…")) else "is not a number"
    found.warn(f"{token.key} = {token.value or '(nothing)'} {why}; {token.may.field} counts as not given", token.line)
    return None
