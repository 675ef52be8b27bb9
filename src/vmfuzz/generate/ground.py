"""What strategies of one processor draw from: the generator of its campaigns, the bases and operands that a person asked for, and drawn states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from itertools import product
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.live import LIVE
from vmfuzz.errors import UnknownNameError, UsageError
from vmfuzz.generate.bases import base_rank
from vmfuzz.generate.events import EVENTS
from vmfuzz.generate.families import Generator, generator_of
from vmfuzz.generate.parts import FEATURES, MODES
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.operands import MEMORY_OPERANDS
from vmfuzz.model.outcome_codes import ENTERED
from vmfuzz.model.predict import BatchPrediction, model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities as stored_capabilities
from vmfuzz.state.profiles import known_good as made_known_good
from vmfuzz.state.profiles import profile_names
from vmfuzz.state.vmcs import Vmcs

#: One name or several; None: all.
Names = str | Sequence[str] | None


class Drawn(Vmcs):
    """A state that was drawn: in Hypothesis' reports it says how it is made."""

    __slots__ = ("_origin",)
    _origin: tuple[Ground, str]

    @classmethod
    def from_base(cls, ground: Ground, name: str, state: Vmcs) -> Drawn:
        """The state, made of the base of that name."""
        drawn = cls.__new__(cls)
        drawn._values, drawn.memory, drawn._hash = state._values, state.memory, None
        drawn._origin = (ground, name)
        return drawn

    @classmethod
    def _made(cls, values: dict[str, int], memory: MappingProxyType[int, int]) -> Vmcs:
        return Vmcs._made(values, memory)

    def __repr__(self) -> str:
        ground, name = self._origin
        start = ground.base(name)
        fields = [f"{key}={value or 0:#x}" for key, (_, value) in start.differences(self).items()]
        words = [f"{at:#x}: {word:#x}" for at, word in self.memory.items() if start.memory.get(at) != word]
        text = f"base({name!r}, {ground.in_words})"
        text += f".replace({', '.join(fields)})" if fields else ""
        return text + (f".with_memory({{{', '.join(words)}}})" if words else "")


