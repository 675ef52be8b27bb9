"""Reads what userspace gets from KVM (struct kvm_sregs and kvm_regs), as debuggers and Rust print these structures.

They show the registers as the guest sees them, not the VMCS: KVM adds to CR0 and CR4 what VMX demands (NE, VMXE), so those and IA32_EFER only
stand beside the fields. Of the access rights every bit is there, under a name of its own. Numbers are decimal unless they carry 0x.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from vmfuzz.explain.dump import ALL, Reading
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.declared import Shown
from vmfuzz.explain.formats.shapes import RIGHTS_BITS
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_MARK: Final = deferred(r"\bkvm_segment\b|\bkvm_s?regs\b|KVM_[GS]ET_S?REGS|\bapic_base\b|\bsregs\b", re.IGNORECASE)
_NUMBER: Final = r"(?:0[xX][0-9a-fA-F]+|\d+)\b"
_SEGMENT: Final = deferred(r"\b(?P<name>[c-gs]s|tr|ldtr?)\s*[:=]\s*(?:\w+\s*)?\{(?P<body>[^{}]*\bselector\b[^{}]*\bpresent\b[^{}]*)\}")
_TABLE: Final = deferred(r"\b(?P<name>gdt|idt)\s*[:=]\s*(?:\w+\s*)?\{(?P<body>[^{}]*\blimit\b[^{}]*)(?:[{\[][^{}\[\]]*[}\]][^{}]*)?\}")
_REGS: Final = deferred(r"\{(?P<body>[^{}]*\br12\b[^{}]*\brflags\s*[:=][^{}]*)\}")
_PAIR: Final = deferred(rf"\b(?P<name>[a-z]\w*)\s*[:=]\s*(?P<value>{_NUMBER})")
_CONTROL: Final = deferred(rf"\b(?P<name>cr[0348]|efer|apic_base)\s*[:=]\s*(?P<value>{_NUMBER})")
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


def parse_sregs(lines: Sequence[Line], found: Found) -> set[int]:
    """Read the structures in these lines; returns the numbers of the lines that they take up."""
    text = "".join(f"{line.text}\n" for line in lines)
    taken: set[int] = set()

    def line_of(match: re.Match[str]) -> int:
        first, last = (text.count("\n", 0, at) for at in match.span())
        taken.update(line.number for line in lines[first : last + 1])
        return lines[first].number

    segments = list(_SEGMENT.finditer(text))
    for match in segments:
        _segment(match["name"], _members(match["body"]), line_of(match), found)
    for match in _TABLE.finditer(text) if segments else ():
        line = line_of(match)
        for part, value in _members(match["body"]).items():
            if part in ("base", "limit"):
                found.put(f"guest_{match['name']}r_{part}", value, f"{match['name']} {part}", line, assumed=_SEEN)
    for match in _REGS.finditer(text):
        line = line_of(match)
        for name, value in _members(match["body"]).items():
            if name in ("rip", "rsp", "rflags"):
                found.put(f"guest_{name}", value, name, line, assumed=_SEEN)
    for match in _CONTROL.finditer(text, segments[0].start()) if segments else ():
        line, value = line_of(match), int(match["value"], 0)
        found.beside.setdefault(f"KVM {match['name']}", Reading(value, match["name"], line))
        if match["name"] == "efer":
            mode = mode_of(value)
            found.put("vm_entry_controls", mode.value, "efer", line, assumed=mode.why, known=mode.known)
    return taken


def mode_of(efer: int) -> Shown:
    """What IA32_EFER as the guest sees it says of the VM-entry controls: KVM makes "IA-32e mode guest" from its LMA."""
    return Shown(efer >> _LMA & 1 << _IA32E, 1 << _IA32E, _MODE)


def _members(body: str) -> dict[str, int]:
    return {match["name"]: int(match["value"], 0) for match in _PAIR.finditer(body)}


def _segment(name: str, members: dict[str, int], line: int, found: Found) -> None:
    register = "ldtr" if name == "ldt" else name
    rights = known = 0
    for part in ("selector", "base", "limit"):
        if part in members:
            found.put(f"guest_{register}_{part}", members[part], f"{name} {part}", line, assumed=_SEEN)
    for member, (low, width) in RIGHTS_BITS.items():
        value = members.get(member)
        if value is not None and not value >> width:
            rights |= value << low
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
