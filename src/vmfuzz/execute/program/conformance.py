"""What is wrong with a program that answers VM entries: `vmfuzz doctor --executor "program:COMMAND"` (docs/program.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.errors import ExecutorError, UsageError
from vmfuzz.execute.conformance import deterministic, mixed_batch, order_does_not_matter
from vmfuzz.execute.program.executor import ProgramExecutor
from vmfuzz.execute.program.process import ProgramDied
from vmfuzz.execute.program.protocol import Answers, NotSpoken, request_of
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.state.batch import VmcsBatch

#: Rows a second below which a campaign is not worth its time: 10,000 candidates take longer than a minute and a half.
SLOWEST: Final = 100
_MOST_NAMED: Final = 4
#: Rows with which speed is measured: a few, that a slow program does not take long, and then as many as it takes.
_FEW, _MANY = 50, 5000


@dataclass(frozen=True)
class Step:
    """One thing that a program must do, and what is wrong with the way in which it does, or, where nothing is, what it did."""

    name: str
    right: bool
    text: str


class _Wrong(Exception):
    """What is wrong with the program."""


def examine(command: Sequence[str]) -> Iterator[Step]:
    """Try a program; ends after the first thing that is wrong, since what follows rests on it.

    Raises EnvironmentUnusable where there is no such program.
    """
    opened: list[ProgramExecutor] = []

    def hello() -> str:
        opened.append(ProgramExecutor(command))
        executor = opened[0]
        known = executor.capabilities().name
        return f"{executor.name}{f' {executor.version}' if executor.version else ''}, with the capabilities of {known}"

    yield (first := _step("hello", hello))
    if not first.right:
        return
    try:
        for name, try_it in _STEPS:
            step = _step(name, lambda try_it=try_it: try_it(opened[0]))  # type: ignore[misc]
            yield step
            if not step.right:
                return
    finally:
        opened[0].close()


def _step(name: str, try_it: Callable[[], str]) -> Step:
    try:
        return Step(name, True, try_it())
    except (_Wrong, AssertionError, NotSpoken) as wrong:
        return Step(name, False, str(wrong))
    except (ExecutorError, UsageError) as wrong:
        return Step(name, False, str(wrong).partition(". `vmfuzz doctor")[0])


def _known_good(executor: ProgramExecutor) -> str:
    """A batch of one row, which must enter: everything else is a mutation of it."""
    good = VmcsBatch(executor.known_good(), {}, count=1)
    try:
        executor.process.exchange(request_of(good, np.arange(1), 0), 1)
    except ProgramDied as death:
        hint = "; is the answer missing, or not flushed with the last row of a batch?" if death.hangs else ""
        raise _Wrong(f"a batch of one row, the known-good VMCS: {death.reason}{hint}") from None
    outcome = executor.run(good)[0]
    if outcome.kind is not Kind.EXIT:
        raise _Wrong(f"the known-good VMCS must enter, but the outcome was: {outcome}. Candidates are mutations of a state that enters")
    return str(outcome)


def _small_batch(executor: ProgramExecutor) -> str:
    return _answers(executor, mixed_batch(executor.known_good()).take(np.arange(_FEW)))


def _large_batch(executor: ProgramExecutor) -> str:
    return _answers(executor, mixed_batch(executor.known_good()))


def _answers(executor: ProgramExecutor, batch: VmcsBatch) -> str:
    """A batch of rows of all kinds: one answer each, in order, and nothing besides."""
    rows = np.arange(len(batch))
    try:
        lines = executor.process.exchange(request_of(batch, rows, 1), len(rows))
    except ProgramDied as death:
        lines, reason = death.answers, death.reason
        _read(lines, batch)
        raise _Wrong(_culprit(executor, batch, rows[len(lines) :], reason)) from None
    _read(lines, batch)
    if rest := executor.process.unasked():
        raise _Wrong(f"it wrote more than one answer per row; the first extra one begins {rest[:80].decode('utf-8', 'backslashreplace')!r}")
    return f"{len(rows)} answers, in order"


def _read(lines: Sequence[bytes], batch: VmcsBatch) -> None:
    Answers().read(lines, batch, np.arange(len(batch)), Outcomes.empty(len(batch)))


def _culprit(executor: ProgramExecutor, batch: VmcsBatch, rows: npt.NDArray[np.intp], reason: str) -> str:
    """The row that ends the program, found by halves, in words."""

    def dies(part: npt.NDArray[np.intp]) -> str | None:
        executor.process.start()
        try:
            executor.process.exchange(b"", 1)
            executor.process.exchange(request_of(batch, part, 0), len(part))
        except ProgramDied as death:
            return death.reason
        return None

    while len(rows) > 1:
        half = len(rows) // 2
        rows = rows[:half] if dies(rows[:half]) else rows[half:]
    alone = dies(rows)
    if alone is None:
        return f"a batch of {len(batch)} rows: {reason}; no row does this alone, so it depends on what ran before, or the rows together take too long"
    changed = batch.base.differences(batch.row(int(rows[0])))
    named = ", ".join(f"{name} = {hexadecimal(value or 0)}" for name, (_, value) in list(changed.items())[:_MOST_NAMED])
    return f"the known-good VMCS with {named or 'nothing changed'}: {alone}. In a campaign that is the outcome of the candidate"


def _same_twice(executor: ProgramExecutor) -> str:
    deterministic(executor)
    return "the same batch gives the same answers"


def _order(executor: ProgramExecutor) -> str:
    order_does_not_matter(executor)
    return "no row depends on the rows before it"


def _speed(executor: ProgramExecutor) -> str:
    rate = _rate(executor, _FEW)
    if rate < SLOWEST:
        raise _Wrong(
            f"{rate:.0f} rows per second of processor time; a campaign needs at least {SLOWEST}, better thousands; do not start anything new for each row"
        )
    if rate > _FEW / 0.1:  # the clock of processor time is too coarse for so few
        rate = _rate(executor, _MANY)
    return f"about {rate:,.0f} rows per second of processor time"


def _rate(executor: ProgramExecutor, rows: int) -> float:
    """Rows a second of the time for which the program worked or slept."""
    before = executor.process.busy_seconds
    executor.run(VmcsBatch(executor.known_good(), {}, count=rows))
    return rows / max(executor.process.busy_seconds - before, 0.01)


def _end(executor: ProgramExecutor) -> str:
    if wrong := executor.ends():
        raise _Wrong(f'after {{"end": true}}: {wrong}; expected exit status 0')
    return 'it exits at {"end": true}'


_STEPS: Final[tuple[tuple[str, Callable[[ProgramExecutor], str]], ...]] = (
    ("known-good state", _known_good),
    ("a small batch", _small_batch),
    ("speed", _speed),
    ("a large batch", _large_batch),
    ("the same twice", _same_twice),
    ("order", _order),
    ("end", _end),
)
