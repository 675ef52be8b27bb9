"""The complete suite: for each atom of each check a pair of cases that differ in one field and in outcome, or the proof that there is none.

Both cases are found by the solver, confirmed by the model, and run on the executor. This is masking MC/DC: in both cases of a pair the check's truth
hangs on the atom and the outcome on the check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from vmfuzz.comparison.case import Case, base_value, without_idle_parts
from vmfuzz.comparison.processor import Processor, processor_of
from vmfuzz.comparison.trial import Observation, Trial
from vmfuzz.corpus.entries import Entry, Near
from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.generate.reach import Patch
from vmfuzz.generate.solve import Ground, Solver, ground_of
from vmfuzz.model.atoms import Atom, atoms_of
from vmfuzz.model.evaluate import evaluate
from vmfuzz.model.operand_values import OperandValues

#: Bases in which a pair is looked for, at most.
_BASES: Final = 6

PAIR: Final = "pair"
NO_PAIR: Final = "no pair that differs in one field was found"
UNREACHABLE: Final = "proven unreachable"
NOT_FOUND: Final = "not found"


@dataclass(frozen=True)
class Pair:
    """What became of one atom: `violated` and `satisfied` are cases that differ in `operand`; `proof` names the ways proven impossible."""

    check: str
    atom: str
    status: str
    operand: str | None = None
    violated: Case | None = None
    satisfied: Case | None = None
    proof: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For the suite's index."""
        return {
            "check": self.check,
            "atom": self.atom,
            "status": self.status,
            "operand": self.operand,
            "violated": self.violated.id if self.violated else None,
            "satisfied": self.satisfied.id if self.satisfied else None,
            "proof": list(self.proof),
        }


class Suite:
    """Makes the pairs of one processor; raises EnvironmentUnusable where the solver is not installed."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._generator = trial.generator
        self._solver = Solver(trial.model, trial.generator.bases.captured, trial.generator.can_vary)

    def atoms(self, ids: Sequence[str] = ()) -> list[Atom]:
        """The atoms of these checks, or of all."""
        compiled = self._trial.model.compiled
        return [atom for atom in atoms_of(self._trial.model) if not ids or compiled[atom.check].check.id in ids]

    def pair(self, atom: Atom) -> Pair:
        """The pair of an atom, or why there is none."""
        id, text = self._trial.model.compiled[atom.check].check.id, str(atom)
        try:
            proof = tuple(word for word, way in (("violated", True), ("satisfied", False)) if self.proven_impossible(atom, way))
            if proof:
                return Pair(id, text, UNREACHABLE, proof=proof)
            best = Pair(id, text, NOT_FOUND)
            for found in self._pairs(id, atom):
                if found.status == PAIR:
                    return found
                best = found
        except EnvironmentUnusable as error:
            return Pair(id, text, f"{NOT_FOUND}: {error}")
        return best

    def proven_impossible(self, atom: Atom, violated: bool) -> bool:
        """Whether the solver proves that the atom never decides this way. Raises EnvironmentUnusable where the solver gives up."""
        return not self._solver.possible(atom.goal(violated), atom.check)

    def case(self, atom: Atom, violated: bool) -> Case | None:
        """A case in which the atom decides this way, whatever may be of the other way; None where none was found."""
        for name in self._bases(atom.check):
            base = self._generator.bases.get(name)
            if base is not None:
                patch = self._solver.state(atom.goal(violated), atom.check, ground_of(base, self._generator.can_vary))
                case = self._confirmed(name, patch, atom, violated)
                if case is not None:
                    return case
        return None

    def _pairs(self, id: str, atom: Atom) -> Iterator[Pair]:
        """What was found from each base: a pair, or the first of two cases."""
        for name in self._bases(atom.check):
            base = self._generator.bases.get(name)
            if base is None:
                continue
            ground = ground_of(base, self._generator.can_vary)
            for first in (True, False):
                patch = self._solver.state(atom.goal(first), atom.check, ground)
                case = self._confirmed(name, patch, atom, first)
                if patch is None or case is None:
                    continue
                for operand, other in self._others(atom, ground, patch, first):
                    second = self._confirmed(name, {**patch, **other}, atom, not first)
                    if second is not None:
                        violated, satisfied = (case, second) if first else (second, case)
                        yield Pair(id, str(atom), PAIR, operand, violated, satisfied)
                yield Pair(id, str(atom), NO_PAIR, None, case if first else None, None if first else case)

    def _others(self, atom: Atom, ground: Ground, patch: Patch, first: bool) -> Iterator[tuple[str, Patch]]:
        """Changes of one operand that turn the atom's decision round."""
        for operand in sorted(atom.condition.reads):
            if ground.can_vary(operand):
                other = self._solver.state(atom.goal(not first), atom.check, ground.only(operand, patch))
                if other is not None:
                    yield operand, other

    def _bases(self, check: int) -> list[str]:
        """Bases in which the check applies, the simplest first; then the captured state."""
        names = self._generator.bases.samples()
        applicable = np.flatnonzero(self._generator.applicable[check])
        return list(dict.fromkeys([*(names[index] for index in applicable[: _BASES - 1]), names[0]]))

    def _confirmed(self, name: str, patch: Patch | None, atom: Atom, violated: bool) -> Case | None:
        """The case, if the model says of it what the solver does: the atom decides, and no other check of the stage is violated."""
        base = self._generator.bases.get(name)
        if patch is None or base is None:
            return None
        case = Case(name, without_idle_parts(base, patch))
        if not self._trial.applies(case):
            return None
        prediction = self._trial.predict(base, [case.mutation]).prediction
        step = self._trial.model.compiled[atom.check].step
        wanted = [atom.check] if violated else []
        found = [number for number, truth in prediction.violated.items() if bool(np.all(truth))]
        early = [number for number in found if self._trial.model.compiled[number].step[0] <= step[0]]
        decides = bool(np.all(evaluate(atom.goal(violated), OperandValues(prediction.batch), {})))
        return case if decides and early == wanted else None


def entries_of(trial: Trial, pairs: Sequence[Pair], on_case: Callable[[], None] = lambda: None) -> dict[str, Entry]:
    """Run the cases of all pairs; corpus entries by id, each with its pair as the nearest other case."""
    processor = processor_of(trial.executor)
    shown: dict[str, Observation] = {}
    entries: dict[str, Entry] = {}
    for pair in pairs:
        cases = [case for case in (pair.violated, pair.satisfied) if case is not None]
        for case in cases:
            if case.id not in shown:
                shown[case.id] = trial.observe(case)
                on_case()
        for case in cases:
            near = next((other for other in cases if other is not case), None)
            if case.id not in entries:
                entries[case.id] = _entry(trial, case, near, pair, shown, processor)
    return entries


def _entry(trial: Trial, case: Case, near: Case | None, pair: Pair, shown: dict[str, Observation], processor: Processor) -> Entry:
    observation = shown[case.id]
    way = "violated" if case is pair.violated else "satisfied"
    reason = f"suite: decides that {pair.check} is {way} by {pair.atom}"
    verdict = observation.comparison if observation.comparison.startswith("deviation:") else "regression-guard"
    if observation.comparison in ("mismatch", "executor-crash"):
        verdict = "open"
    neighbours: tuple[Near, ...] = ()
    if near is not None and pair.operand is not None:
        base = trial.base(case.base)
        assert base is not None
        value = near.mutation.get(pair.operand, base_value(base, pair.operand))
        neighbours = (Near(pair.operand, value, shown[near.id].actual),)
    return Entry(case, observation.kind, observation.checks, verdict, reason, (), neighbours).with_observation(observation, processor)
