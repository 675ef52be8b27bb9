"""Asking a solver (z3, the optional extra `solver`) for a state in which a condition holds, or for the proof that there is none.

Operands are bit vectors. What a memory operand holds is taken as independent of its address, and as described by the case; so "no state" is a
proof, while a state has to be confirmed by prediction and execution. Operands that no candidate can vary keep their values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from vmfuzz.errors import EnvironmentUnusable, ModelError
from vmfuzz.generate.reach import Patch, memory_word
from vmfuzz.model.expr import Cond, Node
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import KNOWN_SUFFIX, MEMORY_OPERANDS, operand_width
from vmfuzz.model.predict import Model
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

#: How hard the solver tries, in steps of its own (z3's "rlimit"), so that the answer does not hang on the machine: some 20 seconds.
_STEPS: Final = 50_000_000


def solver_library() -> Any:
    """The module z3; raises EnvironmentUnusable where it is not installed."""
    try:
        import z3
    except ImportError:
        raise EnvironmentUnusable("the solver is not installed: pip install 'vmfuzz[solver]' (package z3-solver)") from None
    return z3


def answer_of(solver: Any, *assumptions: Any) -> Any:
    """What the solver says. Ctrl-C and SIGTERM end it at once: by itself it takes Ctrl-C for its own, and lets nobody know that there was one."""
    solver.set("ctrl_c", False)
    with ThreadPoolExecutor(1) as elsewhere:  # so that this thread gets the signal
        answer = elsewhere.submit(solver.check, *assumptions)
        try:
            return answer.result()
        except BaseException:
            solver.ctx.interrupt()
            raise


class Formulas:
    """Conditions of the algebra as z3's, over variables whose names end in `suffix`."""

    def __init__(self, suffix: str = "") -> None:
        self._z3 = solver_library()
        self._suffix = suffix
        self._memo: dict[int, Any] = {}
        self.variables: dict[str, Any] = {}

    def operand(self, name: str) -> Any:
        """The operand as a bit vector of its width."""
        if name not in self.variables:
            self.variables[name] = self._z3.BitVec(name + self._suffix, operand_width(name))
        return self.variables[name]

    def of(self, node: Node) -> Any:
        """The formula (of a Cond) or the 64-bit vector (of a Bits)."""
        if node.serial not in self._memo:
            self._memo[node.serial] = self._cond(node) if isinstance(node, Cond) else self._bits(node)
        return self._memo[node.serial]

    def _cond(self, node: Node) -> Any:
        z3, op, args = self._z3, node.op, node.args
        if op in ("true", "false"):
            return z3.BoolVal(op == "true")
        if op == "not":
            return z3.Not(self.of(args[0]))
        if op in ("all", "any"):
            return (z3.And if op == "all" else z3.Or)([self.of(arg) for arg in args])
        if op == "bit":
            return z3.Extract(args[1], args[1], self.of(args[0])) == 1
        if op == "eq":
            return self.of(args[0]) == self.of(args[1])
        if op == "le":
            return z3.ULE(self.of(args[0]), self.of(args[1]))
        if op == "one_of":
            return z3.Or([self.of(args[0]) == z3.BitVecVal(value, 64) for value in args[1]])
        raise ModelError(f"condition {op!r} has no formula")

    def _bits(self, node: Node) -> Any:
        z3, op, args = self._z3, node.op, node.args
        if op == "const":
            return z3.BitVecVal(args[0], 64)
        if op == "operand":
            variable = self.operand(args[0])
            return z3.ZeroExt(64 - variable.size(), variable) if variable.size() < 64 else variable
        first = self.of(args[0])
        if op == "slice":
            return z3.ZeroExt(63 - args[1] + args[2], z3.Extract(args[1], args[2], first)) if args[1] - args[2] < 63 else first
        if op in ("shr", "shl"):
            return z3.LShR(first, args[1]) if op == "shr" else first << args[1]
        second = self.of(args[1])
        return {"and": first & second, "or": first | second, "add": first + second}[op]


@dataclass(frozen=True)
class Ground:
    """Where a search starts: the values of all operands, and which of them may be changed."""

    values: Callable[[str], int]
    can_vary: Callable[[str], bool]

    def only(self, name: str, patch: Patch) -> Ground:
        """The same after a patch, with one operand to change."""
        return Ground(lambda other: patch[other] if other in patch else self.values(other), lambda other: other == name)


class Solver:
    """Looks for states of one processor; `base` is a known-good one."""

    def __init__(self, model: Model, base: Vmcs, can_vary: Callable[[str], bool]) -> None:
        self._z3 = solver_library()
        self._model = model
        self._formulas = Formulas()
        self._checks = [self._formulas.of(compiled.violated) for compiled in model.compiled]
        self._free = ground_of(base, lambda name: can_vary(name) or name.endswith(KNOWN_SUFFIX))
        self._can_vary = can_vary

    def possible(self, goal: Cond, target: int) -> bool:
        """Whether some state may have `goal` true and violate no check but `target` up to the stage of that one; False is a proof.

        Raises EnvironmentUnusable where the solver gives up.
        """
        solver = self._solver(goal, target)
        for name, variable in self._formulas.variables.items():
            if name.endswith(KNOWN_SUFFIX):
                solver.add(variable == 1)
            elif not self._can_vary(name):
                solver.add(variable == self._free.values(name))
        return bool(self._answer(solver, []) == self._z3.sat)

    def state(self, goal: Cond, target: int, ground: Ground) -> Patch | None:
        """Values of operands with which `goal` holds and no check but `target` is violated up to the stage of that one; as few as can be.

        None where there are none from this ground. Raises EnvironmentUnusable where the solver gives up.
        """
        solver, kept = self._solver(goal, target), {}
        for name, variable in self._formulas.variables.items():
            stays = variable == ground.values(name)
            if ground.can_vary(name):
                kept[name] = self._z3.Bool(f"keep {name}")
                solver.add(self._z3.Implies(kept[name], stays))
            else:
                solver.add(stays)
        while self._answer(solver, kept.values()) != self._z3.sat:
            core = {str(literal) for literal in solver.unsat_core()}
            given_up = [name for name, literal in kept.items() if str(literal) in core]
            if not given_up:
                return None
            for name in given_up:
                del kept[name]
        found = solver.model()
        values = {name: found.eval(variable, model_completion=True).as_long() for name, variable in self._formulas.variables.items()}
        return {name: value for name, value in values.items() if value != ground.values(name)}

    def _solver(self, goal: Cond, target: int) -> Any:
        stage = self._model.compiled[target].step[0]
        solver = self._z3.Solver()
        solver.set("rlimit", _STEPS)
        solver.add(self._formulas.of(goal))
        for number, formula in enumerate(self._checks):
            if number != target and self._model.compiled[number].step[0] <= stage:
                solver.add(self._z3.Not(formula))
        return solver

    def _answer(self, solver: Any, kept: Iterable[Any]) -> Any:
        answer = answer_of(solver, *kept)
        if answer == self._z3.unknown:
            raise EnvironmentUnusable(f"the solver gave up after {_STEPS:,} steps: {solver.reason_unknown()}")
        return answer


def ground_of(base: Vmcs, can_vary: Callable[[str], bool]) -> Ground:
    """A known-good state as ground; memory operands of which it does not describe the word stay as they are."""
    values = OperandValues(VmcsBatch(base, {}, count=1))

    def may(name: str) -> bool:
        return can_vary(name) and (name not in MEMORY_OPERANDS or memory_word(base, name) is not None)

    return Ground(lambda name: int(values(name)), may)
