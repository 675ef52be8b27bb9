"""Drawing from a Hypothesis strategy outside of a test: a list of examples, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from hypothesis import HealthCheck, Phase, configuration, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis.strategies import SearchStrategy

from vmfuzz.files import cache_directory

_Example = TypeVar("_Example")


def draw(strategy: SearchStrategy[_Example], seed: int, count: int) -> list[_Example]:
    """`count` examples of `strategy` (fewer only if it has fewer), determined by `seed`."""
    examples: list[_Example] = []

    @hypothesis_seed(seed)
    @settings(
        max_examples=count,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: _Example) -> None:
        examples.append(example)

    with _in_the_cache():
        collect()
    return examples[:count]


@contextmanager
def _in_the_cache() -> Iterator[None]:
    """Hypothesis keeps constants of source files in `.hypothesis/` of the current directory: have it keep them in the user's cache.

    It does without where that cannot be made.
    """
    before = getattr(configuration, "__hypothesis_home_directory", None)
    configuration.set_hypothesis_home_dir(cache_directory() / "hypothesis")
    try:
        yield
    finally:
        configuration.set_hypothesis_home_dir(before)
