"""A log that prints the same fields again and again: which of the states that it shows is the one to judge."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from vmfuzz.explain.dump import ALL, Dump

#: So many fields in the same order, printed again, are a new state and no contradiction.
_AGAIN: Final = 3
#: A line so far from a state is not of it.
_NEAR: Final = 10
_FAILS: Final = re.compile(
    r"vm_?(?:launch|resume|entry|enter)\b.{0,80}(?:fail|error)|(?:fail|error).{0,80}\bvm[ _-]?(?:launch|resume|entry|enter)|80000021",
    re.IGNORECASE,
)


@lru_cache(maxsize=1 << 13)
def says_failure(text: str) -> bool:
    """Whether a line says that VM entry failed."""
    return _FAILS.search(text) is not None


class Put(NamedTuple):
    """One value as a line gives it."""

    field: str
    value: int
    label: str
    line: int
    known: int
    assumed: str


def choose_state(dump: Dump, puts: Sequence[Put], failed: int) -> None:
    """Of fields that are printed again with other values, take those next to the line `failed` (0: there is none), or else the last."""
    states = _states(puts)
    values = [{put.field: put.value for put in state if put.known == ALL} for state in states]
    differing = {field for one, other in pairwise(values) for field in one.keys() & other.keys() if one[field] != other[field]}
    if not differing:
        return
    chosen = min(reversed(states), key=lambda state: _distance(state, failed))
    near = failed > 0 and _distance(chosen, failed) <= _NEAR
    chosen = chosen if near else states[-1]
    sure = {put.field for state in states for put in state if not put.assumed}
    differing -= {put.field for put in chosen if put.assumed and (put.field in sure or not _is_assumed(dump, put.field))}
    lines = f"lines {chosen[0].line} to {chosen[-1].line}" if chosen[0].line != chosen[-1].line else f"line {chosen[0].line}"
    for field in differing & {put.field for put in chosen}:
        dump.readings.pop(field, None)
        dump.warnings[:] = [warning for warning in dump.warnings if f" for {field};" not in warning]
    for put in chosen:
        if put.field in differing:
            dump.put_named(put.field, put.value, put.label, put.line, assumed=put.assumed, known=put.known)
    which = "next to the failure" if near else "the last"
    dump.warn(f"line {chosen[0].line}: the text shows {len(states)} states of the same fields; the one of {lines} is judged, {which}")


def _states(puts: Sequence[Put]) -> list[list[Put]]:
    """The stretches of values that repeat one another's fields in their order."""
    blocks: list[list[Put]] = [[]]
    seen: set[str] = set()
    for put in puts:
        if put.known == ALL and put.field in seen:
            blocks.append([])
            seen = set()
        blocks[-1].append(put)
        seen.add(put.field)
    states = blocks[:1]
    for block in blocks[1:]:
        if any(_repeats(state, block) for state in states[-2:]):
            states.append(block)
    return states


def begins_of_states(puts: Sequence[Put], by_place: Set[tuple[str, int]]) -> list[int]:
    """The first line of each state that a text prints, one after the other; `by_place`: fields and lines that only their places name.

    What begins within a register is no state, and if a part of one is repeated and then goes on, lines may have been moved: the text is one
    state then.
    """
    states = list[tuple[int, set[str]]]()
    for state in _states(puts):
        placed = {put.field for put in state if (put.field, put.line) in by_place}
        if not states or (state[0].field, state[0].line) not in by_place:
            states.append((state[0].line if states else 0, placed))
        else:
            states[-1][1].update(placed)
    nested = all(one <= other or other <= one for (_, one), (_, other) in pairwise(states))
    return [line for line, _ in states] if nested else [0]


def _repeats(state: list[Put], block: list[Put]) -> bool:
    mine, other = ([(put.field, put.label) for put in puts] for puts in (state, block))  # (other labels may be of another structure)
    begins = list(dict.fromkeys(key for key in other if key in mine))[:_AGAIN]
    places = [mine.index(key) for key in begins]
    return len(begins) == _AGAIN and places == sorted(places)


def _is_assumed(dump: Dump, field: str) -> bool:
    return field not in dump.readings or bool(dump.readings[field].assumed)


def _distance(state: list[Put], line: int) -> int:
    return min(abs(put.line - line) for put in state)
