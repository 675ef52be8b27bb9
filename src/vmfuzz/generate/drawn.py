"""States drawn by Hypothesis: the vocabulary of edits one draw at a time, in an order in which examples shrink to the known-good state.

`vmfuzz.strategies` is what people use; here is what it draws from. Hypothesis takes the shortest sequence of draws, then the smallest: so whatever is
simpler is drawn as a smaller number, and each operand and each bit of it that an edit changes can be taken back by one draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Final, TypeVar

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from vmfuzz.arch.registers import BITWISE
from vmfuzz.generate.bases import base_rank
from vmfuzz.generate.ground import Drawn, Ground
from vmfuzz.generate.reach import Patch, memory_word, patched
from vmfuzz.generate.targets import Target
from vmfuzz.generate.vocabulary import COPY, FLIP, FLIP_TWO, RANDOM, WEIGHTS, Change, changed, edited, flipped, written
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import MEMORY_OPERANDS, operand_width
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

_Item = TypeVar("_Item")
#: The name of a base and a change of it.
Start = tuple[str, Patch]

#: Edits of one example, at most (one of several operands of a check counts once), and beside those that are directed at a check.
_MOST_EDITS: Final = 4
_MOST_BESIDES: Final = 2
#: A way for each share of WEIGHTS, the simplest first.
_WAYS: Final = tuple(way for way, weight in sorted(WEIGHTS, key=lambda each: each[0] != FLIP) for _ in range(weight))
#: Whether one bit in which an edit changes a value stays changed: not where this is 0.
_STAYS: Final = st.integers(0, 255)
#: One candidate in so many is made where its check nearly applies.
_NEARLY: Final = 5
#: Bases in which states that violate a check are looked for, in how many by its boundary values; states for each of its atoms; searches at most.
_TRIED_BASES: Final = 12
_BOUNDARY_BASES: Final = 2
_TAKEN: Final = 2
_MOST_TRIES: Final = 96


@cache
def _places(count: int) -> st.SearchStrategy[int]:
    """The places of a sequence. Strategies are made once: to make one takes longer than to draw from it."""
    return st.integers(0, count - 1)


def _one(draw: st.DrawFn, sequence: Sequence[_Item]) -> _Item:
    """One item of a sequence, an earlier one if that will do as well."""
    return sequence[draw(_places(len(sequence)))]


def _base_name(draw: st.DrawFn, ground: Ground) -> str:
    """A base that was asked for; parts that do not go together are left out, if they may be."""
    mode, features, event = (_one(draw, parts) for parts in (ground.modes, ground.features, ground.events))
    for name in (f"{mode}/{features}/{event}", f"{mode}/{features}/nothing", f"{mode}/plain/{event}", f"{mode}/plain/nothing"):
        if ground.has(name):
            return name
    return reject()


def _nearer(draw: st.DrawFn, name: str, before: int, after: int) -> Callable[[int, int], int]:
    """Takes back parts of a change that makes `after` of `before`: each bit that differs, of a number each part of the distance.

    Gives what makes the value of what a base has and what the whole change makes of it. Which parts are drawn depends on the captured state alone, so
    that the same draws mean the same in a simpler base.
    """
    bitwise = name in BITWISE
    whole = distance = before ^ after if bitwise else abs(after - before)
    for bit in reversed(range(distance.bit_length())):
        if distance >> bit & 1 and draw(_STAYS) == 0:
            distance ^= 1 << bit
    full, sign = (1 << operand_width(name)) - 1, 1 if after > before else -1

    def value(here: int, there: int) -> int:
        if distance == whole:
            return there
        return here ^ distance if bitwise else here + sign * distance & full

    return value


def _change(draw: st.DrawFn, ground: Ground, base: Vmcs, name: str, change: Callable[[Vmcs], Change], patch: Patch) -> None:
    """Change an operand in the patch, or a part of it."""
    plain, full = ground.generator.bases.captured, (1 << operand_width(name)) - 1
    before, here = _value(plain, name), _value(base, name)
    value = _nearer(draw, name, before, changed(before, change(plain), full))
    if name not in MEMORY_OPERANDS or memory_word(base, name) is not None:
        patch[name] = value(here, changed(patch.get(name, here), change(base), full))


def _listed_or_drawn(draw: st.DrawFn, ground: Ground, name: str, way: str) -> Change:
    """A change of an operand in one way; copies apart, which need a state."""
    width = operand_width(name)
    if way == FLIP_TWO:
        return flipped(1 << draw(_places(width)) ^ 1 << draw(_places(width)))
    if way == RANDOM:
        return written(draw(_places(1 << width)))
    return _one(draw, ground.ways(name)[way])


def _edit(draw: st.DrawFn, ground: Ground, base: Vmcs, operands: Sequence[str]) -> Patch:
    """One operand changed in one way."""
    name, way = _one(draw, operands), _one(draw, _WAYS)
    patch: Patch = {}
    if way == COPY:
        other = _one(draw, ground.copied)
        _change(draw, ground, base, name, lambda state: written(state.get(other) or 0), patch)
    else:
        change = _listed_or_drawn(draw, ground, name, way)
        _change(draw, ground, base, name, lambda _: change, patch)
    return patch


def _relation(draw: st.DrawFn, ground: Ground, base: Vmcs, target: Target) -> Patch:
    """One or two operands of one check at its boundary values."""
    patch: Patch = {}
    for _ in range(1 + _one(draw, (0, 1))):
        single = _one(draw, target.singles)
        _change(draw, ground, base, single.operand, lambda _, edit=single.edit: edited(edit), patch)  # type: ignore[misc]
    return patch


@st.composite
def _any_edit(draw: st.DrawFn, ground: Ground, base: Vmcs, operands: Sequence[str], targets: Sequence[Target]) -> Patch:
    """An edit of one of the operands, or (one in four) a relation that one of the checks makes."""
    if targets and draw(_places(4)) == 3:
        return _relation(draw, ground, base, _one(draw, targets))
    return _edit(draw, ground, base, operands)


@lru_cache(maxsize=4096)
def _edits(ground: Ground, name: str) -> st.SearchStrategy[list[Patch]]:
    """Edits of a base."""
    return st.lists(_any_edit(ground, ground.base(name), ground.operands, ground.related), max_size=_MOST_EDITS)


def _value(state: Vmcs, name: str) -> int:
    return int(OperandValues(VmcsBatch(state, {}, count=1))(name))


def _drawn(
    draw: st.DrawFn,
    ground: Ground,
    name: str,
    edits: st.SearchStrategy[list[Patch]],
    start: Patch | None = None,
    keeps: Callable[[Vmcs], bool] | None = None,
) -> Vmcs:
    """The base with the patch `start` and edits: of these only such as `keeps` allows, if it is given."""
    base = ground.base(name)
    patch: Patch = {}
    state = base
    for each in (start or {}, *draw(edits)):
        more = {key: value for key, value in {**patch, **each}.items() if value != _value(base, key)}
        changed = patched(base, more)
        if keeps is None or keeps(changed):
            patch, state = more, changed
    return Drawn.from_base(ground, name, state)


@st.composite
def mutated(draw: st.DrawFn, ground: Ground, keeps: Callable[[Vmcs], bool] | None = None) -> Vmcs:
    """A base with edits of any operands; of these only such as `keeps` allows, if it is given."""
    name = _base_name(draw, ground)
    return _drawn(draw, ground, name, _edits(ground, name), keeps=keeps)


@st.composite
def directed(draw: st.DrawFn, ground: Ground, chosen: Sequence[int]) -> Vmcs:
    """A base in which one of the checks applies, or nearly does, with boundary values of the check's operands and some other edits."""
    number = _one(draw, chosen)
    applies, nearly = ground.bases_of(number)
    name = _one(draw, nearly if draw(_places(_NEARLY)) == _NEARLY - 1 else applies)
    base, target = ground.base(name), ground.generator.targets[number]
    start = _relation(draw, ground, base, target) if target.singles else {}
    besides = st.lists(_any_edit(ground, base, target.operands, (target,)), max_size=_MOST_BESIDES)
    return _drawn(draw, ground, name, besides, start)


