"""Known-good states: the captured one in other modes, with more features on, and with events pending; each valid by construction.

A base is named "MODE/FEATURES/EVENT"; its parts are those of generate/parts.py and generate/events.py. The model confirms that a composed state may
enter before it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from types import MappingProxyType

from vmfuzz.arch.fields import FIELDS
from vmfuzz.errors import UnknownNameError
from vmfuzz.generate.events import EVENTS
from vmfuzz.generate.parts import FEATURES, MODES
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.predict import Model
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs


class Bases:
    """The known-good states of one processor, composed on demand from its captured state."""

    def __init__(self, model: Model, captured: Vmcs) -> None:
        self._model = model
        self.captured = captured
        self._states: dict[str, Vmcs | None] = {}
        modes, features = {name: f"{name}/plain/nothing" for name in MODES}, {name: f"64-bit/{name}/nothing" for name in FEATURES}
        events = {name: f"64-bit/plain/{name}" for name in EVENTS}
        self._settle([*modes.values(), *features.values(), *events.values()])
        self.modes, self.features, self.events = (
            tuple(part for part, name in names.items() if self._states[name] is not None) for names in (modes, features, events)
        )

    def get(self, name: str) -> Vmcs | None:
        """The base called MODE/FEATURES/EVENT, or None where it cannot be (the parts exclude each other, or the processor lacks one)."""
        if name not in self._states:
            self._settle([name])
        return self._states[name]

    def doubts(self) -> tuple[list[str], list[str]]:
        """Ids of the checks that speak against the captured state: those that it violates for certain, and those of which the model does not know."""
        prediction = self._model.predict_batch(VmcsBatch(self.captured, {}, count=1))
        violated = [compiled.check.id for compiled in prediction.violations_of(0) if compiled.certain]
        return violated, [self._model.compiled[number].check.id for number, (_, unknown) in prediction.truths.items() if unknown is True]

    def samples(self) -> tuple[str, ...]:
        """Names that cover every part, and every pair of a mode with features and of features with an event, simplest first."""
        return self._samples

    @cached_property
    def _samples(self) -> tuple[str, ...]:
        plain = [f"{mode}/plain/nothing" for mode in self.modes]
        featured = [f"{mode}/{features}/nothing" for features in self.features for mode in self.modes]
        eventful = [f"{mode}/plain/{event}" for event in self.events for mode in self.modes]
        both = [f"64-bit/{features}/{event}" for features in self.features for event in self.events]
        return tuple(dict.fromkeys([*plain, *featured, *eventful, *both]))

    @cached_property
    def possible(self) -> Mapping[str, Vmcs]:
        """Those of `samples()` that the processor can have, by name."""
        names = self.samples()
        self._settle(names)
        return MappingProxyType({name: state for name in names if (state := self._states[name]) is not None})

    @cached_property
    def values(self) -> OperandValues:
        """The values of operands in the states of `possible`, in their order."""
        return OperandValues(VmcsBatch.of(list(self.possible.values()), self.captured))

    def nearest(self, mode: str, features: str, event: str) -> str:
        """The name of the base with these parts, or of the one that leaves out as few of them as it must."""
        return next(name for name in _nearest_first(mode, features, event) if self.get(name) is not None)

    def prepare(self, parts: Iterable[tuple[str, str, str]]) -> None:
        """Judge in one batch the bases that `nearest` will ask for, given these modes, features and events."""
        self._settle(name for each in parts for name in _nearest_first(*each))

    def _settle(self, names: Iterable[str]) -> None:
        """Compose the bases of these names that have not been, and judge them: those whose memory is at the same addresses in one batch."""
        alike: dict[frozenset[int], dict[str, Vmcs]] = {}
        for name in names:
            if name not in self._states:
                self._states[name] = None
                state = self._composed(name)
                if state is not None:
                    alike.setdefault(frozenset(state.memory), {})[name] = state
        for states in alike.values():
            prediction = self._model.predict_batch(VmcsBatch.of(list(states.values())))
            self._model.know(list(states.values()), prediction)
            refused = prediction.not_modelled.copy()
            for number, violated in prediction.violated.items():
                if self._model.compiled[number].certain:
                    refused |= violated
            self._states.update((name, None if wrong else state) for (name, state), wrong in zip(states.items(), refused, strict=True))

    def _composed(self, name: str) -> Vmcs | None:
        """The state called MODE/FEATURES/EVENT, or None where the parts exclude each other or the processor lacks one."""
        mode, _, rest = name.partition("/")
        features, _, event = rest.partition("/")
        if mode not in MODES or features not in FEATURES or event not in EVENTS:
            raise UnknownNameError("base", name, (f"{known}/plain/nothing" for known in MODES))
        state: Vmcs | None = self.captured
        try:
            for part in (MODES[mode], FEATURES[features], EVENTS[event]):
                state = part(state, self._model.capabilities) if state is not None else None
        except KeyError:
            return None  # a part reads a field that this processor lacks
        if state is None or any(field in FIELDS and field not in self.captured for field in state):
            return None
        return state


def base_rank(name: str) -> tuple[int, int]:
    """How far a base is from 64-bit/plain/nothing: parts that differ, then their places in the tables."""
    places = [list(table).index(part) for table, part in zip((MODES, FEATURES, EVENTS), name.split("/"), strict=True)]
    return sum(place > 0 for place in places), sum(places)


def _nearest_first(mode: str, features: str, event: str) -> tuple[str, ...]:
    """Names of the base with these parts, and of those that leave out some of them."""
    return f"{mode}/{features}/{event}", f"{mode}/{features}/nothing", f"{mode}/plain/{event}", f"{mode}/plain/nothing"
