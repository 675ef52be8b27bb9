"""The VMX control words: which field holds each, which capability MSR governs it, and the names of its bits.

Source: SDM Vol. 3C "VM-Execution Control Fields", "VM-Exit Control Fields", "VM-Entry Control Fields"; Vol. 3D "VMX Capability
Reporting Facility". Bits not named are reserved; the capability MSR alone governs them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from vmfuzz.errors import UnknownNameError, UsageError


class Pin(enum.IntEnum):
    """Pin-based VM-execution controls."""

    EXTERNAL_INTERRUPT_EXITING = 0
    NMI_EXITING = 3
    VIRTUAL_NMIS = 5
    ACTIVATE_VMX_PREEMPTION_TIMER = 6
    PROCESS_POSTED_INTERRUPTS = 7


class Primary(enum.IntEnum):
    """Primary processor-based VM-execution controls."""

    INTERRUPT_WINDOW_EXITING = 2
    USE_TSC_OFFSETTING = 3
    HLT_EXITING = 7
    INVLPG_EXITING = 9
    MWAIT_EXITING = 10
    RDPMC_EXITING = 11
    RDTSC_EXITING = 12
    CR3_LOAD_EXITING = 15
    CR3_STORE_EXITING = 16
    ACTIVATE_TERTIARY_CONTROLS = 17
    CR8_LOAD_EXITING = 19
    CR8_STORE_EXITING = 20
    USE_TPR_SHADOW = 21
    NMI_WINDOW_EXITING = 22
    MOV_DR_EXITING = 23
    UNCONDITIONAL_IO_EXITING = 24
    USE_IO_BITMAPS = 25
    MONITOR_TRAP_FLAG = 27
    USE_MSR_BITMAPS = 28
    MONITOR_EXITING = 29
    PAUSE_EXITING = 30
    ACTIVATE_SECONDARY_CONTROLS = 31


class Secondary(enum.IntEnum):
    """Secondary processor-based VM-execution controls."""

    VIRTUALIZE_APIC_ACCESSES = 0
    ENABLE_EPT = 1
    DESCRIPTOR_TABLE_EXITING = 2
    ENABLE_RDTSCP = 3
    VIRTUALIZE_X2APIC_MODE = 4
    ENABLE_VPID = 5
    WBINVD_EXITING = 6
    UNRESTRICTED_GUEST = 7
    APIC_REGISTER_VIRTUALIZATION = 8
    VIRTUAL_INTERRUPT_DELIVERY = 9
    PAUSE_LOOP_EXITING = 10
    RDRAND_EXITING = 11
    ENABLE_INVPCID = 12
    ENABLE_VM_FUNCTIONS = 13
    VMCS_SHADOWING = 14
    ENABLE_ENCLS_EXITING = 15
    RDSEED_EXITING = 16
    ENABLE_PML = 17
    EPT_VIOLATION_VE = 18
    CONCEAL_VMX_FROM_PT = 19
    ENABLE_XSAVES_XRSTORS = 20
    PASID_TRANSLATION = 21
    MODE_BASED_EXECUTE_CONTROL_FOR_EPT = 22
    SUB_PAGE_WRITE_PERMISSIONS = 23
    PT_USES_GUEST_PHYSICAL_ADDRESSES = 24
    USE_TSC_SCALING = 25
    ENABLE_USER_WAIT_AND_PAUSE = 26
    ENABLE_PCONFIG = 27
    ENABLE_ENCLV_EXITING = 28
    VMM_BUS_LOCK_DETECTION = 30
    INSTRUCTION_TIMEOUT = 31


class Tertiary(enum.IntEnum):
    """Tertiary processor-based VM-execution controls."""

    LOADIWKEY_EXITING = 0
    ENABLE_HLAT = 1
    EPT_PAGING_WRITE_CONTROL = 2
    GUEST_PAGING_VERIFICATION = 3
    IPI_VIRTUALIZATION = 4
    SEAM_GUEST_PHYSICAL_ADDRESS_WIDTH = 5
    ENABLE_MSRLIST = 6
    VIRTUALIZE_IA32_SPEC_CTRL = 7
    APIC_TIMER_VIRTUALIZATION = 8
    ENABLE_PBNDKB = 9
    PEBS_USES_GUEST_PHYSICAL_ADDRESSES = 12


class Exit(enum.IntEnum):
    """Primary VM-exit controls."""

    SAVE_DEBUG_CONTROLS = 2
    HOST_ADDRESS_SPACE_SIZE = 9
    LOAD_IA32_PERF_GLOBAL_CTRL = 12
    ACKNOWLEDGE_INTERRUPT_ON_EXIT = 15
    SAVE_IA32_PAT = 18
    LOAD_IA32_PAT = 19
    SAVE_IA32_EFER = 20
    LOAD_IA32_EFER = 21
    SAVE_VMX_PREEMPTION_TIMER = 22
    CLEAR_IA32_BNDCFGS = 23
    CONCEAL_VMX_FROM_PT = 24
    CLEAR_IA32_RTIT_CTL = 25
    CLEAR_IA32_LBR_CTL = 26
    CLEAR_UINV = 27
    LOAD_CET_STATE = 28
    LOAD_PKRS = 29
    SAVE_IA32_PERF_GLOBAL_CTRL = 30
    ACTIVATE_SECONDARY_CONTROLS = 31


class SecondaryExit(enum.IntEnum):
    """Secondary VM-exit controls."""

    SAVE_IA32_FRED = 0
    LOAD_IA32_FRED = 1
    LOAD_IA32_SPEC_CTRL = 2
    PREMATURELY_BUSY_SHADOW_STACK = 3


class Entry(enum.IntEnum):
    """VM-entry controls."""

    LOAD_DEBUG_CONTROLS = 2
    IA32E_MODE_GUEST = 9
    ENTRY_TO_SMM = 10
    DEACTIVATE_DUAL_MONITOR_TREATMENT = 11
    LOAD_IA32_PERF_GLOBAL_CTRL = 13
    LOAD_IA32_PAT = 14
    LOAD_IA32_EFER = 15
    LOAD_IA32_BNDCFGS = 16
    CONCEAL_VMX_FROM_PT = 17
    LOAD_IA32_RTIT_CTL = 18
    LOAD_UINV = 19
    LOAD_CET_STATE = 20
    LOAD_GUEST_IA32_LBR_CTL = 21
    LOAD_PKRS = 22
    LOAD_IA32_FRED = 23
    LOAD_IA32_SPEC_CTRL = 24
    ALLOW_SEAM_GUEST_TELEMETRY = 25


class VmFunction(enum.IntEnum):
    """VM-function controls."""

    EPTP_SWITCHING = 0


Control = Pin | Primary | Secondary | Tertiary | Exit | SecondaryExit | Entry | VmFunction


@dataclass(frozen=True)
class ControlWord:
    """One control word.

    `msr` reports the allowed settings and `true_msr` replaces it where IA32_VMX_BASIC[55] is 1. `only_allowed_1`: the MSR is a plain
    64-bit mask of the bits that may be 1 (no bit of the word must be 1). `activated_by`: the control that must be 1 for the word
    to count; while it is 0 all controls of the word act as 0.
    """

    key: str
    title: str
    field: str
    bits: type[enum.IntEnum]
    msr: int
    true_msr: int | None = None
    only_allowed_1: bool = False
    activated_by: Control | None = None


#: The control words by their short key, in the SDM's order.
CONTROL_WORDS: Final = MappingProxyType(
    {
        word.key: word
        for word in (
            ControlWord("pin", "pin-based VM-execution controls", "pin_based_controls", Pin, 0x481, 0x48D),
            ControlWord(
                "primary",
                "primary processor-based VM-execution controls",
                "primary_processor_based_controls",
                Primary,
                0x482,
                0x48E,
            ),
            ControlWord(
                "secondary",
                "secondary processor-based VM-execution controls",
                "secondary_processor_based_controls",
                Secondary,
                0x48B,
                activated_by=Primary.ACTIVATE_SECONDARY_CONTROLS,
            ),
            ControlWord(
                "tertiary",
                "tertiary processor-based VM-execution controls",
                "tertiary_processor_based_controls",
                Tertiary,
                0x492,
                only_allowed_1=True,
                activated_by=Primary.ACTIVATE_TERTIARY_CONTROLS,
            ),
            ControlWord("exit", "primary VM-exit controls", "vm_exit_controls", Exit, 0x483, 0x48F),
            ControlWord(
                "secondary_exit",
                "secondary VM-exit controls",
                "secondary_vm_exit_controls",
                SecondaryExit,
                0x493,
                only_allowed_1=True,
                activated_by=Exit.ACTIVATE_SECONDARY_CONTROLS,
            ),
            ControlWord("entry", "VM-entry controls", "vm_entry_controls", Entry, 0x484, 0x490),
            ControlWord(
                "vm_function",
                "VM-function controls",
                "vm_function_controls",
                VmFunction,
                0x491,
                only_allowed_1=True,
                activated_by=Secondary.ENABLE_VM_FUNCTIONS,
            ),
        )
    }
)

_WORD_OF_BITS: Final = {word.bits: word for word in CONTROL_WORDS.values()}


def word_of(control: Control) -> ControlWord:
    """The control word that `control` is a bit of."""
    return _WORD_OF_BITS[type(control)]


def control_name(control: Control) -> str:
    """The qualified name of a control, such as `secondary.enable_ept`."""
    return f"{word_of(control).key}.{control.name.lower()}"


#: Every control by its qualified name.
CONTROLS: Final[MappingProxyType[str, Control]] = MappingProxyType(
    {control_name(bit): bit for word in CONTROL_WORDS.values() for bit in word.bits}  # type: ignore[arg-type, misc]
)


def control_named(name: str) -> Control:
    """The control called `name`, which may be qualified (`entry.load_ia32_pat`) or, where unique, bare (`enable_ept`).

    Raises UnknownNameError for a name that no control has and UsageError for a bare name that several have.
    """
    if name in CONTROLS:
        return CONTROLS[name]
    matches = [qualified for qualified in CONTROLS if qualified.split(".", 1)[1] == name]
    if not matches:
        raise UnknownNameError("control", name, [*CONTROLS, *(q.split(".", 1)[1] for q in CONTROLS)])
    if len(matches) > 1:
        raise UsageError(f"control {name!r} is ambiguous; write one of {', '.join(matches)}")
    return CONTROLS[matches[0]]
