"""QEMU's register dump ("KVM: entry failed, hardware error ..."), as the lines that QEMU prints.

It shows the registers as the guest sees them, not the VMCS: no controls, no interruptibility, and of the access rights all but "unusable".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from vmfuzz.explain.dump import ALL, HIGH_HALF
from vmfuzz.explain.formats.declared import Declared, Shown
from vmfuzz.explain.formats.sregs import mode_of
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_PRESENT, _UNUSABLE = 1 << 7, 1 << 16


def _shows(name: str, number: int, digits: int) -> Shown:
    """What a printed number says of a field: its value, and which bits of it are known."""
    if name == "vm_entry_controls":
        return mode_of(number)
    if name.endswith("access_rights"):
        # Nothing in the dump says whether the segment is unusable; one that is not present mostly is. Newer versions of QEMU clear P for an unusable
        # segment (so that P = 1 means usable there), older ones print P as KVM gives it, and the dump does not tell which version made it.
        rights = number >> 8 & 0xF0FF
        return Shown(rights, ALL & ~_UNUSABLE if rights & _PRESENT else ALL & ~0x1F0FF)
    # outside of 64-bit mode QEMU prints eight digits, whatever the register holds above
    halved = digits == 8 and name.endswith(("base", "rip", "rsp"))
    return Shown(number, ALL & ~HIGH_HALF if halved else ALL)


_SEGMENT: Final = "{{guest_{0}_selector:4}} {{guest_{0}_base:8|16}} {{guest_{0}_limit:8}} {{guest_{0}_access_rights:8}}"
FORMAT: Final = Declared(
    program="QEMU",
    source="target/i386/cpu-dump.c",
    words=("AX=", "IP=", "CR0=", "DR6=", "EFER=", "DT=", "TR =", "S ="),
    lines=(
        "EAX={+EAX:8} EBX={+EBX:8} ECX={+ECX:8} EDX={+EDX:8}",
        "ESI={+ESI:8} EDI={+EDI:8} EBP={+EBP:8} ESP={+ESP guest_rsp:8}",
        "EIP={+EIP guest_rip:8} EFL={+EFL guest_rflags:8} ... SMM={+SMM:1}",
        "RAX={+RAX:16} RBX={+RBX:16} RCX={+RCX:16} RDX={+RDX:16}",
        "RSI={+RSI:16} RDI={+RDI:16} RBP={+RBP:16} RSP={+RSP guest_rsp:16}",
        "R8 ={+R8:16} R9 ={+R9:16} R10={+R10:16} R11={+R11:16}",
        "R12={+R12:16} R13={+R13:16} R14={+R14:16} R15={+R15:16}",
        "RIP={+RIP guest_rip:16} RFL={+RFL guest_rflags:8} ... SMM={+SMM:1}",
        f"@ ={_SEGMENT.format('@')}",
        f"LDT={_SEGMENT.format('ldtr')}",
        "GDT= {guest_gdtr_base:8|16} {guest_gdtr_limit:8}",
        "IDT= {guest_idtr_base:8|16} {guest_idtr_limit:8}",
        "CR0={+CR0:8} CR2={+CR2:8|16} CR3={+CR3:8|16} CR4={+CR4:8}",
        "~ CR2={+CR2:8|16} CR3={+CR3:8|16} CR4={+CR4:8}",
        "~ CR3={+CR3:8|16} CR4={+CR4:8}",
        "~ CR4={+CR4:8}",
        "DR0={+DR0:16} DR1={+DR1:16} DR2={+DR2:16} DR3={+DR3:16}",
        "DR6={+DR6:16} DR7={+DR7 guest_dr7:16}",
        "EFER={+EFER vm_entry_controls:16}",
    ),
    registers=("ES", "CS", "SS", "DS", "FS", "GS", "TR"),
    view="QEMU shows the guest's registers, not the VMCS",
    open_ended=True,
    shows=_shows,
)
_FAILED: Final = deferred(r"entry failed|hardware error|internal error", re.IGNORECASE)
_HEAD: Final = 200
#: The register with which a line of the dump begins.
_FIRST: Final = deferred(r"([A-Z][A-Z0-9]{1,3}) ?=")
#: So many lines with registers that were there already begin another dump; and more dumps than this nobody reads.
_AGAIN, _MOST = 3, 4


def dumps_of(lines: list[Line], others: list[Line]) -> list[tuple[list[Line], bool]]:
    """The register dumps among QEMU's lines, each with whether a line that says "failed" stands above it; those first. At least one, perhaps empty."""
    if not lines:
        return [([], False)]
    parts: list[list[Line]] = [[]]
    seen: set[str] = set()
    for index, line in enumerate(lines):
        following = [_kind(later.text) for later in lines[index : index + _AGAIN]]
        if following[0] and len(following) > 1 and seen.issuperset(following):
            parts.append([])
            seen = set()
        parts[-1].append(line)
        seen.add(following[0])
    failures = [line.number for line in others if _FAILED.search(line.text[:_HEAD])]
    found: list[tuple[list[Line], bool]] = []
    known: list[set[str]] = []
    end = 0
    for part in parts:
        registers = [line for line in part if _kind(line.text)]
        texts = {line.text for line in registers}
        if not found or not any(texts <= earlier for earlier in known):  # else it is quoted
            known.append(texts)
            found.append((part, bool(registers) and any(end < number < registers[0].number for number in failures)))
        end = registers[-1].number if registers else end
    return sorted(found, key=lambda one: not one[1])[:_MOST]


@lru_cache(maxsize=1 << 13)
def _kind(text: str) -> str:
    """The register with which a line begins, "" for a line of another kind; EAX and RAX are one."""
    match = _FIRST.match(text)
    return match[1].lstrip("ER") or match[1] if match else ""
