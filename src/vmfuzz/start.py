"""Where the `vmfuzz` command starts: standard descriptors and signals are put in order before the imports, which take a second or two."""

from __future__ import annotations

import os

from vmfuzz.interrupts import end_at_once


def main(prog_name: str | None = None) -> None:
    """Run the command and end the process with its exit code."""
    open_standard_descriptors()
    end_at_once()
    from vmfuzz.cli.main import main as command  # not before the signals are put in order

    command(prog_name=prog_name)


def open_standard_descriptors() -> None:
    """Put /dev/null where standard input, output or error is closed (`vmfuzz run >&-`).

    The next file that is opened would take the number, and what is printed would end up in that file.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            os.set_inheritable(descriptor, True)
