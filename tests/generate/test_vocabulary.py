"""The vocabulary of edits: one declaration for columns and for single draws."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmfuzz.generate.families import Generator
from vmfuzz.generate.vocabulary import (
    EDGE,
    EDIT,
    FLIP,
    NEAR,
    WEIGHTS,
    address_edges,
    changed,
    changes_by_way,
    edited,
    flipped,
    moved,
    written,
)
from vmfuzz.model.operands import operand_width
from vmfuzz.model.predict import model_of
from vmfuzz.state.profiles import capabilities, known_good

MASK64 = (1 << 64) - 1
words = st.integers(0, MASK64)


@cache
def generator() -> Generator:
    caps = capabilities("corei7_skylake_x")
    return Generator(model_of(caps), known_good(caps))


@given(words, st.tuples(words, words, words, words), st.sampled_from([1, 8, 16, 32, 64]))
def test_a_change_is_the_same_for_an_integer_and_for_a_column(value: int, change: tuple[int, int, int, int], width: int) -> None:
    full = (1 << width) - 1
    column = changed(np.array([value & full], np.uint64), np.array(change, np.uint64), np.uint64(full))
    assert column.tolist() == [changed(value & full, change, full)]


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (edited((0xF0, 0x05)), 0x75),
        (flipped(0x81), 0xF9),
        (moved(-1), 0x77),
        (moved(0x90), 0x08),
        (written(0x1FF), 0xFF),
    ],
)
def test_changes_do_what_they_are_called(change: tuple[int, int, int, int], after: int) -> None:
    assert changed(0x78, change, 0xFF) == after


def test_ways_that_can_be_listed_are_complete_and_weights_are_shares_of_a_hundred() -> None:
    ways = changes_by_way(16, [(0, 7)], address_edges(39))
    assert set(ways) == {EDIT, FLIP, NEAR, EDGE} <= {way for way, _ in WEIGHTS}
    assert sum(weight for _, weight in WEIGHTS) == 100
    assert {changed(0x1234, change, 0xFFFF) for change in ways[FLIP]} == {0x1234 ^ 1 << bit for bit in range(16)}
    assert [changed(0x1234, change, 0xFFFF) for change in ways[EDIT]] == [7]


@pytest.mark.parametrize("name", ["guest_cr4", "cr3_target_count", "guest_gs_selector", "memory_vtpr"])
def test_a_column_has_every_listed_change_of_its_operand(name: str) -> None:
    full, here = (1 << operand_width(name)) - 1, 0x12
    changes, ways = generator().changes, generator().ways(name)
    number, values, copies = np.full(60_000, changes.number[name]), np.full(60_000, here, np.uint64), np.zeros(60_000, np.uint64)
    drawn = set(changes.mutate(np.random.default_rng(1), number, values, copies).tolist())
    assert {changed(here, change, full) for changes in ways.values() for change in changes} <= drawn
