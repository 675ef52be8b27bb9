"""Drawing from a strategy outside of a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
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


_DRAW = (
    "from hypothesis import strategies as st; from vmfuzz.generate.draws import draw; print(draw(st.binary(min_size=8, max_size=8), 1, 40))"
)


@pytest.mark.parametrize("cache", ["made", "broken", "not to be made"])
def test_what_is_kept_on_disk_lies_in_the_cache_and_changes_nothing(tmp_path: Path, cache: str) -> None:
    here, home = tmp_path / "here", tmp_path / "cache"
    here.mkdir()
    if cache == "not to be made":
        home.write_text("a file", encoding="utf-8")
    drawn = set()
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", _DRAW], cwd=here, env={"XDG_CACHE_HOME": str(home)}, capture_output=True, text=True, check=True
        )
        drawn.add(done.stdout)
        if cache == "broken":
            for file in home.rglob("*"):
                if file.is_file():
                    file.write_bytes(b"\0(")
    assert len(drawn) == 1
    assert not list(here.iterdir())
    assert home.is_file() or list(home.rglob("*"))
