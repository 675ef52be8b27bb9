"""Known deviations of KVM's nested VMX (Linux 6.1 and 6.12, Debian), besides those of the processor below it.

KVM checks by itself what the processor below could not check in its place, and leaves the rest to it: VM entry of L2 runs the guest state
of L1's VMCS through the processor's own checks. Most of what differs follows from that: an order that is KVM's own checks first, and entries that
never reach the processor. Functions named are those of arch/x86/kvm of the two versions.
"""

from __future__ import annotations

from typing import Final

from vmfuzz.arch.controls import Primary, Secondary
from vmfuzz.arch.registers import EVENT, RFLAGS
from vmfuzz.model.check import Check, Stage
from vmfuzz.model.checks import BY_ID, CHECKS
from vmfuzz.model.checks.event_injection import TYPE, VALID
from vmfuzz.model.checks.guest_non_register import STATE
from vmfuzz.model.deviations import Deviation, skipping
from vmfuzz.model.expr import Cond, all_of, any_of
from vmfuzz.model.first_exit import PREEMPTION_TIMER, exits_mask
from vmfuzz.model.kvm_messages import checks_without_text
from vmfuzz.model.operands import MSR_LOAD_ENTRIES, enabled, has, memory, vmcs

_KVM: Final = "kvm"
_SEGMENTS: Final = ("cs", "ss", "ds", "es", "fs", "gs")
_HALT: Final = 1
_WAIT_FOR_SIPI: Final = 3


def _left(*stages: Stage) -> tuple[Check, ...]:
    """The checks of some stages that KVM leaves to the processor below."""
    return tuple(BY_ID[id] for id in checks_without_text() if BY_ID[id].fails.stage in stages and not id.startswith("guest.link"))


def _one_fails(checks: tuple[Check, ...]) -> Cond:
    return any_of(*(all_of(check.requires, check.violated) for check in checks))


_LEFT_GUEST: Final = _left(Stage.GUEST)
_LEFT_CONTROLS: Final = _left(Stage.CONTROLS_AND_HOST)
_OWN_GUEST: Final = tuple(check for check in CHECKS if check.fails.stage is Stage.GUEST and check not in _LEFT_GUEST)
_MSR_LOAD: Final = tuple(check for check in CHECKS if check.fails.stage is Stage.MSR_LOAD)
#: Of what vmx_guest_state_valid checks in the processor's place where the guest is not unrestricted.
_SEGMENT_CHECKS: Final = tuple(check for check in CHECKS if check.section.title == "Checks on Guest Segment Registers")
#: Checks that read the activity state, which KVM does not load.
_OF_HLT: Final = ("guest.activity.hlt.dpl", "guest.activity.blocking", "guest.activity.inject.hlt")
_PENDING_BS: Final = tuple(check.id for check in CHECKS if check.id.startswith("guest.pdbg.bs."))
#: nested_vmx_run: the entry ends in a halted L2 that never entered the processor.
_NOT_ENTERED: Final = any_of(
    STATE == _WAIT_FOR_SIPI,
    all_of(
        STATE == _HALT,
        ~vmcs.vm_entry_interruption_info[31],
        ~enabled(Primary.NMI_WINDOW_EXITING),
        ~all_of(enabled(Primary.INTERRUPT_WINDOW_EXITING), vmcs.guest_rflags[RFLAGS.IF]),
    ),
)
#: Something fails before KVM enters the processor below.
_FAILS_BEFORE: Final = any_of(
    _one_fails(_OWN_GUEST),
    _one_fails(_MSR_LOAD),
    all_of(~enabled(Secondary.UNRESTRICTED_GUEST), _one_fails(_SEGMENT_CHECKS)),
)
_RESERVED_DROPPED: Final = {
    **skipping(*(f"guest.{name}.ar.rsvd-{part}" for name in _SEGMENTS for part in ("low", "high"))),
    **skipping(*(f"guest.{name}.rsvd-{part}" for name in ("tr", "ldtr") for part in ("low", "high"))),
    **{f"guest.v86.ar.{name}": getattr(vmcs, f"guest_{name}_access_rights") & 0x1F0FF == 0xF3 for name in _SEGMENTS},
}

