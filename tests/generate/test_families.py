"""Families of candidates: from a plan, always the same rows."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from vmfuzz.arch.fields import FIELDS, Area
from vmfuzz.arch.live import LIVE
from vmfuzz.errors import UsageError
from vmfuzz.generate.draws import draw
from vmfuzz.generate.families import FAMILY_SIZE, OWNED, Block, FamilyPlan, Generator
from vmfuzz.generate.parts import MODES
from vmfuzz.generate.reach import patched
from vmfuzz.generate.schedule import Schedule
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import MEMORY_OPERANDS
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good

PLAIN = "64-bit/plain/nothing"
GS = FamilyPlan(PLAIN, 1, 500, ("guest_gs_access_rights", "guest_gs_base"))


@cache
def generator(name: str = "corei7_skylake_x") -> Generator:
    caps = capabilities(name)
    return Generator(model_of(caps), known_good(caps))


@cache
def plans(name: str) -> list[FamilyPlan]:
    made = generator(name)
    return Schedule(made, 5, anything).chunk(0, [])


def anything(batch: VmcsBatch) -> npt.NDArray[np.bool_]:
    """No executor: nothing is disputed."""
    return np.ones(len(batch), np.bool_)


def same(one: VmcsBatch, other: VmcsBatch) -> bool:
    columns = [(one.columns, other.columns), (one.memory_columns, other.memory_columns)]
    return one.base == other.base and all(
        left.keys() == right.keys() and all((left[key] == right[key]).all() for key in left) for left, right in columns
    )


def test_the_same_plan_gives_the_same_rows() -> None:
    assert same(generator().expand(GS), generator().expand(GS))


def test_another_seed_gives_other_rows() -> None:
    assert not same(generator().expand(GS), generator().expand(replace(GS, seed=2)))


def test_a_family_has_the_wanted_size_and_varies_the_plans_operands_only() -> None:
    family = generator().expand(GS)
    assert len(family) == GS.rows
    assert set(family.columns) == set(GS.operands)
    assert len(generator().expand(GS, 10)) == 10


def test_every_row_differs_from_the_base_in_some_rows_in_one_operand() -> None:
    family = generator().expand(GS)
    changed = sum((family.columns[name] != np.uint64(family.base[name])).astype(int) for name in GS.operands)
    assert (changed == 1).any()
    assert (changed == 2).any()


@pytest.mark.parametrize("name", ["corei7_skylake_x", "arrow_lake", "core2_penryn_t9600"])
def test_plans_vary_only_what_can_be_written(name: str) -> None:
    caps, made = capabilities(name), generator(name)
    for plan in plans(name):
        for operand in [*plan.operands, *(name for block in plan.blocks for name in made.targets[block.target].operands)]:
            if operand in FIELDS:
                assert FIELDS[operand].area is not Area.READ_ONLY
                assert caps.has_field(operand)
                assert operand not in OWNED
            else:
                assert operand in MEMORY_OPERANDS or LIVE[operand].settable


@pytest.mark.parametrize("name", ["corei7_skylake_x", "arrow_lake"])
def test_every_plan_can_be_expanded_from_a_base_that_may_enter(name: str) -> None:
    made = generator(name)
    for plan in plans(name):
        family = made.expand(plan, 16)
        assert len(family) == min(plan.rows, 16)
        prediction = made.model.predict_batch(VmcsBatch(made.base_of(plan), {}, count=1))
        assert [compiled.check.id for compiled in prediction.violations_of(0) if compiled.certain] == []


def test_plans_are_the_same_for_the_same_seed() -> None:
    made = generator()
    one, again, other = draw(made.choices(), 5, 20), draw(made.choices(), 5, 20), draw(made.choices(), 6, 20)
    assert one == again
    assert one != other
    goals = made.goals.all[1:80:2]
    assert Schedule(made, 5, anything).chunk(1, goals) == Schedule(made, 5, anything).chunk(1, goals)
    assert Schedule(made, 5, anything).chunk(1, goals) != Schedule(made, 6, anything).chunk(1, goals)


def test_equal_choices_give_different_candidates() -> None:
    made = generator()
    (choice,) = draw(made.choices(), 5, 1)
    assert made.undirected(choice, 0, 10).seed != made.undirected(choice, 1, 10).seed


def test_a_base_that_the_processor_cannot_have_is_refused() -> None:
    old = generator("core2_penryn_t9600")
    missing = next(mode for mode in MODES if mode not in old.bases.modes)
    with pytest.raises(UsageError, match=f"base '{missing}/plain/nothing' does not exist on core2_penryn_t9600"):
        old.expand(replace(GS, base=f"{missing}/plain/nothing"))


def test_edits_come_from_every_check_that_reads_the_operand() -> None:
    edits = generator().edits("guest_activity_state")
    values = {set_bits for keep, set_bits in edits if keep == 0}
    assert {0, 1, 2, 3, 4} <= values


@pytest.mark.parametrize("name", ["corei7_skylake_x", "core2_penryn_t9600"])
def test_the_first_pass_has_every_check_and_no_family_is_too_large(name: str) -> None:
    made = generator(name)
    blocks = [block for plan in plans(name) for block in plan.blocks]
    assert sorted(block.target for block in blocks) == sorted(made.reachable)
    assert max(plan.rows for number in (0, 5) for plan in Schedule(made, 1, anything).chunk(number, [])) <= FAMILY_SIZE
    assert any(not plan.blocks and plan.operands for plan in plans(name))


def test_a_directed_block_has_every_boundary_value_of_its_check_once_before_one_comes_again() -> None:
    made = generator()
    target = next(number for number in made.reachable if made.model.compiled[number].check.id == "guest.gs.type.accessed")
    rows = 2 * len(made.targets[target].singles)
    family = made.expand(FamilyPlan(PLAIN, 1, rows, blocks=(Block(target, rows),)))
    base = made.base_of(GS)
    wanted = {(single.operand, base[single.operand] & single.edit[0] | single.edit[1]) for single in made.targets[target].singles}
    ran = {(name, int(value)) for name, column in family.columns.items() for value in column}
    assert wanted
    assert wanted <= ran


def test_a_patch_holds_in_the_rows_of_its_block_only() -> None:
    made = generator()
    blocks = (Block(made.reachable[0], 8, patch={"guest_dr7": 0x401}), Block(made.reachable[1], 8))
    column = made.expand(FamilyPlan(PLAIN, 1, 16, blocks=blocks)).columns["guest_dr7"]
    assert (column[:8] == 0x401).all()
    assert (column[8:] == made.base_of(GS)["guest_dr7"]).all()


INDEX = "memory_msr_load_1_index"


def entry_2_first() -> tuple[FamilyPlan, dict[str, int]]:
    """A family directed at a rule on entry 1, whose list begins at what is entry 2 of the base."""
    made = generator()
    name = next(
        name for name in made.bases.samples() if "msr" in name and (state := made.bases.get(name)) and state["vm_entry_msr_load_count"] > 1
    )
    base = made.bases.get(name)
    assert base is not None
    patch = {"vm_entry_msr_load_address": base["vm_entry_msr_load_address"] + 16, "vm_entry_msr_load_count": 1, INDEX: 0xC000_0100}
    target = next(number for number, compiled in enumerate(made.model.compiled) if compiled.check.id == "msrload.fsgs.1")
    return FamilyPlan(name, 1, 64, blocks=(Block(target, 64, patch=patch),)), patch


def test_a_memory_operand_is_written_where_the_rows_own_address_leads() -> None:
    plan, patch = entry_2_first()
    base, family = generator().base_of(plan), generator().expand(plan)
    first = family.take(np.array([0]))
    assert OperandValues(first)(INDEX) == 0xC000_0100
    whole = OperandValues(VmcsBatch(patched(base, patch), {}, count=1))
    for name in MEMORY_OPERANDS:
        assert OperandValues(first)(name) == whole(name), name


def test_what_a_block_does_not_vary_stays_as_it_is_in_memory() -> None:
    made = generator()
    plan, _ = entry_2_first()
    base = made.base_of(plan)
    by_id = {compiled.check.id: number for number, compiled in enumerate(made.model.compiled)}
    blocks = (Block(by_id["msrload.fsgs.1"], 32), Block(by_id["ctl.entry.msrload.align"], 32))
    family = made.expand(replace(plan, blocks=blocks))
    for address, column in family.memory_columns.items():
        assert (np.broadcast_to(column, 64)[32:] == np.uint64(base.memory[address])).all()
