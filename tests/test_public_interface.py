"""The stable Python interface."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import vmfuzz
from vmfuzz import Kind, Outcome, Outcomes, VmcsBatch

NAME = "corei7_skylake_x"


def test_all_is_sorted_complete_and_importable() -> None:
    assert vmfuzz.__all__ == sorted(vmfuzz.__all__, key=lambda name: (not name[0].isupper(), name))
    assert set(vmfuzz.__all__) >= {
        "Capabilities",
        "Kind",
        "Outcome",
        "Prediction",
        "Vmcs",
        "VmcsBatch",
        "capabilities",
        "known_good",
        "open_executor",
        "predict",
    }
    assert all(hasattr(vmfuzz, name) for name in vmfuzz.__all__)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (vmfuzz.capabilities, ["model_name"]),
        (vmfuzz.known_good, ["capabilities"]),
        (vmfuzz.predict, ["vmcs", "capabilities"]),
        (vmfuzz.open_executor, ["name", "cpu", "options"]),
    ],
    ids=["capabilities", "known_good", "predict", "open_executor"],
)
def test_functions_keep_their_parameters(function: object, parameters: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == parameters  # type: ignore[arg-type]


def test_a_prediction_has_outcomes_and_violations_with_check_sentence_and_fields() -> None:
    caps = vmfuzz.capabilities(NAME)
    state = vmfuzz.known_good(caps).replace(guest_gs_access_rights=0)
    prediction = vmfuzz.predict(state, caps)
    assert prediction.outcomes == {Outcome(Kind.ENTRY_FAILURE, 33, 0)}
    violation = next(violation for violation in prediction.violations if violation.check.id == "guest.gs.p")
    assert violation.check.section.title == "Checks on Guest Segment Registers"
    assert violation.sentence.startswith("If the guest will not be virtual-8086 and GS is usable, the P bit")
    assert violation.fields == ("guest_gs_access_rights", "guest_rflags")


def test_an_outcome_has_kind_number_and_qualification() -> None:
    outcome = Outcome(Kind.ENTRY_FAILURE, 33, 0)
    assert (outcome.kind, outcome.number, outcome.qualification) == (Kind.ENTRY_FAILURE, 33, 0)
    assert outcome == Outcome(Kind.ENTRY_FAILURE, 33, 0)
    assert len({outcome, Outcome(Kind.ENTRY_FAILURE, 33, 0)}) == 1
    with pytest.raises(AttributeError):
        outcome.number = 34  # type: ignore[misc]


def test_an_executor_runs_batches_and_lists_in_a_with_statement() -> None:
    with vmfuzz.open_executor("bochs", cpu=NAME) as executor:
        good = executor.known_good()
        assert executor.capabilities() == vmfuzz.capabilities(NAME)
        listed = executor.run([good, good.replace(cr3_target_count=5)])
        batch = executor.run(VmcsBatch(good, {"cr3_target_count": np.array([good["cr3_target_count"], 5], np.uint64)}))
    assert isinstance(listed, Outcomes)
    assert list(listed) == list(batch)
    assert [outcome.kind for outcome in listed] == [Kind.EXIT, Kind.VMFAIL_VALID]
    assert listed[1] == Outcome(Kind.VMFAIL_VALID, 7)


def test_the_version_is_that_of_the_package() -> None:
    assert vmfuzz.__version__.count(".") == 2
