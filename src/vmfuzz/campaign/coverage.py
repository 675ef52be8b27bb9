"""What a campaign has seen: atoms deciding, small errors that would have shown, boundary values, pairs of checks violated together.

All of it is arrays of truth values, cheap to keep, to store and to merge. What has been seen is not looked for again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.fields import FIELDS
from vmfuzz.comparison.compare import Comparison, Verdict
from vmfuzz.generate.boundary import Edit, edits_of
from vmfuzz.generate.goals import Goal, goals_of
from vmfuzz.model.atoms import Atom
from vmfuzz.model.check import Stage
from vmfuzz.model.evaluate import Truth
from vmfuzz.model.expr import Cond
from vmfuzz.model.predict import BatchPrediction, Model

Flags = npt.NDArray[np.bool_]

#: Of each batch, so many rows are looked at for pairs of checks.
_PAIR_ROWS: Final = 16


@lru_cache(maxsize=16)
def _boundaries(model: Model) -> tuple[tuple[int, str, Edit], ...]:
    return tuple(
        (number, name, edit)
        for number, compiled in enumerate(model.compiled)
        for name in compiled.check.fields
        if name in FIELDS
        for edit in edits_of(compiled.violated, name)
    )


@dataclass
class _Decisions:
    """What is to be looked at in one batch: numbers of atoms and of errors, and for each of these (`of_atom` says which) its condition, the truth of
    its check, and the rows in which no other check decides.
    """

    atoms: list[int] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    of_atom: list[bool] = field(default_factory=list)
    conditions: list[Cond] = field(default_factory=list)
    violated: list[Truth] = field(default_factory=list)
    alone: list[Flags] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


class Coverage:
    """What was seen on one processor.

    `atoms`: bool (atoms, 2), whether each atom was seen deciding that its check is satisfied, violated. `errors`: bool (n,), whether each small error
    that a processor may have in a check would have shown. `boundaries`: bool (n,), whether each boundary value of each check ran. `pairs`: bool
    (checks, checks), whether two checks were seen violated by one candidate (a sample).
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.goals = goals_of(model)
        self.atoms: Flags = np.zeros((len(self.goals.atoms), 2), np.bool_)
        self.errors: Flags = np.zeros(len(self.goals.errors), np.bool_)
        self.boundaries: Flags = np.zeros(len(_boundaries(model)), np.bool_)
        self.pairs: Flags = np.zeros((len(model.compiled), len(model.compiled)), np.bool_)
        #: by check what `_left` gives, until more of it is seen
        self._known_left: dict[int, tuple[list[int], list[int], list[Cond]]] = {}

    @property
    def atom_list(self) -> tuple[Atom, ...]:
        """The atoms that the rows of `atoms` are about."""
        return self.goals.atoms

    @property
    def boundary_list(self) -> tuple[tuple[int, str, Edit], ...]:
        """What `boundaries` is about: index of the check, operand, and (keep, set) by which the value is made."""
        return _boundaries(self.model)

    def unseen(self) -> list[tuple[Atom, bool]]:
        """Atoms that were never seen deciding, and which way round."""
        return [(self.atom_list[row], bool(way)) for row, way in np.argwhere(~self.atoms)]

    def unseen_goals(self) -> list[Goal]:
        """What generation should look for; goals that plainly cannot be reached are left out."""
        seen = np.concatenate([self.atoms.ravel(), self.errors])
        return [goal for goal in (self.goals.all[number] for number in np.flatnonzero(~seen)) if goal.possible]

    def merge(self, other: Coverage) -> None:
        """Add what another campaign on the same processor has seen."""
        self.atoms |= other.atoms
        self.errors |= other.errors
        self.boundaries |= other.boundaries
        self.pairs |= other.pairs
        self._known_left.clear()

    @cached_property
    def _atoms_by_check(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for row, atom in enumerate(self.atom_list):
            found.setdefault(atom.check, []).append(row)
        return found

    @cached_property
    def _errors_by_check(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for row, error in enumerate(self.goals.errors):
            found.setdefault(error.check, []).append(row)
        return found

    @cached_property
    def _boundaries_by_check(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for row, (check, _, _) in enumerate(self.boundary_list):
            found.setdefault(check, []).append(row)
        return found

    def to_json(self) -> dict[str, str]:
        """The flags as hexadecimal digits, for the store."""
        return {name: np.packbits(flags).tobytes().hex() for name, flags in self._flags().items()}

    def restore(self, data: dict[str, str]) -> None:
        """Take what `to_json` gave."""
        for name, flags in self._flags().items():
            bits = np.unpackbits(np.frombuffer(bytes.fromhex(data[name]), np.uint8), count=flags.size)
            flags[...] = bits.reshape(flags.shape)
        self._known_left.clear()

    def _flags(self) -> dict[str, Flags]:
        return {"atoms": self.atoms, "errors": self.errors, "boundaries": self.boundaries, "pairs": self.pairs}

    def add(self, comparison: Comparison, per_stage: dict[Stage, npt.NDArray[np.uint16]], checks: Collection[int] = ()) -> None:
        """Look at one batch; `per_stage` says how many checks of each stage each row violates.

        `checks`: those that the batch is directed at, to which looking is limited (it takes a while); none: all.
        """
        prediction = comparison.prediction
        ran = comparison.verdict <= Verdict.DEVIATION
        agrees = comparison.verdict == Verdict.AGREES
        decisions = _Decisions()
        for check in dict.fromkeys(checks) or prediction.affected:
            self._ask(check, prediction, per_stage, agrees, decisions)
            self._add_boundaries(check, prediction, ran)
        self._add_decisions(prediction, decisions)
        self._add_pairs(prediction)

    def _ask(
        self,
        check: int,
        prediction: BatchPrediction,
        per_stage: dict[Stage, npt.NDArray[np.uint16]],
        agrees: Flags,
        decisions: _Decisions,
    ) -> None:
        """An atom decides, and an error shows, where the check's truth hangs on it and the outcome on the check: note what is to be looked at."""
        atoms, errors, conditions = self._left(check)
        if not conditions:
            return
        step = prediction.model.compiled[check].step
        violated: Truth = prediction.violated.get(check, False)
        reached = prediction.reached.get(step)
        if reached is None:
            reached = sum(per_stage[stage] for stage in Stage if stage < step[0]) == 0 if step[0] else True
        alone = agrees & (per_stage[step[0]] == np.asarray(violated, np.uint16)) & np.asarray(reached, np.bool_)
        if not alone.any():
            return
        decisions.atoms += atoms
        decisions.errors += errors
        decisions.violated.append(violated)
        decisions.alone.append(alone)
        decisions.sizes.append(len(atoms) + len(errors))
        decisions.conditions += conditions
        decisions.of_atom += [True] * len(atoms) + [False] * len(errors)

    def _left(self, check: int) -> tuple[list[int], list[int], list[Cond]]:
        """Of a check, the atoms and the errors that are still looked for, and the conditions of all of them."""
        if check not in self._known_left:
            atoms = [row for row in self._atoms_by_check.get(check, ()) if not self.atoms[row].all()]
            errors = [row for row in self._errors_by_check.get(check, ()) if not self.errors[row]]
            conditions = [*(self.atom_list[row].flipped for row in atoms), *(self.goals.errors[row].erroneous for row in errors)]
            self._known_left[check] = atoms, errors, conditions
        return self._known_left[check]

    def _add_decisions(self, prediction: BatchPrediction, decisions: _Decisions) -> None:
        if not decisions.conditions:
            return
        more, less = prediction.conditions.differences(decisions.conditions, decisions.violated, decisions.alone, decisions.sizes)
        of_atom = np.array(decisions.of_atom)
        # an atom decides that the check is violated where the flipped condition does not hold, and the reverse
        atoms = np.array(decisions.atoms, np.intp)
        seen = np.stack([more[of_atom], less[of_atom]], axis=1)
        new = {self.atom_list[row].check for row in atoms[(seen & ~self.atoms[atoms]).any(axis=1)]}
        self.atoms[atoms] |= seen
        # as in the error's goal
        errors = np.array(decisions.errors, np.intp)
        certain = np.array([self.goals.errors[row].certain for row in decisions.errors], np.bool_)
        self.errors[errors] = more[~of_atom] | less[~of_atom] & certain
        new |= {self.goals.errors[row].check for row in errors[self.errors[errors]]}
        for check in new:
            del self._known_left[check]

    def _add_boundaries(self, check: int, prediction: BatchPrediction, ran: Flags) -> None:
        for row in self._boundaries_by_check.get(check, ()):
            if self.boundaries[row]:
                continue
            _, name, (keep, to) = self.boundary_list[row]
            column = prediction.batch.columns.get(name)
            if column is not None:
                changed = np.uint64(FIELDS[name].mask & ~keep)
                self.boundaries[row] = bool((ran & (column & changed == np.uint64(to))).any())

    def _add_pairs(self, prediction: BatchPrediction) -> None:
        checks = np.array(list(prediction.violated), np.intp)
        for row in range(0, len(prediction), -(-len(prediction) // _PAIR_ROWS)):
            here = [truth if isinstance(truth, bool) else bool(truth[row]) for truth in prediction.violated.values()]
            violated = checks[here]
            self.pairs[np.ix_(violated, violated)] = True
