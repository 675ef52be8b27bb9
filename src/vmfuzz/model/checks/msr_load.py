"""SDM Vol. 3C, "Loading MSRs" (VM entry): entry failure 34, the qualification is the 1-based number of the entry that failed.

Entries are loaded in order, each as a WRMSR would. What that refuses is declared for the MSRs of the tables below, of which the SDM says it for
every processor or by CPUID (Vol. 4, "Architectural MSRs"); an entry with another MSR counts as not modelled.
"""

from vmfuzz.arch.controls import Entry, Tertiary
from vmfuzz.arch.registers import CR0, EFER
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.checks.memory_types import valid_pat
from vmfuzz.model.expr import FALSE, TRUE, Bits, Cond, all_of, any_of
from vmfuzz.model.operands import MSR_LOAD_ENTRIES, aligned, canonical, cap, enabled, has, live, memory, vmcs, within_physical_width

msr_load = Section("Loading MSRs", Fails.MSR_1)

IA32_SPEC_CTRL, IA32_SMM_MONITOR_CTL = 0x48, 0x9B
IA32_SYSENTER_CS, IA32_SYSENTER_ESP, IA32_SYSENTER_EIP = 0x174, 0x175, 0x176
IA32_DEBUGCTL, IA32_PAT, IA32_PERF_GLOBAL_CTRL, IA32_PKRS = 0x1D9, 0x277, 0x38F, 0x6E1
IA32_EFER, IA32_STAR, IA32_LSTAR, IA32_CSTAR, IA32_FMASK = 0xC0000080, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084
IA32_FS_BASE, IA32_GS_BASE, IA32_KERNEL_GS_BASE, IA32_TSC_AUX = 0xC0000100, 0xC0000101, 0xC0000102, 0xC0000103

#: MSRs whose value must be canonical.
CANONICAL = (IA32_SYSENTER_ESP, IA32_SYSENTER_EIP, IA32_LSTAR, IA32_CSTAR, IA32_KERNEL_GS_BASE)
#: MSRs whose WRMSR refuses no 32-bit value.
FREE = (IA32_STAR, IA32_SYSENTER_CS)
REFUSED = (IA32_FS_BASE, IA32_GS_BASE, IA32_SMM_MONITOR_CTL)
#: MSRs that can only be read: IA32_PLATFORM_ID, IA32_CORE_CAPABILITIES, IA32_MTRRCAP, IA32_ARCH_CAPABILITIES, IA32_MCG_CAP, IA32_PERF_CAPABILITIES,
#: the capability MSRs of VMX; and IA32_FEATURE_CONTROL, whose lock bit is 1 in VMX operation. Where one does not exist a WRMSR faults too.
READ_ONLY = (0x17, 0x3A, 0xCF, 0xFE, 0x10A, 0x179, 0x345, *range(0x480, 0x494))
#: Bits 31:16 of the MSR numbers that no processor will have (40000000H to 4000FFFFH).
NEVER = 0x4000
#: MSRs with reserved bits: number -> (the processor has the MSR, the bits)
RESERVED: dict[int, tuple[Cond, Bits | int]] = {
    IA32_SPEC_CTRL: (has("spec_ctrl"), cap.spec_ctrl_reserved),
    IA32_DEBUGCTL: (TRUE, 0xFFFF_FFFF_FFFF_0038),
    IA32_PERF_GLOBAL_CTRL: (cap.performance_monitoring_version >= 2, cap.perf_global_reserved),
    IA32_PKRS: (has("pks"), 0xFFFF_FFFF_0000_0000),
    IA32_FMASK: (has("intel64"), 0xFFFF_FFFF_0000_0000),
    IA32_TSC_AUX: (has("rdtscp") | has("rdpid"), 0xFFFF_FFFF_0000_0000),
}
_NAMES = "IA32_SPEC_CTRL, IA32_DEBUGCTL, IA32_PERF_GLOBAL_CTRL, IA32_PKRS, IA32_FMASK or IA32_TSC_AUX"

MODELLED = (*CANONICAL, *FREE, *REFUSED, *READ_ONLY, *RESERVED, IA32_PAT, IA32_EFER)

#: The SDM leaves undefined what the entry then does with IA32_SPEC_CTRL.
SPEC_CTRL_IS_VIRTUAL = enabled(Tertiary.VIRTUALIZE_IA32_SPEC_CTRL)


def left_open(index: Bits, data: Bits) -> Cond:
    """What is not certain of the MSRs in RESERVED: model-specific bits of IA32_DEBUGCTL, bit 1 of IA32_SPEC_CTRL without STIBP, and IA32_SPEC_CTRL at
    all while it is virtualized.
    """
    no_stibp = all_of(has("spec_ctrl"), ~has("stibp"), data[1])
    return any_of(
        all_of(index == IA32_DEBUGCTL, (data & 0xFFC4) != 0),
        all_of(index == IA32_SPEC_CTRL, any_of(SPEC_CTRL_IS_VIRTUAL, no_stibp)),
    )


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
    known_data = all_of(known, getattr(memory, f"msr_load_{number}_data_known") == 1)
    never = word[31:16] == NEVER
    modelled = all_of(any_of(index.one_of(*MODELLED), x2apic, never), ~left_open(index, data))
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
        f"msrload.wrmsr.{number}.read-only",
        f"Entry {number} of the MSR-load area must not name an MSR that no WRMSR can write (capability MSRs, IA32_FEATURE_CONTROL, which VMX operation "
        "has locked, and 40000000H to 4000FFFFH, which no processor has).",
        when=loaded,
        must=~any_of(index.one_of(*READ_ONLY), never),
        fails=fails,
        known=known,
    )
    msr_load.check(
        f"msrload.wrmsr.{number}.bits",
        f"If entry {number} of the MSR-load area names {_NAMES}, the processor must have the MSR, and reserved bits of its value must be 0.",
        when=all_of(loaded, index.one_of(*RESERVED), any_of(index != IA32_SPEC_CTRL, ~SPEC_CTRL_IS_VIRTUAL)),
        must=all_of(*((index == msr).implies(all_of(exists, (data & bits) == 0)) for msr, (exists, bits) in RESERVED.items())),
        fails=fails,
        known=known_data,
    )
    msr_load.check(
        f"msrload.wrmsr.{number}.canonical",
        f"If entry {number} of the MSR-load area names an MSR that holds a linear address, its value must be canonical.",
        when=all_of(loaded, index.one_of(*CANONICAL)),
        must=canonical(data),
        fails=fails,
        known=known_data,
    )
    msr_load.check(
        f"msrload.wrmsr.{number}.pat",
        f"If entry {number} of the MSR-load area names IA32_PAT, each byte of its value must be 0, 1, 4, 5, 6 or 7.",
        when=all_of(loaded, index == IA32_PAT),
        must=valid_pat(data),
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
