"""Reads what userspace gets from KVM (struct kvm_sregs and kvm_regs), as debuggers and Rust print these structures.

They show the registers as the guest sees them, not the VMCS: KVM adds to CR0 and CR4 what VMX demands (NE, VMXE), so those and IA32_EFER only
stand beside the fields. Of the access rights every bit is there, under a name of its own. Numbers are decimal unless they carry 0x.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from vmfuzz.explain.dump import ALL, Reading
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.declared import Shown
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_MARK: Final = deferred(r"\bkvm_segment\b|\bkvm_s?regs\b|KVM_[GS]ET_S?REGS|\bapic_base\b|\bsregs\b", re.IGNORECASE)
_NUMBER: Final = r"(?:0[xX][0-9a-fA-F]+|\d+)\b"
_SEGMENT: Final = deferred(r"\b(?P<name>[c-gs]s|tr|ldtr?)\s*[:=]\s*(?:\w+\s*)?\{(?P<body>[^{}]*\bselector\b[^{}]*\bpresent\b[^{}]*)\}")
_TABLE: Final = deferred(r"\b(?P<name>gdt|idt)\s*[:=]\s*(?:\w+\s*)?\{(?P<body>[^{}]*\blimit\b[^{}]*)(?:[{\[][^{}\[\]]*[}\]][^{}]*)?\}")
_REGS: Final = deferred(r"\{(?P<body>[^{}]*\br12\b[^{}]*\brflags\s*[:=][^{}]*)\}")
_PAIR: Final = deferred(rf"\b(?P<name>[a-z]\w*)\s*[:=]\s*(?P<value>{_NUMBER})")
_CONTROL: Final = deferred(rf"\b(?P<name>cr[0348]|efer|apic_base)\s*[:=]\s*(?P<value>{_NUMBER})")
#: member of struct kvm_segment -> lowest bit of the access rights, width
_RIGHTS: Final = {
    "type": (0, 4), "type_": (0, 4), "s": (4, 1), "dpl": (5, 2), "present": (7, 1), "avl": (12, 1), "l": (13, 1), "db": (14, 1), "g": (15, 1),
    "unusable": (16, 1),
}  # fmt: skip
_SEEN: Final = "KVM's structures show the guest's registers, not the VMCS"
#: Bits that KVM may set before they reach the VMCS: "accessed" of a code or data segment (with unrestricted guest), "busy" of a TSS.
_ACCESSED, _BUSY = 1 << 0, 1 << 1
_UNUSABLE: Final = 1 << 16
#: IA32_EFER.LMA (bit 10) and "IA-32e mode guest" (bit 9), one bit below it.
_IA32E: Final = 9
_LMA: Final = 1
_MODE: Final = 'KVM makes the VM-entry control "IA-32e mode guest" from EFER.LMA'


def is_marked(lines: Sequence[Line]) -> bool:
    """Whether a text is of these structures, whatever form it has."""
    text = "\n".join(line.text for line in lines)
    small = text.lower()  # looking for words first is ten times as fast
    return any(word in small for word in ("kvm_", "apic_base", "sregs")) and _MARK.search(text) is not None


def parse_sregs(lines: Sequence[Line], found: Found) -> frozenset[int]:
    """Read the structures in these lines; returns the numbers of the lines that they take up."""
    text, starts = "", []
    for line in lines:
        starts.append((len(text), line.number))
        text += line.text + "\n"
    if "{" not in text:
        return frozenset()
    segments = list(_SEGMENT.finditer(text))
    taken: list[tuple[int, int]] = []
    for match in segments:
        _segment(match["name"], _members(match["body"]), _line_at(starts, match.start()), found)
        taken.append(match.span())
    for match in _TABLE.finditer(text) if segments else ():
        members, register = _members(match["body"]), match["name"] + "r"
        for part in ("base", "limit"):
            if part in members:
                found.put(
                    f"guest_{register}_{part}",
                    members[part],
                    f"{match['name']} {part}",
                    _line_at(starts, match.start()),
                    assumed=_SEEN,
                )
        taken.append(match.span())
    for match in _REGS.finditer(text):
        for name, value in _members(match["body"]).items():
            if name in ("rip", "rsp", "rflags"):
                found.put(f"guest_{name}", value, name, _line_at(starts, match.start()), assumed=_SEEN)
        taken.append(match.span())
    for match in _CONTROL.finditer(text, segments[0].start()) if segments else ():
        number, value = _line_at(starts, match.start()), int(match["value"], 0)
        found.beside.setdefault(f"KVM {match['name']}", Reading(value, match["name"], number))
        if match["name"] == "efer":
            mode = mode_of(value)
            found.put("vm_entry_controls", mode.value, "efer", number, assumed=mode.why, known=mode.known)
        taken.append(match.span())
    return frozenset(number for start, end in taken for number in _lines_between(starts, start, end))


def mode_of(efer: int) -> Shown:
    """What IA32_EFER as the guest sees it says of the VM-entry controls: KVM makes "IA-32e mode guest" from its LMA."""
    return Shown(efer >> _LMA & 1 << _IA32E, 1 << _IA32E, _MODE)


def _members(body: str) -> dict[str, int]:
    return {match["name"]: int(match["value"], 0) for match in _PAIR.finditer(body)}


def _segment(name: str, members: dict[str, int], line: int, found: Found) -> None:
    register = {"ldt": "ldtr"}.get(name, name)
    for member, part in (("selector", "selector"), ("base", "base"), ("limit", "limit")):
        if member in members:
            found.put(f"guest_{register}_{part}", members[member], f"{name} {member}", line, assumed=_SEEN)
    rights = known = 0
    for member, (low, width) in _RIGHTS.items():
        if member in members and not members[member] >> width:
            rights |= members[member] << low
            known |= ((1 << width) - 1) << low
    if rights & _UNUSABLE:
        known = ALL & ~0x1F0FF | _UNUSABLE  # the other bits then mean nothing, and KVM may clear them
    elif not rights >> 7 & 1:
        known = ALL & ~0x1F0FF  # newer versions of KVM make such a segment unusable
    else:
        known |= ALL & ~0x1F0FF
        may_be_set = _ACCESSED if rights >> 4 & 1 else _BUSY if register == "tr" else 0
        known &= ~(may_be_set & ~rights)
        if may_be_set == _ACCESSED and not rights & _ACCESSED:
            found.warn(
                f'{name} has type {rights & 0xF}, which is not "accessed" (bit 0 is 0). Where the processor has unrestricted guest, KVM '
                f"sets that bit; elsewhere the entry fails. Give {name} type {rights & 0xF | 1}",
                line,
            )
    found.put(f"guest_{register}_access_rights", rights & known, f"{name}'s bits", line, assumed=_SEEN, known=known)


def _line_at(starts: Sequence[tuple[int, int]], offset: int) -> int:
    return next(number for start, number in reversed(starts) if start <= offset)


def _lines_between(starts: Sequence[tuple[int, int]], start: int, end: int) -> Iterator[int]:
    first = _line_at(starts, start)
    return (number for at, number in starts if number == first or start <= at < end)
