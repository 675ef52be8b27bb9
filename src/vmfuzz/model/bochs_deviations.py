"""Known deviations of the Bochs CPU (Bochs 3.0, as bochscpu-python 0.4.0 carries it).

Every entry was met by a campaign on an emulated CPU and then confirmed by reading Bochs' public source; functions named are those of
cpu/vmx.cc unless another file is named. Where nothing else is said, the source of August 2026 (783b58fd6) still has it.
"""

from __future__ import annotations

from typing import Final

from vmfuzz.arch.controls import Entry, Pin, Primary, Secondary
from vmfuzz.arch.registers import ACTIVITY, AR, CR4, EVENT, PENDING_DEBUG
from vmfuzz.model.bochs_msr_load_deviations import BOCHS_MSR_LOAD_DEVIATIONS, msr_load_rules
from vmfuzz.model.check import Check, Fails
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.checks.event_injection import VECTOR, injects
from vmfuzz.model.checks.guest_non_register import MOV_SS, PENDING, STATE, STI
from vmfuzz.model.checks.wrmsr import IA32_SPEC_CTRL
from vmfuzz.model.deviations import Deviation, skipping
from vmfuzz.model.expr import MASK64, TRUE, Bits, Cond, all_of, any_of
from vmfuzz.model.first_exit import (
    DEBUG_PENDING,
    EPT_MISCONFIGURATION,
    EPT_VIOLATION,
    EXCEPTION,
    MTF_INJECTED,
    PREEMPTION_TIMER,
    TIMER_EXPIRED,
    TPR_BELOW,
    TPR_BELOW_THRESHOLD,
    TRIPLE_FAULT,
    exits_mask,
)
from vmfuzz.model.operands import MSR_LOAD_ENTRIES, canonical_48, cap, enabled, has, live, may_be_1, memory, vmcs, within_physical_width
from vmfuzz.model.outcome_codes import ENTERED
from vmfuzz.model.sections import Citation

_BOCHS: Final = "bochs"
_GUEST_64: Final = enabled(Entry.IA32E_MODE_GUEST)
_CS_L: Final = vmcs.guest_cs_access_rights[AR.L]


def _extra(like: str, id: str, text: str, must: Cond, when: Cond = TRUE, requires: Cond = TRUE, fails: Fails = Fails.GUEST) -> Check:
    """A check that Bochs makes and the SDM does not; `like` is the check whose section it stands in."""
    return Check(id, Citation(BY_ID[like].section.title), text, must, when, requires, fails)


_SS_CHECKS: Final = tuple(f"guest.ss.{rule}" for rule in "base type s p g.low g.high ar.rsvd-low ar.rsvd-high".split())
_SS_NULL: Final = all_of(vmcs.guest_ss_selector[15:2] == 0, _GUEST_64, _CS_L)


#: Check whose address Bochs holds against the live CR4.LA57's width -> the address.
_CANONICAL: Final[dict[str, Bits]] = {
    "host.sysenter.esp": vmcs.host_ia32_sysenter_esp,
    "host.sysenter.eip": vmcs.host_ia32_sysenter_eip,
    **{f"host.base.{name}": getattr(vmcs, f"host_{name}_base") for name in ("fs", "gs", "tr", "gdtr", "idtr")},
    "host.as.64.rip": vmcs.host_rip,
    "guest.sysenter.esp": vmcs.guest_ia32_sysenter_esp,
    "guest.sysenter.eip": vmcs.guest_ia32_sysenter_eip,
    **{f"guest.{name}.base": getattr(vmcs, f"guest_{name}_base") for name in ("fs", "gs", "tr", "ldtr", "gdtr", "idtr")},
    "host.as.64.cet.s_cet": vmcs.host_ia32_s_cet,
    "host.as.64.cet.ssp": vmcs.host_ssp,
    "host.as.cet.isst": vmcs.host_ia32_interrupt_ssp_table_addr,
    "guest.cet.scet.canonical": vmcs.guest_ia32_s_cet,
    "guest.cet.isst": vmcs.guest_ia32_interrupt_ssp_table_addr,
}


