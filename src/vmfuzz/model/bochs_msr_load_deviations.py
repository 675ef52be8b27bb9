"""Known deviations of the Bochs CPU in what a WRMSR refuses, as the VM-entry MSR-load area shows them (cpu/msr.cc of Bochs 3.0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from vmfuzz.arch.registers import IA32_APIC_BASE
from vmfuzz.model.checks.wrmsr import (
    FRED_RSPS,
    FRED_SSPS,
    IA32_BNDCFGS,
    IA32_DEBUGCTL,
    IA32_DS_AREA,
    IA32_FLUSH_CMD,
    IA32_FMASK,
    IA32_FRED_CONFIG,
    IA32_FRED_STKLVLS,
    IA32_INTERRUPT_SSP_TABLE_ADDR,
    IA32_LBR_CTL,
    IA32_LBR_DEPTH,
    IA32_PASID,
    IA32_PERF_GLOBAL_CTRL,
    IA32_PKRS,
    IA32_PRED_CMD,
    IA32_RTIT_CTL,
    IA32_S_CET,
    IA32_SPEC_CTRL,
    IA32_TSC_ADJUST,
    IA32_TSC_AUX,
    IA32_TSC_DEADLINE,
    IA32_TSX_CTRL,
    IA32_U_CET,
    IA32_UINTR_RR,
    IA32_UINTR_TT,
    IA32_UMWAIT_CONTROL,
    IA32_XSS,
    MC_STATUS,
    NEVER,
    READ_ONLY,
    SSPS,
)
from vmfuzz.model.deviations import Deviation, skipping
from vmfuzz.model.expr import Bits, Cond, all_of, any_of
from vmfuzz.model.operands import MSR_LOAD_ENTRIES, has, live, memory

_BOCHS: Final = "bochs"
#: MSRs that Bochs does not know on any CPU model, besides those of READ_ONLY.
_UNKNOWN: Final = (
    *(IA32_FLUSH_CMD, IA32_TSX_CTRL, IA32_DEBUGCTL, IA32_PERF_GLOBAL_CTRL, IA32_RTIT_CTL, IA32_DS_AREA, IA32_BNDCFGS, IA32_PASID),
    *(IA32_LBR_CTL, IA32_LBR_DEPTH, *range(0x210, 0x214), *MC_STATUS),
)
#: MSRs that it knows only on CPU models with the feature.
_BY_FEATURE: Final = (
    ("spec_ctrl", (IA32_SPEC_CTRL, IA32_PRED_CMD)),
    ("pks", (IA32_PKRS,)),
    ("rdtscp", (IA32_TSC_AUX,)),
    ("tsc_adjust", (IA32_TSC_ADJUST,)),
    ("tsc_deadline", (IA32_TSC_DEADLINE,)),
    ("waitpkg", (IA32_UMWAIT_CONTROL,)),
    ("xsaves", (IA32_XSS,)),
    ("cet_ss", (IA32_U_CET, IA32_S_CET, *SSPS, IA32_INTERRUPT_SSP_TABLE_ADDR)),
    ("fred", (*FRED_RSPS, *FRED_SSPS, IA32_FRED_STKLVLS, IA32_FRED_CONFIG)),
    ("uintr", tuple(range(IA32_UINTR_RR, IA32_UINTR_TT + 1))),
)
#: MSRs of READ_ONLY that it knows: IA32_FEATURE_CONTROL, IA32_MTRRCAP and the capability MSRs of VMX.
_KNOWN_READ_ONLY: Final = (0x3A, 0xFE, *range(0x480, 0x494))


def _ignored(index: Bits, _data: Bits) -> Cond:
    return any_of(index.one_of(*_UNKNOWN), *(all_of(index.one_of(*msrs), ~has(feature)) for feature, msrs in _BY_FEATURE))


def msr_load_rules(rules: Mapping[str, Callable[[Bits, Bits], Cond]]) -> dict[str, Cond]:
    """For each entry of the MSR-load area, when Bochs leaves out a rule on WRMSR, by the MSR's number and the value."""
    return {
        f"msrload.wrmsr.{number}.{rule}": when(
            getattr(memory, f"msr_load_{number}_index")[31:0], getattr(memory, f"msr_load_{number}_data")
        )
        for number in range(1, MSR_LOAD_ENTRIES + 1)
        for rule, when in rules.items()
    }


BOCHS_MSR_LOAD_DEVIATIONS: Final = (
    Deviation(
        "bochs-msr-load-smm-monitor-ctl",
        _BOCHS,
        "IA32_SMM_MONITOR_CTL may be in the VM-entry MSR-load area",
        "Outside SMM a WRMSR of IA32_SMM_MONITOR_CTL (9BH) faults, so an entry that names it fails the VM entry (exit reason 34). Bochs ignores writes to "
        "MSRs that it does not know, and it does not know this one.",
        "wrmsr and handle_unknown_wrmsr (cpu/msr.cc).",
        skips=skipping(*(f"msrload.smm.{number}" for number in range(1, 5))),
    ),
    Deviation(
        "bochs-msr-load-unknown",
        _BOCHS,
        "MSRs that Bochs does not know may be in the VM-entry MSR-load area",
        "A WRMSR of an MSR that can only be read, that the processor does not have, or of a reserved bit faults, so such an entry fails the VM entry "
        "(exit reason 34). Bochs ignores writes to MSRs that it does not know. It knows few of those that can only be read (IA32_MTRRCAP and "
        "the capability MSRs of VMX), no IA32_DEBUGCTL, IA32_PERF_GLOBAL_CTRL, IA32_MCi_STATUS, IA32_DS_AREA and IA32_BNDCFGS, and others only on CPU "
        "models with the feature behind them.",
        "wrmsr and handle_unknown_wrmsr (cpu/msr.cc), with the configuration's default for unknown MSRs.",
        skips=msr_load_rules(
            {
                "read-only": lambda index, _: any_of(
                    index.one_of(*(msr for msr in READ_ONLY if msr not in _KNOWN_READ_ONLY)), index[31:16] == NEVER
                ),
                "bits": _ignored,
                "canonical": _ignored,
                "pat": _ignored,
            }
        ),
    ),
    Deviation(
        "bochs-msr-load-high",
        _BOCHS,
        "reserved bits of IA32_FMASK, IA32_TSC_AUX, IA32_UMWAIT_CONTROL and IA32_APIC_BASE are ignored",
        "Bits 63:32 of IA32_FMASK and IA32_TSC_AUX are reserved, bits 63:32 and 1 of IA32_UMWAIT_CONTROL, bits 7:0 and 9 of IA32_APIC_BASE (and x2APIC "
        "mode needs the APIC enabled), so a WRMSR of a value that sets one faults, and such an entry of the VM-entry MSR-load area fails the VM entry "
        "(exit reason 34). Bochs writes the lower half of the first two and the other bits of the others.",
        "wrmsr and relocate_apic (cpu/msr.cc), cases of BX_MSR_FMASK, BX_MSR_TSC_AUX, BX_MSR_IA32_UMWAIT_CONTROL and BX_MSR_APICBASE.",
        skips=msr_load_rules(
            {
                "bits": lambda index, _: any_of(
                    index == IA32_FMASK,
                    # once an entry has disabled the APIC; containment lets none do that in x2APIC mode
                    all_of(index == IA32_APIC_BASE, live.x2apic_mode == 0),
                    all_of(index == IA32_TSC_AUX, has("rdtscp")),
                    all_of(index == IA32_UMWAIT_CONTROL, has("waitpkg")),
                )
            }
        ),
    ),
)
