"""A log that prints the same fields again and again: which of the states that it shows is the one to judge."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from vmfuzz.explain.dump import ALL, Warned
from vmfuzz.explain.evidence import OF_STATES, Evidence

#: So many fields in the same order, printed again, are a new state and no contradiction.
_AGAIN: Final = 3
#: A line so far from a state is not of it.
_NEAR: Final = 10

_State = list[Evidence]


def of_one_state(evidence: Sequence[Evidence], failed: int) -> tuple[list[Evidence], list[Warned]]:
    """Of fields that are printed again with other values, those next to the line `failed` (0: there is none), or else the last."""
    states = states_of(evidence)
    values = [{one.name: one.value for one in state if one.known == ALL} for state in states]
    differing = {name for one, other in pairwise(values) for name in one.keys() & other.keys() if one[name] != other[name]}
    if not differing:
        return list(evidence), []
    chosen, near = _chosen(states, failed)
    sure = {one.name for one in evidence if not one.assumed}
    differing -= {one.name for one in chosen if one.assumed and one.name in sure}
    settled = differing & {one.name for one in chosen}
    mine = set(map(id, chosen))
    kept = [one for one in evidence if one.name not in settled or id(one) in mine]
    lines = f"lines {chosen[0].line} to {chosen[-1].line}" if chosen[0].line != chosen[-1].line else f"line {chosen[0].line}"
    which = "next to the failure" if near else "the last"
    text = f"the text shows {len(states)} states of the same fields; the one of {lines} is judged, {which}"
    return kept, [Warned(chosen[0].line, text)]


def _chosen(states: Sequence[_State], failed: int) -> tuple[_State, bool]:
    """(the state to judge, whether it stands next to the line `failed`)."""
    nearest = min(reversed(states), key=lambda state: _distance(state, failed))
    near = failed > 0 and _distance(nearest, failed) <= _NEAR
    return (nearest if near else states[-1]), near


def states_of(evidence: Sequence[Evidence]) -> list[_State]:
    """The stretches of values that repeat one another's fields in their order."""
    blocks: list[_State] = [[]]
    seen: set[str] = set()
    for one in sorted((one for one in evidence if one.standing in OF_STATES), key=lambda one: one.line):
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


def _distance(state: _State, line: int) -> int:
    return min((abs(one.line - line) for one in state), default=1 << 30)
