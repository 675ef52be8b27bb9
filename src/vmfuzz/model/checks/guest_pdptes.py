"""SDM Vol. 3C, "Checks on Guest Page-Directory-Pointer-Table Entries": entry failure 33, qualification 2."""

from vmfuzz.arch.controls import Entry, Secondary
from vmfuzz.arch.registers import CR0, CR4, PDPTE
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.expr import Bits, Cond, all_of
from vmfuzz.model.operands import cap, enabled, memory, vmcs

pdptes = Section("Checks on Guest Page-Directory-Pointer-Table Entries", Fails.PDPTE)

PAE_PAGING = all_of(vmcs.guest_cr0[CR0.PG], vmcs.guest_cr4[CR4.PAE], ~enabled(Entry.IA32E_MODE_GUEST))
EPT = enabled(Secondary.ENABLE_EPT)
RESERVED_LOW = 0b1_1110_0110  # bits 8:5 and 2:1


def valid(entry: Bits) -> Cond:
    """A present entry has no reserved bit set, as MOV to CR3 demands under PAE paging."""
    return entry[PDPTE.P].implies((entry & (cap.beyond_maxphyaddr | RESERVED_LOW)) == 0)


for index in range(4):
    pdptes.check(
        f"guest.pdpte.memory.{index}",
        f'If the guest will use PAE paging and "enable EPT" is 0, PDPTE {index} in memory at guest CR3 must not be present with reserved bits set.',
        when=all_of(PAE_PAGING, ~EPT),
        must=valid(getattr(memory, f"pdpte{index}")),
        known=getattr(memory, f"pdpte{index}_known") == 1,
    )
for index in range(4):
    pdptes.check(
        f"guest.pdpte.fields.{index}",
        f'If the guest will use PAE paging and "enable EPT" is 1, the guest PDPTE {index} field must not be present with reserved bits set.',
        when=all_of(PAE_PAGING, EPT),
        must=valid(getattr(vmcs, f"guest_pdpte{index}")),
    )
