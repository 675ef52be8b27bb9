"""What looks wrong in the guest's registers as QEMU shows them, which are not the fields of the VMCS that KVM makes of them."""

from __future__ import annotations

from typing import Final

from vmfuzz.arch.registers import CR0, EFER
from vmfuzz.counted import listed
from vmfuzz.explain.dump import Dump, Reading
from vmfuzz.hexadecimal import hexadecimal

_QEMU: Final = "QEMU "
_INTEL_EFER: Final = 1 << EFER.SCE | 1 << EFER.LME | 1 << EFER.LMA | 1 << EFER.NXE
#: Bits of EFER that AMD's processors have and Intel's reserve (AMD64 Architecture Programmer's Manual, Vol. 2).
_AMD_EFER: Final = {12: "SVME", 13: "LMSLE", 14: "FFXSR", 15: "TCE", 17: "MCOMMIT", 18: "INTWB", 20: "UAIE", 21: "AIBRSE"}
#: Registers of which KVM puts another value into the VMCS than the guest's.
_CHANGED: Final = ("CR0", "CR3", "CR4")


def register_suspicions(dump: Dump) -> list[str]:
    """Sentences without their end on what no field of the text shows; those that real failures had come first."""
    efer, cr0 = (dump.beside.get(f"{_QEMU}{name}") for name in ("EFER", "CR0"))
    found = [] if efer is None or "guest_ia32_efer" in dump.readings else _reserved_in_efer(efer)
    return [*found, *([] if cr0 is None or "guest_cr0" in dump.readings else _without_paging(cr0))]


def _reserved_in_efer(efer: Reading) -> list[str]:
    bits = [bit for bit in range(64) if efer.value & ~_INTEL_EFER & 1 << bit]
    if not bits:
        return []
    names = ", ".join(f"{bit} ({_AMD_EFER[bit]}, which only AMD processors have)" if bit in _AMD_EFER else str(bit) for bit in bits)
    several = len(bits) > 1
    return [
        f"EFER = {hexadecimal(efer.value)} (line {efer.line}) has bit{'s' * several} {names} = 1. Intel processors reserve "
        f"{'them' if several else 'it'}, and VM entry refuses guest IA32_EFER with {'them' if several else 'it'}: a state that was saved on an "
        "AMD machine, or a CPU model of AMD's, fails like this"
    ]


def _without_paging(cr0: Reading) -> list[str]:
    if cr0.value & 1 << CR0.PG:
        return []
    what = "paging (PG) is not" if cr0.value & 1 << CR0.PE else "neither protection (PE) nor paging (PG) is"
    return [
        f"{what} on in CR0 = {hexadecimal(cr0.value)} (line {cr0.line}): only an unrestricted guest may enter like that, which needs EPT "
        "(kvm_intel.unrestricted_guest=Y and kvm_intel.ept=Y on the host)"
    ]


def not_judged(dump: Dump) -> str:
    """That QEMU's control registers are not judged, and why; "" where the text shows none, or the VMCS has them."""
    names = [name for name in _CHANGED if f"{_QEMU}{name}" in dump.beside and f"guest_{name.lower()}" not in dump.readings]
    if not names:
        return ""
    return f"{listed(names)} of QEMU's dump are what the guest sees; KVM puts more into the VMCS, so they are not judged"