#: Bochs judges by 48 bits where the processor has 57: CR4.LA57 of the launching processor is 0.
_NARROW: Final = ~live.cr4[CR4.LA57]


def _width_of_la57() -> tuple[Check, ...]:
    msrs = tuple(
        _extra(
            f"msrload.wrmsr.{number}.canonical",
            f"msrload.wrmsr.{number}.canonical.48",
            f"The value of entry {number} must be canonical (48 bits).",
            canonical_48(getattr(memory, f"msr_load_{number}_data")),
            all_of(BY_ID[f"msrload.wrmsr.{number}.canonical"].when, _NARROW),
            has("la57"),
            BY_ID[f"msrload.wrmsr.{number}.canonical"].fails,
        )
        for number in range(1, MSR_LOAD_ENTRIES + 1)
    )
    return msrs + tuple(
        _extra(
            id,
            f"{id}.48",
            f"{BY_ID[id].text} (48 bits)",
            canonical_48(address),
            all_of(BY_ID[id].when, _NARROW),
            has("la57"),
            BY_ID[id].fails,
        )
        for id, address in _CANONICAL.items()
    )


#: The rule on an MSR area's end -> where Bochs puts the area's last byte: 16 * count is a product of 32 bits there.
_AREA_END: Final[dict[str, Bits]] = {
    "ctl.exit.msrstore.last": vmcs.vm_exit_msr_store_address + ((vmcs.vm_exit_msr_store_count << 4) & 0xFFFF_FFFF) + MASK64,
    "ctl.exit.msrload.last": vmcs.vm_exit_msr_load_address + ((vmcs.vm_exit_msr_load_count << 4) & 0xFFFF_FFFF) + MASK64,
    "ctl.entry.msrload.last": vmcs.vm_entry_msr_load_address + ((vmcs.vm_entry_msr_load_count << 4) & 0xFFFF_FFFF) + MASK64,
}

_LOAD_CET: Final = enabled(Entry.LOAD_CET_STATE)
_POSTED: Final = ("needs-vid", "vector", "desc.align", "desc.width")

_SHADOW_VMCS: Final = live.shadow_vmcs == 1

