"""SDM Vol. 3C, "Loading MSRs" (VM entry): entry failure 34, the qualification is the 1-based number of the entry that failed.

Entries are loaded in order, each as a WRMSR would. What that refuses is in wrmsr.py; an entry with another MSR counts as not modelled.
"""

from vmfuzz.arch.controls import Entry, Tertiary
from vmfuzz.arch.registers import CR0, EFER, IA32_APIC_BASE
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.checks.memory_types import valid_pat
from vmfuzz.model.checks.wrmsr import (
    IA32_EFER,
    IA32_FS_BASE,
    IA32_GS_BASE,
    IA32_MTRR_DEF_TYPE,
    IA32_PAT,
    IA32_SPEC_CTRL,
    LINEAR,
    MODELLED,
    MTRR_FIXED,
    MTRR_PHYSBASES,
    NEVER,
    READ_ONLY,
    RULED,
    SMM_ONLY,
    left_open,
    takes,
    valid_memory_types,
)
from vmfuzz.model.expr import FALSE, all_of, any_of
from vmfuzz.model.operands import MSR_LOAD_ENTRIES, aligned, canonical, cap, enabled, live, memory, vmcs, within_physical_width

msr_load = Section("Loading MSRs", Fails.MSR_1)

#: The SDM leaves undefined what the entry then does with IA32_SPEC_CTRL.
SPEC_CTRL_IS_VIRTUAL = enabled(Tertiary.VIRTUALIZE_IA32_SPEC_CTRL)


FAILS = (Fails.MSR_1, Fails.MSR_2, Fails.MSR_3, Fails.MSR_4)
ADDRESS = vmcs.vm_entry_msr_load_address
#: Entries so far that disable the local APIC: what a later one may do to its mode, the mode before the VM entry does not say.
disabled = FALSE
READABLE = all_of(aligned(ADDRESS, 4), within_physical_width(ADDRESS))

for number in range(1, MSR_LOAD_ENTRIES + 1):
    word = getattr(memory, f"msr_load_{number}_index")
    data = getattr(memory, f"msr_load_{number}_data")
    index = word[31:0]
    loaded = all_of(vmcs.vm_entry_msr_load_count >= number, READABLE)
    known = getattr(memory, f"msr_load_{number}_index_known") == 1
    x2apic = word[31:8] == 0x8
    known_data = all_of(known, getattr(memory, f"msr_load_{number}_data_known") == 1)
    never = word[31:16] == NEVER
    modelled = all_of(
        any_of(never, x2apic, index.one_of(*MODELLED)),
        ~all_of(left_open(index, data), takes(index, data), valid_memory_types(index, data), canonical(data) | ~index.one_of(*LINEAR)),
        ~all_of(index == IA32_SPEC_CTRL, SPEC_CTRL_IS_VIRTUAL),
        ~all_of(index.one_of(*SMM_ONLY), live.smm == 1),
    )
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
        f"If the processor is not in SMM, entry {number} of the MSR-load area must not name an MSR that can be written in SMM only "
        "(IA32_SMM_MONITOR_CTL, IA32_SMRR_PHYSBASE, IA32_SMRR_PHYSMASK).",
        when=all_of(loaded, live.smm == 0),
        must=~index.one_of(*SMM_ONLY),
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
        f"msrload.wrmsr.{number}.read-only",
        f"Entry {number} of the MSR-load area must not name an MSR that no WRMSR can write (such as capability MSRs, IA32_FEATURE_CONTROL, which VMX "
        "operation has locked, and 40000000H to 4000FFFFH, which no processor has).",
        when=loaded,
        must=~any_of(index.one_of(*READ_ONLY), never),
        fails=fails,
        known=known,
    )
    msr_load.check(
        f"msrload.wrmsr.{number}.bits",
        f"If entry {number} of the MSR-load area names an MSR that only some processors have, or one with reserved bits, the processor must have the "
        "MSR, and reserved bits of its value must be 0.",
        when=all_of(loaded, index.one_of(*RULED), any_of(index != IA32_SPEC_CTRL, ~SPEC_CTRL_IS_VIRTUAL)),
        must=takes(index, data),
        fails=fails,
        known=all_of(known_data, ~all_of(live.x2apic_mode == 1, index == IA32_APIC_BASE, disabled)),
    )
    disabled = any_of(disabled, all_of(index == IA32_APIC_BASE, data[11:10] == 0))
    msr_load.check(
        f"msrload.wrmsr.{number}.canonical",
        f"If entry {number} of the MSR-load area names an MSR that holds a linear address, its value must be canonical.",
        when=all_of(loaded, index.one_of(*LINEAR)),
        must=canonical(data),
        fails=fails,
        known=known_data,
    )
    msr_load.check(
        f"msrload.wrmsr.{number}.pat",
        f"If entry {number} of the MSR-load area names IA32_PAT or an MTRR, each memory type in its value must be a defined one (0, 1, 4, 5, 6; in "
        "IA32_PAT also 7).",
        when=all_of(loaded, index.one_of(IA32_PAT, *MTRR_PHYSBASES, *MTRR_FIXED, IA32_MTRR_DEF_TYPE)),
        must=all_of((index == IA32_PAT).implies(valid_pat(data)), valid_memory_types(index, data)),
        fails=fails,
        known=known_data,
    )
    msr_load.check(
        f"msrload.wrmsr.{number}.efer",
        f"If entry {number} of the MSR-load area names IA32_EFER, reserved bits of its value must be 0.",
        when=all_of(loaded, index == IA32_EFER),
        must=(data & cap.efer_reserved) == 0,
        fails=fails,
        known=known_data,
    )
    msr_load.check(
        f"msrload.wrmsr.{number}.efer-lme",
        f"If entry {number} of the MSR-load area names IA32_EFER and the guest will use paging, it must not change IA32_EFER.LME (which is then "
        '"IA-32e mode guest").',
        when=all_of(loaded, index == IA32_EFER, vmcs.guest_cr0[CR0.PG]),
        must=data[EFER.LME].iff(enabled(Entry.IA32E_MODE_GUEST)),
        fails=fails,
        known=known_data,
    )
    msr_load.check(
        f"msrload.wrmsr.{number}.other",
        f"If entry {number} of the MSR-load area names another MSR, a WRMSR of its value must not fault (not modelled for this MSR).",
        when=all_of(loaded, ~modelled),
        must=modelled,
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
