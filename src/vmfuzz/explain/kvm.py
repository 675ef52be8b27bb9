"""Reads the VMCS dumps of Linux KVM (`dump_vmcs`, all variants) and Xen (`vmcs_dump_vcpu`), wrapped, prefixed, cut or shuffled.

Every line becomes tokens (`key = value`). A token whose key occurs in one section only is placed at once; one that guest and host share is
placed by its neighbours, and where they leave a choice it is not placed at all but named in a warning.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import Dump, Reading
from vmfuzz.explain.kvm_head import without_head
from vmfuzz.explain.kvm_tables import (
    BESIDE,
    CONTINUES,
    CONTROL,
    CR_PARTS,
    GROUPS,
    GUEST,
    HEADINGS,
    HOST,
    HOST_SELECTORS,
    OWN,
    SECTIONS,
    SEGMENT_KEYS,
    SEGMENT_PARTS,
    SHARED,
)
from vmfuzz.explain.text import Line


def _alternatives(keys: object) -> str:
    ordered = sorted(keys, key=len, reverse=True)  # type: ignore[call-overload]
    return "|".join(re.escape(key).replace(r"\ ", r"\s*") for key in ordered)


_OWN_KEYS: Final = {re.sub(r"\s", "", key): (section, field) for section in SECTIONS for key, field in OWN[section].items()}
_SHARED_KEYS: Final = {re.sub(r"\s", "", key): ending for key, ending in SHARED.items()}
_BESIDE_KEYS: Final = {re.sub(r"\s", "", key): name for key, name in BESIDE.items()}
_GROUP_KEYS: Final = {re.sub(r"\s", "", key): parts for key, parts in GROUPS.items()}
_PART_KEYS: Final = {part for parts in GROUPS.values() for part in parts} | set(CR_PARTS) | set(SEGMENT_PARTS)

_HEX: Final = r"(?:0x)?[0-9a-fA-F]+"
_KEYS: Final = (
    *_OWN_KEYS,
    *_SHARED_KEYS,
    *_BESIDE_KEYS,
    *_PART_KEYS,
    *(key for section in SECTIONS for key in OWN[section]),
    *SHARED,
    *BESIDE,
)
_TOKEN: Final = re.compile(
    rf"\*\*\*\s*(?P<heading>Guest|Host|Control)\s+State\s*\*\*\*"
    rf"|(?<![\w.:])CS:RIP\s*=\s*(?P<cs>{_HEX}):(?P<rip>{_HEX})(?!\w)"
    rf"|(?<![\w.])SVI\s*\|\s*RVI\s*=\s*(?P<svi>[0-9a-fA-F]+)\|(?P<rvi>[0-9a-fA-F]+)"
    rf"|(?<![\w.])(?P<segment>{_alternatives(SEGMENT_KEYS)}):(?P<columns>(?:\s+[0-9a-fA-F]+(?![\w=]))*)"
    rf"|(?<![\w.])(?P<cr>CR[034]):"
    rf"|(?<![\w.])(?P<group>VMEntry|VMExit|IDTVectoring):"
    rf"|(?P<list>MSR (?:guest|host) auto(?:load|store)):"
    rf"|(?<![\w.])(?P<entry>\d+):\s*msr=(?P<msr>{_HEX})\s+value=(?P<msrvalue>{_HEX})"
    rf"|(?<![\w.-])(?P<key>{_alternatives(_KEYS)})"
    rf"\s*=\s*(?P<value>(?![^\s,]+\s*=|Sysenter\b|\*\*\*)[^\s,]+)?(?P<suffix>\s*\((?:effective|autoload)\))?"
    rf"|(?<![\w.-])(?P<plain>CR0|CR4|{'|'.join(HOST_SELECTORS)})=(?P<plainvalue>\S+)"
)
_STARTS: Final = re.compile(
    r"\*\*\* ?(?:Guest|Host|Control) State|CR[034]: ?actual|CR3 = ?0x|CR3: ?actual|PDPT[RE]\d ?=|RSP ?= ?0x|RIP ?= ?0x|RFLAGS ?= ?0x|Sysenter RSP=|"
    r"(?:[CDSEFG]S|LDTR|TR|GDTR|IDTR):\s+(?:sel|attr|limit|base)=|(?:[CDSEFG]S|LDTR|TR):\s+[0-9a-fA-F]{4}\s+[0-9a-fA-F]{4,8}\s+[0-9a-fA-F]{8}\s|"
    r"[GI]DTR:\s+[0-9a-fA-F]{4,8}\s+[0-9a-fA-F]{8,16}|EFER ?=\s+0x|EFER\(|PAT ?= 0x|Debug(?:Ctl|Exceptions) =|PerfGlobCtl =|BndCfgS =|"
    r"Interruptibility =|ActivityState =|InterruptStatus =|MSR (?:guest|host) auto|\d+: msr=|S_CET = |SSP = |(?:INTR )?SSP TABLE = |"
    r"CS=[0-9a-fA-F]{4} SS=|[FG]SBase=|TRBase=|(?:GDT|IDT)Base=|CR0=[0-9a-fA-F]{16}|CR3=[0-9a-fA-F]{16} CR4|PinBased=|CPUBased=|SecondaryExec=|"
    r"TertiaryExec=|EntryControls=|ExitControls=|ExceptionBitmap=|PFECm|VM(?:Entry|Exit): ?intr_info|reason=[0-9a-fA-F]{8} qual|IDTVectoring: ?info|"
    r"TSC (?:Offset|Multiplier) ?=|SVI\|RVI|TPR Threshold ?=|virt-APIC addr ?=|APIC-access addr ?=|PostedIntrVec ?=|EPT pointer ?=|CR3 target\d ?=|"
    r"PLE Gap=|Virtual processor ID ?=|VE info address|ve_info:|PreemptionTimer ?=|SM Base ?=|sel\s+attr\s+limit\s+base|VMfunc controls ?="
)
#: Lines that a dump of this format has, and lists of names and values too: alone they are no dump.
_WEAK: Final = re.compile(
    r"(?:CR3|RSP|RIP|RFLAGS|EFER|PAT|SSP|S_CET|PDPT[RE]\d|ExceptionBitmap|TSC (?:Offset|Multiplier)|TPR Threshold|EPT pointer|"
    r"Virtual processor ID|CR3 target\d) ?=\s*[^\s=]+(?:\s+[<(][^=]*)?$"
)


@dataclass
class Token:
    """One `key = value` of the dump: the section it must belong to ("" where guest and host print it alike) and the line it is on."""

    key: str
    value: str
    line: int
    section: str = ""
    field: str = ""
    ending: str = ""
    #: the line on which the register or group that the key belongs to was opened (0: the key stands for itself)
    opened: int = 0
    #: the text ends with this value, and it has fewer digits than the programs print
    cut: bool = False


def is_dump_line(line: Line) -> bool:
    """Whether a line (without prefixes) begins like one of this format."""
    return _is_dump_text(line.text)


@lru_cache(maxsize=1 << 12)
def _is_dump_text(text: str) -> bool:
    return bool(_STARTS.match(text)) or bool(re.match(r"VMCS [0-9a-fA-Fx]+, last attempted", text))


def split_lines(lines: list[Line]) -> tuple[list[list[Line]], list[Line]]:
    """(the lines of each dump in the text, all other lines)."""
    mine: list[Line] = []
    others: list[Line] = []
    if all(_WEAK.match(line.text) for line in lines if is_dump_line(line)):
        return [], lines
    for index, line in enumerate(lines):
        previous = mine and mine[-1] is lines[index - 1]
        if is_dump_line(line) or (previous and CONTINUES.match(line.text)):
            mine.append(line)
        else:
            others.append(line)
    callers = {line.caller for line in mine if line.caller}
    streams = [mine]
    if len(callers) > 1:  # dumps of several processors, interleaved
        streams = [[line for line in mine if line.caller == caller] for caller in sorted(callers)]
    return [dump for stream in streams for dump in _split_at_heading(stream)], others


def _split_at_heading(lines: list[Line]) -> list[list[Line]]:
    dumps: list[list[Line]] = [[]]
    seen = False
    for line in lines:
        if re.match(r"\*\*\* ?Guest State", line.text):
            if seen:
                dumps.append([])
            seen = True
        dumps[-1].append(line)
    return [part for dump in dumps for part in without_head(dump) if part]


def parse(lines: list[Line], dump: Dump, unfinished: bool = False) -> None:
    """Read the lines of one dump into `dump`. `unfinished`: the text ends with the last of them and has no line end there."""
    tokens = _tokens(lines, dump, unfinished)
    orderly = _place(tokens, dump)
    gaps = _gaps(tokens)
    for token in tokens:
        if token.cut:
            dump.warn(f"line {token.line}: the text ends within {token.key} = {token.value}; the value is not used")
            continue
        if not orderly and token.opened not in (0, token.line):
            dump.warn(
                f"line {token.line}: {token.key} = {token.value} stands on another line than what it belongs to, "
                "and the lines of this dump are not in their order; it is not used"
            )
            continue
        if token.opened in gaps and token.line != token.opened:
            dump.warn(
                f"line {token.line}: {token.key} = {token.value} stands on a line of its own, and the register that should come next is "
                "missing; it may be that one's, so it is not used"
            )
            continue
        if token.section == "beside":
            value = _number(token, dump)
            if value is not None:
                dump.beside.setdefault(token.field, Reading(value, token.key, token.line))
            continue
        field = token.field or (f"{token.section}_{token.ending}" if token.section in (GUEST, HOST) else "")
        if not field:
            continue
        value = _number(token, dump)
        if value is not None:
            dump.put(field, value, token.key, token.line)


def _gaps(tokens: list[Token]) -> frozenset[int]:
    """The lines of registers after which the next register is missing: the rest of their wrapped lines may be that register's."""
    opened: dict[int, str] = {}
    for token in tokens:
        register = token.key.partition(" ")[0].lower()
        ends = register in _AFTER_TR and token.section != HOST
        if opened and token.line not in opened and (ends or (list(opened.values())[-1] == "cr0" and not token.opened)):
            opened[token.line] = "end"  # CR4 stands right after CR0, and nothing of TR's after it
        if register in _ORDER and token.section == GUEST:
            opened.setdefault(token.opened if token.opened > 0 else token.line, register)
    return frozenset(
        line
        for (line, register), (_, after) in pairwise(opened.items())
        if register != "end" and _ORDER.index(after) != (_ORDER.index(register) + 1) % len(_ORDER)
    )


