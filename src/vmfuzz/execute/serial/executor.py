"""The executor for a machine with the bootable image: the module's, and a candidate that resets the machine is an outcome."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.errors import ExecutorError
from vmfuzz.execute.kmod.executor import KmodExecutor
from vmfuzz.execute.serial.device import MachineReset, SerialDevice, chunk_digest, row_of
from vmfuzz.execute.wire.culprits import Death, run_around
from vmfuzz.execute.wire.family import Family
from vmfuzz.state.batch import VmcsBatch

#: So often in a row the machine may be reset while no candidate runs: whoever does it more often does not want us there.
_MOST_IDLE_RESETS: Final = 5


class SerialExecutor(KmodExecutor):
    """The processor behind a serial line; `options` as for KmodExecutor.

    `virtual`: whether the machine is a virtual one that nobody else uses, so that at risk "bold" candidates may cost it a reset
    (docs/hypervisors.md); None: what CPUID says, by which hypervisors make themselves known.

    A candidate that resets the machine is EXECUTOR_CRASHED: the image's black box names it, and what remains on both sides of it runs again. Where
    memory did not last, halves of the request do.
    """

    #: bytes of rows in a request: image/line.h has room for these, a base and 256 columns
    chunk_bytes = 1 << 20

    def __init__(self, device: SerialDevice, *, virtual: bool | None = None, **options: Any) -> None:
        self._line = device
        self._said_virtual = virtual
        self._idle_resets = 0
        super().__init__(device, **options)

    def _may_be_lost(self) -> bool:
        if self.risk != "bold":
            return False
        says = bool(self._capabilities.registers(1, 0)[2] >> 31 & 1)  # CPUID.1:ECX[31], which no processor has
        return says if self._said_virtual is None else self._said_virtual

    def culprit(self, batch: VmcsBatch) -> int | None:
        """Which candidate of a batch ran when the machine was reset before it was opened; None where the image's black box knows of none."""
        hello = self._line.link.hello
        if not hello.died_of_a_row:
            return None
        family = Family.of(batch, self.arena, self._known_good)
        for rows in self._chunks(family, len(batch)):
            row = row_of(hello, chunk_digest(self._pack(family, rows, set())))
            if row is not None and row < len(rows):
                return int(rows[row])
        return None

    def _run_chunk(self, family: Family, rows: npt.NDArray[np.intp], outcomes: Outcomes) -> None:
        chunk: int | None = None

        def attempt(part: npt.NDArray[np.intp]) -> Death | None:
            nonlocal chunk
            # what is left after a reset is named as a part of the whole, which is what --resume knows
            self._line.chunk, self._line.first_row = chunk, int(part[0] - rows[0])
            try:
                super(SerialExecutor, self)._run_chunk(family, part, outcomes)
            except MachineReset as reset:
                chunk = self._line.chunk
                self._begin_again(reset)
                return self._death(reset, len(part))
            return None

        def blame(row: int, how: str) -> None:
            outcomes.kind[row] = Kind.EXECUTOR_CRASHED
            outcomes.message[row] = self._messages.setdefault(how, len(self._messages))

        run_around(rows, attempt, blame)

    def _death(self, reset: MachineReset, count: int) -> Death:
        """How the machine died of a request of so many rows."""
        idle = reset.hello.died_of_nothing
        self._idle_resets = self._idle_resets + 1 if idle else 0
        if reset.row is not None and reset.row >= count:
            raise ExecutorError(f"{self.name}: the image names row {reset.row} of a request with {count}; is it of this version of vmfuzz?")
        return Death(reset.hello.how, reset.row, idle)

    def _begin_again(self, reset: MachineReset) -> None:
        """Make the machine what it was before; raises ExecutorError where it is another one now."""
        if self._idle_resets >= _MOST_IDLE_RESETS:
            raise reset
        info, captured = self._info, self._captured
        self._info = self._facts("IOC_INFO", "info")
        self._capture()
        if self._captured != captured or self._info["arena_pa"] != info["arena_pa"]:
            raise ExecutorError(
                f"{self.name}: after its reset the machine is not as before (its captured VMCS differs); start a new campaign"
            )
        if self.poison:
            self._send_canary()
