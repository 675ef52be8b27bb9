"""A person's question: the VM entry fails with exit reason 80000021H, and guest GS access rights were never written."""

from __future__ import annotations

import pytest

from vmfuzz import Kind, Outcome, capabilities, known_good, open_executor, predict
from vmfuzz.state.profiles import emulated_names
from vmfuzz.state.vmcs import Vmcs

#: Accessed, S and P are 0; and the captured limit FFFFFFFFH demands that G is 1.
NAMED = {"guest.gs.type.accessed", "guest.gs.s", "guest.gs.p", "guest.gs.g.high"}
FAILURE = Outcome(Kind.ENTRY_FAILURE, 33, 0)


def broken(state: Vmcs, how: str) -> Vmcs:
    return state.without("guest_gs_access_rights") if how == "never written" else state.replace(guest_gs_access_rights=0)


@pytest.mark.parametrize("how", ["never written", "written as 0"])
@pytest.mark.parametrize("name", emulated_names())
def test_the_model_names_the_checks_on_gs(name: str, how: str) -> None:
    prediction = predict(broken(known_good(capabilities(name)), how), capabilities(name))
    assert prediction.outcomes == {FAILURE}
    assert {violation.check.id for violation in prediction.violations} == NAMED
    assert {violation.check.section.title for violation in prediction.violations} == {"Checks on Guest Segment Registers"}
    assert all("guest_gs_access_rights" in violation.fields for violation in prediction.violations)
    assert not prediction.enters
    assert not prediction.not_modelled


@pytest.mark.parametrize("name", emulated_names())
def test_the_emulated_cpu_fails_as_predicted_and_the_repaired_state_enters(name: str) -> None:
    with open_executor("bochs", cpu=name) as executor:
        state = executor.known_good()
        unusable = state.replace(guest_gs_access_rights=0x10000)
        outcomes = executor.run([broken(state, "never written"), broken(state, "written as 0"), state, unusable])
    assert list(outcomes)[:2] == [FAILURE, FAILURE]
    assert outcomes.raw_reason[:2].tolist() == [0x8000_0021, 0x8000_0021]
    assert [outcome.kind for outcome in outcomes][2:] == [Kind.EXIT, Kind.EXIT]


def test_the_sentence_says_the_rule_and_the_actual_values() -> None:
    name = "corei7_skylake_x"
    violations = predict(broken(known_good(capabilities(name)), "written as 0"), capabilities(name)).violations
    by_id = {violation.check.id: violation.sentence for violation in violations}
    assert by_id["guest.gs.p"] == (
        "If the guest will not be virtual-8086 and GS is usable, the P bit (bit 7) of the GS access rights must be 1. Here "
        "guest_gs_access_rights = 00000000H (bit 16 (UNUSABLE) is 0, bit 7 (P) is 0); "
        "guest_rflags = 0000000000000002H (bit 17 (VM) is 0)."
    )
    assert by_id["guest.gs.s"] == (
        "If the guest will not be virtual-8086 and GS is usable, the S bit (bit 4) of the GS access rights must be 1. Here "
        "guest_gs_access_rights = 00000000H (bit 16 (UNUSABLE) is 0, bit 4 (S) is 0); "
        "guest_rflags = 0000000000000002H (bit 17 (VM) is 0)."
    )
