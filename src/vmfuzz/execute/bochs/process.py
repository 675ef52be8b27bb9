"""One worker process with its shared memory: start it, give it requests, notice when it dies or hangs."""

from __future__ import annotations

import mmap
import os
import select
import signal
import subprocess
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vmfuzz.errors import ExecutorError
from vmfuzz.execute.bochs.library import BochsLibrary
from vmfuzz.execute.engine_process import WorkerDied
from vmfuzz.execute.wire.abi import NO_ROW, constants, native_file, struct_dtype
from vmfuzz.execute.wire.record import Record
from vmfuzz.interrupts import held

if TYPE_CHECKING:
    import numpy.typing as npt

_POLL_SECONDS: Final = 0.05
#: More than the kernel says of a process in one line.
_STAT_BYTES: Final = 4096
#: So much of why a worker gave up is read.
_FATAL_BYTES: Final = 512
#: A worker that makes no progress and uses no processor time either waits for something; it is given up after so many seconds by the clock.
_ASLEEP_SECONDS: Final = 600.0


class BochsProcess:
    """A worker and the memory that it shares with this process; the memory outlives the worker.

    `small_pages`: the page size of the harness; see build_tables in platform.c.
    """

    def __init__(
        self, library: BochsLibrary, model: int, *, hang_seconds: float, plain_platform: bool = False, small_pages: bool = False
    ) -> None:
        self._library = library
        self._platform = native_file("bochs_platform.so")
        self._model = model
        self._plain = plain_platform
        #: for the next start of the worker
        self.small_pages = small_pages
        self.hang_seconds = hang_seconds
        layout = constants()
        self._fd = os.memfd_create("vmfuzz-bochs")
        os.ftruncate(self._fd, layout["EMU_BYTES"])
        self.memory = mmap.mmap(self._fd, layout["EMU_BYTES"])
        image = native_file("engine.bin").read_bytes()
        if len(image) > layout["EMU_TABLES"]:
            raise ExecutorError(f"engine.bin has {len(image)} bytes, more than the {layout['EMU_TABLES']} of its place")
        self._image = image
        #: the numbers of the request; `request` has its lists too
        self.numbers = Record(self.memory, layout["EMU_REQUEST"], "request")
        self._messages = Record(self.memory, layout["EMU_MESSAGES"], "messages")
        # in memory: whoever runs this need not have a directory to write to
        self._stderr = os.fdopen(os.memfd_create("vmfuzz-bochs-stderr"), "w+b")
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    @cached_property
    def request(self) -> Any:
        """Struct vmfuzz_request in the memory."""
        return self.view("EMU_REQUEST", struct_dtype("request"), 1)[0]

    def view(self, place: str, dtype: Any, count: int, offset: int = 0) -> npt.NDArray[Any]:
        """`count` elements of shared memory at a place named in engine.h, plus `offset` bytes."""
        import numpy as np  # not before there are columns: a single VMCS is executed without (single.py)

        return np.frombuffer(self.memory, dtype, count, constants()[place] + offset)

    def _start(self) -> None:
        # A worker that died may have damaged its own code or tables, which lie in shared memory.
        self.memory[: constants()["EMU_HOT"]] = bytes(constants()["EMU_HOT"])
        self.memory[: len(self._image)] = self._image
        command_read, self._command = os.pipe()
        self._reply, reply_write = os.pipe()
        numbers = (
            self._fd,
            command_read,
            reply_write,
            self._model,
            int(self._plain),
            int(self.small_pages),
            os.getpid(),
        )
        script = Path(__file__).with_name("worker.py")
        self._stderr.seek(0)
        self._stderr.truncate()
        try:
            with held():  # the worker ends when this process says so, or ends
                self._process = subprocess.Popen(
                    [
                        self._library.python,
                        "-I",
                        "-S",
                        str(script),
                        str(self._platform),
                        str(self._library.path),
                        *map(str, numbers),
                    ],
                    pass_fds=(self._fd, command_read, reply_write),
                    stdin=subprocess.DEVNULL,
                    stdout=self._stderr,
                    stderr=self._stderr,
                    process_group=0,
                )
        except OSError as error:
            raise ExecutorError(f"cannot start the worker process ({self._library.python}): {error.strerror}") from None
        finally:
            os.close(command_read)
            os.close(reply_write)
        # kept open: it is read at each request
        self._statistics = os.open(f"/proc/{self.pid}/stat", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def pid(self) -> int:
        """Process id of the present worker."""
        return self._process.pid if self._process else 0

    def restart(self) -> None:
        """End the worker, if it still lives, and start another."""
        self._stop()
        self._start()

    def call(self, start_seconds: float = 20.0) -> None:
        """Have the worker serve the request; raises WorkerDied when it dies or makes no progress."""
        self.numbers["current_row"] = NO_ROW
        try:
            os.write(self._command, b"r")
        except BrokenPipeError:
            raise WorkerDied(self._obituary()) from None
        try:
            self._await_reply(start_seconds)
        except KeyboardInterrupt:
            # the worker still owes this answer, which the next request would take for its own
            self.restart()
            raise

    def _await_reply(self, start_seconds: float) -> None:
        """Wait for the answer. The worker's own processor time says whether it hangs: by the clock a busy machine makes any worker slow."""
        row, allowed = NO_ROW, start_seconds
        had, asked = self._processor_seconds(), time.monotonic()
        while not select.select([self._reply], [], [], _POLL_SECONDS)[0]:
            now = self.numbers["current_row"]
            if now != row:
                row, allowed = now, self.hang_seconds
                had, asked = self._processor_seconds(), time.monotonic()
            elif self._processor_seconds() - had > allowed or time.monotonic() - asked > _ASLEEP_SECONDS:
                self._stop()
                raise WorkerDied(f"no progress in {allowed:g} s of processor time: the emulated processor hangs")
        if not os.read(self._reply, 1):
            raise WorkerDied(self._obituary())

    def _processor_seconds(self) -> float:
        """Processor time that the worker has had so far; what it had is gone once it has ended."""
        try:
            fields = os.pread(self._statistics, _STAT_BYTES, 0).rpartition(b")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # in the units in which the kernel counts

    def _obituary(self) -> str:
        assert self._process is not None
        status = self._process.wait()
        fatal = self._messages.text("fatal", _FATAL_BYTES).partition("\0")[0]
        if fatal:
            return fatal
        self._stderr.seek(0)
        said = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return f"the worker ended: {how}" + (f"; it said: {said[-1]}" if said else "")

    def texts(self) -> list[str]:
        """The emulator's messages so far, by number - 1."""
        return self._messages.text("text", self._messages["used"]).split("\0")[:-1]

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        os.close(self._command)
        os.close(self._reply)
        os.close(self._statistics)

    def close(self) -> None:
        """End the worker and release the memory."""
        self._stop()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._stderr.close()