KVM_DEVIATIONS: Final = (
    Deviation(
        "kvm-access-rights-reserved",
        _KVM,
        "VMWRITE drops the reserved bits of access rights, so no VM entry sees them",
        "Bits 11:8 and 31:17 of access rights must be 0 where the segment is usable. KVM's VMWRITE clears them in the eight fields; VMREAD then "
        "shows 0. KVM says so: some processors of Intel do the same, and behaviour should be the same on all. A guest can see it, no host is hurt.",
        "handle_vmwrite in vmx/nested.c: the value of a field from GUEST_ES_AR_BYTES to GUEST_TR_AR_BYTES is masked with 1F0FFH.",
        skips=_RESERVED_DROPPED,
    ),
    Deviation(
        "kvm-hlt-not-entered",
        _KVM,
        "an entry to HLT without an event, or to wait-for-SIPI, enters no guest, so what the processor below would have checked is not checked",
        "The checks of a VM entry are made whatever the activity state is. KVM makes its own, and then halts the virtual processor without a VM "
        "entry on the processor below, where all other checks of the guest state would have been made, and those of the controls that KVM leaves "
        "to it (the TPR threshold); a timer of 0 or another event then makes a VM exit out of a state that no VM entry would have loaded. Pending "
        "debug exceptions are not delivered either. KVM does not say so. A guest can see it; the state is checked by the processor once the guest "
        "is really entered.",
        "nested_vmx_run in vmx/nested.c: for GUEST_ACTIVITY_HLT without an injected event, and without a window exit that would wake it, "
        "kvm_emulate_halt_noskip in place of the entry; for GUEST_ACTIVITY_WAIT_SIPI the virtual processor waits.",
        skips=skipping(*(check.id for check in (*_LEFT_CONTROLS, *_LEFT_GUEST)), when=_NOT_ENTERED),
        exits=((_NOT_ENTERED, exits_mask(PREEMPTION_TIMER)),),
    ),
    Deviation(
        "kvm-activity-state-not-loaded",
        _KVM,
        "the processor below never sees HLT, so rules that hold in HLT only are not made",
        "In HLT the DPL of SS must be 0, there must be no blocking by STI or MOV SS, some events cannot be injected, and pending BS is tied to TF "
        "and BTF. KVM's own VMCS for the guest says active whatever the activity state is, so the processor below finds nothing wrong where an "
        "injected event wakes the guest at once. A guest can see it.",
        "GUEST_ACTIVITY_STATE is written in init_vmcs (vmx/vmx.c) only, and by nothing in vmx/nested.c.",
        skips=skipping(*_OF_HLT, *_PENDING_BS, when=STATE == _HALT),
    ),
    Deviation(
        "kvm-msr-load-before-guest-state",
        _KVM,
        "the MSR-load list is processed before the processor below checks the guest state",
        "MSRs are loaded after all checks of the guest state; a violation of those hides a bad entry of the list. KVM loads the list before it "
        "enters the processor below, so a bad entry (exit reason 34) hides what that would have found (33). MSRs that come before the bad entry are"
        " loaded. A guest can see it.",
        "nested_vmx_enter_non_root_mode in vmx/nested.c: nested_vmx_load_msr right behind prepare_vmcs02.",
        skips=skipping(*(check.id for check in _LEFT_GUEST), when=_one_fails(_MSR_LOAD)),
    ),
    Deviation(
        "kvm-controls-of-the-processor-late",
        _KVM,
        "controls that KVM leaves to the processor below are checked after the guest state and after MSRs are loaded",
        "Checks of controls and host state come before those of the guest state, and hide them. What KVM does not check of them by itself (the TPR "
        "threshold, for example) is checked only when KVM enters the processor below; its own checks of the guest state (exit reason 33) and the "
        "MSR-load list (34) come before that.",
        "nested_vmx_check_controls in vmx/nested.c lacks these checks, as its comment in nested_vmx_run says; nested_vmx_enter_non_root_mode makes "
        "the others first; prepare_vmcs02 calls vmx_guest_state_valid for a guest that is not unrestricted.",
        skips=skipping(*(check.id for check in _LEFT_CONTROLS), when=_FAILS_BEFORE),
    ),
    Deviation(
        "kvm-tsc-multiplier",
        _KVM,
        'a TSC multiplier of 0 is accepted with "use TSC scaling" and without "use TSC offsetting"',
        'If "use TSC scaling" is 1, the TSC multiplier must not be 0. KVM does not check it, and uses it only where "use TSC offsetting" is 1 as '
        "well; the processor below sees KVM's own multiplier.",
        "vmx_get_l2_tsc_multiplier in vmx/vmx.c reads the field only where both controls are 1; nested_check_vm_execution_controls does not mention"
        " it.",
        skips=skipping("ctl.tscscale.nonzero", when=~enabled(Primary.USE_TSC_OFFSETTING)),
    ),
    Deviation(
        "kvm-int1-lost",
        _KVM,
        "an injected INT1 (privileged software exception) is lost where KVM itself handles an exit during its delivery",
        "A VM entry delivers the event that it injects; if a VM exit comes up meanwhile, the event is in the IDT-vectoring information, and whoever"
        " handles the exit injects it again. KVM does that for all types but 5, so the guest goes on without the event, and the timer expires "
        "instead of an EPT violation or page fault. It depends on what ran before: only the first entry of a virtual machine, which finds KVM's own"
        " EPT for the guest empty, shows it. A guest can see it.",
        "__vmx_complete_interrupts in vmx/vmx.c: the switch over the type has no case for INTR_TYPE_PRIV_SW_EXCEPTION.",
        exits=((all_of(VALID, TYPE == EVENT.PRIVILEGED_SOFTWARE_EXCEPTION), exits_mask(PREEMPTION_TIMER)),),
    ),
    Deviation(
        "kvm-link-pointer-current",
        _KVM,
        "the VMCS link pointer may be the current VMCS",
        "The link pointer must not be the current-VMCS pointer (where the processor is not in SMM). KVM does not compare them.",
        "nested_vmx_check_vmcs_link_ptr in vmx/nested.c.",
        skips=skipping("guest.link.current"),
    ),
    Deviation(
        "kvm-link-pointer-cache",
        _KVM,
        "a link pointer without memory behind it spoils the next entry with the link pointer before it",
        "Whether a link pointer is good does not depend on earlier VM entries. KVM keeps the translation of one link pointer and asks for a new one "
        "only where the next differs from it. For an address without memory that fails after the translation is replaced and before the address is, "
        "so that an entry with the old address, which is good, fails (exit reason 33, qualification 4). A guest can see it.",
        "nested_vmx_check_vmcs_link_ptr in vmx/nested.c, __kvm_gfn_to_hva_cache_init in virt/kvm/kvm_main.c.",
        in_sequences=True,
    ),
    Deviation(
        "kvm-msr-load-sysenter",
        _KVM,
        "an MSR-load entry may give IA32_SYSENTER_ESP or IA32_SYSENTER_EIP an address that is not canonical",
        "An entry fails where WRMSR of its value would fault, which it does for these two MSRs and an address that is not canonical. KVM makes the "
        "address canonical instead, in WRMSR too; it says why: processors of AMD ignore the upper half.",
        "__kvm_set_msr in x86.c.",
        skips={
            f"msrload.wrmsr.{number}.canonical": (getattr(memory, f"msr_load_{number}_index") == 0x175)
            | (getattr(memory, f"msr_load_{number}_index") == 0x176)
            for number in range(1, MSR_LOAD_ENTRIES + 1)
        },
    ),
    Deviation(
        "kvm-msr-load-tsc",
        _KVM,
        "an MSR-load entry may name IA32_TSC_DEADLINE or IA32_TSC_ADJUST although CPUID does not report it",
        "An entry fails where WRMSR would fault, which it does for an MSR that the processor does not have; CPUID says so of these two (01H:ECX[24], "
        "07H:EBX[1]). KVM ignores the write where CPUID does not report them. CPUID in KVM's guest lacks the first unless whoever runs the virtual "
        "machine adds it. A guest can see it, in WRMSR too.",
        "kvm_set_msr_common in x86.c: the cases of MSR_IA32_TSC_DEADLINE, which calls kvm_set_lapic_tscdeadline_msr (lapic.c), and of "
        "MSR_IA32_TSC_ADJUST return success.",
        skips={
            f"msrload.wrmsr.{number}.bits": any_of(
                *(
                    all_of(getattr(memory, f"msr_load_{number}_index")[31:0] == msr, ~has(feature))
                    for msr, feature in ((0x6E0, "tsc_deadline"), (0x3B, "tsc_adjust"))
                )
            )
            for number in range(1, MSR_LOAD_ENTRIES + 1)
        },
    ),
)
