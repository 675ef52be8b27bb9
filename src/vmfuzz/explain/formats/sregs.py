"""Reads what userspace gets from KVM (struct kvm_sregs and kvm_regs), as debuggers and Rust print these structures.

They show the registers as the guest sees them, not the VMCS: KVM adds to CR0 and CR4 what VMX demands (NE, VMXE), so those and IA32_EFER only
stand beside the fields. Of the access rights every bit is there, under a name of its own. Numbers are decimal unless they carry 0x.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from vmfuzz.explain.dump import ALL, Reading
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.declared import Shown
from vmfuzz.explain.formats.shapes import RIGHTS_BITS
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_MARK: Final = deferred(r"\b(?:kvm_segment|kvm_(?:[gs]et_)?s?regs|apic_base|sregs)\b")
#: A structure, and its members before the first that is a structure itself.
_STRUCTURE: Final = deferred(r"(?:\b(?P<name>[a-z]\w*)\s*[:=]\s*)?(?:\w+\s*)?\{(?=(?P<members>[^{}]*)[{}])")
_MEMBER: Final = deferred(r"\b(?P<name>[a-z]\w*)\s*[:=]\s*(?P<value>0[xX][0-9a-fA-F]+|\d+)\b")
_SEGMENTS: Final = {**{name: name for name in ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr")}, "ldt": "ldtr"}
#: Members that stand beside the fields.
_BESIDE: Final = frozenset({"cr0", "cr3", "cr4", "cr8", "efer", "apic_base"})
_SEEN: Final = "KVM's structures show the guest's registers, not the VMCS"
#: The bits of access rights; those that KVM may set before they reach the VMCS: "accessed" of code and data (with unrestricted guest), "busy" of a TSS.
_RIGHTS: Final = 0x1F0FF
_ACCESSED, _BUSY, _S, _PRESENT, _UNUSABLE = 1 << 0, 1 << 1, 1 << 4, 1 << 7, 1 << 16
#: "IA-32e mode guest", one bit below IA32_EFER.LMA.
_IA32E: Final = 1 << 9
_MODE: Final = 'KVM makes the VM-entry control "IA-32e mode guest" from EFER.LMA'


def parse_sregs(lines: Sequence[Line], found: Found) -> set[int]:
    """Read the structures in these lines, if they are of KVM, whatever form they have; returns the numbers of the lines that they take up."""
    text = "".join(f"{line.text}\n" for line in lines)
    taken: set[int] = set()
    if not _MARK.search(text.lower()):
        return taken
    found.viewed = True

    def line_of(begin: int, end: int) -> int:
        first, last = (text.count("\n", 0, at) for at in (begin, end))
        taken.update(line.number for line in lines[first : last + 1])
        return lines[first].number

    begin = len(text)
    for structure in _STRUCTURE.finditer(text):
        name = structure["name"] or ""
        members = {member["name"]: int(member["value"], 0) for member in _MEMBER.finditer(structure["members"])}
        register, parts = _fields_of(name, members)
        if not register:
            continue
        begin = min(begin, structure.start())
        line = line_of(structure.start(), structure.end("members"))
        for part in parts:
            if part in members:
                found.put(register + part, members[part], f"{name} {part}", line, assumed=_SEEN)
        if "selector" in parts:
            _rights(name, members, line, found)
    for member in _MEMBER.finditer(text, begin):
        if member["name"] in _BESIDE:
            line, value = line_of(*member.span()), int(member["value"], 0)
            found.beside.setdefault(f"KVM {member['name']}", Reading(value, member["name"], line))
            if member["name"] == "efer":
                mode = mode_of(value)
                found.put("vm_entry_controls", mode.value, "efer", line, assumed=mode.why, known=mode.known)
    return taken


def _fields_of(name: str, members: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """What the names of the fields begin with that a structure gives, and which of its members are fields; nothing for other structures."""
    if name in _SEGMENTS and "selector" in members and "present" in members:
        return f"guest_{_SEGMENTS[name]}_", ("selector", "base", "limit")
    if name in ("gdt", "idt"):
        return f"guest_{name}r_", ("base", "limit")
    return ("guest_", ("rip", "rsp", "rflags")) if "r12" in members and "rflags" in members else ("", ())


def mode_of(efer: int) -> Shown:
    """What IA32_EFER as the guest sees it says of the VM-entry controls: KVM makes "IA-32e mode guest" from its LMA."""
    return Shown(efer >> 1 & _IA32E, _IA32E, _MODE)


def _rights(name: str, members: dict[str, int], line: int, found: Found) -> None:
    """Note the access rights of a segment."""
    rights = known = 0
    for member, (low, width) in RIGHTS_BITS.items():
        value = members.get(member)
        if value is not None and not value >> width:
            rights |= value << low
            known |= ((1 << width) - 1) << low
    if rights & _UNUSABLE or not rights & _PRESENT:
        known = rights & _UNUSABLE  # the other bits mean nothing, and KVM may clear them; newer versions make what is not present unusable
    else:
        may_be_set = _ACCESSED if rights & _S else _BUSY if name == "tr" else 0
        known &= ~(may_be_set & ~rights)
        if may_be_set == _ACCESSED and not rights & _ACCESSED:
            found.warn(
                f'{name} has type {rights & 0xF}, which is not "accessed" (bit 0 is 0). Where the processor has unrestricted guest, KVM '
                f"sets that bit; elsewhere the entry fails. Give {name} type {rights & 0xF | 1}",
                line,
            )
    known |= ALL & ~_RIGHTS
    found.put(f"guest_{_SEGMENTS[name]}_access_rights", rights & known, f"{name}'s bits", line, assumed=_SEEN, known=known)