BOCHS_DEVIATIONS: Final = (
    Deviation(
        "bochs-shadow-vmcs",
        _BOCHS,
        "VMLAUNCH and VMRESUME accept a shadow VMCS",
        "A VM entry whose current VMCS is a shadow VMCS must fail with VMfailInvalid. Bochs treats it as an ordinary VMCS: VMLAUNCH enters, "
        "and VMRESUME fails with error 5, because software can make a VMCS a shadow VMCS only while its launch state is clear.",
        "VMLAUNCH tests the current-VMCS pointer, blocking by MOV SS and the launch state; only VMPTRLD and VMXON test the shadow-VMCS indicator.",
        skips={"basic.shadow": TRUE, "basic.launch.clear": _SHADOW_VMCS},
        adds=(
            _extra(
                "basic.resume.launched",
                "basic.resume.shadow",
                "VMRESUME fails with a shadow VMCS, which is clear.",
                live.launch_instruction == 0,
                _SHADOW_VMCS,
                may_be_1(Secondary.VMCS_SHADOWING),
                Fails.NON_LAUNCHED,
            ),
        ),
    ),
    Deviation(
        "bochs-entry-to-smm",
        _BOCHS,
        '"entry to SMM" outside SMM is not refused by the control checks',
        'The SDM requires "entry to SMM" to be 0 when the processor is not in SMM (VMfailValid, error 7). Bochs goes on to the guest state, '
        "where its SMM rules then fail the entry with exit reason 33.",
        "The checks of VM-entry controls test only the control that deactivates dual-monitor treatment against in_smm.",
        skips=skipping("ctl.entry.smm.outside.entry"),
    ),
    Deviation(
        "bochs-perf-global-ctrl",
        _BOCHS,
        "IA32_PERF_GLOBAL_CTRL fields are never checked",
        'If the "load IA32_PERF_GLOBAL_CTRL" control of VM entry or VM exit is 1, reserved bits of the field must be 0. In Bochs '
        "the capability MSRs allow both controls, but neither field is read.",
        "Neither the host-state nor the guest-state checks mention the two fields.",
        skips=skipping("host.perfglobal", "guest.perfglobal"),
    ),
    Deviation(
        "bochs-debugctl",
        _BOCHS,
        "guest IA32_DEBUGCTL is never checked",
        'If "load debug controls" is 1, reserved bits of guest IA32_DEBUGCTL must be 0; bits 63:16 and 5:3 are reserved on every processor. '
        "Bochs loads the field as it is.",
        "VMenterLoadCheckGuestState reads the field and does not test it.",
        skips=skipping("guest.debugctl"),
    ),
    Deviation(
        "bochs-pending-debug-high",
        _BOCHS,
        "pending debug exceptions are truncated to 32 bits before they are checked",
        "Bits 63:17 of the pending debug exceptions must be 0. Bochs converts the field to 32 bits first, so it never sees bits 63:32.",
        "VMenterLoadCheckGuestState casts the natural-width field to a 32-bit variable and applies the mask of reserved bits to that.",
        skips={
            "guest.pdbg.reserved": (PENDING & 0x0000_0000_FFFE_A7F0) == 0,
            "guest.pdbg.rtm.reserved": (PENDING & 0x0000_0000_FFFE_EFFF) == 0,
        },
    ),
    Deviation(
        "bochs-pending-debug-bs",
        _BOCHS,
        "the rules that tie pending BS to TF, BTF and blocking are not checked",
        "With blocking by STI or MOV SS, or in HLT, BS of the pending debug exceptions must be 1 if RFLAGS.TF is 1 and BTF is 0, and 0 otherwise. "
        "Processors enforce it (KVM commits that repair a missing BS, and XSA-308, report failed VM entries). Bochs accepts every combination.",
        "VMenterLoadCheckGuestState tests only reserved bits of the field.",
        skips=skipping("guest.pdbg.bs.must1", "guest.pdbg.bs.must0.tf", "guest.pdbg.bs.must0.btf"),
    ),
    Deviation(
        "bochs-rip-identical",
        _BOCHS,
        "bits 63:N of a 64-bit guest's RIP are not checked",
        "In 64-bit mode bits 63:N of guest RIP must be identical, where N is the linear-address width (48 or 57). Bochs accepts any RIP there.",
        "VMenterLoadCheckGuestState tests only that RIP fits 32 bits outside 64-bit mode.",
        skips=skipping("guest.rip.ident"),
    ),
    Deviation(
        "bochs-ss-null-selector",
        _BOCHS,
        "all checks of SS but those on its DPL are skipped for a 64-bit guest with a null SS selector",
        "Only an SS that is marked unusable is exempt from the rules on base, type, S, P, G, limit and reserved bits; the SDM gives a null "
        "selector no such exemption. Bochs skips these rules when bits 15:2 of the SS selector are 0 and the guest will be in 64-bit mode.",
        "VMenterLoadCheckGuestState, loop over segment registers: the case of SS with a null selector goes on to the next register.",
        skips=skipping(*_SS_CHECKS, when=_SS_NULL),
    ),
    Deviation(
        "bochs-ia32e-without-paging",
        _BOCHS,
        '"IA-32e mode guest" with guest CR0.PG = 0 is accepted',
        'If "IA-32e mode guest" is 1, guest CR0.PG must be 1. With unrestricted guest Bochs accepts PG = 0.',
        "VMenterLoadCheckGuestState tests CR4.PAE in that case and not CR0.PG.",
        skips=skipping("guest.ia32e.pg"),
    ),
    Deviation(
        "bochs-vm86-real-mode",
        _BOCHS,
        "RFLAGS.VM = 1 with guest CR0.PE = 0 is accepted",
        "If guest CR0.PE is 0, RFLAGS.VM must be 0. Bochs tests RFLAGS.VM only against IA-32e mode.",
        "VMenterLoadCheckGuestState, the tests of RFLAGS at its beginning.",
        skips=skipping("guest.rflags.vm.pe"),
    ),
    Deviation(
        "bochs-inject-hlt",
        _BOCHS,
        "any event may be injected into the HLT activity state",
        "In HLT only external interrupts, NMIs, #DB, #MC and a pending MTF VM exit may be injected. Bochs makes the corresponding test for "
        "shutdown and wait-for-SIPI, not for HLT.",
        "VMenterLoadCheckGuestState, event-injection part.",
        skips=skipping("guest.activity.inject.hlt"),
    ),
    Deviation(
        "bochs-inject-shutdown",
        _BOCHS,
        "events of any type with vector 18 may be injected into the shutdown activity state",
        "In shutdown only NMIs and hardware exceptions with vector 18 (#MC) may be injected. Bochs tests the vector without the type.",
        "VMenterLoadCheckGuestState, event-injection part: the conjunction of 'not an NMI' and 'vector is not 18'.",
        skips=skipping("guest.activity.inject.shutdown", when=VECTOR == 18),
    ),
    Deviation(
        "bochs-nmi-sti",
        _BOCHS,
        "NMI injection with blocking by STI fails with qualification 0",
        "A processor that refuses NMI injection with blocking by STI reports exit qualification 3. Bochs reports 0.",
        "VMenterLoadCheckGuestState tests STI and MOV SS blocking together and leaves the qualification at 0.",
        adds=(_extra("guest.intr.nmi-sti", "guest.intr.nmi-sti.q0", "No blocking by STI (Bochs).", ~STI, injects(EVENT.NMI)),),
    ),
    Deviation(
        "bochs-posted-interrupts-tpr-shadow",
        _BOCHS,
        'the rules on posted interrupts are checked only if "use TPR shadow" is 1',
        'If "process posted interrupts" is 1, "virtual-interrupt delivery" must be 1, bits 15:8 of the notification vector 0, and the descriptor '
        'address aligned and within the physical width, whatever "use TPR shadow" is.',
        "The checks of execution controls test them inside the branch for the TPR shadow.",
        skips=skipping(*(f"ctl.pir.{rule}" for rule in _POSTED), when=~enabled(Primary.USE_TPR_SHADOW)),
    ),
    Deviation(
        "bochs-posted-interrupt-descriptor-page",
        _BOCHS,
        "the posted-interrupt descriptor must be page-aligned",
        'If "process posted interrupts" is 1, bits 5:0 of the descriptor address must be 0; the descriptor is 64 bytes long and need not be page-aligned. '
        "Bochs 3.0 refuses every address that is not page-aligned (later sources do not).",
        "The checks of execution controls call the test for page-aligned physical addresses. Fixed by a77e02ff3 (June 2025).",
        adds=(
            _extra(
                "ctl.pir.desc.align",
                "ctl.pir.desc.page",
                "Bits 11:6 must be 0 (Bochs).",
                vmcs.posted_interrupt_descriptor[11:6] == 0,
                all_of(enabled(Pin.PROCESS_POSTED_INTERRUPTS), enabled(Primary.USE_TPR_SHADOW)),
                fails=Fails.CONTROLS,
            ),
        ),
    ),
    Deviation(
        "bochs-nmi-virtual",
        _BOCHS,
        "NMI injection with virtual NMIs and blocking by NMI is accepted",
        'If "virtual NMIs" is 1 and an NMI is injected, there must be no blocking by NMI. Bochs 3.0 does not test it (the test is commented '
        "out; later sources have it).",
        "VMenterLoadCheckVmControls, case of NMI injection: the test is commented out; VMenterLoadCheckGuestState has none. Fixed by "
        "203b044f5 (October 2025).",
        skips=skipping("guest.intr.nmi-virtual"),
    ),
    Deviation(
        "bochs-inject-other-event",
        _BOCHS,
        "events of type 7 are accepted on CPU models without the monitor trap flag",
        'Type 7 may be injected only if the processor allows "monitor trap flag" to be 1, and its vector must be 0. Bochs 3.0 tests both only on '
        "models that have the monitor trap flag; on others its event delivery then meets a type that it does not know (later sources refuse it).",
        "VMenterLoadCheckVmControls, case of MTF injection: the vector is tested inside the branch for models with the flag; without it the case ends. "
        "Fixed by 4ef9eec7e and 7a0d34c14 (February 2026).",
        skips=skipping("ctl.inject.type.other", "ctl.inject.vector.other", when=~may_be_1(Primary.MONITOR_TRAP_FLAG)),
        exits=((all_of(injects(EVENT.OTHER_EVENT), ~may_be_1(Primary.MONITOR_TRAP_FLAG)), ENTERED),),
    ),
    *BOCHS_MSR_LOAD_DEVIATIONS,
    Deviation(
        "bochs-timer-blocking",
        _BOCHS,
        "a VMX-preemption timer of 0 expires one instruction late with blocking by STI or MOV SS",
        "If the timer-value field is 0, the VM exit comes after any event injection and before any instruction executes; blocking by STI or MOV SS "
        "does not delay it. Bochs holds back all events for one instruction after such blocking, so the guest's first instruction is fetched.",
        "handleAsyncEvent (cpu/event.cc) looks at the expired timer only where no interrupts are inhibited; loading the guest state inhibits them for "
        "blocking by STI and by MOV SS.",
        exits=((all_of(TIMER_EXPIRED, any_of(STI, MOV_SS)), exits_mask(EXCEPTION, TRIPLE_FAULT, EPT_VIOLATION, EPT_MISCONFIGURATION)),),
    ),
    Deviation(
        "bochs-pending-breakpoint",
        _BOCHS,
        "an enabled breakpoint (bit 12) without B0 to B3 does not count as a pending debug exception",
        "There are valid pending debug exceptions if BS or bit 12 is 1. Bochs delivers one for bit 12 only if BS or one of B0 to B3 is 1 too.",
        "VMenterLoadCheckGuestState, non-register state: with bit 12 set it keeps bits 14 and 3:0 of the field, and has a debug trap only if one is 1.",
        exits=((PENDING[PENDING_DEBUG.ENABLED_BREAKPOINT], exits_mask(PREEMPTION_TIMER, EPT_VIOLATION, EPT_MISCONFIGURATION)),),
    ),
    Deviation(
        "bochs-pending-debug-shutdown",
        _BOCHS,
        "pending debug exceptions are delivered in the shutdown activity state",
        "Pending debug exceptions are not delivered after a VM entry to the shutdown (or wait-for-SIPI) activity state. Bochs delivers them.",
        "VMenterLoadCheckGuestState keeps the debug trap whatever the activity state is; an expired timer ends the wait in handleWaitForEvent "
        "(cpu/event.cc), and handleAsyncEvent delivers the trap before it looks at the timer.",
        exits=((all_of(STATE == ACTIVITY.SHUTDOWN, DEBUG_PENDING), exits_mask(EXCEPTION, TRIPLE_FAULT, EPT_VIOLATION)),),
    ),
    Deviation(
        "bochs-tpr-threshold-shutdown",
        _BOCHS,
        "a TPR below the threshold causes a VM exit in the shutdown activity state too",
        "A TPR below the threshold does not cause a VM exit immediately after a VM entry to the shutdown state. In Bochs it does.",
        "VMLAUNCH ends with a call of VMX_TPR_Virtualization (cpu/vapic.cc), which makes the VM exit whatever the activity state is.",
        exits=((all_of(TPR_BELOW, STATE == ACTIVITY.SHUTDOWN), exits_mask(TPR_BELOW_THRESHOLD)),),
    ),
    Deviation(
        "bochs-mtf-control",
        _BOCHS,
        'an injected pending MTF VM exit is lost if "monitor trap flag" is 1',
        'Injection of type 7 with vector 0 makes an MTF VM exit pending before the first instruction, whatever "monitor trap flag" is. With the control '
        "at 1 Bochs forgets it, and the timer expires first; the event stays masked, so a later VM entry with the control at 0 "
        "sometimes loses its injected MTF VM exit too.",
        "Loading the guest state masks the MTF event for the control at 1; the injection signals the same event; handleAsyncEvent (cpu/event.cc) then "
        "only unmasks it. VMexit clears the event and leaves the mask.",
        exits=((MTF_INJECTED, exits_mask(PREEMPTION_TIMER, EXCEPTION, EPT_VIOLATION)),),
    ),
    Deviation(
        "bochs-secondary-exit-controls-high",
        _BOCHS,
        "bits 63:32 of the secondary VM-exit controls are not checked",
        'If "activate secondary controls" (VM exit) is 1, every bit of the 64-bit field that IA32_VMX_EXIT_CTLS2 does not allow must be 0. Bochs '
        "never tests the upper half.",
        "VMenterLoadCheckVmControls: the field is read and kept in 64 bits (since January 2024), but compared with the complement of the supported "
        "bits, a 32-bit number, whose upper half is 0.",
        skips=skipping(
            "ctl.exit2.allowed",
            when=(vmcs.secondary_vm_exit_controls[31:0] | cap.secondary_exit_may_be_1) == cap.secondary_exit_may_be_1,
        ),
    ),
    Deviation(
        "bochs-canonical-la57",
        _BOCHS,
        "canonical addresses are tested with the width that the live CR4.LA57 selects",
        "The SDM defines canonical for these checks by the processor's linear-address width (CPUID.80000008H:EAX[15:8]), 57 bits where LA57 is "
        "supported. Bochs uses 48 bits unless the launching processor has CR4.LA57 = 1.",
        "IsCanonical (cpu/cpu.h) compares with linaddr_width, which MOV to CR4 alone sets (crregs.cc); wrmsr (msr.cc) uses it too, and in later "
        "sources (August 2026) IsCpuidCanonical.",
        adds=_width_of_la57(),
    ),
    Deviation(
        "bochs-msr-area-end",
        _BOCHS,
        "the end of an MSR area is computed with a 32-bit product",
        "The address of the last byte of an MSR area is its address + 16 * count - 1. From count 2^28 on, Bochs loses the product's high bits: an "
        "area that ends beyond the physical-address width is accepted, and one at address 0 may be refused.",
        "The checks of VM-exit and VM-entry controls multiply the 32-bit count by 16 before they add it to the 64-bit address.",
        skips={id: within_physical_width(end) for id, end in _AREA_END.items()},
        adds=tuple(
            _extra(id, f"{id}.32", f"{BY_ID[id].text} (in 32 bits)", within_physical_width(end), when=BY_ID[id].when, fails=Fails.CONTROLS)
            for id, end in _AREA_END.items()
        ),
    ),
    Deviation(
        "bochs-spec-ctrl-fixed",
        _BOCHS,
        "bits of IA32_SPEC_CTRL that the processor lacks are not reserved",
        "Which bits of IA32_SPEC_CTRL are reserved depends on CPUID.(07H,0):EDX and CPUID.(07H,2):EDX. Bochs takes bits 10 and 8:0 as defined on every "
        "CPU model, so it accepts bit 8 (DDPD_U), for example, where CPUID does not report it.",
        "isValidMSR_IA32_SPEC_CTRL (cpu/msr.cc) compares with one constant; VM entry uses it for the host's and the guest's value.",
        skips={
            "host.speccontrol": (vmcs.host_ia32_spec_ctrl & (MASK64 & ~0x5FF)) == 0,
            "guest.speccontrol": (vmcs.guest_ia32_spec_ctrl & (MASK64 & ~0x5FF)) == 0,
            **msr_load_rules(
                {"bits": lambda index, data: all_of(index == IA32_SPEC_CTRL, has("spec_ctrl"), (data & (MASK64 & ~0x5FF)) == 0)}
            ),
        },
    ),
)
