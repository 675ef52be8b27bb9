"""What tests of a VM entry assert with: what passes, what a failure says, and what is no outcome."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmfuzz import Kind, Outcome, capabilities, known_good
from vmfuzz.arch.outcomes import ANY_EXIT
from vmfuzz.errors import UsageError
from vmfuzz.strategies import base
from vmfuzz.testing import NotAllowed, assert_allowed

CAPS = capabilities("corei7_skylake_x")
GOOD = known_good(CAPS)
RFLAGS = GOOD.replace(guest_rflags=0)
ENTERED = {"outcome": "entered"}
FAILURE = {"outcome": "entry_failure", "exit_reason": 33, "qualification": 0}


@pytest.mark.parametrize(
    "outcome",
    [FAILURE, {**FAILURE, "message": "RFLAGS"}, Outcome(Kind.ENTRY_FAILURE, 33, 0), Outcome(Kind.ENTRY_FAILURE, 33)],
)
def test_what_the_manual_allows_passes_as_an_outcome_and_as_an_answer(outcome: Any) -> None:
    assert_allowed(outcome, RFLAGS, CAPS)
    with pytest.raises(NotAllowed):
        assert_allowed(outcome, GOOD, CAPS)


@pytest.mark.parametrize("outcome", [ENTERED, {**ENTERED, "exit_reason": 52}, Outcome(Kind.EXIT, 52), Outcome(Kind.EXIT, ANY_EXIT)])
def test_an_entry_passes_and_its_exit_only_if_it_is_the_right_one(outcome: Any) -> None:
    assert_allowed(outcome, GOOD, CAPS)
    with pytest.raises(NotAllowed, match="the outcome was entered, exit 12"):
        assert_allowed({**ENTERED, "exit_reason": 12}, GOOD, CAPS)


def test_a_link_pointer_may_fail_with_its_qualification_or_with_one_left_open_but_not_with_another() -> None:
    state = GOOD.replace(vmcs_link_pointer=1)
    assert_allowed(Outcome(Kind.ENTRY_FAILURE, 33, 4), state, CAPS)
    assert_allowed(Outcome(Kind.ENTRY_FAILURE, 33), state, CAPS)
    with pytest.raises(NotAllowed):
        assert_allowed(Outcome(Kind.ENTRY_FAILURE, 33, 0), state, CAPS)


def test_a_failure_is_explained_with_base_difference_edge_and_the_manuals_requirement() -> None:
    start = base("pae/plain/nothing", CAPS)
    with pytest.raises(NotAllowed) as error:
        assert_allowed({**ENTERED, "exit_reason": 52}, start.replace(guest_rflags=0), CAPS)
    assert str(error.value) == "\n".join(
        [
            "the manual allows entry failure 33 q0",
            "the outcome was entered, exit 52",
            "",
            "base pae/plain/nothing of corei7_skylake_x",
            "             base          this VMCS    nearest allowed  and does",
            "guest_rflags",
            "0000000000000002H  0000000000000000H  0000000000000002H  entered, exit 52",
            "",
            'guest.rflags.reserved.one (SDM Vol. 3C, "Checks on Guest RIP, RFLAGS, and SSP" (29.3.1.4 in the June 2026 edition, '
            "26.3.1.4 in 2016))",
            "  Bit 1 of guest RFLAGS must be 1. Here guest_rflags = 0000000000000000H (bit 1 (RESERVED_1) is 0).",
        ]
    )


def test_a_refusal_of_what_enters_says_the_processors_own_word_and_memory_by_name() -> None:
    start = base("64-bit/tpr-shadow/nothing", CAPS)
    state = start.with_memory({start["virtual_apic_address"] + 0x80: 0x30})
    with pytest.raises(NotAllowed) as error:
        assert_allowed({"outcome": "vmfail_valid", "error": 7, "message": "TPR"}, state, CAPS)
    assert "the manual allows entered, exit 52\nthe outcome was VMfailValid(7)\nit says: TPR\n" in str(error.value)
    assert "memory_vtpr\n" in str(error.value)
    with pytest.raises(NotAllowed, match="nothing differs from the base"):
        assert_allowed({"outcome": "vmfail_valid", "error": 7}, GOOD, CAPS)


def test_a_crash_is_not_allowed() -> None:
    with pytest.raises(NotAllowed, match="the outcome was executor crashed"):
        assert_allowed(Outcome(Kind.EXECUTOR_CRASHED), GOOD, CAPS)


def test_a_deviation_that_is_known_of_the_executor_or_told_in_a_file_is_allowed(tmp_path: Path) -> None:
    pending = GOOD.replace(guest_pending_debug_exceptions=1 << 32)
    with pytest.raises(NotAllowed):
        assert_allowed(ENTERED, pending, CAPS)
    assert_allowed(ENTERED, pending, CAPS, executor="bochs corei7_skylake_x")
    known = tmp_path / "known.json"
    case = {"base": "64-bit/plain/nothing", "mutation": {"guest_rflags": "0x0"}, "actual": "entered"}
    erratum = {"id": "mine", "executor": "program mine", "text": "RFLAGS bit 1", "cases": [case]}
    known.write_text(json.dumps({"schema": "vmfuzz-errata-1", "errata": [erratum]}), encoding="utf-8")
    assert_allowed(ENTERED, RFLAGS, CAPS, executor="program mine", errata=known)
    with pytest.raises(NotAllowed):
        assert_allowed(ENTERED, RFLAGS, CAPS, executor="program other", errata=known)
    with pytest.raises(UsageError, match="missing"):
        assert_allowed(ENTERED, RFLAGS, CAPS, errata=tmp_path / "missing.json")


def test_what_was_not_tried_is_no_example_in_hypothesis_and_an_error_elsewhere() -> None:
    tried = []

    @settings(max_examples=20)
    @given(st.booleans())
    def test(refuses: bool) -> None:
        assert_allowed({"outcome": "refused"} if refuses else ENTERED, GOOD, CAPS)
        tried.append(refuses)

    test()
    assert set(tried) == {False}
    with pytest.raises(UsageError, match="the VM entry was not tried"):
        assert_allowed(Outcome(Kind.REFUSED), GOOD, CAPS)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ({"outcome": "enterd"}, "expected one of entered"),
        ({"outcome": "vmfail_valid"}, 'needs "error"'),
        ({"outcome": "vmfail_valid", "error": {7}}, "not JSON serializable"),
        ("entered", "expected a vmfuzz.Outcome, or an answer such as"),
    ],
)
def test_what_is_no_outcome_is_said(outcome: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        assert_allowed(outcome, GOOD, CAPS)
