"""The executor for a machine with the bootable image: the module's, and a candidate that resets the machine is an outcome."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.errors import ExecutorError
from vmfuzz.execute.kmod.executor import KmodExecutor
from vmfuzz.execute.serial.device import MachineReset, SerialDevice, digest_of
from vmfuzz.execute.wire.family import Family
from vmfuzz.state.batch import VmcsBatch

#: So often in a row the machine may be reset while no candidate runs: whoever does it more often does not want us there.
_MOST_IDLE_RESETS: Final = 5


class SerialExecutor(KmodExecutor):
    """The processor behind a serial line; `options` as for KmodExecutor.

    A candidate that resets the machine is EXECUTOR_CRASHED: the image's black box names it, and what remains on both sides of it runs again. Where
    memory did not last, halves of the request do.
    """

    #: bytes of rows in a request: image/line.h has room for these, a base and 256 columns
    chunk_bytes = 1 << 20

    def __init__(self, device: SerialDevice, **options: Any) -> None:
        self._line = device
        self._idle_resets = 0
        super().__init__(device, **options)

    def culprit(self, batch: VmcsBatch) -> int | None:
        """Which candidate of a batch ran when the machine was reset before it was opened; None where the image's black box knows of none."""
        hello = self._line.link.hello
        if not hello.died_of_a_row:
            return None
        family = Family.of(batch, self.arena, self._known_good)
        for rows in self._chunks(family, len(batch)):
            if digest_of(self._pack(family, rows, set())) == hello.digest and hello.row < len(rows):
                return int(rows[hello.row])
        return None

    def _run_chunk(self, family: Family, rows: npt.NDArray[np.intp], outcomes: Outcomes) -> None:
        pending = [rows]
        while pending:
            part = pending.pop()
            if not len(part):
                continue
            try:
                super()._run_chunk(family, part, outcomes)
            except MachineReset as reset:
                self._begin_again(reset)
                pending += self._without_culprit(reset, part, outcomes)

    def _without_culprit(self, reset: MachineReset, part: npt.NDArray[np.intp], outcomes: Outcomes) -> list[npt.NDArray[np.intp]]:
        """What is to be run after a reset, the first of it last."""
        culprit = reset.row
        if culprit is None and (reset.hello.died_of_nothing or len(part) > 1):
            self._idle_resets += reset.hello.died_of_nothing
            half = 0 if reset.hello.died_of_nothing else len(part) // 2
            return [part[half:], part[:half]]
        culprit = culprit or 0
        if culprit >= len(part):
            raise ExecutorError(
                f"{self.name}: the image names row {culprit} of a request with {len(part)}; is it of this version of vmfuzz?"
            )
        outcomes.kind[part[culprit]] = Kind.EXECUTOR_CRASHED
        outcomes.message[part[culprit]] = self._messages.setdefault(reset.hello.how, len(self._messages))
        self._idle_resets = 0
        return [part[culprit + 1 :], part[:culprit]]

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
