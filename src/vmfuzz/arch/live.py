"""Conditions of a VM entry that are not VMCS fields: the state of the processor when VMLAUNCH or VMRESUME executes.

They take part in states, batches and conditions like fields do, under names that begin with `live_`. Those marked settable are
brought about by the executor for each candidate; the others are facts that the executor reports with its known-good VMCS. Those marked of_batch
are brought about for a whole batch, by executors that make their own processor; only such executors report them.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True)
class LiveCondition:
    """One condition: its name, width in bits, ordinary value, whether an executor can set it, and its meaning."""

    name: str
    width: int
    default: int
    settable: bool
    meaning: str
    #: number k of the engine's target code 1<<32 + k; -1 where the engine cannot set it
    target: int = -1
    #: a field that exists on those processors only that the condition can come about on
    needs: str | None = None
    #: whether an executor that makes its own processor can bring it about, for a whole batch
    of_batch: bool = False

    @property
    def mask(self) -> int:
        """All ones in the condition's width."""
        return (1 << self.width) - 1


NO_POINTER: Final = 0xFFFF_FFFF_FFFF_FFFF

_CONDITIONS = (
    LiveCondition("live_launch_instruction", 1, 0, True, "0: VMLAUNCH, 1: VMRESUME", 0),
    LiveCondition("live_launch_state", 1, 0, True, "launch state of the current VMCS, 0: clear, 1: launched", 1),
    LiveCondition("live_no_current_vmcs", 1, 0, True, "1: there is no current VMCS (the pointer is all ones)", 2),
    LiveCondition("live_blocking_by_mov_ss", 1, 0, True, "1: MOV SS was the instruction before", 3),
    LiveCondition("live_shadow_vmcs", 1, 0, True, "1: the current VMCS is a shadow VMCS", 4, "vmread_bitmap"),
    LiveCondition("live_efer", 64, 0x500, False, "IA32_EFER of the launching processor"),
    LiveCondition("live_cr4", 64, 0x2000, False, "CR4 of the launching processor"),
    LiveCondition("live_current_vmcs_pointer", 64, NO_POINTER, False, "physical address of the current VMCS, all ones if not known"),
    LiveCondition("live_rtit_ctl", 64, 0, False, "IA32_RTIT_CTL of the launching processor"),
    LiveCondition(
        "live_empty_ept", 64, NO_POINTER, False, "physical address of an EPT PML4 table that maps nothing, all ones if not known"
    ),
    LiveCondition(
        "live_empty_paging", 64, NO_POINTER, False, "physical address of a root page table that maps nothing, all ones if not known"
    ),
    LiveCondition("live_smm", 1, 0, False, "1: the launching processor is in system-management mode"),
    LiveCondition("live_x2apic_mode", 1, 0, False, "1: the local APIC of the launching processor is in x2APIC mode", of_batch=True),
)

#: Every live condition by name.
LIVE: Final = MappingProxyType({condition.name: condition for condition in _CONDITIONS})