def _number(token: Token, dump: Dump) -> int | None:
    text = token.value.rstrip(",;.")
    if re.fullmatch(_HEX, text):
        return int(text, 16)
    dump.warn(
        f"line {token.line}: {token.key} = {token.value or '(nothing)'} is not a number; {token.field or token.ending} counts as not given"
    )
    return None


class _Scanner:
    """Turns the text of one dump into tokens; knows the register and the group that the last keys opened."""

    def __init__(self, dump: Dump) -> None:
        self.dump = dump
        self.tokens: list[Token] = []
        self.register = ""
        self.group: dict[str, str] = {}
        self.list_name = ""
        self.line = 0
        self.opened = 0

    def add(self, key: str, value: str, section: str, field: str = "", ending: str = "", opened: int = 0) -> None:
        self.tokens.append(Token(key, value, self.line, section, field, ending, opened))

    def match(self, found: re.Match[str]) -> None:
        group = found.groupdict()
        if group["heading"]:
            self.register, self.group = "", {}
            self.add("***", "", f"*{HEADINGS[group['heading'].lower() + ' state']}")
        elif group["cs"]:
            self.add("CS:RIP", group["cs"], "", ending="ia32_sysenter_cs")
            self.add("CS:RIP", group["rip"], "", ending="ia32_sysenter_eip")
        elif group["svi"]:
            self.add("SVI|RVI", group["svi"] + group["rvi"].zfill(2), CONTROL, "guest_interrupt_status")
        elif group["segment"]:
            self.register, self.group, self.opened = group["segment"].lower(), {}, self.line
            self._columns(group["segment"], (group["columns"] or "").split())
        elif group["cr"]:
            self.register, self.group, self.opened = group["cr"].lower(), {}, self.line
        elif group["group"]:
            self.group, self.opened = _GROUP_KEYS[group["group"]], self.line
        elif group["list"]:
            self.list_name = group["list"]
        elif group["entry"]:
            self._list_entry(int(group["entry"]), group["msr"], group["msrvalue"])
        elif group["key"]:
            self._key(re.sub(r"\s", "", group["key"]), group["value"] or "", bool(group["suffix"]), found.group(0))
        elif group["plain"]:
            name = group["plain"].lower()
            self.add(group["plain"], group["plainvalue"], HOST, f"host_{name}" if name.startswith("cr") else f"host_{name}_selector")

    def _columns(self, segment: str, columns: list[str]) -> None:
        """Xen's columns: selector, attributes, limit, base (GDTR, IDTR: limit, base); the digits of each tell one from another."""
        parts = ("limit", "base") if segment in ("GDTR", "IDTR") else ("selector", "access_rights", "limit", "base")
        widths = (8, 16) if segment in ("GDTR", "IDTR") else (4, 5, 8, 16)
        if columns and len(columns) != len(parts) and [len(column) for column in columns] != list(widths[: len(columns)]):
            self.dump.warn(f"line {self.line}: {segment} has {len(columns)} of {len(parts)} columns; which are missing cannot be told")
            return
        for part, column in zip(parts, columns, strict=False):
            self.add(segment, column, GUEST, f"guest_{segment.lower()}_{part}")

    def _key(self, key: str, value: str, suffix: bool, whole: str) -> None:
        if key in self.group:
            self.add(key, value, CONTROL, self.group[key], opened=self.opened)
        elif key in CR_PARTS and self.register in ("cr0", "cr4"):
            self.add(f"{self.register.upper()} {key}", value, GUEST, CR_PARTS[key].format(self.register), opened=self.opened)
        elif key in CR_PARTS and self.register == "cr3" and key == "actual":
            self.add("CR3 actual", value, GUEST, "guest_cr3")
        elif key in SEGMENT_PARTS:
            self._segment_part(key, value)
        elif key in _BESIDE_KEYS or suffix:
            self.add(key, value, "beside", _BESIDE_KEYS.get(key, f"{key} (not the field)"))
        elif key == "CR3":
            self.add(
                key, value, GUEST if re.search(r"CR3\s+=", whole) else HOST, "guest_cr3" if re.search(r"CR3\s+=", whole) else "host_cr3"
            )
        elif key in _SHARED_KEYS:
            self.add(key, value, "", ending=_SHARED_KEYS[key])
        elif key in _OWN_KEYS:
            section, field = _OWN_KEYS[key]
            self.group, self.opened = _GROUP_KEYS.get(key, {}), self.line
            self.add(key, value, section, field)
        elif key in _PART_KEYS:
            self.dump.warn(f"line {self.line}: {key} = {value} stands without the key before it; it is not used")

    def _segment_part(self, key: str, value: str) -> None:
        if self.register not in {segment.lower() for segment in SEGMENT_KEYS}:
            self.dump.warn(f"line {self.line}: {key} = {value} without the name of a segment register before it; it is not used")
            return
        if self.register in ("gdtr", "idtr") and key in ("sel", "attr"):
            self.dump.warn(f"line {self.line}: {self.register.upper()} has no {key}; the lines of the dump may be damaged")
            self.register = ""
            return
        self.add(f"{self.register.upper()} {key}", value, GUEST, f"guest_{self.register}_{SEGMENT_PARTS[key]}", opened=self.opened)

    def _list_entry(self, index: int, number: str, value: str) -> None:
        if self.list_name != "MSR guest autoload" or index > 3:
            return
        self.dump.put(f"memory_msr_load_{index + 1}_index", int(number, 16), "MSR guest autoload", self.line)
        self.dump.put(f"memory_msr_load_{index + 1}_data", int(value, 16) & (1 << 64) - 1, "MSR guest autoload", self.line)


