"""The rows of a directed family: what the parts of a block do, and that blocks do not mix."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from vmfuzz.generate.families import Generator
from vmfuzz.generate.rows import Aim, directed_rows
from vmfuzz.generate.targets import Target
from vmfuzz.model.columns import Columns
from vmfuzz.model.evaluate import evaluate
from vmfuzz.model.predict import model_of
from vmfuzz.state.profiles import capabilities, known_good


@cache
def generator() -> Generator:
    caps = capabilities("corei7_skylake_x")
    return Generator(model_of(caps), known_good(caps))


def aim(id: str, rows: int, first: int = 0) -> Aim:
    made = generator()
    number = next(number for number, compiled in enumerate(made.model.compiled) if compiled.check.id == id)
    target = made.targets[number]
    names = (*target.operands, *target.compiled.violated.reads, *target.compiled.must.reads)
    return Aim(target, rows, first, {name: int(made.bases.captured.get(name) or 0) for name in names}, [0x5555], ())


IDS = ("guest.gs.type.accessed", "ctl.entry.msrload.align", "guest.rip.ident")


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 1024])
def test_each_block_has_its_rows_and_values_of_its_operands_width(rows: int) -> None:
    aims = [aim(id, rows + number) for number, id in enumerate(IDS)]
    for number, values in enumerate(directed_rows(np.random.default_rng(1), aims, generator().changes)):
        assert values.shape == (len(aims[number].target.operands), rows + number)
        start = np.array([[aims[number].current[name]] for name in aims[number].target.operands], np.uint64)
        assert ((values != start).sum(axis=0) <= len(values)).all()
        assert (values != start).any()


def test_single_edits_come_in_turn_and_change_one_operand() -> None:
    (one,) = [aim(IDS[0], 4096)]
    singles = one.parts[0]
    assert singles == len(one.target.singles)
    (values,) = directed_rows(np.random.default_rng(1), [one], generator().changes)
    position, keep, to = one.target.edits
    start = np.array([one.current[name] for name in one.target.operands], np.uint64)
    wanted = {(int(at), int(start[at] & keep[edit] | to[edit])) for edit, at in enumerate(position)}
    ran = set()
    for row in values[:, :singles].T:
        changed = np.flatnonzero(row != start)
        assert len(changed) <= 1
        ran |= {(int(at), int(row[at])) for at in changed}
    assert {(at, value) for at, value in wanted if value != int(start[at])} == ran


def test_the_edits_that_break_the_requirement_are_those_of_the_interpreted_declaration() -> None:
    for id in IDS:
        one = aim(id, 8)
        alone = one.target.edited(one.current, np.arange(len(one.target.singles))[:, None])
        broken = [
            not evaluate(
                one.target.compiled.must, {**one.current, **{name: int(column[row]) for name, column in alone.items()}}.__getitem__, {}
            )
            for row in range(len(one.target.singles))
        ]
        assert np.flatnonzero(broken).tolist() == one.target.breaking(one.current).tolist()


def test_of_the_rest_some_rows_violate_the_check_and_some_do_not() -> None:
    (one,) = [aim(IDS[2], 2048)]
    (values,) = directed_rows(np.random.default_rng(1), [one], generator().changes)
    operands = {**one.current, **dict(zip(one.target.operands, values[:, -one.rest :], strict=True))}
    violated = np.asarray(Columns(operands.__getitem__, one.rest).truth(one.target.compiled.violated), np.bool_)
    assert 0.1 < violated.mean() < 0.9


def test_a_check_that_has_no_boundary_values_gets_mutations_only() -> None:
    made = aim(IDS[0], 16)
    without = Target(made.target.compiled, generator().can_vary)
    without.singles = ()
    one = replace(made, target=without)
    assert one.parts == (0, 0, 16, 0)
    other, this = directed_rows(np.random.default_rng(1), [aim(IDS[2], 16), one], generator().changes)
    assert (other.shape[1], this.shape) == (16, (len(without.operands), 16))
    assert (this != np.array([[made.current[name]] for name in without.operands], np.uint64)).any()
