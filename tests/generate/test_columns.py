"""Mutation of operands as columns."""

from __future__ import annotations

import numpy as np
import pytest

from vmfuzz.generate.columns import Changes, chosen_operands
from vmfuzz.generate.vocabulary import changes_by_way

EDGES = (31, 32, 38, 39, 47, 48, 63)


def column(
    seed: int = 1, count: int = 2000, base: int = 0x1234, width: int = 64, edits: tuple[tuple[int, int], ...] = ((0, 7),)
) -> np.ndarray:
    """Values of the second of two operands."""
    changes = Changes(
        {"other": 16, "this": width}, {"other": changes_by_way(16, ((0, 3),), EDGES), "this": changes_by_way(width, edits, EDGES)}
    )
    values, copies = (np.full(count, value, np.uint64) for value in (base, 0x5555))
    return changes.mutate(np.random.default_rng(seed), np.full(count, changes.number["this"]), values, copies)


@pytest.mark.parametrize("width", [1, 8, 16, 32, 64])
def test_values_have_the_operands_width(width: int) -> None:
    full = (1 << width) - 1
    values = column(base=0x12 & full, width=width, edits=((0, 1),))
    assert values.dtype == np.uint64
    assert values.shape == (2000,)
    assert int(values.max()) <= full
    assert len(np.unique(values)) > min(width, 16) // 2


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_column_has_as_many_values_as_asked_for(count: int) -> None:
    assert column(count=count).shape == (count,)


def test_the_same_seed_gives_the_same_column_and_another_seed_another() -> None:
    np.testing.assert_array_equal(column(seed=3), column(seed=3))
    assert (column(seed=3) != column(seed=4)).any()


def test_boundary_edits_and_values_of_other_fields_are_among_the_values() -> None:
    values = set(column(count=8000).tolist())
    assert {7, 0x5555} <= values
    assert {0x1234 ^ 1 << bit for bit in range(64)} <= values


def test_two_bits_are_flipped_and_random_values_written_too() -> None:
    flipped = np.bitwise_count(column(count=8000) ^ np.uint64(0x1234))
    assert 200 < (flipped == 2).sum() < 2000
    assert 200 < (flipped > 20).sum() < 2000


def test_the_edges_of_addresses_are_crossed() -> None:
    values = column(base=0x1000)
    assert {int(bit) for bit in EDGES if (values & np.uint64(1 << bit)).any()} == set(EDGES)


def test_a_field_without_edits_varies_all_the_same() -> None:
    assert len(np.unique(column(edits=()))) > 64


@pytest.mark.parametrize("operands", [1, 2, 5, 10])
def test_every_row_changes_at_least_one_operand(operands: int) -> None:
    row, operand = chosen_operands(np.random.default_rng(1), np.full(4000, operands))
    active = np.zeros((4000, operands), np.bool_)
    active[row, operand] = True
    changed = active.sum(axis=1)
    assert changed.min() >= 1
    assert active.any(axis=0).all()
    assert (changed == 1).mean() > 0.4
    assert (changed == operands).any()


def test_rows_that_have_other_numbers_of_operands_change_only_those() -> None:
    operands = np.array([1, 0, 3, 8] * 500)
    row, operand = chosen_operands(np.random.default_rng(1), operands)
    assert (operand < operands[row]).all()
    assert set(row) == set(np.flatnonzero(operands))
    assert {int(operand[row % 4 == 3].max()), int(operand[row % 4 == 2].max())} == {7, 2}