def _tokens(lines: list[Line], dump: Dump, unfinished: bool) -> list[Token]:
    scanner = _Scanner(dump)
    joined, starts = "", []
    for line in lines:
        starts.append((len(joined), line.number, bool(_STARTS.match(line.text))))
        joined += line.text + "\n"
    position = 0
    for found in _TOKEN.finditer(joined):
        while position < len(starts) and starts[position][0] <= found.start():
            if starts[position][2]:
                scanner.register = ""
            scanner.line = starts[position][1]
            position += 1
        before = len(scanner.tokens)
        scanner.match(found)
        if "\n" in found.group(0).strip():
            for token in scanner.tokens[before:]:
                token.opened = token.opened or -1
    last = scanner.tokens[-1] if scanner.tokens else None
    if last is not None and unfinished and re.sub(r"\s*\(\w*$", "", joined.rstrip()).endswith(last.value):
        kind = last.key.split()[-1]
        usual = max((_digits(token.value) for token in scanner.tokens if token.key.split()[-1:] == [kind]), default=0)
        short = _digits(last.value) < max(usual, _usual_digits(last.field or f"guest_{last.ending}"))
        # "(effective)" may have stood behind EFER's value
        last.cut = short or _digits(last.value) not in (4, 5, 8, 16) or last.key == "EFER"
    return scanner.tokens


