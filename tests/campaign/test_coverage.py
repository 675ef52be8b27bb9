"""What a campaign has seen: counted only where it was really decided."""

from __future__ import annotations

import numpy as np
import pytest

from vmfuzz.campaign.coverage import Coverage
from vmfuzz.campaign.tally import violations_per_stage
from vmfuzz.comparison.compare import compare
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

CAPS = capabilities("corei7_skylake_x")
GOOD = known_good(CAPS)
MODEL = model_of(CAPS)


def seen(*candidates: Vmcs) -> Coverage:
    coverage = Coverage(MODEL)
    look(coverage, *candidates)
    return coverage


def look(coverage: Coverage, *candidates: Vmcs) -> None:
    batch = VmcsBatch.of(candidates, GOOD)
    comparison = compare(MODEL.predict_batch(batch), ModelExecutor(CAPS, GOOD).run(batch))
    coverage.add(comparison, violations_per_stage(comparison.prediction))


def decided(coverage: Coverage, check: str) -> set[tuple[str, int]]:
    return {
        (str(coverage.atom_list[row]), int(way))
        for row, way in np.argwhere(coverage.atoms)
        if MODEL.compiled[coverage.atom_list[row].check].check.id == check
    }


def test_an_atom_decides_where_the_outcome_hangs_on_it() -> None:
    broken = seen(GOOD.replace(guest_gs_access_rights=GOOD["guest_gs_access_rights"] & ~0x10))
    assert ("guest_gs_access_rights.S = 1", 1) in decided(broken, "guest.gs.s")
    satisfied = seen(GOOD.replace(guest_gs_access_rights=GOOD["guest_gs_access_rights"] & ~0x1))
    assert ("guest_gs_access_rights.S = 1", 1) not in decided(satisfied, "guest.gs.s")


def test_nothing_decides_behind_a_failure_of_an_earlier_stage() -> None:
    hidden = seen(GOOD.replace(guest_gs_access_rights=GOOD["guest_gs_access_rights"] & ~0x10, host_cr4=0))
    assert decided(hidden, "guest.gs.s") == set()


def test_two_violations_of_one_stage_decide_nothing_alone_but_are_a_pair() -> None:
    both = seen(GOOD.replace(guest_gs_access_rights=GOOD["guest_gs_access_rights"] & ~0x10, guest_rflags=0))
    assert decided(both, "guest.gs.s") == set()
    index = {compiled.check.id: number for number, compiled in enumerate(MODEL.compiled)}
    rflags = next(number for id, number in index.items() if id.startswith("guest.rflags") and both.pairs[number, number])
    assert both.pairs[index["guest.gs.s"], rflags]


def test_boundary_values_that_ran_are_known_and_survive_the_store() -> None:
    coverage = seen(GOOD.replace(guest_activity_state=3), GOOD.replace(guest_activity_state=4))
    tried = {(name, edit[1]) for (_, name, edit), flag in zip(coverage.boundary_list, coverage.boundaries, strict=True) if flag}
    assert {("guest_activity_state", 3), ("guest_activity_state", 4)} <= tried
    again = Coverage(MODEL)
    again.restore(coverage.to_json())
    assert again.to_json() == coverage.to_json()
    empty = Coverage(MODEL)
    empty.merge(coverage)
    assert (empty.boundaries == coverage.boundaries).all()


def shown(coverage: Coverage, check: str) -> set[str]:
    return {
        f"{error.kind}: {error.what}"
        for error, flag in zip(coverage.goals.errors, coverage.errors, strict=True)
        if flag and MODEL.compiled[error.check].check.id == check
    }


def test_a_forgotten_part_of_a_condition_would_show_where_only_that_part_does_not_hold() -> None:
    rights = GOOD["guest_gs_access_rights"]
    forgotten = "gate dropped: guest_gs_access_rights.UNUSABLE = 0"
    assert forgotten in shown(seen(GOOD.replace(guest_gs_access_rights=rights & ~0x10 | 1 << 16)), "guest.gs.s")
    assert forgotten not in shown(seen(GOOD.replace(guest_gs_access_rights=rights & ~0x10)), "guest.gs.s")


def test_what_is_left_to_look_for_is_what_was_not_seen() -> None:
    coverage = seen(GOOD.replace(guest_gs_access_rights=GOOD["guest_gs_access_rights"] & ~0x10))
    left = {goal.number for goal in coverage.unseen_goals()}
    found = np.concatenate([coverage.atoms.ravel(), coverage.errors])
    assert found.any()
    assert not left & set(np.flatnonzero(found).tolist())
    assert len(left) + int(found.sum()) <= len(coverage.goals.all)


@pytest.mark.parametrize("how", ["seen", "merged", "restored"])
def test_what_was_seen_stays_seen_when_a_batch_does_not_show_it(how: str) -> None:
    rights = GOOD["guest_gs_access_rights"]
    showing, other = (GOOD.replace(guest_gs_access_rights=value) for value in (rights & ~0x10 | 1 << 16, rights & ~0x10))
    coverage, all_of_it = seen(other), seen(other, showing)
    look(coverage, other)
    if how == "seen":
        look(coverage, showing)
    elif how == "merged":
        coverage.merge(all_of_it)
    else:
        coverage.restore(all_of_it.to_json())
    look(coverage, other)
    assert (coverage.atoms == all_of_it.atoms).all()
    assert (coverage.errors == all_of_it.errors).all()
    assert coverage.errors.sum() > seen(other).errors.sum()
