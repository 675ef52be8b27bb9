"""Which families a campaign runs: passes over all checks, small families first, and more rows for what was never seen.

Chunk n of a campaign is pass n: each check gets a block of rows, neighbours that apply in the same base share a family. The blocks grow from pass to
pass, so that everything is tried soon and then ever more deeply. A quarter of the candidates is not directed at anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from vmfuzz.generate.draws import draw
from vmfuzz.generate.families import FAMILY_SIZE, Block, FamilyPlan, Generator
from vmfuzz.generate.goals import Goal
from vmfuzz.generate.reach import Patch
from vmfuzz.generate.search import Search, Undisputed, Way

#: Rows of one check in the first pass besides its single edits, and in any pass at most.
_FIRST_ROWS: Final = 24
_MOST_ROWS: Final = 2048
#: Rows of one check where it nearly applies, at most.
_MOST_NEAR_ROWS: Final = 256
#: Single edits of one check in the first pass, at most.
_FIRST_SINGLES: Final = 96
#: Checks that share a family, and how far from one another they may be.
_SHARE: Final = 8
_WINDOW: Final = 64
#: States are searched for one goal in so many candidates (a search takes as long as some hundred), and for so many goals a pass at most; each state
#: that is found gets so many rows.
_CANDIDATES_A_GOAL: Final = 256
_MOST_GOALS: Final = 256
_GOAL_ROWS: Final = 64
#: From this pass on only atoms are searched for, and fewer: a small error that has not shown by then mostly cannot.
_ERROR_PASSES: Final = 4
_MOST_ATOMS: Final = 128
#: Searches for a check that applies to no base as it is.
_TRIES_A_CHECK: Final = 6
#: Undirected families among the directed ones.
_DIRECTED_PER_UNDIRECTED: Final = 3

#: Goals are gone round by this share of all of them from pass to pass: the golden ratio, by which no part is visited much more than another.
_TURN: Final = 0.6180339887498949


class Schedule:
    """The plans of one campaign on one processor: the same seed and the same goals give the same plans."""

    def __init__(self, generator: Generator, seed: int, undisputed: Undisputed) -> None:
        self.generator = generator
        self.seed = seed
        self._search = Search(generator, undisputed)
        self._found: dict[int, Way] = {}

    def chunk(self, number: int, unseen: Sequence[Goal]) -> list[FamilyPlan]:
        """The plans of pass `number`; `unseen` are the goals that have not been reached."""
        rng = np.random.default_rng([self.seed, number])
        rare: dict[int, list[int]] = {}
        for goal in unseen:
            rare.setdefault(goal.check, []).extend([goal.number] if self.generator.goals.is_error(goal.number) else [])
        groups = self._groups(number, rng, rare)
        if number:
            groups += self._near_groups(number, rng, rare)
            candidates = sum(block.rows for _, blocks in groups for block in blocks)
            early = number < _ERROR_PASSES
            goals = unseen if early else [goal for goal in unseen if not self.generator.goals.is_error(goal.number)]
            attempts = min(candidates // _CANDIDATES_A_GOAL, _MOST_GOALS if early else _MOST_ATOMS)
            # first of all: what was never seen should not wait for the end of a pass
            groups = [*self._goal_groups(number, rng, goals, attempts, far=early), *groups]
        plans = [
            FamilyPlan(base, int(rng.integers(1 << 63)), sum(block.rows for block in blocks), blocks=blocks) for base, blocks in groups
        ]
        # each after its share of the directed ones
        for ordinal, plan in enumerate(self._undirected(number, -(-len(groups) // _DIRECTED_PER_UNDIRECTED))):
            plans.insert((ordinal + 1) * (_DIRECTED_PER_UNDIRECTED + 1) - 1, plan)
        return plans

    def _undirected(self, number: int, count: int) -> list[FamilyPlan]:
        choices = draw(self.generator.choices(), self.seed * 1_000_003 + number, count)
        self.generator.bases.prepare(choice.parts for choice in choices)
        rows = min(FAMILY_SIZE, _SHARE * _rows(number, False))
        return [self.generator.undirected(choice, ordinal + (number << 16), rows) for ordinal, choice in enumerate(choices)]

    def _groups(self, number: int, rng: np.random.Generator, rare: Mapping[int, list[int]]) -> list[tuple[str, tuple[Block, ...]]]:
        """Every check once, those that share a base together."""
        generator = self.generator
        names = generator.bases.samples()
        start = int(rng.integers(len(generator.reachable)))
        left = [*generator.reachable[start:], *generator.reachable[:start]]
        groups = []
        while left:
            leader = left[0]
            base, patch = self._base_for(leader, rng)
            column = generator.applicable[:, names.index(base)]
            followers = [target for target in left[1:_WINDOW] if column[target]][: _SHARE - 1]
            most = FAMILY_SIZE // (1 + len(followers))
            blocks = [
                self._block(number, target, rare.get(target), patch if target == leader else {}, most) for target in (leader, *followers)
            ]
            groups.append((base, tuple(blocks)))
            taken = {leader, *followers}
            left = [target for target in left if target not in taken]
        return groups

    def _near_groups(self, number: int, rng: np.random.Generator, rare: Mapping[int, list[int]]) -> list[tuple[str, tuple[Block, ...]]]:
        """Every check that has something unseen, in bases in which just one part of its condition does not hold, two parts a pass."""
        names, groups = self.generator.bases.samples(), []
        for turn in (2 * number, 2 * number + 1):
            lacking = {target: self.generator.lacking(target, turn) for target in self.generator.reachable if target in rare}
            left = [target for target, bases in lacking.items() if bases.any()]
            rng.shuffle(left)
            while left:
                base = int(rng.choice(np.flatnonzero(lacking[left[0]])))
                taken = [target for target in left if lacking[target][base]][:_SHARE]
                blocks = tuple(Block(target, _near_rows(number), int(rng.integers(1 << 16)), {}, tuple(rare[target])) for target in taken)
                groups.append((names[base], blocks))
                left = [target for target in left if target not in taken]
        return groups

    def _block(self, number: int, target: int, sought: Sequence[int] | None, patch: Patch, most: int) -> Block:
        """`sought`: the errors of the check that have not shown; None where nothing about it is unseen."""
        errors = tuple(sought or ())
        if number == 0:
            return Block(target, 2 * min(len(self.generator.targets[target].singles), _FIRST_SINGLES) or _FIRST_ROWS, 0, patch, errors)
        before = _FIRST_SINGLES + sum(_rows(earlier, False) // 2 for earlier in range(1, number))
        return Block(target, min(_rows(number, sought is not None), most), before, patch, errors)

    def _base_for(self, target: int, rng: np.random.Generator) -> Way:
        """A base in which the check applies, or one that can be changed so that it does; the captured state where none is found."""
        names = self.generator.bases.samples()
        found = self.generator.some_base(target, rng, nearly=False)
        if found is not None:
            return names[found], {}
        if target not in self._found:
            self._found[target] = self._search_base(target)
        return self._found[target]

    def _search_base(self, target: int) -> Way:
        when = self.generator.targets[target].compiled.when
        rng = np.random.default_rng([self.seed, target])
        for base in self._some_bases(rng, _TRIES_A_CHECK):
            state = self.generator.bases.get(base)
            patch = self.generator.reach.patch(state, when, target, rng) if state is not None else None
            if patch is not None:
                return base, patch
        return self.generator.bases.samples()[0], {}

    def _some_bases(self, rng: np.random.Generator, count: int) -> list[str]:
        names = self.generator.bases.samples()
        return [names[0], *(names[index] for index in rng.choice(len(names), min(count, len(names)), replace=False))]

    def _goal_groups(
        self, number: int, rng: np.random.Generator, unseen: Sequence[Goal], attempts: int, far: bool
    ) -> list[tuple[str, tuple[Block, ...]]]:
        """Rows about states that reach goals: pass `number` tries some of the unseen, going round all of them."""
        groups: dict[str, list[Block]] = {}
        order = np.random.default_rng(self.seed).permutation(len(self.generator.goals.all))
        turn = int(number * _TURN % 1 * len(order))
        waiting = sorted(unseen, key=lambda goal: (order[goal.number] - turn) % len(order))
        for goal, (base, patch) in self._search.ways(waiting[:attempts], rng, far):
            errors = (goal.number,) if self.generator.goals.is_error(goal.number) else ()
            groups.setdefault(base, []).append(Block(goal.check, _GOAL_ROWS, int(rng.integers(1 << 16)), patch, errors))
        return [(base, tuple(blocks[at : at + 2 * _SHARE])) for base, blocks in groups.items() for at in range(0, len(blocks), 2 * _SHARE)]


def _near_rows(number: int) -> int:
    """Rows of one check in a base in which it nearly applies, in a pass and for one part of its condition."""
    return min(_MOST_NEAR_ROWS, _FIRST_ROWS << number - 1)


def _rows(number: int, rare: bool) -> int:
    """Rows of one check in a pass: four times as many from pass to pass, and twice as many for a check with something unseen."""
    return min(_MOST_ROWS, (_FIRST_ROWS << 2 * number) * (2 if rare else 1))
