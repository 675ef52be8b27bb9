"""Which families a campaign runs: checks where they nearly apply, and states searched for goals."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from vmfuzz.campaign.coverage import Coverage
from vmfuzz.generate.families import Generator
from vmfuzz.generate.reach import patched
from vmfuzz.generate.schedule import Schedule
from vmfuzz.model.evaluate import evaluate
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good


@cache
def generator() -> Generator:
    caps = capabilities("corei7_skylake_x")
    return Generator(model_of(caps), known_good(caps))


def anything(batch: VmcsBatch) -> npt.NDArray[np.bool_]:
    """No executor: nothing is disputed."""
    return np.ones(len(batch), np.bool_)


def index(id: str) -> int:
    return next(number for number, compiled in enumerate(generator().model.compiled) if compiled.check.id == id)


def failing_parts(target: int, base: int) -> list[int]:
    """Which parts of the check's condition do not hold in a base."""
    made = generator()
    state = made.bases.get(made.bases.samples()[base])
    assert state is not None
    values = OperandValues(VmcsBatch(state, {}, count=1))
    return [number for number, gate in enumerate(made.targets[target].gates) if not evaluate(gate, values, {})]


def test_each_part_of_a_condition_has_its_turn() -> None:
    target = index("guest.gs.dpl")
    lacked = []
    for turn in range(len(generator().targets[target].gates)):
        parts = {tuple(failing_parts(target, int(base))) for base in np.flatnonzero(generator().lacking(target, turn))}
        assert len(parts) == 1
        assert len(next(iter(parts))) == 1
        lacked += parts
    assert len(set(lacked)) >= 3


def test_what_was_searched_for_is_in_the_family_as_its_first_row() -> None:
    made = generator()
    goals = Coverage(made.model).unseen_goals()
    found = 0
    for plan in Schedule(made, 3, anything).chunk(1, goals):
        start, family = 0, None
        for block in plan.blocks:
            if block.patch and not any(name.startswith("memory_") for name in block.patch):
                family = family or made.expand(plan)
                row, wanted = family.row(start), patched(made.base_of(plan), block.patch)
                assert (row.differences(wanted), row.memory) == ({}, wanted.memory)
                found += 1
            start += block.rows
    assert found > 20


def test_goals_that_were_reached_are_not_searched_for() -> None:
    made = generator()
    goals = Coverage(made.model).unseen_goals()
    few = [goal for goal in goals if goal.check == index("guest.gs.dpl")]
    targets = {block.target for plan in Schedule(made, 3, anything).chunk(1, few) for block in plan.blocks if block.sought}
    assert targets == {index("guest.gs.dpl")}
