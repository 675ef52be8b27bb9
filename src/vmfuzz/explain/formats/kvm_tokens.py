"""The tokens (`key = value`) of KVM's and Xen's VMCS dumps, each with the line, the register and the group that it stands in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.kvm_tables import (
    APART,
    BESIDE,
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
    STARTS,
)
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred


def _alternatives(keys: object) -> str:
    ordered = sorted(keys, key=len, reverse=True)  # type: ignore[call-overload]
    return "|".join(re.escape(key).replace(r"\ ", r"\s*") for key in ordered)


_OWN_KEYS: Final = {re.sub(r"\s", "", key): (section, field) for section in SECTIONS for key, field in OWN[section].items()}
_SHARED_KEYS: Final = {re.sub(r"\s", "", key): ending for key, ending in SHARED.items()}
_BESIDE_KEYS: Final = {re.sub(r"\s", "", key): name for key, name in BESIDE.items()}
_GROUP_KEYS: Final = {re.sub(r"\s", "", key): parts for key, parts in GROUPS.items()}
_PART_KEYS: Final = {part for parts in GROUPS.values() for part in parts} | set(CR_PARTS) | set(SEGMENT_PARTS)

_REGISTERS: Final = frozenset(segment.lower() for segment in SEGMENT_KEYS)

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
_TOKEN: Final = deferred(
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
    rf"|(?<![\w.-])(?P<plain>CR0|CR4|{'|'.join(HOST_SELECTORS)})(?:=\n(?=[0-9a-fA-F]{{4,16}}\s)|=| = )(?P<plainvalue>\S+)"
)
#: A line that begins with a value: it goes on a line that a mail program broke.
_VALUE_ALONE: Final = deferred(r"([0-9a-fA-F]{1,16}|0x[0-9a-fA-F]{1,16})(?:[\s,(]|$)")
#: Fewer digits are no value of a line of its own.
_WHOLE: Final = 4
#: Lines that only Xen before 4.6 prints so.
_OLD_XEN: Final = deferred(r"CS=[0-9a-fA-F]{4} DS=|Interruptibility=|DebugCtl=")


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
    #: Xen's own copy of the register stands behind the value, in brackets
    copied: bool = False
    #: the dump is one of Xen, which prints copies of RSP and RIP behind the guest's; before 4.6 the host's RSP stood before its RIP
    of_xen: bool = False
    #: the text ends with this value, and it has fewer digits than the programs print
    cut: bool = False


class _Scanner:
    """Turns the text of one dump into tokens; knows the register and the group that the last keys opened."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.tokens: list[Token] = []
        self.register = ""
        self.group: dict[str, str] = {}
        self.list_name = ""
        self.line = 0
        self.opened = 0

    def add(self, key: str, value: str, section: str, field: str = "", ending: str = "", opened: int = 0) -> None:
        self.tokens.append(Token(key, value, self.line, section, field, ending, opened))

    def match(self, group: re.Match[str]) -> None:
        if group["key"]:
            self._key(_without_spaces(group["key"]), group["value"] or "", bool(group["suffix"]), group[0])
        elif group["heading"]:
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
        elif group["plain"]:
            name = group["plain"].lower()
            self.add(group["plain"], group["plainvalue"], HOST, f"host_{name}" if name.startswith("cr") else f"host_{name}_selector")

    def _columns(self, segment: str, columns: list[str]) -> None:
        """Xen's columns: selector, attributes, limit, base (GDTR, IDTR: limit, base); the digits of each tell one from another."""
        parts = ("limit", "base") if segment in ("GDTR", "IDTR") else ("selector", "access_rights", "limit", "base")
        widths = (8, 16) if segment in ("GDTR", "IDTR") else (4, 5, 8, 16)
        if columns and len(columns) != len(parts) and [len(column) for column in columns] != list(widths[: len(columns)]):
            self.found.warn(f"{segment} has {len(columns)} of {len(parts)} columns; which are missing cannot be told", self.line)
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
            self.group, self.opened = {}, self.line
            self.add(key, value, section, field)
        elif key in _PART_KEYS:
            self.found.warn(f"{key} = {value} stands without the key before it; it is not used", self.line)

    def _segment_part(self, key: str, value: str) -> None:
        if self.register not in _REGISTERS:
            self.found.warn(f"{key} = {value} without the name of a segment register before it; it is not used", self.line)
            return
        if self.register in ("gdtr", "idtr") and key in ("sel", "attr"):
            self.found.warn(f"{self.register.upper()} has no {key}; the lines of the dump may be damaged", self.line)
            self.register = ""
            return
        self.add(f"{self.register.upper()} {key}", value, GUEST, f"guest_{self.register}_{SEGMENT_PARTS[key]}", opened=self.opened)

    def _list_entry(self, index: int, number: str, value: str) -> None:
        if self.list_name != "MSR guest autoload" or index > 3:
            return
        self.found.put(f"memory_msr_load_{index + 1}_index", int(number, 16), "MSR guest autoload", self.line)
        self.found.put(f"memory_msr_load_{index + 1}_data", int(value, 16) & (1 << 64) - 1, "MSR guest autoload", self.line)


