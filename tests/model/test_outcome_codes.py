"""Outcomes as bits of a mask."""

from __future__ import annotations

import pytest

from vmfuzz.arch.outcomes import ANY_EXIT, Kind, Outcome, Outcomes
from vmfuzz.model.check import Fails
from vmfuzz.model.outcome_codes import ENTERED, OUTCOME_OF_BIT, PREDICTED_EXITS, UNEXPECTED_BIT, bits_of, mask_of, outcomes_of


def batch(*outcomes: Outcome) -> Outcomes:
    columns = Outcomes.empty(len(outcomes))
    for row, outcome in enumerate(outcomes):
        columns.kind[row] = outcome.kind
        columns.number[row] = outcome.number
        columns.qualification[row] = outcome.qualification or 0
    return columns


def test_each_bit_stands_for_one_outcome_below_the_unexpected() -> None:
    assert len(set(OUTCOME_OF_BIT)) == len(OUTCOME_OF_BIT) <= UNEXPECTED_BIT


@pytest.mark.parametrize(("bit", "outcome"), list(enumerate(OUTCOME_OF_BIT)), ids=str)
def test_an_outcome_that_happened_has_the_bit_of_its_prediction(bit: int, outcome: Outcome) -> None:
    assert bits_of(batch(outcome)).tolist() == [bit]
    if outcome.number != ANY_EXIT:
        assert mask_of((outcome,)) == 1 << bit
        assert outcomes_of(1 << bit) == {outcome}


@pytest.mark.parametrize("fails", Fails, ids=lambda fails: fails.name)
def test_the_outcomes_of_a_violation_survive_the_mask(fails: Fails) -> None:
    assert outcomes_of(mask_of(fails.outcomes)) == set(fails.outcomes)
    assert not mask_of(fails.outcomes) & ENTERED


def test_any_exit_stands_for_every_exit() -> None:
    assert mask_of((Outcome(Kind.EXIT, ANY_EXIT),)) == ENTERED
    assert outcomes_of(ENTERED) == {Outcome(Kind.EXIT, ANY_EXIT)}
    assert outcomes_of(ENTERED | 1) == {Outcome(Kind.EXIT, ANY_EXIT), OUTCOME_OF_BIT[0]}
    assert all(mask_of((Outcome(Kind.EXIT, reason),)) & ENTERED for reason in PREDICTED_EXITS)


@pytest.mark.parametrize("number", [1, 10, 200, 255, 256, 0xFFFF])
def test_an_exit_without_a_name_of_its_own_counts_as_some_exit(number: int) -> None:
    (bit,) = bits_of(batch(Outcome(Kind.EXIT, number))).tolist()
    assert OUTCOME_OF_BIT[bit] == Outcome(Kind.EXIT, ANY_EXIT)


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(Kind.VMFAIL_VALID, 12),
        Outcome(Kind.VMFAIL_VALID, 0),
        Outcome(Kind.VMFAIL_VALID, 1000),
        Outcome(Kind.ENTRY_FAILURE, 33, 1),
        Outcome(Kind.ENTRY_FAILURE, 34, 0),
        Outcome(Kind.ENTRY_FAILURE, 41, 0),
        Outcome(Kind.VMWRITE_FAILED, 12),
        Outcome(Kind.NOT_RUN),
        Outcome(Kind.REFUSED),
        Outcome(Kind.EXECUTOR_CRASHED),
    ],
    ids=str,
)
def test_what_no_prediction_contains_is_unexpected(outcome: Outcome) -> None:
    assert bits_of(batch(outcome)).tolist() == [UNEXPECTED_BIT]
