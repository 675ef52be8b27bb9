"""Known deviations of KVM: each explains what KVM was seen to do (tests/system/every_kvm_campaign.py), and nothing that is next to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vmfuzz.arch.controls import Primary, Secondary
from vmfuzz.arch.outcomes import Kind, Outcome, Outcomes
from vmfuzz.comparison.compare import AlteredModel, Verdict, compare
from vmfuzz.model.known_deviations import deviations_of
from vmfuzz.model.kvm_deviations import KVM_DEVIATIONS
from vmfuzz.model.predict import Model
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

TIGERLAKE = capabilities("tigerlake")
EAX, EBX, ECX, EDX = TIGERLAKE.registers(1)
#: As in a guest of KVM, whose CPUID lacks the TSC deadline (01H:ECX[24]).
CAPS = replace(TIGERLAKE, cpuid={**TIGERLAKE.cpuid, (1, 0): (EAX, EBX, ECX & ~(1 << 24), EDX)})
GOOD = known_good(TIGERLAKE)
MODEL, ALTERED = Model(CAPS), AlteredModel(CAPS, KVM_DEVIATIONS)
TIMER, GUEST, MSR_1 = Outcome(Kind.EXIT, 52), Outcome(Kind.ENTRY_FAILURE, 33, 0), Outcome(Kind.ENTRY_FAILURE, 34, 1)
FS_BASE, SYSENTER_EIP, LSTAR, TSC_DEADLINE, PKRS = 0xC000_0100, 0x176, 0xC000_0082, 0x6E0, 0x6E1
SECONDARY, PRIMARY = "secondary_processor_based_controls", "primary_processor_based_controls"


DEBUG = {"vm_entry_interruption_info": 0x8000_0301}


def msr_load(index: int, data: int = 0, **changes: int) -> Vmcs:
    at = GOOD["vm_entry_msr_load_address"]
    return GOOD.replace(vm_entry_msr_load_count=1, **changes).with_memory({at: index, at + 8: data})


def scaling(offsetting: bool, **changes: int) -> Vmcs:
    """ "Use TSC scaling" with a multiplier of 0."""
    primary = GOOD[PRIMARY] | 1 << Primary.ACTIVATE_SECONDARY_CONTROLS | offsetting << Primary.USE_TSC_OFFSETTING
    secondary = GOOD[SECONDARY] | 1 << Secondary.USE_TSC_SCALING
    return GOOD.replace(primary_processor_based_controls=primary, secondary_processor_based_controls=secondary, tsc_multiplier=0, **changes)


def tpr_threshold(**changes: int) -> Vmcs:
    """A TPR threshold with reserved bits, which the processor below refuses."""
    return GOOD.replace(primary_processor_based_controls=GOOD[PRIMARY] | 1 << Primary.USE_TPR_SHADOW, tpr_threshold=0xC0F0, **changes)


def halted(**changes: int) -> Vmcs:
    return GOOD.replace(guest_activity_state=1, **changes)


def verdict(state: Vmcs, outcome: Outcome) -> tuple[Verdict, str | None]:
    """The verdict on an outcome, and the deviation that explains it."""
    outcomes = Outcomes.empty(1)
    outcomes.kind[0], outcomes.number[0], outcomes.qualification[0] = outcome.kind, outcome.number, outcome.qualification or 0
    if outcome.kind is Kind.ENTRY_FAILURE:
        outcomes.raw_reason[0] = np.uint32(1 << 31 | outcome.number)
    found = compare(MODEL.predict_batch(VmcsBatch(state, {}, count=1)), outcomes, ALTERED)
    number = int(found.deviation[0])
    return Verdict(int(found.verdict[0])), KVM_DEVIATIONS[number].id if number >= 0 else None


SEEN = [
    ("kvm-access-rights-reserved", GOOD.replace(guest_ds_access_rights=0xC193), TIMER),
    ("kvm-access-rights-reserved", GOOD.replace(guest_tr_access_rights=0x2008B), TIMER),
    ("kvm-hlt-not-entered", halted(guest_pending_debug_exceptions=0x8000), TIMER),
    ("kvm-hlt-not-entered", halted(guest_ds_limit=0xFFFF_FFFD), TIMER),
    ("kvm-hlt-not-entered", GOOD.replace(guest_activity_state=3, guest_rflags=0), TIMER),
    ("kvm-hlt-not-entered", tpr_threshold(guest_activity_state=1), TIMER),
    ("kvm-activity-state-not-loaded", halted(**DEBUG, guest_interruptibility_state=1, guest_rflags=0x202), Outcome(Kind.EXIT, 48)),
    ("kvm-controls-of-the-processor-late", scaling(True, guest_ss_access_rights=0xC083), GUEST),
    ("kvm-msr-load-before-guest-state", msr_load(FS_BASE, guest_idtr_limit=0x10000), MSR_1),
    ("kvm-controls-of-the-processor-late", scaling(True, guest_cr0=0), GUEST),
    ("kvm-tsc-multiplier", scaling(False), TIMER),
    ("kvm-int1-lost", GOOD.replace(vm_entry_interruption_info=0x8000_0501, vm_entry_instruction_length=1), TIMER),
    ("kvm-link-pointer-current", GOOD.replace(vmcs_link_pointer=GOOD["live_current_vmcs_pointer"]), TIMER),
    ("kvm-msr-load-sysenter", msr_load(SYSENTER_EIP, 1 << 60), TIMER),
    ("kvm-msr-load-tsc", msr_load(TSC_DEADLINE), TIMER),
]


@pytest.mark.parametrize(("id", "state", "outcome"), SEEN, ids=[f"{number} {seen[0]}" for number, seen in enumerate(SEEN)])
def test_what_kvm_does_is_explained(id: str, state: Vmcs, outcome: Outcome) -> None:
    assert verdict(state, outcome) == (Verdict.DEVIATION, id)


def test_each_is_seen() -> None:
    assert {id for id, _, _ in SEEN} == {known.id for known in KVM_DEVIATIONS if not known.in_sequences}


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (GOOD.replace(guest_ds_access_rights=0xC083), TIMER),  # S = 0 is no reserved bit
        (GOOD.replace(guest_ds_limit=0xFFFF_FFFD), TIMER),  # not halted
        (halted(guest_cr0=0), TIMER),  # a check of KVM's own
        (tpr_threshold(), TIMER),  # not halted
        (msr_load(SYSENTER_EIP, 0, guest_idtr_limit=0x10000), MSR_1),  # nothing wrong with the list
        (GOOD.replace(vm_entry_interruption_info=0x8000_0603, vm_entry_instruction_length=1), TIMER),  # INT3
        (scaling(True), TIMER),  # the processor below sees the multiplier
        (msr_load(LSTAR, 1 << 60), TIMER),
        (msr_load(PKRS, 1 << 32), TIMER),  # MSRs that exist have their reserved bits
    ],
)
def test_what_is_next_to_it_is_not(state: Vmcs, outcome: Outcome) -> None:
    assert verdict(state, outcome) == (Verdict.MISMATCH, None)


def ids(executor: str) -> set[str]:
    return {known.id for known in deviations_of(executor)}


def test_kvm_has_the_deviations_of_the_processor_below_too() -> None:
    own = {known.id for known in KVM_DEVIATIONS}
    of_the_list = {"bochs-msr-load-unknown", "bochs-msr-load-smm-monitor-ctl"}  # KVM loads it, and not the processor below
    assert of_the_list < ids("bochs-2.7 corei7_skylake_x")
    assert ids("kvm 6.1.0 on bochs-2.7 corei7_skylake_x (ept=Y)") == own | ids("bochs-2.7 corei7_skylake_x") - of_the_list
    assert ids("kvm 6.1.0 on GenuineIntel 6-85-4 (ept=Y)") == own
    assert not own & ids("kmod GenuineIntel 6-85-4")
