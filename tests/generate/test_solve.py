"""The solver and signals: Ctrl-C while it thinks ends it, and is not lost."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest

from vmfuzz.generate.solve import answer_of

z3 = pytest.importorskip("z3")


class _Slow:
    """A solver that gets Ctrl-C while it thinks, and thinks on until somebody interrupts it."""

    def __init__(self) -> None:
        self.ctx = self
        self.settings: dict[str, Any] = {}
        self._interrupted = threading.Event()

    def set(self, name: str, value: object) -> None:
        """A setting."""
        self.settings[name] = value

    def interrupt(self) -> None:
        """End what it thinks about."""
        self._interrupted.set()

    def check(self) -> object:
        """Think."""
        os.kill(os.getpid(), signal.SIGINT)
        self._interrupted.wait()
        return z3.unknown


def test_ctrl_c_ends_the_solver() -> None:
    solver = _Slow()
    with pytest.raises(KeyboardInterrupt):
        answer_of(solver)
    assert solver.settings == {"ctrl_c": False}, "by itself it takes the signal for its own"


def test_it_answers_as_by_itself() -> None:
    number, wanted = z3.BitVec("number", 64), z3.Bool("wanted")
    solver = z3.Solver()
    solver.add(number * number == 0x19, z3.Implies(wanted, number == 6))
    assert answer_of(solver) == z3.sat
    assert answer_of(solver, wanted) == z3.unsat
    assert [str(literal) for literal in solver.unsat_core()] == ["wanted"]


def test_a_real_solver_is_interrupted() -> None:
    """Factors of a product of two large primes: no solver here comes to an end with them."""
    left, right = z3.BitVec("left", 256), z3.BitVec("right", 256)
    solver = z3.Solver()
    solver.add(left * right == (2**89 - 1) * (2**107 - 1), z3.ULT(left, 2**110), z3.ULT(right, 2**110), z3.UGT(left, 1), z3.UGT(right, 1))
    solver.set("rlimit", 1_000_000_000)  # in case it is interrupted before it begins

    def ask() -> None:
        threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
        answer_of(solver)

    with pytest.raises(KeyboardInterrupt):
        ask()
