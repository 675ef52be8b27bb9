"""A few single VMCSs on an emulated CPU, for who tries an answer: without columns, and so without numpy, whose import takes longer than all the rest.

The processor is a stored profile's, so nothing has to be asked of it first.
"""

from __future__ import annotations

import struct
from types import TracebackType
from typing import Final, Self

from vmfuzz.arch.live import LIVE
from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.errors import EnvironmentUnusable, ExecutorError, UsageError
from vmfuzz.execute.bochs.library import bochs_library
from vmfuzz.execute.bochs.process import BochsProcess
from vmfuzz.execute.containment.rules import Containment
from vmfuzz.execute.engine_process import WorkerDied
from vmfuzz.execute.wire.abi import constants, status_text, structure
from vmfuzz.execute.wire.record import Record
from vmfuzz.execute.wire.written import written
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

_HANG_SECONDS: Final = 3.0


class SingleEntries:
    """An emulated CPU of the model `cpu`, which executes one VMCS at a time; use it in a `with` statement, which closes it.

    Raises UnknownNameError for an unknown model, and EnvironmentUnusable where the emulated CPU is missing, or is not the version of the profiles.
    """

    def __init__(self, cpu: str) -> None:
        library = bochs_library()
        if not library.is_pinned:
            raise EnvironmentUnusable(f"the stored profiles are not those of Bochs {library.bochs}; open_executor runs any version")
        model, facts = library.model(cpu), capabilities(cpu)
        self.name = f"bochs {cpu}"
        self.known_good = known_good(facts)
        self._containment = Containment(facts, self.known_good)
        self._process = BochsProcess(library, model, hang_seconds=_HANG_SECONDS, small_pages=facts.has("la57"))
        try:
            self._probe()
        except BaseException:
            self.close()
            raise

    def run(self, candidate: Vmcs) -> Outcome:
        """The outcome of one candidate, whose live conditions are those of the known-good VMCS and which describes no memory.

        Raises UsageError for any other, and ExecutorError if the emulated CPU fails.
        """
        if candidate.memory or any(candidate[name] != self.known_good[name] for name in LIVE):
            raise UsageError(
                f"{self.name}: here a candidate has no memory and no live conditions of its own; open_executor runs those that do"
            )
        if self._containment.refusal(candidate) is not None:
            return Outcome(Kind.REFUSED)
        layout, request, result = constants(), self._process.numbers, Record(self._process.memory, constants()["EMU_ROWS"], "result")
        base = written(candidate)
        pairs = [number for pair in base.items() for number in pair]
        struct.pack_into(f"<{len(pairs)}Q", self._process.memory, layout["EMU_LISTS"], *pairs)
        request["base_va"] = request["rows_va"] - layout["EMU_ROWS"] + layout["EMU_LISTS"]
        request["base_count"] = len(base)
        request["row_bytes"], request["row_count"] = structure("result")["size"], 1
        request["flags"] = layout["FLAG_PLATFORM"]
        result["kind"] = Kind.NOT_RUN
        try:
            self._call("COMMAND_RUN")
        except WorkerDied:
            self._process.restart()
            self._probe()
            return Outcome(Kind.EXECUTOR_CRASHED)
        kind = Kind(result["kind"])
        if kind in (Kind.EXIT, Kind.ENTRY_FAILURE):
            return Outcome(kind, result["exit_reason"] & 0xFFFF, result["qualification"])
        return Outcome(kind, result["number"])

    def _probe(self) -> None:
        """Have the worker say where it sees the memory."""
        try:
            self._call("COMMAND_PROBE")
        except WorkerDied as death:
            raise ExecutorError(f"{self.name}: {death.reason}") from None

    def _call(self, command: str) -> None:
        request = self._process.numbers
        request["command"] = constants()[command]
        self._process.call()
        if request["status"] != constants()["STATUS_DONE"]:
            raise ExecutorError(f"{self.name}: {status_text(request['status'], request['detail'])}")

    def close(self) -> None:
        """End the worker."""
        self._process.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
