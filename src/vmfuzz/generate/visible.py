"""Whether a small error of a processor can show at all: a question for the solver (z3, the optional extra `solver`).

An error shows in a state where the outcome that the erroneous processor takes is one that the true model does not allow. Where there is no such state
the error is equivalent to none: other checks with the same outcome, or the processor's capabilities, hide it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.generate.families import Generator
from vmfuzz.generate.solve import Formulas, Ground, answer_of, solver_library
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import KNOWN_SUFFIX, MEMORY_OPERANDS
from vmfuzz.model.predict import Model
from vmfuzz.model.small_errors import SmallError
from vmfuzz.state.batch import VmcsBatch

#: How hard the solver tries, in steps of its own (z3's "rlimit"), so that the answer does not hang on the machine: some 40 seconds.
_STEPS: Final = 100_000_000


class Visibility:
    """Asks about one processor.

    `ground`: which operands a candidate can vary, and what the others are; `described`: addresses of words of memory that a case can describe.
    """

    def __init__(self, model: Model, ground: Ground, described: Collection[int]) -> None:
        self._z3 = solver_library()
        self._model = model
        self._ground = ground
        self._described = sorted(described)
        self._formulas = Formulas()
        self._violated = [self._formulas.of(compiled.violated) for compiled in model.compiled]
        self._unknown = [self._formulas.of(compiled.unknown) for compiled in model.compiled]
        masks = [compiled.outcomes for compiled in model.compiled]
        self._bits = [bit for bit in range(64) if any(mask >> bit & 1 for mask in masks)]
        self._enters, self._allowed = self._walk(self._violated)

    def witness(self, error: SmallError) -> dict[str, int] | None:
        """Values of all operands in a state where the error shows; None where it is proven that there is none.

        What memory holds is taken as independent of its address. Raises EnvironmentUnusable where the solver gives up.
        """
        z3 = self._z3
        erroneous = self._formulas.of(error.erroneous)
        enters, allowed = self._walk([*self._violated[: error.check], erroneous, *self._violated[error.check + 1 :]])
        solver = z3.Solver()
        solver.set("rlimit", _STEPS)
        solver.add(erroneous != self._violated[error.check], self._shows(enters, allowed))
        for name, variable in list(self._formulas.variables.items()):
            if name.endswith(KNOWN_SUFFIX):
                solver.add(z3.Implies(variable == 1, self._is_described(name.removesuffix(KNOWN_SUFFIX))))
            elif not self._ground.can_vary(name):
                solver.add(variable == self._ground.values(name))
        answer = answer_of(solver)
        if answer == z3.unknown:
            raise EnvironmentUnusable(f"the solver gave up after {_STEPS:,} steps: {solver.reason_unknown()}")
        if answer == z3.unsat:
            return None
        found = solver.model()
        return {name: found.eval(variable, model_completion=True).as_long() for name, variable in self._formulas.variables.items()}

    def _is_described(self, name: str) -> Any:
        """Whether a memory operand lies at an address that a case can describe."""
        operand = MEMORY_OPERANDS[name]
        address = (self._formulas.operand(operand.address_field) & operand.address_mask) + operand.offset & ~7
        return self._z3.Or([address == word for word in self._described])

    def _shows(self, enters: Any, allowed: dict[int, Any]) -> Any:
        """The first outcome that the erroneous processor allows is not allowed; it takes failures before entries, in the order of their bits."""
        z3 = self._z3
        shows: list[Any] = []
        earlier: list[Any] = []
        for bit in self._bits:
            shows.append(z3.And(allowed[bit], z3.Not(self._allowed[bit]), *earlier))
            earlier.append(z3.Not(allowed[bit]))
        return z3.Or(*shows, z3.And(enters, z3.Not(self._enters), *earlier))

    def _walk(self, violated: Sequence[Any]) -> tuple[Any, dict[int, Any]]:
        """When a VM entry succeeds, and when each failure (by its bit) is allowed, as `Model.predict_batch` has it."""
        z3 = self._z3
        going_on = z3.BoolVal(True)
        allowed: dict[int, list[Any]] = {bit: [] for bit in self._bits}
        for step in sorted({compiled.step for compiled in self._model.compiled}):
            here = [number for number, compiled in enumerate(self._model.compiled) if compiled.step == step]
            for number in here:
                for bit in self._bits:
                    if self._model.compiled[number].outcomes >> bit & 1:
                        allowed[bit].append(z3.And(z3.Or(violated[number], self._unknown[number]), going_on))
            stops = (z3.And(violated[number], z3.Not(self._unknown[number])) for number in here if self._model.compiled[number].certain)
            going_on = z3.And(going_on, *(z3.Not(stop) for stop in stops))
        return going_on, {bit: z3.Or(conditions) for bit, conditions in allowed.items()}


def visibility_of(generator: Generator) -> Visibility:
    """The questions for a generator's processor: a candidate can vary what the generator can, memory is what its bases describe."""
    bases = generator.bases
    values = OperandValues(VmcsBatch(bases.captured, {}, count=1))
    states = [bases.get(name) for name in bases.samples()]
    described = {address for state in states if state is not None for address in state.memory}
    return Visibility(generator.model, Ground(lambda name: int(values(name)), generator.can_vary), described)