def _usual_digits(field: str) -> int:
    """How many digits KVM and Xen print for a field at least."""
    if field not in FIELDS or field in ("tpr_threshold", "posted_interrupt_notification_vector"):
        return 2
    if field.endswith("access_rights"):
        return 5
    return 8 if field == "guest_rflags" else FIELDS[field].width // 4


def _digits(value: str) -> int:
    return len(value.removeprefix("0x"))


def _place(tokens: list[Token], dump: Dump) -> bool:
    """Give every token that guest and host share its section, from what stands before and after it.

    Returns whether the lines are in the order in which the programs print them.
    """
    for first, second in pairwise(tokens):
        if first.line == second.line and {first.ending, second.ending} == {"rip", "rsp"} and not first.section:
            # KVM and Xen print the guest's RSP before its RIP, the host's RIP before its RSP
            first.section = second.section = GUEST if first.ending == "rsp" else HOST
    marks = [(index, token.section) for index, token in enumerate(tokens) if token.section and token.section != "beside"]
    order = [SECTIONS.index(section.lstrip("*")) for _, section in marks]
    orderly = order == sorted(order)
    for index, token in enumerate(tokens):
        if token.section:
            continue
        before = next((section for at, section in reversed(marks) if at < index), "")
        after = next((section for at, section in marks if at > index), "")
        choice = _choices(before.lstrip("*"), after, token, tokens[index - 1] if index else None) if orderly else ()
        if len(choice) == 1:
            token.section = choice[0]
        else:
            dump.warn(
                f"line {token.line}: {token.key} = {token.value} may be the guest's or the host's; "
                "the lines around it do not tell, so it is not used"
            )
    for token in tokens:
        if token.section.startswith("*"):
            token.section = ""
    return orderly


