"""QEMU's register dump ("KVM: entry failed, hardware error ..."), as the lines that QEMU prints.

It shows the registers as the guest sees them, not the VMCS: no controls, no interruptibility, and of the access rights all but "unusable".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from vmfuzz.arch.registers import AR
from vmfuzz.explain.dump import ALL, HIGH_HALF
from vmfuzz.explain.formats.declared import Declared
from vmfuzz.explain.formats.dumps import divided
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

#: The bits of access rights.
_RIGHTS: Final = 0x1F0FF


def _shows(name: str, number: int, digits: int) -> tuple[int, int]:
    """What a printed number says of a field: its value, and which bits of it are known."""
    if name.endswith("access_rights"):
        # Nothing in the dump says whether the segment is unusable; one that is not present mostly is. Newer versions of QEMU clear P for an unusable
        # segment (so that P = 1 means usable there), older ones print P as KVM gives it, and the dump does not tell which version made it.
        rights = number >> 8 & 0xF0FF
        return rights, ALL & ~(1 << AR.UNUSABLE if rights >> AR.P & 1 else _RIGHTS)
    # outside of 64-bit mode QEMU prints eight digits, whatever the register holds above
    halved = digits == 8 and name.endswith(("base", "rip", "rsp"))
    return number, ALL & ~HIGH_HALF if halved else ALL


_SEGMENT: Final = "{{guest_{0}_selector:4}} {{guest_{0}_base:8|16}} {{guest_{0}_limit:8}} {{guest_{0}_access_rights:8}}"
FORMAT: Final = Declared(
    program="QEMU",
    source="target/i386/cpu-dump.c",
    words=("AX=", "IP=", "CR0=", "DR6=", "EFER=", "DT=", "TR =", "S ="),
    lines=(
        f"@ ={_SEGMENT.format('@')}",
        f"LDT={_SEGMENT.format('ldtr')}",
        "GDT= {guest_gdtr_base:8|16} {guest_gdtr_limit:8}",
        "IDT= {guest_idtr_base:8|16} {guest_idtr_limit:8}",
        "EIP={+EIP guest_rip:8}",
        "RIP={+RIP guest_rip:16}",
        "EFER={+EFER vm_entry_controls.9<10:16}",  # KVM makes "IA-32e mode guest" from LMA
        "CR0={+CR0:8}",
        "@={+@:8|16}",
        "@ ={+@:16}",
        "~ ESP={+ESP guest_rsp:8}",
        "~ RSP={+RSP guest_rsp:16}",
        "~ EFL={+EFL guest_rflags:8}",
        "~ RFL={+RFL guest_rflags:8}",
        "~ SMM={+SMM:1}",
        "~ CR2={+CR2:8|16}",
        "~ CR3={+CR3:8|16}",
        "~ CR4={+CR4:8}",
        "~ DR7={+DR7 guest_dr7:16}",
    ),
    registers=(
        *("ES", "CS", "SS", "DS", "FS", "GS", "TR"),
        *(size + name for size in "ER" for name in ("AX", "BX", "CX", "DX", "SI", "DI", "BP")),
        *("R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15"),
        *("DR0", "DR1", "DR2", "DR3", "DR6"),
    ),
    view="QEMU shows the guest's registers, not the VMCS",
    parts=True,
    shows=_shows,
)
_FAILED: Final = deferred(r"entry failed|hardware error|internal error", re.IGNORECASE)
#: What begins a dump; and more dumps than this nobody reads.
_FIRST: Final = deferred(r"(?:.*\W)?[ER]AX=")
_MOST: Final = 4


def dumps_of(lines: list[Line], others: Iterable[Line]) -> list[tuple[list[Line], bool]]:
    """The register dumps among QEMU's lines, each with whether a line that says "failed" stands above it; those first. At least one, perhaps empty."""
    if not lines:
        return [([], False)]
    failures = [line.number for line in others if _FAILED.search(line.text)]
    dumps = divided(lines, _FIRST)
    above = [0, *(dump[-1].number for dump in dumps)]
    found = [(dump, any(end < number < dump[0].number for number in failures)) for end, dump in zip(above, dumps, strict=False)]
    return sorted(found, key=lambda one: not one[1])[:_MOST]
