"""Known deviations of KVM's nested VMX (Linux 6.1 and 6.12, Debian), besides those of the processor below it.

KVM checks by itself what the processor below could not check in its place, and leaves the rest to it: VM entry of L2 runs the guest state
of L1's VMCS through the processor's own checks. Most of what differs follows from that: an order that is KVM's own checks first, and entries that
never reach the processor. Functions named are those of arch/x86/kvm of the two versions.
"""

from __future__ import annotations

from typing import Final

from vmfuzz.arch.controls import Primary
from vmfuzz.arch.registers import RFLAGS
from vmfuzz.model.check import Check, Stage
from vmfuzz.model.checks import BY_ID, CHECKS
from vmfuzz.model.checks.guest_non_register import STATE
from vmfuzz.model.deviations import Deviation, skipping
from vmfuzz.model.expr import Cond, all_of, any_of
from vmfuzz.model.first_exit import PREEMPTION_TIMER, exits_mask
from vmfuzz.model.kvm_messages import checks_without_text
from vmfuzz.model.operands import MSR_LOAD_ENTRIES, enabled, memory, vmcs

_KVM: Final = "kvm"
_SEGMENTS: Final = ("cs", "ss", "ds", "es", "fs", "gs")
_HALT: Final = 1


def _left(*stages: Stage) -> tuple[Check, ...]:
    """The checks of some stages that KVM leaves to the processor below."""
    return tuple(BY_ID[id] for id in checks_without_text() if BY_ID[id].fails.stage in stages and not id.startswith("guest.link"))


def _one_fails(checks: tuple[Check, ...]) -> Cond:
    return any_of(*(all_of(check.requires, check.violated) for check in checks))


_LEFT_GUEST: Final = _left(Stage.GUEST)
_LEFT_CONTROLS: Final = _left(Stage.CONTROLS_AND_HOST)
_OWN_GUEST: Final = tuple(check for check in CHECKS if check.fails.stage is Stage.GUEST and check not in _LEFT_GUEST)
_MSR_LOAD: Final = tuple(check for check in CHECKS if check.fails.stage is Stage.MSR_LOAD)
#: nested_vmx_run: the entry ends in a halted L2 that never entered the processor.
_NOT_ENTERED: Final = all_of(
    STATE == _HALT,
    ~vmcs.vm_entry_interruption_info[31],
    ~enabled(Primary.NMI_WINDOW_EXITING),
    ~all_of(enabled(Primary.INTERRUPT_WINDOW_EXITING), vmcs.guest_rflags[RFLAGS.IF]),
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
        "an entry to HLT without an event enters no guest, so what the processor below would have checked is not checked",
        "The checks of the guest state are made whatever the activity state is. KVM makes its own, and then halts the virtual processor without a "
        "VM entry on the processor below, where all other checks of the guest state would have been made; a timer of 0 or another event then makes "
        "a VM exit out of a state that no VM entry would have loaded. Pending debug exceptions are not delivered either. KVM does not say so. A "
        "guest can see it; the state is checked by the processor once the guest is really entered.",
        "nested_vmx_run in vmx/nested.c: for GUEST_ACTIVITY_HLT without an injected event, and without a window exit that would wake it, "
        "kvm_emulate_halt_noskip in place of the entry.",
        skips=skipping(*(check.id for check in _LEFT_GUEST), when=_NOT_ENTERED),
        exits=((_NOT_ENTERED, exits_mask(PREEMPTION_TIMER)),),
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
        "the others first.",
        skips=skipping(*(check.id for check in _LEFT_CONTROLS), when=any_of(_one_fails(_OWN_GUEST), _one_fails(_MSR_LOAD))),
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
        "kvm-link-pointer-current",
        _KVM,
        "the VMCS link pointer may be the current VMCS",
        "The link pointer must not be the current-VMCS pointer (where the processor is not in SMM). KVM does not compare them.",
        "nested_vmx_check_vmcs_link_ptr in vmx/nested.c.",
        skips=skipping("guest.link.current"),
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
)
