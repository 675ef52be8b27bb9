"""Another processor's capabilities for a virtual machine of KVM: what both have, as values for its capability MSRs.

KVM takes a value only where it promises no more than KVM itself does, and takes no MSR of controls without TRUE (it makes those of the TRUE
ones). Fixed bits of CR4 and everything that CPUID says stay as they are. Layouts: SDM Vol. 3D "VMX Capability Reporting Facility".
"""

from __future__ import annotations

from typing import Final

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.controls import CONTROL_WORDS

_BASIC, _MISC, _CR0_FIXED0, _CR4_FIXED0, _SECONDARY, _EPT_VPID, _VMFUNC = 0x480, 0x485, 0x486, 0x488, 0x48B, 0x48C, 0x491
_TRUE_WORDS: Final = ("pin", "primary", "exit", "entry")
_LOW: Final = 0xFFFF_FFFF
#: IA32_VMX_MISC: bits that say what exists, with their names, and fields that say how many (shift, width).
_MISC_BITS: Final = {
    5: "saving IA32_EFER.LMA",
    6: "activity state HLT",
    7: "activity state shutdown",
    8: "activity state wait-for-SIPI",
    14: "Intel PT in VMX operation",
    15: "RDMSR of IA32_SMBASE",
    28: "IA32_SMM_MONITOR_CTL[2]",
    29: "VMWRITE to any field",
    30: "injection with instruction length 0",
}
_MISC_COUNTS: Final = ((16, 9), (25, 3))
#: IA32_VMX_BASIC: INS and OUTS information, no error code where the vector has one.
_BASIC_BITS: Final = {54: "INS/OUTS instruction information", 56: "hardware exceptions with and without error code"}


def narrowed(own: Capabilities, profile: Capabilities) -> tuple[dict[int, int], list[str]]:
    """(MSRs to set, what the profile has and `own` lacks in words) for the processor that has what both have."""
    msrs, lacks = _narrowed_controls(own, profile)
    basic = own.msr(_BASIC)
    msrs[_BASIC] = basic & (profile.msr(_BASIC) | ~_mask(_BASIC_BITS))
    misc, other = own.msr(_MISC), profile.msr(_MISC)
    value = misc & (other | ~_mask(_MISC_BITS))
    for shift, width in _MISC_COUNTS:
        field = ((1 << width) - 1) << shift
        value = value & ~field | min(misc & field, other & field)
    msrs[_MISC] = value
    for bits, mine, others in ((_BASIC_BITS, basic, profile.msr(_BASIC)), (_MISC_BITS, misc, other)):
        lacks += [name for bit, name in bits.items() if others >> bit & 1 and not mine >> bit & 1]
    for number in (_CR0_FIXED0, _CR4_FIXED0):
        msrs[number] = own.msr(number) | profile.msr(number)
    for number, name in ((_EPT_VPID, "IA32_VMX_EPT_VPID_CAP"), (_VMFUNC, "IA32_VMX_VMFUNC")):
        if own.msr(number):
            msrs[number] = own.msr(number) & profile.msr(number)
        lacks += [f"{name}[{bit}]" for bit in range(64) if (profile.msr(number) & ~own.msr(number)) >> bit & 1]
    return msrs, lacks


def _narrowed_controls(own: Capabilities, profile: Capabilities) -> tuple[dict[int, int], list[str]]:
    """The same of the control words."""
    msrs: dict[int, int] = {}
    lacks: list[str] = []
    for key in (*_TRUE_WORDS, "secondary"):
        must, may = own.allowed_settings(key)
        other_must, other_may = profile.allowed_settings(key)
        word = CONTROL_WORDS[key]
        lacks += [f"{key}.{bit.name.lower()}" for bit in word.bits if other_may >> bit & 1 and not may >> bit & 1]
        number = _SECONDARY if key == "secondary" else word.true_msr
        assert number is not None
        if key != "secondary" or own.msr(number):
            msrs[number] = (may & other_may | must) << 32 | must | other_must & may
    return msrs, lacks


def _mask(bits: dict[int, str]) -> int:
    return sum(1 << bit for bit in bits)
