"""What the order of the lines tells: whether their places mean anything, and which of several states that a log shows is the one to judge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from vmfuzz.explain.dump import ALL, Warned
from vmfuzz.explain.evidence import Evidence, Found, Kept, Standing
from vmfuzz.explain.names.labels import PARTS, SEGMENTS
from vmfuzz.explain.text.numbers import ranges

_BY_PLACE: Final = "no register named on the line: read as part of the one above"
#: So many names a warning lists.
_SHOWN: Final = 6
#: The registers that have the same parts in a dump: a register without them has lost its name, and the one above has two of each.
_GROUPS: Final = (SEGMENTS[:6], SEGMENTS[6:8], SEGMENTS[8:])
#: So many fields in the same order, printed again, are a new state and no contradiction.
_AGAIN: Final = 3
#: A line so far from a state is not of it.
_NEAR: Final = 10

_State = list[Evidence]


def in_order(places: Sequence[Evidence], found: Found) -> Kept:
    """The places without those of fields that only a place names, if parts of registers stand astray; doubted if registers lack parts."""
    below = {name for name, is_below in found.placed.items() if is_below}
    first, *others = _states_of(places) if below else [[]]
    if found.astray or any(_begins_within(state, first, below) for state in others):
        out = list(dict.fromkeys(one.name for one in places if one.name in found.placed))
        text = (
            f"parts of registers stand where they cannot belong, so the lines are not in their order; {len(out)} values that only their "
            f"place names are not used ({', '.join(out[:_SHOWN])}{' ...' * (len(out) > _SHOWN)})"
        )
        return [one for one in places if one.name not in out], [Warned(0, text)] * bool(out)
    return _doubted(places, below), []


def _begins_within(state: _State, first: _State, below: Collection[str]) -> bool:
    """Whether a state begins within a register, as none does: one of several registers may begin as the first one, with the parts of a register."""
    again = {one.name for one in state} & {one.name for one in first}
    return state[0].name in below and (state[0].name != first[0].name or len(again) <= len(PARTS))


def _doubted(places: Sequence[Evidence], names: Collection[str]) -> list[Evidence]:
    """The places, doubted where they give one of these fields that only a place names.

    Not if these are the same parts of all segment registers, of both or none of LDTR and TR, and of both or none of GDTR and IDTR.
    """
    parts = {register: {name.split("_", 2)[2] for name in names if name.startswith(f"guest_{register}_")} for register in SEGMENTS}
    if all(parts[one] - {"selector"} == parts[other] - {"selector"} for group in _GROUPS for one, other in pairwise(group)):
        return list(places)
    doubtful = (one.name in names and not one.assumed and one.standing is not Standing.SHOWN for one in places)
    return [replace(one, assumed=_BY_PLACE) if doubt else one for one, doubt in zip(places, doubtful, strict=True)]


def of_one_state(places: Sequence[Evidence], failed: int) -> Kept:
    """Of fields that are printed again with other values, those next to the line `failed` (0: there is none), or else the last."""
    states = _states_of(places)
    values = [{one.name: one.value for one in state if one.known == ALL} for state in states]
    differing = {name for one, other in pairwise(values) for name in one.keys() & other.keys() if one[name] != other[name]}
    if not differing:
        return list(places), []

    def away(state: _State) -> int:
        return min(abs(one.line - failed) for one in state)

    nearest = min(reversed(states), key=away)
    near = failed > 0 and away(nearest) <= _NEAR
    chosen = nearest if near else states[-1]
    mine = set(map(id, chosen))
    settled = differing & {one.name for one in chosen}
    lines = ranges(range(chosen[0].line, chosen[-1].line + 1))
    text = f"the text shows {len(states)} states of the same fields; the one of {lines} is judged, {'next to the failure' if near else 'the last'}"
    return [one for one in places if one.name not in settled or id(one) in mine], [Warned(chosen[0].line, text)]


def _states_of(places: Sequence[Evidence]) -> list[_State]:
    """The stretches of values that repeat one another's fields in their order; what known programs show and sentences say is in none."""
    blocks: list[_State] = [[]]
    seen: set[str] = set()
    listed = (one for one in places if one.standing not in (Standing.SHOWN, Standing.SENTENCE))
    for one in sorted(listed, key=lambda one: one.line):
        if one.known == ALL and one.name in seen:
            blocks.append([])
            seen = set()
        blocks[-1].append(one)
        seen.add(one.name)
    states = blocks[:1]
    for block in blocks[1:]:
        if any(_repeats(state, block) for state in states[-2:]):
            states.append(block)
    return states


def _repeats(state: _State, block: _State) -> bool:
    mine, other = ([(one.name, one.label) for one in part] for part in (state, block))  # (other labels may be of another structure)
    begins = list(dict.fromkeys(key for key in other if key in mine))[:_AGAIN]
    places = [mine.index(key) for key in begins]
    return len(begins) == _AGAIN and places == sorted(places)
