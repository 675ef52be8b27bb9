"""Fields and their values as one would say them, and as the SDM writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.hexadecimal import as_wide, encoded
from vmfuzz.model.operands import operand_width

#: Words of names that stand for themselves, in capital letters.
_CAPITALS: Final = frozenset(
    "cs ss ds es fs gs tr ldtr gdtr idtr cr0 cr3 cr4 dr7 rip rsp rflags msr ept eptp vpid tsc apic pml io pid ssp vmcs hlat uinv smbase ple "
    "tpr xss pasid seam pdpte0 pdpte1 pdpte2 pdpte3 efer cet ve".split()
)
#: Words that the SDM joins.
_JOINED: Final = {"vmx preemption": "VMX-preemption", "processor based": "processor-based", "pin based": "pin-based", "vm ": "VM-"}
#: What lies in memory, where the fields point to.
_IN_MEMORY: Final[Mapping[str, str]] = {
    "memory_link_dword": "the doubleword at the VMCS link pointer",
    "memory_vtpr": "VTPR (byte 80H of the virtual-APIC page)",
    **{f"memory_pdpte{index}": f"PDPTE{index} in memory" for index in range(4)},
    **{f"memory_msr_load_{entry}_index": f"the MSR number in entry {entry} of the VM-entry MSR-load area" for entry in range(1, 5)},
    **{f"memory_msr_load_{entry}_data": f"the value in entry {entry} of the VM-entry MSR-load area" for entry in range(1, 5)},
}


def spoken(name: str) -> str:
    """A field's name as one would say it: guest_gs_access_rights -> guest GS access rights."""
    if name in _IN_MEMORY:
        return _IN_MEMORY[name]
    name, ia32, msr = name.partition("ia32_")
    words = [word.upper() if word in _CAPITALS else word for word in name.replace("live", "the processor's").split("_") if word]
    text = " ".join([*words, f"{ia32}{msr}".upper()] if msr else words)
    for apart, joined in _JOINED.items():
        text = text.replace(apart, joined)
    return text


def with_encoding(name: str) -> str:
    """A field's name as one would say it, and its encoding: guest CS selector (802H)."""
    return f"{spoken(name)} ({encoded(FIELDS[name].encoding)})"


def shown(name: str, value: int) -> str:
    """A value as the SDM writes it, in the operand's width."""
    return as_wide(value, operand_width(name))
