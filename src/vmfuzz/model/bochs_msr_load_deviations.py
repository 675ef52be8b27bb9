"""Known deviations of the Bochs CPU in what a WRMSR refuses, as the VM-entry MSR-load area shows them (cpu/msr.cc of Bochs 3.0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from vmfuzz.model.checks.msr_load import (
    IA32_DEBUGCTL,
    IA32_FMASK,
    IA32_PERF_GLOBAL_CTRL,
    IA32_PKRS,
    IA32_SPEC_CTRL,
    IA32_TSC_AUX,
    NEVER,
)
from vmfuzz.model.deviations import Deviation, skipping
from vmfuzz.model.expr import Bits, Cond, all_of, any_of
from vmfuzz.model.operands import MSR_LOAD_ENTRIES, has, memory

_BOCHS: Final = "bochs"


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
        "Outside SMM a WRMSR of IA32_SMM_MONITOR_CTL (9BH) faults, so an entry that names it fails the VM entry (exit reason 34). Bochs ignores writes "
        "of MSRs that it does not know, and does not know this one.",
        "wrmsr and handle_unknown_wrmsr (cpu/msr.cc).",
        skips=skipping(*(f"msrload.smm.{number}" for number in range(1, 5))),
    ),
    Deviation(
        "bochs-msr-load-unknown",
        _BOCHS,
        "MSRs that Bochs does not know may be in the VM-entry MSR-load area",
        "A WRMSR of an MSR that can only be read, that the processor does not have, or of a reserved bit faults, so such an entry fails the VM entry "
        "(exit reason 34). Bochs ignores writes of MSRs that it does not know. It knows no IA32_PLATFORM_ID, IA32_CORE_CAPABILITIES, IA32_MCG_CAP, "
        "IA32_PERF_CAPABILITIES, IA32_DEBUGCTL and IA32_PERF_GLOBAL_CTRL at all, and others only on CPU models with the feature behind them.",
        "wrmsr and handle_unknown_wrmsr (cpu/msr.cc), with the configuration's default for unknown MSRs.",
        skips=msr_load_rules(
            {
                "read-only": lambda index, _: any_of(index.one_of(0x17, 0xCF, 0x10A, 0x179, 0x345), index[31:16] == NEVER),
                "bits": lambda index, _: any_of(
                    index.one_of(IA32_DEBUGCTL, IA32_PERF_GLOBAL_CTRL),
                    all_of(index == IA32_SPEC_CTRL, ~has("spec_ctrl")),
                    all_of(index == IA32_PKRS, ~has("pks")),
                    all_of(index == IA32_TSC_AUX, ~has("rdtscp")),
                ),
            }
        ),
    ),
    Deviation(
        "bochs-msr-load-high",
        _BOCHS,
        "the upper halves of IA32_FMASK and IA32_TSC_AUX are dropped",
        "Bits 63:32 of both MSRs are reserved, so a WRMSR of a value that sets one faults, and such an entry of the VM-entry MSR-load area fails the VM "
        "entry (exit reason 34). Bochs writes the lower half.",
        "wrmsr (cpu/msr.cc), cases of BX_MSR_FMASK and BX_MSR_TSC_AUX.",
        skips=msr_load_rules({"bits": lambda index, _: any_of(index == IA32_FMASK, all_of(index == IA32_TSC_AUX, has("rdtscp")))}),
    ),
)