@st.composite
def from_starts(draw: st.DrawFn, ground: Ground, number: int, starts: Sequence[Start]) -> Vmcs:
    """A state that violates check `number`: one of `starts`, or what is nearer to its base, and edits that keep it so."""
    name, far = _one(draw, starts)
    base = ground.base(name)
    near: Patch = {}
    for key, value in far.items():
        here = _value(base, key)
        near[key] = _nearer(draw, key, here, value)(here, value)
    most = ground.violated(patched(base, far), number)[1]

    def keeps(state: Vmcs) -> bool:
        own, others = ground.violated(state, number)
        return own and others <= most

    if not keeps(patched(base, near)):
        return reject()
    return _drawn(draw, ground, name, _edits(ground, name), near, keeps)


def starts_of(ground: Ground, number: int) -> tuple[Start, ...]:
    """States that violate check `number`, the simplest first: by each of its boundary values, and with each of its atoms deciding, if that can be.

    No other check is violated up to its stage, unless none is found without.
    """
    applies, nearly = ground.bases_of(number)
    bases = list(
        dict.fromkeys([*applies[: _TRIED_BASES // 2], *nearly[: _TRIED_BASES // 4], *applies[:: 1 + len(applies) // _TRIED_BASES]])
    )
    for alone in (True, False):
        found = {
            (name, *sorted(patch.items())): (name, patch)
            for name, patch in (*_boundary_starts(ground, number, bases[:_BOUNDARY_BASES]), *_searched_starts(ground, number, bases, alone))
            if ground.violated(patched(ground.base(name), patch), number) == (True, 0) or not alone
        }
        if found:
            return tuple(sorted(found.values(), key=lambda start: (len(start[1]), base_rank(start[0]), sorted(start[1].items()))))
    return ()


def _boundary_starts(ground: Ground, number: int, bases: Sequence[str]) -> Iterator[Start]:
    """Bases with one boundary value of the check that violates it."""
    for name in bases:
        base = ground.base(name)
        for single in ground.generator.targets[number].singles:
            here, full = _value(base, single.operand), (1 << operand_width(single.operand)) - 1
            patch = {single.operand: changed(here, edited(single.edit), full)}
            if patch[single.operand] != here and ground.violated(patched(base, patch), number)[0]:
                yield name, patch


def _searched_starts(ground: Ground, number: int, bases: Sequence[str], alone: bool) -> Iterator[Start]:
    """Bases with a change after which an atom of the check decides that it is violated."""
    generator, rng = ground.generator, np.random.default_rng(number)
    goals = [atom.goal(True) for atom in generator.goals.atoms if atom.check == number] or [generator.model.compiled[number].violated]
    tries = iter(range(_MOST_TRIES))
    for goal in goals:
        taken = 0
        for name, _ in zip(bases, tries, strict=False):
            patch = generator.reach.patch(ground.base(name), goal, number, rng, alone=alone)
            if patch is not None and ground.violated(patched(ground.base(name), patch), number)[0]:
                yield name, patch
                taken += 1
            if taken == _TAKEN:
                break


@st.composite
def words_of(draw: st.DrawFn, ground: Ground, state: Vmcs) -> Mapping[int, int]:
    """The words of memory of a state, with edits of memory operands and bits flipped in any of them."""
    operands = [name for name in MEMORY_OPERANDS if memory_word(state, name) is not None]
    patch: Patch = {}
    for each in draw(st.lists(_any_edit(ground, state, operands, ()), max_size=_MOST_EDITS)) if operands else ():
        patch.update(each)
    words = dict(patched(state, patch).memory)
    if words:
        for address, bit in draw(st.lists(st.tuples(st.sampled_from(sorted(words)), _places(64)), max_size=_MOST_BESIDES)):
            words[address] ^= 1 << bit
    return words
