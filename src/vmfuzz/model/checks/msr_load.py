"""SDM Vol. 3C, "Loading MSRs" (VM entry): entry failure 34, the qualification is the 1-based number of the entry that failed.

Entries are loaded in order. Which values a WRMSR of a given MSR refuses is stated only for the MSRs of the table below; an entry with another
MSR counts as not modelled.
"""

from vmfuzz.arch.controls import Entry
from vmfuzz.arch.registers import CR0, EFER
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.checks.memory_types import valid_pat
from vmfuzz.model.expr import FALSE, all_of, any_of
from vmfuzz.model.operands import MSR_LOAD_ENTRIES, aligned, canonical, cap, enabled, live, memory, vmcs, within_physical_width

msr_load = Section("Loading MSRs", Fails.MSR_1)

IA32_SMM_MONITOR_CTL = 0x9B
IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_SYSENTER_EIP = 0x174, 0x175, 0x176
IA32_PAT = 0x277
IA32_EFER, IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK = 0xC0000080, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084
IA32_FS_BASE, IA32_GS_BASE, IA32_KERNEL_GS_BASE = 0xC0000100, 0xC0000101, 0xC0000102

#: MSRs whose value must be canonical.
CANONICAL = (IA32_SYSENTER_ESP, IA32_SYSENTER_EIP, IA32_LSTAR, IA32_CSTAR, IA32_KERNEL_GS_BASE)
#: MSRs whose WRMSR refuses no 32-bit value.
FREE = (IA32_STAR, IA32_SYSENTER_CS)
REFUSED = (IA32_FS_BASE, IA32_GS_BASE, IA32_SMM_MONITOR_CTL)

MODELLED = (*CANONICAL, *FREE, *REFUSED, IA32_PAT, IA32_EFER)

FAILS = (Fails.MSR_1, Fails.MSR_2, Fails.MSR_3, Fails.MSR_4)
ADDRESS = vmcs.vm_entry_msr_load_address
READABLE = all_of(aligned(ADDRESS, 4), within_physical_width(ADDRESS))

for number in range(1, MSR_LOAD_ENTRIES + 1):
    word = getattr(memory, f"msr_load_{number}_index")
    data = getattr(memory, f"msr_load_{number}_data")
    index = word[31:0]
    loaded = all_of(vmcs.vm_entry_msr_load_count >= number, READABLE)
    known = getattr(memory, f"msr_load_{number}_index_known") == 1
    x2apic = word[31:8] == 0x8
    modelled = any_of(index.one_of(*MODELLED), x2apic)
    fails = FAILS[number - 1]
    msr_load.check(
        f"msrload.fsgs.{number}",
        f"Entry {number} of the MSR-load area must not name IA32_FS_BASE or IA32_GS_BASE.",
        when=loaded,
        must=~index.one_of(IA32_FS_BASE, IA32_GS_BASE),
        fails=fails,
        known=known,
    )
    msr_load.check(
        f"msrload.x2apic.{number}",
        f"Entry {number} of the MSR-load area must not name an MSR from 800H to 8FFH.",
        when=loaded,
        must=~x2apic,
        fails=fails,
        known=known,
    )
    msr_load.check(
        f"msrload.smm.{number}",
        f"If the processor is not in SMM, entry {number} of the MSR-load area must not name IA32_SMM_MONITOR_CTL.",
        when=all_of(loaded, live.smm == 0),
        must=index != IA32_SMM_MONITOR_CTL,
        fails=fails,
        known=known,
    )
    msr_load.check(
        f"msrload.reserved.{number}",
        f"Bits 63:32 of entry {number} of the MSR-load area must be 0.",
        when=loaded,
        must=word[63:32] == 0,
        fails=fails,
        known=known,
    )
    msr_load.check(
        f"msrload.wrmsr.{number}.canonical",
        f"If entry {number} of the MSR-load area names an MSR that holds a linear address, its value must be canonical.",
        when=all_of(loaded, index.one_of(*CANONICAL)),
        must=canonical(data),
        fails=fails,
        known=known,
    )
    msr_load.check(
        f"msrload.wrmsr.{number}.pat",
        f"If entry {number} of the MSR-load area names IA32_PAT, each byte of its value must be 0, 1, 4, 5, 6 or 7.",
        when=all_of(loaded, index == IA32_PAT),
        must=valid_pat(data),
        fails=fails,
        known=known,
    )
    msr_load.check(
        f"msrload.wrmsr.{number}.efer",
        f"If entry {number} of the MSR-load area names IA32_EFER, reserved bits of its value must be 0.",
        when=all_of(loaded, index == IA32_EFER),
        must=(data & cap.efer_reserved) == 0,
        fails=fails,
        known=known,
    )
    msr_load.check(
        f"msrload.wrmsr.{number}.efer-lme",
        f"If entry {number} of the MSR-load area names IA32_EFER and the guest will use paging, it must not change IA32_EFER.LME (which is then "
        '"IA-32e mode guest").',
        when=all_of(loaded, index == IA32_EFER, vmcs.guest_cr0[CR0.PG]),
        must=data[EFER.LME].iff(enabled(Entry.IA32E_MODE_GUEST)),
        fails=fails,
        known=known,
    )
    msr_load.check(
        f"msrload.wrmsr.{number}.other",
        f"If entry {number} of the MSR-load area names another MSR, a WRMSR of its value must not fault (not modelled for this MSR).",
        when=all_of(loaded, ~modelled),
        must=index.one_of(*MODELLED),
        fails=fails,
        known=FALSE,
    )

msr_load.check(
    "msrload.wrmsr.beyond",
    f"Entries of the MSR-load area from number {MSR_LOAD_ENTRIES + 1} on must be ones that can be loaded (not modelled: the model reads the first "
    f"{MSR_LOAD_ENTRIES}).",
    when=all_of(READABLE, vmcs.vm_entry_msr_load_count >= MSR_LOAD_ENTRIES + 1),
    must=vmcs.vm_entry_msr_load_count <= MSR_LOAD_ENTRIES,
    fails=Fails.MSR_BEYOND,
    known=FALSE,
)
