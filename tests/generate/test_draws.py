"""Drawing from a strategy outside of a test."""

from __future__ import annotations

from hypothesis import strategies as st

from vmfuzz.generate.draws import draw

NUMBERS = st.integers(0, 1 << 60)


def test_the_same_seed_draws_the_same_examples() -> None:
    assert draw(NUMBERS, 1, 50) == draw(NUMBERS, 1, 50)


def test_another_seed_draws_other_examples() -> None:
    assert draw(NUMBERS, 1, 50) != draw(NUMBERS, 2, 50)


def test_as_many_examples_are_drawn_as_asked_for() -> None:
    assert [len(draw(NUMBERS, 1, count)) for count in (1, 2, 64)] == [1, 2, 64]


def test_a_strategy_with_few_examples_gives_those() -> None:
    assert set(draw(st.sampled_from("ab"), 1, 10)) == {"a", "b"}
