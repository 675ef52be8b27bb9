"""Where the `vmfuzz` command starts: standard descriptors and signals are put in order before the imports, which take a second or two."""

from __future__ import annotations

import atexit
import gc
import os
from typing import Final

from vmfuzz.interrupts import end_at_once

#: So many new objects more than have gone make Python look for cycles of objects; 700 where nobody says otherwise.
_OBJECTS_A_COLLECTION: Final = 50_000


def main(prog_name: str | None = None) -> None:
    """Run the command and end the process with its exit code."""
    open_standard_descriptors()
    end_at_once()
    collect_seldom()
    from vmfuzz.cli.main import main as command  # not before the signals are put in order

    command(prog_name=prog_name)


def collect_seldom() -> None:
    """Have Python look for cycles less often, and not when the process ends: a quarter of a million objects are made before a campaign begins, and stay.

    What has to be closed at the end is closed by `with`, not by being found in a cycle.
    """
    gc.set_threshold(_OBJECTS_A_COLLECTION, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)


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
