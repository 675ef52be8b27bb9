"""Which families a campaign runs: passes over all checks, small families first, and more rows for what was never seen.

Chunk n of a campaign is pass n: each check gets a block of rows, neighbours that apply in the same base share a family. The blocks grow from pass to
pass, so that everything is tried soon and then ever more deeply. A quarter of the candidates is not directed at anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from vmfuzz.generate.draws import draw
from vmfuzz.generate.families import FAMILY_SIZE, Block, Choice, FamilyPlan, Generator
from vmfuzz.generate.reach import Patch
from vmfuzz.model.atoms import Atom

#: Rows of one check in the first pass besides its single edits, and in any pass at most.
_FIRST_ROWS: Final = 24
_MOST_ROWS: Final = 2048
#: Single edits of one check in the first pass, at most.
_FIRST_SINGLES: Final = 96
#: Checks that share a family, and how far from one another they may be.
_SHARE: Final = 8
_WINDOW: Final = 64
#: States are searched for one goal in so many candidates and for so many goals a pass (a search takes as long as a thousand candidates);
#: each state that is found gets so many rows.
_CANDIDATES_A_GOAL: Final = 1024
_MOST_GOALS: Final = 32
_GOAL_ROWS: Final = 64
#: Bases in which a state is looked for, a goal and pass; and for a check that applies to no base as it is.
_TRIES: Final = 2
_BASES_OF_GOALS: Final = 12
_TRIES_A_CHECK: Final = 6
#: Undirected families among the directed ones.
_DIRECTED_PER_UNDIRECTED: Final = 3

#: An atom and whether it is to decide that its check is violated (True) or satisfied.
Goal = tuple[Atom, bool]


class Schedule:
    """The plans of one campaign on one processor: the same seed and the same goals give the same plans."""

    def __init__(self, generator: Generator, seed: int) -> None:
        self.generator = generator
        self.seed = seed
        self._found: dict[int, tuple[str, Patch]] = {}

    def chunk(self, number: int, unseen: Sequence[Goal]) -> list[FamilyPlan]:
        """The plans of pass `number`; `unseen` are the atoms that have not been seen deciding."""
        rng = np.random.default_rng([self.seed, number])
        rare = {atom.check for atom, _ in unseen}
        groups = self._groups(number, rng, rare)
        if number:
            candidates = sum(block.rows for _, blocks in groups for block in blocks)
            groups += self._goal_groups(rng, unseen, min(candidates // _CANDIDATES_A_GOAL, _MOST_GOALS))
        undirected = -(-len(groups) // _DIRECTED_PER_UNDIRECTED)
        choices = draw(self.generator.choices(), self.seed * 1_000_003 + number, len(groups) + undirected)
        rows = min(FAMILY_SIZE, _SHARE * _rows(number, False))
        plans: list[FamilyPlan] = []
        for ordinal, choice in enumerate(choices):
            if ordinal % (_DIRECTED_PER_UNDIRECTED + 1) == _DIRECTED_PER_UNDIRECTED or not groups:
                plans.append(self.generator.undirected(choice, ordinal + (number << 16), rows))
            else:
                plans.append(self._directed(choice, *groups.pop(0)))
        return plans

    def _directed(self, choice: Choice, base: str, blocks: tuple[Block, ...]) -> FamilyPlan:
        return FamilyPlan(base, choice.seed, sum(block.rows for block in blocks), blocks=blocks)

    def _groups(self, number: int, rng: np.random.Generator, rare: set[int]) -> list[tuple[str, tuple[Block, ...]]]:
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
                self._block(number, target, target in rare, patch if target == leader else {}, most) for target in (leader, *followers)
            ]
            groups.append((base, tuple(blocks)))
            taken = {leader, *followers}
            left = [target for target in left if target not in taken]
        return groups

    def _block(self, number: int, target: int, rare: bool, patch: Patch, most: int) -> Block:
        if number == 0:
            return Block(target, 2 * min(len(self.generator.targets[target].singles), _FIRST_SINGLES) or _FIRST_ROWS, 0, patch)
        before = _FIRST_SINGLES + sum(_rows(earlier, False) // 2 for earlier in range(1, number))
        return Block(target, min(_rows(number, rare), most), before, patch)

    def _base_for(self, target: int, rng: np.random.Generator) -> tuple[str, Patch]:
        """A base in which the check applies, or one that can be changed so that it does; the captured state where none is found."""
        names = self.generator.bases.samples()
        applicable = np.flatnonzero(self.generator.applicable[target])
        if len(applicable):
            return names[int(rng.choice(applicable))], {}
        if target not in self._found:
            self._found[target] = self._search_base(target)
        return self._found[target]

    def _search_base(self, target: int) -> tuple[str, Patch]:
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

    def _goal_groups(self, rng: np.random.Generator, unseen: Sequence[Goal], attempts: int) -> list[tuple[str, tuple[Block, ...]]]:
        """Rows about states in which atoms decide that were never seen deciding."""
        groups: dict[str, list[Block]] = {}
        bases = self._some_bases(rng, _BASES_OF_GOALS)
        for index in rng.permutation(len(unseen))[:attempts]:
            atom, violated = unseen[index]
            found = self._state_for(atom, violated, bases, rng)
            if found is not None:
                base, patch = found
                groups.setdefault(base, []).append(Block(atom.check, _GOAL_ROWS, int(rng.integers(1 << 16)), patch))
        return [(base, tuple(blocks[at : at + 2 * _SHARE])) for base, blocks in groups.items() for at in range(0, len(blocks), 2 * _SHARE)]

    def _state_for(self, atom: Atom, violated: bool, bases: Sequence[str], rng: np.random.Generator) -> tuple[str, Patch] | None:
        names = self.generator.bases.samples()
        applicable = [base for base in bases if self.generator.applicable[atom.check, names.index(base)]] or bases
        for index in rng.permutation(len(applicable))[:_TRIES]:
            base = applicable[index]
            state = self.generator.bases.get(base)
            patch = self.generator.reach.patch(state, atom.goal(violated), atom.check, rng) if state is not None else None
            if patch is not None:
                return base, patch
        return None


def _rows(number: int, rare: bool) -> int:
    """Rows of one check in a pass: four times as many from pass to pass, and twice as many for a check with something unseen."""
    return min(_MOST_ROWS, (_FIRST_ROWS << 2 * number) * (2 if rare else 1))
