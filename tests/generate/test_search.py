"""Searching for states that reach goals and on which model and executor should agree."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from vmfuzz.generate.families import Generator
from vmfuzz.generate.reach import patched
from vmfuzz.generate.search import Search
from vmfuzz.model.evaluate import evaluate
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good


@cache
def generator() -> Generator:
    caps = capabilities("corei7_skylake_x")
    return Generator(model_of(caps), known_good(caps))


def long_mode(batch: VmcsBatch) -> npt.NDArray[np.bool_]:
    """As if model and executor agreed on IA-32e mode guests only."""
    controls = OperandValues(batch)("vm_entry_controls")
    return np.broadcast_to(np.asarray(controls, np.uint64) >> np.uint64(9) & np.uint64(1) != 0, len(batch)).copy()


def test_ways_reach_their_goals_and_lead_to_where_executor_and_model_agree() -> None:
    made = generator()
    goals = made.goals.all[1 : 2 * len(made.goals.atoms) : 17]
    ways = Search(made, long_mode).ways(goals, np.random.default_rng(4))
    assert len(ways) > len(goals) // 4
    assert len({goal.number for goal, _ in ways}) == len(ways)
    for goal, (base, patch) in ways:
        state = made.bases.get(base)
        assert state is not None
        batch = VmcsBatch(patched(state, patch), {}, count=1)
        assert evaluate(goal.condition, OperandValues(batch), {})
        assert long_mode(batch).all()
        step = made.model.compiled[goal.check].step
        others = [each.check.id for each in made.model.predict_batch(batch).violations_of(0) if each.step[0] <= step[0]]
        assert set(others) <= {made.model.compiled[goal.check].check.id}


def test_nothing_is_found_where_nothing_is_agreed_on_and_for_no_goals() -> None:
    made = generator()
    nothing = Search(made, lambda batch: np.zeros(len(batch), np.bool_))
    assert nothing.ways(made.goals.all[1:99:7], np.random.default_rng(4)) == []
    assert Search(made, long_mode).ways([], np.random.default_rng(4)) == []
