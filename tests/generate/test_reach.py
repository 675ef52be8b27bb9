"""Searching for a state in which a check alone is violated, or an atom of it decides."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from vmfuzz.generate.families import Generator
from vmfuzz.generate.reach import patched
from vmfuzz.model.atoms import Atom, atoms_of
from vmfuzz.model.evaluate import evaluate
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs


@cache
def generator() -> Generator:
    caps = capabilities("corei7_skylake_x")
    return Generator(model_of(caps), known_good(caps))


def atoms(check: str) -> list[Atom]:
    model = generator().model
    return [atom for atom in atoms_of(model) if model.compiled[atom.check].check.id == check]


def holds(state: Vmcs, atom: Atom, violated: bool) -> bool:
    return bool(evaluate(atom.goal(violated), OperandValues(VmcsBatch(state, {}, count=1)), {}))


@pytest.mark.parametrize("check", ["guest.gs.s", "guest.cs.g.low", "ctl.nmi.virtual", "guest.pdbg.bs.must1", "msrload.reserved.2"])
def test_a_state_is_found_in_which_an_atom_decides_and_no_other_check_is_violated(check: str) -> None:
    made, rng = generator(), np.random.default_rng(3)
    found = 0
    for atom in atoms(check):
        for name in made.bases.samples():
            state = made.bases.get(name)
            patch = made.reach.patch(state, atom.goal(True), atom.check, rng) if state is not None else None
            if patch is None:
                continue
            changed = patched(state, patch)
            assert holds(changed, atom, True)
            prediction = made.model.predict_batch(VmcsBatch(changed, {}, count=1))
            step = made.model.compiled[atom.check].step
            assert [c.check.id for c in prediction.violations_of(0) if c.step[0] <= step[0]] == [check]
            found += 1
            break
    assert found


def test_what_cannot_be_changed_is_left_alone() -> None:
    made = generator()
    atom = atoms("guest.gs.s")[0]
    state = made.bases.captured
    found = made.reach.patch(state, atom.goal(True), atom.check, np.random.default_rng(1))
    assert found
    assert all(made.can_vary(name) for name in found)
