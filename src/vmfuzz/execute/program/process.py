"""A program of somebody else's as a child process: lines to its standard input, lines from its standard output, and why it gave none."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.interrupts import held

#: Seconds without an answer after which a program hangs, unless its hello says otherwise: of processor time, or asleep.
HANG_SECONDS: Final = 10.0
#: The same before the hello: interpreters and emulators take a while to start.
START_SECONDS: Final = 60.0
_SAMPLE_SECONDS: Final = 0.25
_READ_BYTES: Final = 1 << 18
_MOST_SAID: Final = 300


class ProgramDied(Exception):
    """The program ended, or gives no answer any more (`hangs`). `answers`: the lines that it gave before."""

    def __init__(self, reason: str, answers: list[bytes], hangs: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answers = answers
        self.hangs = hangs


class ProgramProcess:
    """One program; `busy_seconds` is the time for which it was waited for: its processor time, and what it slept."""

    def __init__(self, command: Sequence[str]) -> None:
        if sys.platform == "win32":
            raise EnvironmentUnusable("program: executors of this kind need pipes that can be polled, which Windows does not have")
        self.command = tuple(command)
        self.hang_seconds = START_SECONDS
        self.busy_seconds = 0.0
        self._rest = b""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as this object)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start the program (again); raises EnvironmentUnusable where there is no such program."""
        self.stop()
        self._rest = b""
        self._stderr.seek(0)
        self._stderr.truncate()
        try:
            with held():  # it ends when this process says so, or closes its standard input
                self._process = subprocess.Popen(
                    self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, process_group=0, bufsize=0
                )
        except OSError as error:
            raise EnvironmentUnusable(f"cannot start the program {self.command[0]!r}: {error.strerror}") from None
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)

    def exchange(self, request: bytes, count: int) -> list[bytes]:
        """Send lines and wait for `count` lines in answer.

        Raises ProgramDied with the lines so far where the program ends or hangs; the program is then gone.
        """
        process = self._running()
        received, lines = [self._rest], self._rest.count(b"\n")
        into, output = self._numbers()
        waiting = _Waiting(process.pid, self.hang_seconds)
        pending = memoryview(request)
        try:
            while lines < count:
                ready = self._ready(pending)
                if output in ready:
                    piece = os.read(output, _READ_BYTES)
                    if not piece:
                        raise ProgramDied(self._obituary(), _whole(received), hangs=False)
                    received.append(piece)
                    lines += piece.count(b"\n")
                    waiting.progress()
                if into in ready:
                    pending = self._sent(pending)
                elif not ready and (reason := waiting.over()):
                    answered = f" (it answered {lines} of {count})" if count > 1 else ""
                    raise ProgramDied(f"{reason}{answered}", _whole(received), hangs=True)
        except ProgramDied:
            self.stop()
            raise
        except KeyboardInterrupt:
            self.start()  # the program still owes these answers, which the next request would take for its own
            raise
        finally:
            self.busy_seconds += waiting.busy()
        return self._taken(b"".join(received), count)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self.start()
        assert self._process is not None
        return self._process

    def _ready(self, pending: memoryview) -> set[int]:
        into, output = self._numbers()
        readable, writable, _ = select.select([output], [into] if len(pending) else [], [], _SAMPLE_SECONDS)
        return {*readable, *writable}

    def _numbers(self) -> tuple[int, int]:
        """The file descriptors of the program's standard input and output."""
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        return process.stdin.fileno(), process.stdout.fileno()

    def _sent(self, pending: memoryview) -> memoryview:
        """What is left to send; nothing where the program does not listen any more: its end says why."""
        try:
            return pending[os.write(self._numbers()[0], pending[:_READ_BYTES]) :]
        except BlockingIOError:
            return pending
        except BrokenPipeError:
            return pending[:0]

    def _taken(self, text: bytes, count: int) -> list[bytes]:
        *lines, rest = text.split(b"\n", count)
        self._rest = rest
        return lines

    def unasked(self) -> bytes:
        """What the program has written beyond its answers and nobody has read yet."""
        process = self._process
        if process is not None and process.stdout is not None and select.select([process.stdout], [], [], 0)[0]:
            self._rest += os.read(process.stdout.fileno(), _READ_BYTES)
        return self._rest

    def ends(self, request: bytes) -> str | None:
        """Send the last line and wait until the program has ended; what is wrong with its end, or None."""
        try:
            self.exchange(request, 1)
        except ProgramDied as death:
            return None if death.reason.startswith("exit status 0") else death.reason
        return "it answered the end; expected it to exit"

    def _obituary(self) -> str:
        """How the program ended. One that only closed its output is ended."""
        process = self._running()
        with contextlib.suppress(OSError):
            assert process.stdin is not None
            process.stdin.close()
        waiting = _Waiting(process.pid, self.hang_seconds)
        while process.poll() is None:
            select.select([], [], [], 0.01)
            if waiting.over():
                return "it closed its standard output but still runs"
        self._stderr.seek(0)
        said = self._stderr.read().decode("utf-8", "replace").strip().splitlines()
        status = process.returncode
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return how + (f"; it said: {said[-1][:_MOST_SAID]}" if said else "")

    def stop(self) -> None:
        """End the program and whatever it started in its process group."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()

    def close(self) -> None:
        """End the program for good."""
        self.stop()
        self._stderr.close()


def _whole(pieces: list[bytes]) -> list[bytes]:
    """The lines that have ended."""
    return b"".join(pieces).split(b"\n")[:-1]


class _Waiting:
    """How long a program has given no answer: processor time and sleep, since by the clock a busy machine makes any program slow."""

    def __init__(self, group: int, limit: float) -> None:
        self._group, self._limit = group, limit
        self._before, self._asleep, self._last = _processor_seconds(group)[0], 0.0, time.monotonic()
        self._had, self._slept = self._before, 0.0

    def progress(self) -> None:
        """There was an answer."""
        if self._asleep or time.monotonic() - self._last > _SAMPLE_SECONDS:
            self._slept += self._asleep
            self._had, self._asleep, self._last = _processor_seconds(self._group)[0], 0.0, time.monotonic()

    def over(self) -> str | None:
        """Why it is too long by now, or None."""
        seconds, sleeps = _processor_seconds(self._group)
        now = time.monotonic()
        if sleeps:
            self._asleep += now - self._last
        self._last = now
        if seconds - self._had > self._limit:
            return f"no answer in {self._limit:g} s of processor time"
        return f"no answer in {self._limit:g} s, while the program slept" if self._asleep > self._limit else None

    def busy(self) -> float:
        """Seconds for which the program worked or slept since the request."""
        return max(0.0, _processor_seconds(self._group)[0] - self._before) + self._slept + self._asleep


def _processor_seconds(group: int) -> tuple[float, bool]:
    """(processor time of a process group, whether all of it sleeps); without /proc no time, and all sleeps, so that the clock decides."""
    if not Path("/proc/self/stat").exists():
        return 0.0, True
    ticks, sleeps = 0, True
    for place in [Path(f"/proc/{group}"), *_others(group)]:
        with contextlib.suppress(OSError, IndexError):
            fields = (place / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
            sleeps = sleeps and fields[0] != "R"
    return ticks / os.sysconf("SC_CLK_TCK"), sleeps


def _others(group: int) -> list[Path]:
    """The processes that the leader of a group has started, and those that they have."""
    found: list[Path] = []
    left = [group]
    while left:
        for task in Path(f"/proc/{left.pop()}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                children = [int(each) for each in task.read_text(encoding="ascii").split()]
                left += children
                found += [Path(f"/proc/{child}") for child in children]
    return found
