"""What generation looks for: states in which something about a check shows that no candidate has shown yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial

from vmfuzz.model.atoms import Atom, atoms_of
from vmfuzz.model.expr import Cond
from vmfuzz.model.predict import Model
from vmfuzz.model.small_errors import SOUGHT, SmallError, errors_of


@dataclass(frozen=True, eq=False)
class Goal:
    """A state to look for: `condition` holds, and no check but `check` (an index in `model.compiled`) is violated up to the stage of that one.

    `number`: its place among all goals of the processor. `possible`: False where the condition is plainly never true. `make`: gives the condition;
    most goals are reached before anybody asks for it.
    """

    number: int
    check: int
    possible: bool
    make: Callable[[], Cond]

    @cached_property
    def condition(self) -> Cond:
        """Where the goal is reached."""
        return self.make()


class Goals:
    """All goals of one processor: each atom deciding that its check is satisfied, that it is violated; then each small error showing."""

    def __init__(self, model: Model) -> None:
        self.atoms: tuple[Atom, ...] = atoms_of(model)
        self.errors: tuple[SmallError, ...] = errors_of(model, SOUGHT)
        goals: list[tuple[int, bool, Callable[[], Cond]]] = [
            (atom.check, atom.can_decide(way), partial(atom.goal, way)) for atom in self.atoms for way in (False, True)
        ]
        goals += [(error.check, error.can_show, error.goal) for error in self.errors]
        self.all = tuple(Goal(number, *parts) for number, parts in enumerate(goals))

    def is_error(self, number: int) -> bool:
        """Whether goal `number` is about a small error."""
        return number >= 2 * len(self.atoms)


@lru_cache(maxsize=16)
def goals_of(model: Model) -> Goals:
    """The goals of a processor (kept: there are thousands)."""
    return Goals(model)