@lru_cache(maxsize=1 << 13)
def _beginning(text: str) -> tuple[bool, bool, bool]:
    """(whether a line begins with a key, whether it begins with a value, whether that may be a whole one)."""
    value = _VALUE_ALONE.match(text)
    return STARTS.match(text) is not None, value is not None, value is not None and len(value[1]) >= _WHOLE


@lru_cache(maxsize=1 << 10)
def _without_spaces(key: str) -> str:
    return re.sub(r"\s", "", key)


def tokens_of(lines: list[Line], found: Found, unfinished: bool) -> tuple[list[Token], bool]:
    """(the tokens, whether a value stands on a line of its own where no key waits for one)."""
    scanner = _Scanner(found)
    starts, length, astray, end = [], 0, False, 0
    for line in lines:
        starts.append((length, line.number, *_beginning(line.text)))
        length += len(line.text) + 1
    joined = "\n".join(line.text for line in lines) + "\n"
    position = 0
    for match in chain(_TOKEN.finditer(joined), (None,)):
        while position < len(starts) and (match is None or starts[position][0] <= match.start()):
            begins, number, is_key, is_value, is_long = starts[position]
            if is_key:
                scanner.register = ""
            if is_value and begins >= end:
                astray = astray or is_long
                for token in scanner.tokens[-1:]:
                    token.cut = _is_short(token)  # a console may have broken its number
            scanner.line = number
            position += 1
        if match is None:
            break
        end = match.end()
        copied = joined.startswith("(0x", end + 1)
        before = len(scanner.tokens)
        scanner.match(match)
        wrapped = "\n" in match[0].strip()
        for token in scanner.tokens[before:] if wrapped or copied else ():
            token.copied = copied
            token.opened = token.opened or -wrapped
    old = any(_OLD_XEN.match(line.text) for line in lines)
    xen = old or any("(XEN)" in line.raw for line in lines)
    for token in scanner.tokens if xen else ():
        token.section = "apart" if old and token.field in APART else token.section
        token.of_xen = True
    _note_cut(scanner.tokens, joined, unfinished)
    return scanner.tokens, astray


def _note_cut(tokens: list[Token], joined: str, unfinished: bool) -> None:
    """Mark the last token if the text ends with it and it is shorter than what the programs print."""
    last = tokens[-1] if tokens else None
    if last is not None and unfinished and re.sub(r"\s*\(\w*$", "", joined.rstrip()).endswith(last.value):
        kind = last.key.split()[-1]
        usual = max((digits(token.value) for token in tokens if token.key.split()[-1:] == [kind]), default=0)
        short = digits(last.value) < usual or _is_short(last)
        # "(effective)" may have stood behind EFER's value; RFLAGS has 8 digits or 16, and DR7 behind it
        last.cut = short or digits(last.value) not in (4, 5, 8, 16) or last.key in ("EFER", "RFLAGS")


def _is_short(token: Token) -> bool:
    """Whether a value has fewer digits than the programs print for its field."""
    return digits(token.value) < usual_digits(token.field or f"guest_{token.ending}")


def usual_digits(field: str) -> int:
    """How many digits KVM and Xen print for a field at least."""
    if field not in FIELDS or field in ("tpr_threshold", "posted_interrupt_notification_vector"):
        return 2
    if field.endswith("access_rights"):
        return 5
    return 8 if field == "guest_rflags" else FIELDS[field].width // 4


def digits(value: str) -> int:
    """How many digits a value has."""
    return len(value.removeprefix("0x"))
