"""Reads the VMCS dumps of Linux KVM (`dump_vmcs`, all variants) and Xen (`vmcs_dump_vcpu`), wrapped, prefixed, cut or shuffled.

Every line becomes tokens (`key = value`). A token whose key occurs in one section only is placed at once; one that guest and host share is
placed by its neighbours, and where they leave a choice it is not placed at all but named in a warning.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from itertools import pairwise
from typing import Final

from vmfuzz.explain.dump import Reading
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.kvm_head import without_head
from vmfuzz.explain.formats.kvm_known import for_a_list, is_dump
from vmfuzz.explain.formats.kvm_order import gaps, in_print_order, pairs_match, shared_keys_agree, times_rise
from vmfuzz.explain.formats.kvm_pasted import rejoined, with_signs, without_doubles, without_marks, without_repeats
from vmfuzz.explain.formats.kvm_tables import CONTINUES, CONTROL, GUEST, HOST, SECTIONS
from vmfuzz.explain.formats.kvm_tokens import STARTS, Token, tokens_of
from vmfuzz.explain.text.lines import Ends, Line
from vmfuzz.patterns import deferred

_HEX: Final = deferred(r"(?:0x)?[0-9a-fA-F]+")
_VMCS: Final = deferred(r"VMCS [0-9a-fA-Fx]+, last attempted")
_GUEST_HEADING: Final = deferred(r"\*\*\* ?Guest State")
#: Lines that a dump of this format has, and lists of names and values too: alone they are no dump.
_WEAK: Final = deferred(
    r"(?:CR3|RSP|RIP|RFLAGS|EFER|PAT|SSP|S_CET|PDPT[RE]\d|ExceptionBitmap|TSC (?:Offset|Multiplier)|TPR Threshold|EPT pointer|"
    r"Virtual processor ID|CR3 target\d) ?=\s*[^\s=]+(?:\s+[<(][^=]*)?$"
)


_HEADING: Final = deferred(r"\*\*\* ?(Guest|Host|Control) State")
#: Lines of programs that print like KVM but with blanks; only beside a heading.
_BLANKS: Final = deferred(
    r"[$>#|+-]?\s*(?:(?:[CDSEFG]S|LDTR|TR|GDTR|IDTR):\s+(?:sel|attr|limit|base) = |reason = (?:0x)?[0-9a-fA-F]+,? qual|CS = (?:0x)?[0-9a-fA-F]+, SS = |"
    r"[FG]SBase = |TRBase = |(?:GDT|IDT)Base = |CR0 = (?:0x)?[0-9a-fA-F]+(?:, CR3| *$)|CR[34] = |VM(?:Entry|Exit): intr_info = |IDTVectoring: info = |"
    r"(?:PinBased|CPUBased|SecondaryExec|TertiaryExec|EntryControls|ExitControls|ExceptionBitmap|PLE Gap) = 0x|Sysenter RSP = |CR[034]: ?actual|"
    r"PDPT[RE]\d = |RSP = |RIP = |RFLAGS = |EFER = |PAT = |Debug(?:Ctl|Exceptions) = |Interruptibility = |EPT pointer = )"
)
#: Lines so long that have so many keys of this format were several lines.
_JOINED, _SEVERAL = 300, 6
_OF_MANY_LINES: Final = ("actual=", "limit=", "RIP = 0x", "DR7 = 0x", "Sysenter RSP=", "CR4=", "PinBased=", "intr_info=", "reason=")
_BEGINS: Final = deferred(
    r"[ \t](\*\*\* ?(?:Guest|Host|Control) State|\(XEN\)|\[ *\d+\.\d+\]|[A-Z][a-z]{2} +\d+ \d\d:\d\d:\d\d |"
    r"VMCS [0-9a-fA-F]+, last|CR0: ?actual)"
)
#: Longer lines are no beginning of one that was broken within its first key.
_SHORT: Final = 20
#: What a kernel's log or Xen's console puts before its lines.
_LOGGED: Final = deferred(r"\(XEN\)|\[ *\d+\.\d+\]")
#: The beginning of lines of a dump that have values.
_WITH_VALUES: Final = deferred(r"(?:[C-GS]S|LDTR|TR|GDTR|IDTR|CR[034]|RFLAGS|DR7|PinBased|EntryControls|ExitControls) *[:=]")


def unjoined(text: str) -> str:
    """The text with a new line where one of its sections or log lines begins within a long line: whoever pasted it lost the ends of lines."""
    if all(len(line) < _JOINED for line in text.split("\n")):
        return text
    return "\n".join(
        _BEGINS.sub(r"\n\1", line) if len(line) >= _JOINED and sum(map(line.count, _OF_MANY_LINES)) >= _SEVERAL else line
        for line in text.split("\n")
    )


def is_dump_line(line: Line) -> bool:
    """Whether a line (without prefixes) begins like one of this format."""
    return _is_dump_text(line.text)


@lru_cache(maxsize=1 << 13)
def _is_dump_text(text: str) -> bool:
    return STARTS.match(text) is not None or _VMCS.match(text) is not None


def split_lines(lines: list[Line]) -> tuple[list[list[Line]], list[Line]]:
    """(the lines of each dump in the text, all other lines)."""
    plain = lines
    lines = rejoined([without_marks(line) for line in lines])
    if not is_dump(
        [line for line in lines if is_dump_line(line) and not _WEAK.match(line.text)], [line for line in lines if not is_dump_line(line)]
    ):
        return [], [for_a_list(line) for line in plain]
    mine, others = _divided(lines)
    quoted = _quoted_below(mine)
    if quoted:
        mine, others = mine[: -len(quoted)], sorted([*others, *quoted], key=lambda line: line.number)
    callers = {line.caller for line in mine if line.caller}
    streams = [mine]
    if len(callers) > 1:  # dumps of several processors, interleaved
        streams = [[line for line in mine if line.caller == caller] for caller in sorted(callers)]
    return [without_repeats(dump) for stream in streams for dump in _split_at_heading(stream)], others


def _divided(lines: list[Line]) -> tuple[list[Line], list[Line]]:
    """(the lines of KVM's and Xen's dumps, all others) of a text that has one."""
    mine: list[Line] = []
    others: list[Line] = []
    headings = [heading[1] if (heading := _HEADING.match(line.text)) else "" for line in lines]
    headed = any(headings)
    section = ""
    for index, line in enumerate(lines):
        section = headings[index] or section
        previous = bool(mine) and mine[-1].number == lines[index - 1].number
        beside = previous and (CONTINUES.match(line.text) or _begins_with_next(line, lines[index + 1 : index + 2]))
        signed = with_signs(line, section) if section and previous else None
        if signed or is_dump_line(line) or beside or (headed and _BLANKS.match(line.text)):
            mine.append(signed or line)
        else:
            others.append(line)
    return without_doubles(mine), others


def _begins_with_next(line: Line, following: list[Line]) -> bool:
    """Whether a line was broken within what lines of this format begin with ("GDTR:", "reason=80000021")."""
    if not following or len(line.text) > _SHORT:
        return False
    found = STARTS.match(f"{line.text} {following[0].text}")
    return found is not None and found.end() > len(line.text)


def _quoted_below(lines: list[Line]) -> list[Line]:
    """The last lines of a dump that somebody quoted below it: apart from it, and without what the log puts before its lines."""
    logged = [index for index, line in enumerate(lines) if _LOGGED.search(line.raw)]
    if len(logged) * 3 < len(lines):
        return []
    apart = (index for index in range(logged[-1] + 1, len(lines)) if lines[index].number > lines[index - 1].number + 1) if logged else ()
    first = next(iter(apart), len(lines))
    return lines[first:]


def _split_at_heading(lines: list[Line]) -> list[list[Line]]:
    dumps: list[list[Line]] = [[]]
    seen = False
    for line in lines:
        if _GUEST_HEADING.match(line.text):
            if seen:
                dumps.append([])
            seen = True
        dumps[-1].append(line)
    return [part for dump in dumps for part in without_head(dump) if part]


def lost_lines(part: list[Line], others: list[Line]) -> list[Line]:
    """The lines within a dump that begin as those with values do, and of which nothing belongs to the dump: they are damaged."""
    if not part:
        return []
    first, last = part[0].number, part[-1].number + 1
    return [line for line in others if first < line.number <= last and _WITH_VALUES.match(line.text)]


def parse(lines: list[Line], found: Found, ends: Ends) -> None:
    """Read the lines of one dump into `dump`; `ends`: the lines of the text that may not be whole."""
    tokens, astray = tokens_of(lines, found, bool(lines) and ends.unfinished is not None and lines[-1].number == ends.unfinished.number)
    orderly = _place(tokens, found, times_rise(lines)) and not astray and in_print_order(tokens) and pairs_match(tokens)
    missing = gaps(tokens)
    for token in tokens:
        if ends.torn is not None and token.line == ends.torn.number:
            found.warn(f"the text may begin within this line, so that {token.key} = {token.value} is not used", token.line)
            continue
        if token.cut:
            found.warn(f"the text ends within {token.key} = {token.value}; the value is not used", token.line)
            continue
        if not orderly and token.opened not in (0, token.line):
            found.warn(
                f"{token.key} = {token.value} stands on another line than what it belongs to, "
                "and the lines of this dump are not in their order; it is not used",
                token.line,
            )
            continue
        if token.opened in missing and token.line != token.opened:
            found.warn(
                f"{token.key} = {token.value} stands on a line of its own, and the register that should come next is "
                "missing; it may be that one's, so it is not used",
                token.line,
            )
            continue
        if token.section == "beside":
            value = _number(token, found)
            if value is not None:
                found.beside.setdefault(token.field, Reading(value, token.key, token.line))
            continue
        field = token.field or (f"{token.section}_{token.ending}" if token.section in (GUEST, HOST) else "")
        if not field:
            continue
        value = _number(token, found)
        if value is not None:
            found.put(field, value, token.key, token.line)


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
    for first, second in pairwise(tokens):
        if first.line == second.line and {first.ending, second.ending} == {"rip", "rsp"} and not first.section:
            # KVM and Xen print the guest's RSP before its RIP, the host's RIP before its RSP; Xen's copies stand behind the guest's
            of_guest = first.copied if first.of_xen else first.ending == "rsp"
            first.section = second.section = GUEST if of_guest else HOST
    marks = [(index, token.section) for index, token in enumerate(tokens) if token.section not in ("", "beside", "apart")]
    order = [SECTIONS.index(section.lstrip("*")) for _, section in marks]
    orderly = in_time and order == sorted(order)
    lines: dict[int, list[str]] = {}
    for token in tokens:
        lines.setdefault(token.line, []).append(f"{token.key}={token.value}")
    times = Counter(map(tuple, lines.values()))
    doubled = frozenset(number for number, texts in lines.items() if times[tuple(texts)] > 1)
    for index, token in enumerate(tokens):
        if token.section:
            continue
        before = next((section for at, section in reversed(marks) if at < index), "")
        after = next((section for at, section in marks if at > index), "")
        choice = _choices(before.lstrip("*"), after, token, tokens[index - 1] if index else None, token.line in doubled) if orderly else ()
        if len(choice) == 1:
            token.section = choice[0]
        else:
            found.warn(
                f"{token.key} = {token.value} may be the guest's or the host's; the lines around it do not tell, so it is not used",
                token.line,
            )
    if not shared_keys_agree(tokens):
        orderly = False
        for token in tokens:
            if token.ending and token.section and token.ending not in ("rip", "rsp"):
                found.warn(
                    f"{token.key} = {token.value} may be the guest's or the host's, of which one has two; it is not used", token.line
                )
                token.section, token.ending = "", ""
    for token in tokens:
        if token.section.startswith("*"):
            token.section = ""
    return orderly


#: (ending of a shared token, field of the token right before it) -> section: the order in which the programs print.
_FOLLOWS: Final = {
    ("ia32_sysenter_esp", "guest_dr7"): GUEST,
    ("ia32_sysenter_esp", "host_cr4"): HOST,
    ("ia32_efer", "guest_tr_base"): GUEST,
    ("ia32_pat", "guest_tr_base"): GUEST,
    ("ia32_perf_global_ctrl", "guest_pending_debug_exceptions"): GUEST,
}


def _choices(before: str, after: str, token: Token, previous: Token | None, doubled: bool) -> tuple[str, ...]:
    """The sections that a shared token may be in, between a token of section `before` and one of `after` ("" at the ends).

    `doubled`: its whole line stands in the dump twice.
    """
    if before == CONTROL:
        # a variant prints the host's CET state after everything else
        return (HOST,) if token.ending in ("ia32_s_cet", "ssp", "ia32_interrupt_ssp_table_addr") else ()
    if previous is not None and previous.line == token.line:
        if previous.key.startswith("EFER("):  # Xen says where it read the guest's, never of the host's
            return (GUEST,)
        if previous.ending and previous.section in (GUEST, HOST):
            return (previous.section,)
    if previous is not None and previous.ending == "ia32_sysenter_esp" and token.ending == "ia32_sysenter_cs":
        return (previous.section,) if previous.section else ()  # one line, broken by a mail program
    follows = _FOLLOWS.get((token.ending, previous.field)) if previous is not None else None
    # between EFER and the control state stands more of its section, unless lines are lost: then this one may be the other section's
    if follows and after != CONTROL and (after != f"*{CONTROL}" or token.ending.startswith("ia32_sysenter")):
        return (follows,)
    if (not before and not after) or (doubled and token.ending.startswith("ia32_sysenter")):
        return ()  # (where both print the same, each stands behind its own neighbour)
    first = SECTIONS.index(before) if before else 0
    last = SECTIONS.index(after.lstrip("*")) - after.startswith("*") if after else first
    return tuple(section for section in (GUEST, HOST) if first <= SECTIONS.index(section) <= last)
