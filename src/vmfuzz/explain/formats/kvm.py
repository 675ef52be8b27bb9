"""Reads the VMCS dumps of Linux KVM (`dump_vmcs`, all variants) and Xen (`vmcs_dump_vcpu`), wrapped, prefixed, cut or shuffled.

Every line becomes tokens (`key = value`). A token whose key occurs in one section only is placed at once; one that guest and host share is
placed by its neighbours, and where they leave a choice it is not placed at all but named in a warning.
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Final

from vmfuzz.explain.dump import Reading
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.kvm_order import gaps, in_print_order, pairs_match, shared_keys_agree, times_rise
from vmfuzz.explain.formats.kvm_tables import CONTROL, GUEST, HOST, RANKS, SECTIONS
from vmfuzz.explain.formats.kvm_tokens import Token, tokens_of
from vmfuzz.explain.text.lines import Ends, Line
from vmfuzz.patterns import deferred

_HEX: Final = deferred(r"(?:0x)?[0-9a-fA-F]+")


def parse(lines: list[Line], found: Found, ends: Ends) -> None:
    """Read the lines of one dump into `dump`; `ends`: the lines of the text that may not be whole."""
    tokens, astray = tokens_of(lines, found, bool(lines) and ends.unfinished is not None and lines[-1].number == ends.unfinished.number)
    orderly = _place(tokens, found, times_rise(lines)) and not astray and in_print_order(tokens) and pairs_match(tokens)
    missing = gaps(tokens)
    for token in tokens:
        doubt = _doubt(token, ends.torn, orderly, missing)
        field = token.field or (f"{token.section}_{token.ending}" if token.section in (GUEST, HOST) else "")
        value = _number(token, found) if field and not doubt else None
        if doubt:
            found.warn(doubt, token.line)
        elif value is not None and token.section == "beside":
            found.beside.setdefault(token.field, Reading(value, token.key, token.line))
        elif value is not None:
            found.put(field, value, token.key, token.line)


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
    if token.value.endswith(("..", "…")):
        found.warn(f"{token.key} = {token.value} is cut off; {token.field or token.ending} counts as not given", token.line)
        return None
    text = token.value.rstrip(",;.")
    if _HEX.fullmatch(text):
        return int(text, 16)
    found.warn(f"{token.key} = {token.value or '(nothing)'} is not a number; {token.field or token.ending} counts as not given", token.line)
    return None


def _place(tokens: list[Token], found: Found, in_time: bool) -> bool:
    """Give every token that guest and host share its section, from what stands before and after it.

    `in_time`: the times before the lines never fall. Returns whether the lines are in the order in which the programs print them.
    """
    _place_pairs(tokens)
    marks = [(index, token.section) for index, token in enumerate(tokens) if token.section not in ("", "beside", "apart")]
    copies = Counter((token.ending, token.value) for token in tokens)
    order = [SECTIONS.index(section.lstrip("*")) for _, section in marks]
    orderly = in_time and order == sorted(order)
    for index, token in enumerate(tokens):
        if token.section:
            continue
        before = next((section for at, section in reversed(marks) if at < index), "")
        after = next((section for at, section in marks if at > index), "")
        choice = (
            _choices(before.lstrip("*"), after, token, tokens[index - 1] if index else None, copies[token.ending, token.value] > 1)
            if orderly
            else ()
        )
        if len(choice) == 1:
            token.section = choice[0]
        else:
            found.warn(
                f"{token.key} = {token.value} may be the guest's or the host's; the lines around it do not tell, so it is not used",
                token.line,
            )
    agree = shared_keys_agree(tokens)
    if not agree:
        _leave_shared(tokens, found)
    for token in tokens:
        token.section = token.section if not token.section.startswith("*") else ""
    return orderly and agree


def _place_pairs(tokens: list[Token]) -> None:
    """KVM and Xen print the guest's RSP before its RIP, the host's RIP before its RSP; Xen's copies stand behind the guest's."""
    for first, second in pairwise(tokens):
        if first.line == second.line and {first.ending, second.ending} == {"rip", "rsp"} and not first.section:
            of_guest = first.copied if first.of_xen else first.ending == "rsp"
            first.section = second.section = GUEST if of_guest else HOST


def _leave_shared(tokens: list[Token], found: Found) -> None:
    """Do without all keys that guest and host share: one section has two values for one of them."""
    for token in tokens:
        if token.ending and token.section and token.ending not in ("rip", "rsp"):
            found.warn(f"{token.key} = {token.value} may be the guest's or the host's, of which one has two; it is not used", token.line)
            token.section, token.ending = "", ""


#: The fields of the line before SYSENTER's registers -> whose they are.
_BEFORE_SYSENTER: Final = {
    field: section for section in (GUEST, HOST) for field, rank in RANKS.items() if rank == RANKS[f"{section}_ia32_sysenter_esp"] - 1
}


def _choices(before: str, after: str, token: Token, previous: Token | None, copied: bool) -> tuple[str, ...]:
    """The sections that a shared token may be in, between a token of section `before` and one of `after` ("" at the ends).

    `copied`: the same key has the same value elsewhere.
    """
    if before == CONTROL:
        # a variant prints the host's CET state after everything else
        return (HOST,) if token.ending in ("ia32_s_cet", "ssp", "ia32_interrupt_ssp_table_addr") else ()
    if previous is not None and previous.line == token.line:
        if previous.key.startswith("EFER("):  # Xen says where it read the guest's, never of the host's
            return (GUEST,)
        if previous.ending and previous.section in (GUEST, HOST):
            return (previous.section,)
    if token.ending.startswith("ia32_sysenter") and previous is not None:
        of_line = previous.ending.startswith("ia32_sysenter")
        section = previous.section if of_line else _BEFORE_SYSENTER.get(previous.field, "")
        if section or of_line:
            return (section,) if section else ()
    if copied and token.ending.startswith("ia32_sysenter"):
        return ()  # the same twice: the guest's and the host's, or a line that was copied
    if not before and not after:
        return ()
    first = SECTIONS.index(before) if before else 0
    last = SECTIONS.index(after.lstrip("*")) - after.startswith("*") if after else first
    return tuple(section for section in (GUEST, HOST) if first <= SECTIONS.index(section) <= last)
