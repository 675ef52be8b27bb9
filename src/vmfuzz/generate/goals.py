"""What generation looks for: states in which something about a check shows that no candidate has shown yet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from vmfuzz.model.atoms import Atom, atoms_of
from vmfuzz.model.expr import Cond
from vmfuzz.model.predict import Model
from vmfuzz.model.small_errors import SOUGHT, SmallError, errors_of


@dataclass(frozen=True, eq=False)
class Goal:
    """A state to look for: `condition` holds, and no check but `check` (an index in `model.compiled`) is violated up to the stage of that one.

    `number`: its place among all goals of the processor.
    """

    number: int
    check: int
    condition: Cond


class Goals:
    """All goals of one processor: each atom deciding that its check is satisfied, that it is violated; then each small error showing."""

    def __init__(self, model: Model) -> None:
        self.atoms: tuple[Atom, ...] = atoms_of(model)
        self.errors: tuple[SmallError, ...] = errors_of(model, SOUGHT)
        conditions = [(atom.check, atom.goal(way)) for atom in self.atoms for way in (False, True)]
        conditions += [(error.check, error.goal) for error in self.errors]
        self.all = tuple(Goal(number, *parts) for number, parts in enumerate(conditions))

    def of_error(self, row: int) -> Goal:
        """The goal that `errors[row]` shows."""
        return self.all[2 * len(self.atoms) + row]

    def is_error(self, number: int) -> bool:
        """Whether goal `number` is about a small error."""
        return number >= 2 * len(self.atoms)


@lru_cache(maxsize=16)
def goals_of(model: Model) -> Goals:
    """The goals of a processor (kept: there are thousands)."""
    return Goals(model)
