"""What follows a successful VM entry: the VM exits that may come first (SDM "Event Injection", "Special Features of VM Entry").

A contained guest executes nothing, so its first exit follows from the VMCS: delivery of an injected event meets tables that map nothing, a
pending MTF VM exit or debug exception comes before the VMX-preemption timer, and the timer, at 0, before the first instruction (in the
wait-for-SIPI state it causes no VM exit). The rules below are tried in order; the first whose condition holds gives the set of possible first
exits. Where none is certain every exit is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.controls import Pin, Primary, Secondary
from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.arch.registers import ACTIVITY, CR0, EVENT, PENDING_DEBUG
from vmfuzz.model.checks.event_injection import TYPE, VALID, VECTOR
from vmfuzz.model.checks.guest_non_register import MOV_SS, PENDING, STATE
from vmfuzz.model.columns import Columns
from vmfuzz.model.evaluate import Truth
from vmfuzz.model.expr import TRUE, Cond, all_of, any_of
from vmfuzz.model.operands import enabled, live, memory, vmcs
from vmfuzz.model.outcome_codes import ENTERED, mask_of

EXCEPTION, TRIPLE_FAULT, MONITOR_TRAP = 0, 2, 37
TPR_BELOW_THRESHOLD, EPT_VIOLATION, EPT_MISCONFIGURATION, PREEMPTION_TIMER = 43, 48, 49, 52

_PAGE_FRAME: Final = 0xFFFF_FFFF_FFFF_F000

EPT: Final = enabled(Secondary.ENABLE_EPT)
#: Guest memory cannot be reached: every access is an EPT violation, or every access by linear address a page fault.
BEHIND_EPT: Final = all_of(EPT, (vmcs.eptp & _PAGE_FRAME) == live.empty_ept)
#: A walk of paging structures that lie in the APIC-access page may cause an APIC-access VM exit and need not (SDM "Physical Accesses to the APIC-Access
#: Page"), so nothing is certain there.
_WALK_IN_APIC_PAGE: Final = all_of(
    enabled(Secondary.VIRTUALIZE_APIC_ACCESSES), (vmcs.apic_access_address & _PAGE_FRAME) == (vmcs.guest_cr3 & _PAGE_FRAME)
)
BEHIND_PAGING: Final = all_of(~EPT, vmcs.guest_cr0[CR0.PG], (vmcs.guest_cr3 & _PAGE_FRAME) == live.empty_paging, ~_WALK_IN_APIC_PAGE)

VECTORING: Final = all_of(VALID, TYPE != EVENT.OTHER_EVENT)
MTF_INJECTED: Final = all_of(VALID, TYPE == EVENT.OTHER_EVENT, VECTOR == 0)
AWAKE: Final = STATE.one_of(ACTIVITY.ACTIVE, ACTIVITY.HLT)
DEBUG_PENDING: Final = any_of(PENDING[PENDING_DEBUG.ENABLED_BREAKPOINT], PENDING[PENDING_DEBUG.BS], PENDING[PENDING_DEBUG.RTM])
#: Whatever fault the delivery of an event meets, it is a VM exit.
EVERY_EXCEPTION_EXITS: Final = all_of(
    vmcs.exception_bitmap == 0xFFFFFFFF, vmcs.page_fault_error_code_mask == 0, vmcs.page_fault_error_code_match == 0
)
#: A timer that has counted down to 0 causes no VM exit in the wait-for-SIPI state (SDM "VMX-Preemption Timer"): nothing but a SIPI ends that one.
TIMER_EXPIRED: Final = all_of(
    enabled(Pin.ACTIVATE_VMX_PREEMPTION_TIMER), vmcs.vmx_preemption_timer_value == 0, STATE != ACTIVITY.WAIT_FOR_SIPI
)
TPR_BELOW: Final = all_of(
    enabled(Primary.USE_TPR_SHADOW),
    enabled(Secondary.VIRTUALIZE_APIC_ACCESSES),
    ~enabled(Secondary.VIRTUAL_INTERRUPT_DELIVERY),
    # VTPR is 0 where it is not known: then only a threshold of 0 is certainly not above it
    ~(vmcs.tpr_threshold[3:0] <= memory.vtpr[7:4]),
)
#: In the shutdown and wait-for-SIPI states the exit does not occur.
TPR_LOW: Final = all_of(TPR_BELOW, AWAKE)


def exits_mask(*reasons: int) -> int:
    """These first exits as a mask of outcomes."""
    return mask_of(tuple(Outcome(Kind.EXIT, reason) for reason in reasons))


@dataclass(frozen=True)
class Rule:
    """If `when` holds and no rule before it did, the first exit is one of `exits` (a mask of outcomes)."""

    when: Cond
    exits: int


#: The rules in the order in which they are tried.
RULES: Final = (
    # delivery reads the IDT (or faults before it does), and cannot
    Rule(all_of(VECTORING, BEHIND_EPT, EVERY_EXCEPTION_EXITS), exits_mask(EXCEPTION, EPT_VIOLATION)),
    Rule(all_of(VECTORING, BEHIND_PAGING, EVERY_EXCEPTION_EXITS), exits_mask(EXCEPTION)),
    Rule(all_of(VECTORING, any_of(BEHIND_EPT, BEHIND_PAGING)), exits_mask(EXCEPTION, TRIPLE_FAULT, EPT_VIOLATION)),
    Rule(VECTORING, ENTERED),
    # TPR below threshold has priority over all that may be pending, an MTF VM exit too (SDM "VM Exits Induced by the TPR Threshold"), that over
    # pending debug exceptions, these over the timer; blocking by STI does not hold them
    Rule(all_of(TPR_LOW, memory.vtpr_known == 1), exits_mask(TPR_BELOW_THRESHOLD)),
    Rule(TPR_LOW, ENTERED),
    Rule(MTF_INJECTED, exits_mask(MONITOR_TRAP)),
    Rule(VALID, ENTERED),
    Rule(all_of(DEBUG_PENDING, AWAKE, ~MOV_SS, EVERY_EXCEPTION_EXITS), exits_mask(EXCEPTION)),
    Rule(all_of(DEBUG_PENDING, AWAKE, ~MOV_SS, BEHIND_EPT), exits_mask(EXCEPTION, TRIPLE_FAULT, EPT_VIOLATION)),
    Rule(all_of(DEBUG_PENDING, AWAKE, ~MOV_SS), ENTERED),
    Rule(TIMER_EXPIRED, exits_mask(PREEMPTION_TIMER)),
    Rule(TRUE, ENTERED),
)


def first_exits(fold: Callable[[Cond], Cond], conditions: Columns) -> int | npt.NDArray[np.uint64]:
    """The mask of first exits that a successful entry may have: an int where it is the same for all rows, else uint64 (n,)."""
    result: int | npt.NDArray[np.uint64] = 0
    undecided: Truth = True
    for rule, here in zip(RULES, conditions.truths([fold(rule.when) for rule in RULES]), strict=True):
        if here is False:
            continue
        here = undecided if here is True else here & undecided
        if isinstance(here, bool):
            return rule.exits
        chosen: npt.NDArray[np.uint64] = here.astype(np.uint64) * np.uint64(rule.exits)
        result = chosen if isinstance(result, int) else result | chosen
        undecided = undecided & ~here
    return result
