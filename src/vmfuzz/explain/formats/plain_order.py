"""Whether the places of lines mean anything: what was understood by its place is taken back where lines are not in their order."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

from vmfuzz.explain.dump import Dump
from vmfuzz.explain.formats.plain_states import Put, begins_of_states
from vmfuzz.explain.names.labels import complete, uneven, usual_order

_BY_PLACE: Final = "no register named on the line: read as part of the one above"
#: So many names a warning lists.
_SHOWN: Final = 6


class Place(NamedTuple):
    """A field that its place named, and the line."""

    field: str
    line: int


@dataclass
class Places:
    """What a text, or one of the states in it, has by place, and the lines at which a place cannot be right."""

    by_place: list[Place] = field(default_factory=list)  # fields whose label alone would not have named them
    below: list[Place] = field(default_factory=list)  # those of them that stand on another line than their register
    again: list[Place] = field(default_factory=list)  # parts that stood there before; in a state printed again they may
    odd: list[int] = field(default_factory=list)  # lines with a part where none could be
    headless: list[int] = field(default_factory=list)  # lines with a part before any register: the text may have lost its head
    named: set[str] = field(default_factory=set)  # the fields in `by_place`

    def add(self, place: Place, below: bool = False) -> None:
        """Note that its place alone names a field; `below`: on another line than its register."""
        self.by_place.append(place)
        self.named.add(place.field)
        if below:
            self.below.append(place)

    def judge(self, dump: Dump, puts: Sequence[Put]) -> None:
        """Take back what was understood by its place in a state whose lines are not in their order."""
        begins = begins_of_states(puts, set(self.by_place))
        states = self._of_states(begins)
        bad = {index for index, state in enumerate(states) if state.by_place and state._are_disordered()}
        if bad:
            sound = {(put.field, put.value): put.line for put in puts if _state_of(put.line, begins) not in bad}
            _take_back(dump, _fields([place for index in sorted(bad) for place in states[index].by_place]), sound)
        for index, state in enumerate(states):
            names = _fields(state.below)
            if index not in bad and not (usual_order(names) and complete(names)):
                _doubt(dump, names)

    def _of_states(self, begins: Sequence[int]) -> list[Places]:
        states = [Places() for _ in begins]
        for place in self.by_place:
            states[_state_of(place.line, begins)].by_place.append(place)
        for place in self.below:
            states[_state_of(place.line, begins)].below.append(place)
        for place in self.again:
            states[_state_of(place.line, begins)].again.append(place)
        for line in self.odd:
            states[_state_of(line, begins)].odd.append(line)
        for line in self.headless:
            states[_state_of(line, begins)].headless.append(line)
        return states

    def _are_disordered(self) -> bool:
        counts = Counter(place.field for place in self.by_place)
        return (
            bool(self.odd)
            or any(counts[place.field] > 1 for place in self.again)
            or (bool(self.headless) and uneven(_fields(self.by_place)))
        )


def _state_of(line: int, begins: Sequence[int]) -> int:
    return max(0, bisect_right(begins, line) - 1)


def _take_back(dump: Dump, doubtful: Sequence[str], sound: Mapping[tuple[str, int], int]) -> None:
    """Drop the doubtful fields, but for those of which a state in order (`sound`: field and value -> line) says the same."""
    taken = list[str]()
    for name in doubtful:
        reading = dump.readings.get(name)
        line = sound.get((name, reading.value)) if reading else None
        if reading is not None and line is not None:
            dump.readings[name] = replace(reading, line=line)
        elif reading is not None:
            taken.append(name)
            del dump.readings[name]
    if taken:
        dump.warn(
            f"parts of registers stand where they cannot belong, so the lines are not in their order; {len(taken)} values that only their "
            f"place names are not used ({', '.join(taken[:_SHOWN])}{' ...' if len(taken) > _SHOWN else ''})"
        )


def _doubt(dump: Dump, names: Sequence[str]) -> None:
    for name in names:
        reading = dump.readings.get(name)
        if reading is not None and not reading.assumed:
            dump.readings[name] = replace(reading, assumed=_BY_PLACE)


def _fields(places: Sequence[Place]) -> list[str]:
    return list(dict.fromkeys(place.field for place in places))