class Ground:
    """What the strategies of one processor draw from: the generator of its campaigns, and the parts and operands that a person asked for."""

    def __init__(self, generator: Generator, parts: Sequence[tuple[str, ...]], operands: Sequence[str], in_words: str) -> None:
        self.generator = generator
        self.modes, self.features, self.events = parts
        self.operands = tuple(operands)
        self.in_words = in_words
        #: operands whose values are copied
        self.copied = (*(name for name in FIELDS if generator.can_vary(name)), "live_current_vmcs_pointer")
        self.related = tuple(
            target for target in generator.targets if len(target.operands) > 1 and set(target.operands) <= set(operands) and target.singles
        )
        self._bases_of: dict[int, tuple[list[str], list[str]]] = {}
        self.ways = cache(generator.ways)

    def has(self, name: str) -> bool:
        """Whether the base is one of those asked for, and the processor can have it."""
        mode, features, event = name.split("/")
        return mode in self.modes and features in self.features and event in self.events and self.generator.bases.get(name) is not None

    def base(self, name: str) -> Vmcs:
        """A base that the processor has."""
        state = self.generator.bases.get(name)
        assert state is not None
        return state

    def names(self) -> Iterator[str]:
        """Bases that were asked for, the simplest first."""
        wanted = sorted(("/".join(parts) for parts in product(self.modes, self.features, self.events)), key=base_rank)
        return (name for name in wanted if self.has(name))

    def sampled(self, chosen: npt.NDArray[np.bool_]) -> list[str]:
        """Of the bases that generation samples those at the places that are True and that were asked for, the simplest first."""
        samples = self.generator.bases.samples()
        return sorted((samples[place] for place in np.flatnonzero(chosen) if self.has(samples[place])), key=base_rank)

    def bases_of(self, number: int) -> tuple[list[str], list[str]]:
        """The bases in which check `number` applies, and those in which it nearly does; some base where there are none."""
        if number not in self._bases_of:
            applies = self.sampled(self.generator.applicable[number])
            nearly = self.sampled(self.generator.nearly_applicable[number])
            some = applies or nearly or [next(self.names())]
            self._bases_of[number] = some, nearly or some
        return self._bases_of[number]

    def number_of(self, check_id: str) -> int:
        """The number of a check among those of the processor."""
        if check_id not in BY_ID:
            raise UnknownNameError("check", check_id, BY_ID)
        numbers = [number for number, each in enumerate(self.generator.model.compiled) if each.check.id == check_id]
        if not numbers:
            raise UsageError(f"{check_id} does not exist on {self.generator.model.capabilities.name}: its capabilities rule it out")
        return numbers[0]

    def targets_named(self, wanted: Names) -> list[int]:
        """Numbers of the checks whose ids are, or begin with, one of these names: those that apply in the plain base first."""
        plain = self.generator.applicable[:, 0]
        reachable = sorted(self.generator.reachable, key=lambda number: not plain[number])
        if wanted is None:
            return reachable
        starts = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        ids = {number: self.generator.model.compiled[number].check.id for number in reachable}
        for start in starts:
            if not any(f"{id}.".startswith(f"{start.rstrip('.')}.") for id in BY_ID):
                raise UnknownNameError("check", start, BY_ID)
        found = [number for number, id in ids.items() if any(f"{id}.".startswith(f"{start.rstrip('.')}.") for start in starts)]
        if not found:
            raise UsageError(f"{', '.join(starts)}: no such check exists on {self.generator.model.capabilities.name}")
        return found

    def judged(self, state: Vmcs) -> BatchPrediction:
        """What the manual says of a state."""
        return self.generator.model.predict_batch(VmcsBatch.of([state], self.generator.bases.captured))

    def enters(self, state: Vmcs) -> bool:
        """Whether the state enters, for certain."""
        prediction = self.judged(state)
        return not prediction.not_modelled[0] and int(prediction.allowed[0]) & ~ENTERED == 0

    def violated(self, state: Vmcs, number: int) -> tuple[bool, int]:
        """Whether the state violates check `number`, and how many others up to its stage."""
        prediction, stage = self.judged(state), self.generator.model.compiled[number].step[0]
        ids = [each for each in prediction.violations_of(0) if each.step[0] <= stage]
        own = self.generator.model.compiled[number] in ids
        return own, len(ids) - own


@lru_cache(maxsize=64)
def _made_ground(
    capabilities: Capabilities, parts: tuple[tuple[str, ...] | None, ...], known_good: Vmcs | None, fields: tuple[str, ...] | None
) -> Ground:
    generator = generator_of(model_of(capabilities), known_good or made_known_good(capabilities))
    bases = generator.bases
    all_parts = [wanted or known for wanted, known in zip(parts, (bases.modes, bases.features, bases.events), strict=True)]
    stored = capabilities.name in profile_names() and stored_capabilities(capabilities.name) == capabilities
    in_words = f"capabilities({capabilities.name!r})" if stored else "capabilities"
    operands = list(filter(generator.can_vary, (*FIELDS, *LIVE, *MEMORY_OPERANDS)))
    unknown = [name for name in fields or () if name not in operands]
    if unknown:
        raise UnknownNameError("operand that can vary", unknown[0], operands)
    ground = Ground(generator, all_parts, fields or operands, in_words + (", known_good" if known_good else ""))
    if next(ground.names(), None) is None:
        raise UsageError(f"{capabilities.name} has no base with {' and '.join(' or '.join(part) for part in parts if part)}")
    return ground


def ground_of(
    capabilities: Capabilities,
    mode: Names = None,
    features: Names = None,
    event: Names = None,
    known_good: Vmcs | None = None,
    fields: Sequence[str] | None = None,
) -> Ground:
    """What strategies with these arguments draw from."""
    parts = []
    for what, wanted, known in (("mode", mode, MODES), ("features", features, FEATURES), ("event", event, EVENTS)):
        names = (wanted,) if isinstance(wanted, str) else wanted
        for name in names or ():
            if name not in known:
                raise UnknownNameError(what, name, known)
        parts.append(None if names is None else tuple(names))
    return _made_ground(capabilities, tuple(parts), known_good, None if fields is None else tuple(fields))
