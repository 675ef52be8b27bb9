"""Drawing from a Hypothesis strategy outside of a test: a list of examples, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis.internal.conjecture import providers
from hypothesis.strategies import SearchStrategy

_Example = TypeVar("_Example")
#: What of Hypothesis gives constants of sources, and what keeps those that a draw may give.
_COLLECTED: Final = "_get_local_constants"
_KEPT: Final = "CONSTANTS_CACHE"
_MOST_KEPT: Final = 1024


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

    with _without_constants_of_sources():
        collect()
    return examples[:count]


@contextmanager
def _without_constants_of_sources() -> Iterator[None]:
    """Keep Hypothesis from drawing constants of the sources of local modules, as it does now and then.

    Which modules are local hangs on how vmfuzz is installed and on what else is loaded, and their constants on each change of vmfuzz: without them a
    seed gives the same examples everywhere. Hypothesis has no setting for it, so this puts other objects in the place of its own; a version that
    has none of them collects no constants.
    """
    if not (hasattr(providers, _COLLECTED) and hasattr(providers, _KEPT)):
        yield
        return
    before = {name: getattr(providers, name) for name in (_COLLECTED, _KEPT)}
    none, kept = type(providers.GLOBAL_CONSTANTS)(), type(before[_KEPT])(_MOST_KEPT)
    try:
        setattr(providers, _COLLECTED, lambda: none)
        setattr(providers, _KEPT, kept)
        yield
    finally:
        for name, own in before.items():
            setattr(providers, name, own)