#: The order in which KVM and Xen print the registers that have parts, with what stands between and after them.
_ORDER: Final = ("cr0", "cr4", "cr3", "cs", "ds", "ss", "es", "fs", "gs", "gdtr", "ldtr", "idtr", "tr", "end")
_AFTER_TR: Final = frozenset({"efer", "pat", "debugctl", "debugexceptions", "interruptibility", "preemptiontimer"})

#: (ending of a shared token, field of the token right before it) -> section: the order in which the programs print.
_FOLLOWS: Final = {
    ("ia32_sysenter_esp", "guest_dr7"): GUEST,
    ("ia32_sysenter_esp", "host_cr4"): HOST,
    ("ia32_efer", "guest_tr_base"): GUEST,
    ("ia32_pat", "guest_tr_base"): GUEST,
    ("ia32_perf_global_ctrl", "guest_pending_debug_exceptions"): GUEST,
}


def _choices(before: str, after: str, token: Token, previous: Token | None) -> tuple[str, ...]:
    """The sections that a shared token may be in, between a token of section `before` and one of `after` ("" at the ends)."""
    if before == CONTROL:
        # a variant prints the host's CET state after everything else
        return (HOST,) if token.ending in ("ia32_s_cet", "ssp", "ia32_interrupt_ssp_table_addr") else ()
    if previous is not None and previous.line == token.line and previous.ending and previous.section in (GUEST, HOST):
        return (previous.section,)
    follows = _FOLLOWS.get((token.ending, previous.field)) if previous is not None else None
    if follows and after != CONTROL:
        return (follows,)
    if not before and not after:
        return ()
    first = SECTIONS.index(before) if before else 0
    last = SECTIONS.index(after.lstrip("*")) - after.startswith("*") if after else first
    return tuple(section for section in (GUEST, HOST) if first <= SECTIONS.index(section) <= last)
