"""The first VM exit after a successful entry, where several are due: the SDM's order."""

from __future__ import annotations

import pytest

from vmfuzz.arch.controls import Primary, Secondary
from vmfuzz.arch.outcomes import ANY_EXIT, Kind
from vmfuzz.arch.registers import ACTIVITY
from vmfuzz.generate.bases import Bases
from vmfuzz.generate.parts import set_controls
from vmfuzz.model.predict import model_of, predict
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

CAPS = capabilities("corei7_skylake_x")
BASES = Bases(model_of(CAPS), known_good(CAPS))


def base(name: str) -> Vmcs:
    state = BASES.get(name)
    assert state is not None
    return state


def exits(vmcs: Vmcs) -> set[int]:
    outcomes = predict(vmcs, CAPS).outcomes
    assert {outcome.kind for outcome in outcomes} == {Kind.EXIT}
    return {outcome.number for outcome in outcomes}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("nothing", 43),
        ("hlt", 43),
        ("monitor-trap-flag", 43),
        ("pending-breakpoint", 43),
        ("blocking-by-sti", 43),
        ("shutdown", 52),
    ],
)
def test_a_tpr_below_the_threshold_comes_before_all_that_is_pending_but_not_from_shutdown(event: str, expected: int) -> None:
    assert exits(base(f"64-bit/apic-accesses/{event}").replace(tpr_threshold=0xE)) == {expected}


def test_with_the_tpr_at_the_threshold_the_pending_mtf_exit_comes() -> None:
    assert exits(base("64-bit/apic-accesses/monitor-trap-flag").replace(tpr_threshold=5)) == {37}


def test_a_walk_of_paging_structures_in_the_apic_access_page_may_exit_or_not() -> None:
    state = set_controls(base("64-bit/no-ept/software-interrupt"), CAPS, Primary.USE_TPR_SHADOW, Secondary.VIRTUALIZE_APIC_ACCESSES)
    assert state is not None
    assert exits(state) == {0}
    assert exits(state.replace(apic_access_address=state["guest_cr3"])) != {0}


@pytest.mark.parametrize(
    ("state", "expected"),
    [(ACTIVITY.ACTIVE, 52), (ACTIVITY.HLT, 52), (ACTIVITY.SHUTDOWN, 52), (ACTIVITY.WAIT_FOR_SIPI, ANY_EXIT)],
)
def test_the_timer_ends_every_activity_state_but_wait_for_sipi(state: ACTIVITY, expected: int) -> None:
    # in wait-for-SIPI the model names no exit: which one comes is not decided by the VMCS
    assert exits(base("64-bit/plain/nothing").replace(guest_activity_state=state)) == {expected}
