"""Which MSR or CPUID leaf settles a capability fact, and what would excuse a violation that rests on one."""

from __future__ import annotations

from typing import Final, NamedTuple


class FactSource(NamedTuple):
    """Where a capability fact is read: in words, and the numbers of the MSRs among it that vmfuzz reads from a text."""

    words: str
    msrs: tuple[int, ...] = ()


_MISC: Final = FactSource("IA32_VMX_MISC (485H)", (0x485,))
_BASIC: Final = FactSource("IA32_VMX_BASIC (480H)", (0x480,))
_PHYSICAL: Final = FactSource("CPUID.80000008H (physical-address width)")
_LINEAR: Final = FactSource("CPUID.80000008H (linear-address width)")
_CPUID: Final = FactSource("CPUID (feature bits)")
#: The source of a fact, by the beginning of its name.
_SOURCES: Final = (
    ("pin_", FactSource("IA32_VMX_TRUE_PINBASED_CTLS (48DH)", (0x48D,))),
    ("primary_", FactSource("IA32_VMX_TRUE_PROCBASED_CTLS (48EH)", (0x48E,))),
    ("secondary_exit", FactSource("IA32_VMX_EXIT_CTLS2 (493H)", (0x493,))),
    ("secondary_", FactSource("IA32_VMX_PROCBASED_CTLS2 (48BH)", (0x48B,))),
    ("tertiary_", FactSource("IA32_VMX_PROCBASED_CTLS3 (492H)", (0x492,))),
    ("exit_", FactSource("IA32_VMX_TRUE_EXIT_CTLS (48FH)", (0x48F,))),
    ("entry_", FactSource("IA32_VMX_TRUE_ENTRY_CTLS (490H)", (0x490,))),
    ("vm_function", FactSource("IA32_VMX_VMFUNC (491H)", (0x491,))),
    ("cr0_", FactSource("IA32_VMX_CR0_FIXED0/1 (486H, 487H)", (0x486, 0x487))),
    ("cr4_", FactSource("IA32_VMX_CR4_FIXED0/1 (488H, 489H)", (0x488, 0x489))),
    ("cr3_target", _MISC),
    ("activity", _MISC),
    ("instruction_length", _MISC),
    ("ept_vpid", FactSource("IA32_VMX_EPT_VPID_CAP (48CH)", (0x48C,))),
    ("error_code", _BASIC),
    ("nested", _BASIC),
    ("dual", _BASIC),
    ("revision", _BASIC),
    ("beyond", _PHYSICAL),
    ("cr3_reserved", _PHYSICAL),
    ("canonical", _LINEAR),
    ("identical", _LINEAR),
    ("perf_global", FactSource("CPUID.0AH and 23H (performance counters) and IA32_PERF_CAPABILITIES (345H)", (0x345,))),
    ("rtit_ctl", FactSource("CPUID.14H (Intel PT)")),
    ("lbr_ctl", FactSource("CPUID.1CH (last-branch records)")),
    ("spec_ctrl", FactSource("CPUID.7.0 and 7.2 (speculation controls)")),
)
#: What would excuse a violation that is only likely, by capability fact.
_EXCUSES: Final = {
    "error_code_optional": "IA32_VMX_BASIC[56] is 1 (an error code is optional on this processor)",
    "nested_exception": "IA32_VMX_BASIC[58] is 1 (nested exceptions can be injected)",
    "instruction_length_minimum": "IA32_VMX_MISC[30] is 1 (an instruction length of 0 is allowed)",
    "canonical_limit": "the processor has linear addresses of 57 bits (5-level paging)",
}


def source_of(fact: str) -> FactSource:
    """The MSR or CPUID leaf that settles a capability fact."""
    return next((source for beginning, source in _SOURCES if fact.startswith(beginning)), _CPUID)


def excuse(fact: str) -> str:
    """What would have to be so for a check that is only likely violated to pass."""
    return _EXCUSES.get(fact, f"{source_of(fact).words} of this processor says otherwise")
