"""What generation looks for: conditions that are made when they are asked for."""

from __future__ import annotations

import pytest

from vmfuzz.generate.goals import Goals
from vmfuzz.model.atoms import Atom
from vmfuzz.model.expr import FALSE, TRUE, Cond
from vmfuzz.model.predict import model_of
from vmfuzz.model.small_errors import errors_of
from vmfuzz.state.profiles import capabilities

MODEL = model_of(capabilities("corei7_skylake_x"))
CONDITION = MODEL.compiled[0].violated


def test_a_goal_is_possible_where_its_condition_is_not_plainly_false() -> None:
    assert all(goal.possible == (goal.condition is not FALSE) for goal in Goals(MODEL).all)
    shown = [(error.can_show, error.goal() is not FALSE) for error in errors_of(MODEL)]
    assert all(said == found for said, found in shown)
    assert {found for _, found in shown} == {True, False}


@pytest.mark.parametrize("violated", [CONDITION, TRUE, FALSE])
@pytest.mark.parametrize("flipped", [~CONDITION, TRUE, FALSE])
def test_an_atom_can_decide_where_its_goal_is_not_plainly_false(violated: Cond, flipped: Cond) -> None:
    atom = Atom(0, CONDITION, violated, flipped)
    assert all(atom.can_decide(way) == (atom.goal(way) is not FALSE) for way in (False, True))
