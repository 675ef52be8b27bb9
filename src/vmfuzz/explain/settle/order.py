"""What the order of the lines tells: whether their places mean anything, and which of several states that a log shows is the one to judge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Final

from vmfuzz.explain.dump import Reading, Standing, Warned
from vmfuzz.explain.evidence import Found, Kept
from vmfuzz.explain.names.labels import PARTS, SEGMENTS
from vmfuzz.explain.text.numbers import ranges

_BY_PLACE: Final = "no register named on the line: read as part of the one above"
#: So many names a warning lists.
_SHOWN: Final = 6
#: The registers that have the same parts in a dump: a register without them has lost its name, and the one above has two of each.
_GROUPS: Final = (SEGMENTS[:6], SEGMENTS[6:8], SEGMENTS[8:])
#: So many fields, printed again under the same labels and in the same order, are a new state and no contradiction.
_AGAIN: Final = 3

#: A state: its values by field and the bits of it that are known.
#: A line so far from a state is not of it.
_NEAR: Final = 10

_State = dict[tuple[str, int], Reading]


def in_order(places: Sequence[Reading], found: Found) -> Kept:
    """The places without those of fields that only a place names, if parts of registers stand astray; doubted if registers lack parts."""
    below = {name for name, is_below in found.placed.items() if is_below}
    first, *others = _states_of(places) if below else [_State()]
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
    (begin, _), (usual, _) = next(iter(state)), next(iter(first))
    return begin in below and (begin != usual or len(state.keys() & first.keys()) <= len(PARTS))


def _doubted(places: Sequence[Reading], names: Collection[str]) -> list[Reading]:
    """The places, doubted where they give one of these fields that only a place names.

    Not if these are the same parts of all segment registers, of both or none of LDTR and TR, and of both or none of GDTR and IDTR.
    """
    parts = {register: {name.split("_", 2)[2] for name in names if name.startswith(f"guest_{register}_")} for register in SEGMENTS}
    if all(parts[one] - {"selector"} == parts[other] - {"selector"} for group in _GROUPS for one, other in pairwise(group)):
        return list(places)
    doubtful = (one.name in names and not one.assumed and one.standing is not Standing.SHOWN for one in places)
    return [one._replace(assumed=_BY_PLACE) if doubt else one for one, doubt in zip(places, doubtful, strict=True)]


def of_one_state(places: Sequence[Reading], failed: int) -> Kept:
    """Of fields that are printed again with other values, those next to the line `failed` (0: there is none), or else the last."""
    states = _states_of(places)
    differing = {key for one, other in pairwise(states) for key in one.keys() & other.keys() if one[key].value != other[key].value}
    if not differing:
        return list(places), []

    def away(state: _State) -> int:
        return min(abs(one.line - failed) for one in state.values())

    near = [state for state in reversed(states) if failed and away(state) <= _NEAR]
    chosen = min(near, key=away, default=states[-1])
    mine, settled = set(chosen.values()), {name for name, _ in differing & chosen.keys()}
    lines = range(min(one.line for one in mine), max(one.line for one in mine) + 1)
    which = f"the one of {ranges(lines)} is judged, {'next to the failure' if near else 'the last'}"
    warned = Warned(lines[0], f"the text shows {len(states)} states of the same fields; {which}")
    return [one for one in places if one.name not in settled or one in mine], [warned]


def _states_of(places: Sequence[Reading]) -> list[_State]:
    """The stretches of values that repeat one another's fields in their order; what known programs show and sentences say is in none."""
    blocks: list[_State] = [{}]
    listed = (one for one in places if one.standing not in (Standing.SHOWN, Standing.SENTENCE))
    for one in sorted(listed, key=lambda one: one.line):
        if (one.name, one.known) in blocks[-1]:
            blocks.append({})
        blocks[-1][one.name, one.known] = one
    states = blocks[:1]
    for block in blocks[1:]:
        if any(_repeats(state, block) for state in states[-2:]):
            states.append(block)
    return states


def _repeats(state: _State, block: _State) -> bool:
    """Whether a block begins with fields of the state in its order, under the same labels: others may be of another structure."""
    mine, other = (dict.fromkeys((one.name, one.label) for one in part.values()) for part in (state, block))
    begins = [key for key in other if key in mine][:_AGAIN]
    return len(begins) == _AGAIN and begins == [key for key in mine if key in begins]
