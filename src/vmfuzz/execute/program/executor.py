"""The executor `program:COMMAND`: a program in any language that answers VM entries over its standard input and output (docs/program.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.errors import ExecutorError
from vmfuzz.execute.base import Opened, require_fields
from vmfuzz.execute.program.process import HANG_SECONDS, ProgramDied, ProgramProcess
from vmfuzz.execute.program.protocol import END, Answers, Hello, NotSpoken, hello_of, request_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

#: Rows of one batch of the protocol: what is at stake when the program ends, and small beside what Linux lets a program buffer.
ROWS: Final = 1024
_Rows = npt.NDArray[np.intp]


class ProgramExecutor(Opened):
    """The processor that a program is. `command`: the program and its arguments.

    A candidate that ends the program, or gets no answer, is found by halves, and that is its outcome. Raises EnvironmentUnusable where the program
    cannot be started, and ExecutorError where it does not speak the protocol.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = " ".join(command)
        self._answers = Answers()
        self._batches = 0
        #: how often the program was started
        self.starts = 0
        self.process = ProgramProcess(command)
        try:
            self._hello = self._greeted()
        except BaseException:
            self.process.close()
            raise

    @property
    def name(self) -> str:
        """`program NAME`, by the name that it gives itself."""
        return f"program {self._hello.name}"

    @property
    def version(self) -> str:
        """The version that it says to be, or nothing."""
        return self._hello.version

    def capabilities(self) -> Capabilities:
        """The capabilities that it says to have."""
        return self._hello.capabilities

    def known_good(self) -> Vmcs:
        """The state that it says to enter with; else one that is made from its capabilities."""
        return self._hello.known_good

    def _run_batch(self, batch: VmcsBatch) -> Outcomes:
        require_fields(self.name, self._hello.known_good, batch)
        outcomes = Outcomes.empty(len(batch))
        for start in range(0, len(batch), ROWS):
            self._run_chunk(batch, np.arange(start, min(start + ROWS, len(batch))), outcomes)
        outcomes.messages = self._answers.messages
        return outcomes

    def _run_chunk(self, batch: VmcsBatch, rows: _Rows, outcomes: Outcomes) -> None:
        """Run rows; where the program ends, those that it answered count, and of the others the first and the halves run again."""
        pending = [rows]
        while pending:
            part = pending.pop()
            try:
                self._run_part(batch, part, outcomes)
            except ProgramDied as death:
                self._read(death.answers[: len(part)], batch, part, outcomes)
                rest = part[len(death.answers) :]
                self._restarted()
                if len(rest) == 1 and len(part) == 1:
                    outcomes.kind[rest] = Kind.EXECUTOR_CRASHED
                    outcomes.message[rest] = self._answers.message_number(
                        f"the program {'hangs' if death.hangs else 'ended'}: {death.reason}"
                    )
                    continue
                half = max(1, len(rest) // 2)
                # a program that writes each answer at once dies at the first row without one
                pending += [each for each in (rest[half:], rest[1:half], rest[:1]) if len(each)]

    def _run_part(self, batch: VmcsBatch, rows: _Rows, outcomes: Outcomes) -> None:
        request = request_of(batch, rows, self._batches)
        self._batches += 1
        self._read(self.process.exchange(request, len(rows)), batch, rows, outcomes)

    def _read(self, lines: Sequence[bytes], batch: VmcsBatch, rows: _Rows, outcomes: Outcomes) -> None:
        try:
            self._answers.read(lines, batch, rows, outcomes)
        except NotSpoken as wrong:
            raise ExecutorError(f'{self.name}: {wrong}. `vmfuzz doctor --executor "program:{self._command}"` says more') from None

    def _greeted(self) -> Hello:
        """Wait for the hello of a program that was just started."""
        self.starts += 1
        try:
            hello = hello_of(self.process.exchange(b"", 1)[0])
        except ProgramDied as death:
            raise ExecutorError(f"{self._command}: no hello: {death.reason}") from None
        except NotSpoken as wrong:
            raise ExecutorError(f"{self._command}: {wrong}") from None
        self.process.hang_seconds = hello.hang_seconds or HANG_SECONDS
        return hello

    def _restarted(self) -> None:
        """Start the program again; it has to be the same processor."""
        self.process.start()
        if self._greeted() != self._hello:
            raise ExecutorError(f"{self.name}: started again, it sent another hello; expected the same processor each time")

    def ends(self) -> str | None:
        """Ask the program to end; what is wrong with the way in which it does, or None. The executor is closed then."""
        wrong = self.process.ends(END)
        self.close()
        return wrong

    def close(self) -> None:
        """End the program."""
        super().close()
        self.process.close()
