"""Looking for goals one or two boundary values away from any base."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from vmfuzz.generate.families import Generator
from vmfuzz.generate.goals import Goal
from vmfuzz.generate.nearby import Nearby
from vmfuzz.generate.reach import patched
from vmfuzz.model.evaluate import evaluate
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good


@cache
def generator() -> Generator:
    caps = capabilities("corei7_skylake_x")
    return Generator(model_of(caps), known_good(caps))


def goal(check: str, atom: str, violated: bool) -> Goal:
    goals = generator().goals
    row = next(
        row for row, each in enumerate(goals.atoms) if generator().model.compiled[each.check].check.id == check and atom in str(each)
    )
    return goals.all[2 * row + violated]


def holds(base: str, patch: dict[str, int], wanted: Goal) -> bool:
    state = generator().bases.get(base)
    assert state is not None
    return bool(evaluate(wanted.condition, OperandValues(VmcsBatch(patched(state, patch), {}, count=1)), {}))


@pytest.mark.parametrize(
    ("check", "atom", "violated"),
    [
        ("guest.cs.type", "activate secondary controls", True),  # needs a base whose secondary controls are filled in and not activated
        ("guest.cs.type", "guest_cs_access_rights", True),
        ("guest.intr.nmi-movss", "VALID", False),
        ("guest.ss.dpl.zero", "guest_cr0.PE", True),
        ("msrload.reserved.2", "memory_msr_load_2", True),
    ],
)
def test_what_is_found_reaches_the_goal(check: str, atom: str, violated: bool) -> None:
    made, wanted = generator(), goal(check, atom, violated)
    found = made.nearby.patches(wanted, made.targets[wanted.check], np.random.default_rng(1))
    assert found
    assert sum(holds(base, patch, wanted) for base, patch in found) >= len(found) // 2  # transplanted values may not do elsewhere
    assert all(made.can_vary(name) for _, patch in found for name in patch)


def test_every_goal_that_one_boundary_value_reaches_from_some_base_is_found() -> None:
    made, rng = generator(), np.random.default_rng(2)
    checked = 0
    for wanted in made.goals.all[1 : 2 * len(made.goals.atoms) : 101]:
        target = made.targets[wanted.check]
        near = {
            (base, single)
            for base in made.bases.samples()[::29]
            if (state := made.bases.get(base)) is not None
            for single in target.singles
            if not single.operand.startswith("memory_")
            and holds(base, {single.operand: (state.get(single.operand) or 0) & single.edit[0] | single.edit[1]}, wanted)
        }
        if near:
            checked += 1
            assert made.nearby.patches(wanted, target, rng)
    assert checked > 5


def test_what_cannot_be_is_not_found() -> None:
    made = generator()
    wanted = goal("guest.cs.type", "activate secondary controls", True)
    impossible = Goal(wanted.number, wanted.check, possible=True, make=lambda: wanted.condition & ~wanted.condition)
    assert Nearby(made.bases).patches(impossible, made.targets[wanted.check], np.random.default_rng(1)) == []
