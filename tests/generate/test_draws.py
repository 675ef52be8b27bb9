"""Drawing from a strategy outside of a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


_DRAW = """
import sys
sys.path[:0] = sys.argv[1:]
if sys.argv[1:]:
    import of_a_person
from hypothesis import strategies as st
from vmfuzz.generate.draws import draw
print(draw(st.binary(min_size=8, max_size=8), 1, 400), draw(st.integers(0, 1 << 60), 1, 400))
"""


def test_a_seed_means_the_same_whatever_else_is_loaded(tmp_path: Path) -> None:
    """Hypothesis by itself draws constants of local modules, such as a person's own."""
    own = tmp_path / "own"
    own.mkdir()
    (own / "of_a_person.py").write_text("NUMBER = 0x123456789\nTEXT = b'12345678'\n", encoding="utf-8")
    drawn = [
        subprocess.run([sys.executable, "-c", _DRAW, *paths], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for paths in ([], [str(own)])
    ]
    assert drawn[0] == drawn[1]
    assert str(0x123456789) not in drawn[0]


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", _DRAW], cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert not list(tmp_path.iterdir())
