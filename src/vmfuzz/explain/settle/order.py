"""Whether the places of lines mean anything: what is understood by its place is not believed where lines are not in their order."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from vmfuzz.explain.dump import Reading, Warned
from vmfuzz.explain.evidence import OF_STATES, Evidence, Place, Places
from vmfuzz.explain.names.labels import complete, uneven, usual_order
from vmfuzz.explain.settle.states import begins_of_states

_BY_PLACE: Final = "no register named on the line: read as part of the one above"
#: So many names a warning lists.
_SHOWN: Final = 6


def of_lines_in_order(
    places: Places, readings: Mapping[str, Reading], evidence: Sequence[Evidence]
) -> tuple[Mapping[str, Reading], list[Warned]]:
    """The readings without what is understood by its place in a state whose lines are not in their order; doubted where the order is unusual."""
    if not (places.by_place or places.below):
        return readings, []
    begins = begins_of_states(evidence, {(place.field, place.line) for place in places.by_place})
    states = _of_states(places, begins)
    bad = {index for index, state in enumerate(states) if state.by_place and _is_disordered(state)}
    of_states = (one for one in evidence if one.standing in OF_STATES)
    sound = {(one.name, one.value): one.line for one in of_states if _state_of(one.line, begins) not in bad}
    kept, warnings = _without(readings, _fields([place for index in sorted(bad) for place in states[index].by_place]), sound)
    below = [_fields(state.below) for index, state in enumerate(states) if index not in bad]
    doubtful = {name for names in below if not (usual_order(names) and complete(names)) for name in names}
    return {name: replace(one, assumed=_BY_PLACE) if name in doubtful and not one.assumed else one for name, one in kept.items()}, warnings


def _of_states(places: Places, begins: Sequence[int]) -> list[Places]:
    states = [Places() for _ in begins]
    for kind in ("by_place", "below", "again"):
        for place in getattr(places, kind):
            getattr(states[_state_of(place.line, begins)], kind).append(place)
    for kind in ("odd", "headless"):
        for line in getattr(places, kind):
            getattr(states[_state_of(line, begins)], kind).append(line)
    return states


def _is_disordered(state: Places) -> bool:
    counts = Counter(place.field for place in state.by_place)
    return (
        bool(state.odd)
        or any(counts[place.field] > 1 for place in state.again)
        or (bool(state.headless) and uneven(_fields(state.by_place)))
    )


def _state_of(line: int, begins: Sequence[int]) -> int:
    return max(0, bisect_right(begins, line) - 1)


def _without(
    readings: Mapping[str, Reading], doubtful: Sequence[str], sound: Mapping[tuple[str, int], int]
) -> tuple[Mapping[str, Reading], list[Warned]]:
    """The readings without the doubtful fields, but for those of which a state in order (`sound`: field and value -> line) says the same."""
    moved = {name: sound.get((name, readings[name].value)) for name in doubtful if name in readings}
    out = [name for name, line in moved.items() if line is None]
    kept = {
        name: one if (line := moved.get(name)) is None else replace(one, line=line) for name, one in readings.items() if name not in out
    }
    if not out:
        return kept, []
    text = (
        f"parts of registers stand where they cannot belong, so the lines are not in their order; {len(out)} values that only their "
        f"place names are not used ({', '.join(out[:_SHOWN])}{' ...' if len(out) > _SHOWN else ''})"
    )
    return kept, [Warned(0, text)]


def _fields(places: Sequence[Place]) -> list[str]:
    return list(dict.fromkeys(place.field for place in places))
