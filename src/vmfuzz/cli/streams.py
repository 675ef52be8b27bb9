"""The standard streams of the command: a reader that goes away does not end it, no character is one too many, none is missing."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Patient(io.FileIO):
    """A descriptor whose reader may go away (`vmfuzz checks | head`): the rest goes nowhere, and the command to its end and exit code."""

    def write(self, data: ReadableBuffer, /) -> int:
        """As io.FileIO's."""
        try:
            return super().write(data)
        except BrokenPipeError:
            to_nowhere(self.fileno())
            return len(memoryview(data).cast("B"))


@contextmanager
def patient_streams() -> Iterator[None]:
    """While the block runs standard output and error are as described above; streams that somebody has put in their place stay."""
    before = sys.stdin, sys.stdout, sys.stderr
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115 - as long as the process
    if sys.stdout is sys.__stdout__:
        sys.stdout = _patient(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _patient(2, sys.stderr)
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


def to_nowhere(descriptor: int) -> None:
    """Put /dev/null in the place of a descriptor."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def _patient(descriptor: int, stream: TextIO | None) -> TextIO:
    """A stream like the one that is there; None: its descriptor was closed when Python started."""
    if stream is not None:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Patient(descriptor, "w", closefd=False)),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",  # what a terminal's encoding or a file's name cannot be written as
        line_buffering=descriptor == 2 or os.isatty(descriptor),
    )
