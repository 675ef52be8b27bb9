"""Finding states that reach goals: where to start, a search from there, and of what is found that on which model and executor should agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.generate.families import Generator
from vmfuzz.generate.goals import Goal
from vmfuzz.generate.reach import Patch, patched
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

#: Searches for one goal; how many where nothing is near an atom's goal; how many may succeed.
_TRIES: Final = 4
_FAR_TRIES: Final = 1
_WAYS: Final = 2

#: The name of a base and a change of it.
Way = tuple[str, Patch]
#: Says of each row of a batch whether model and executor are expected to agree: bool (n,).
Undisputed = Callable[[VmcsBatch], npt.NDArray[np.bool_]]


class Search:
    """Searches on one processor."""

    def __init__(self, generator: Generator, undisputed: Undisputed) -> None:
        self._generator = generator
        self._undisputed = undisputed

    def ways(self, goals: Sequence[Goal], rng: np.random.Generator, far: bool = True) -> list[tuple[Goal, Way]]:
        """A way to each of the goals to which one is found that leads to where model and executor should agree: elsewhere it would not count.

        `far`: search for an atom's goal although nothing is near it.
        """
        starts = [(goal, start) for goal in goals for start in self._starts(goal, rng, far)]
        found: list[tuple[Goal, Way]] = []
        tries, successes = Counter[int](), Counter[int]()
        for index in np.argsort(~self._agree(starts), kind="stable"):
            goal, (base, start) = starts[index]
            if tries[goal.number] < _TRIES and successes[goal.number] < _WAYS:
                tries[goal.number] += 1
                patch = self._generator.reach.patch(self._state(base), goal.condition, goal.check, rng, start)
                if patch is not None:
                    successes[goal.number] += 1
                    found.append((goal, (base, patch)))
        agree = self._agree(found)
        return list({way[0].number: way for way, counts in zip(found, agree, strict=True) if counts}.values())

    def _agree(self, ways: Sequence[tuple[Goal, Way]]) -> npt.NDArray[np.bool_]:
        """Whether model and executor should agree on the state that each way leads to."""
        states = [patched(self._state(base), patch) for _, (base, patch) in ways]
        return self._undisputed(VmcsBatch.of(states, self._generator.bases.captured)) if states else np.zeros(0, np.bool_)

    def _starts(self, goal: Goal, rng: np.random.Generator, far: bool) -> list[Way]:
        """Where to start: near an atom's goal, or else in bases in which the check applies or nearly does."""
        generator, tries = self._generator, _TRIES
        if not generator.goals.is_error(goal.number):
            near = generator.nearby.patches(goal, generator.targets[goal.check], rng)
            if near or not far:
                return near
            tries = _FAR_TRIES
        names = generator.bases.samples()
        found = [generator.some_base(goal.check, rng, nearly=bool(turn % 2)) for turn in range(tries)]
        bases = [names[int(rng.integers(len(names))) if base is None else base] for base in found]
        return [(base, {}) for base in bases if generator.bases.get(base) is not None]

    def _state(self, base: str) -> Vmcs:
        state = self._generator.bases.get(base)
        assert state is not None
        return state
