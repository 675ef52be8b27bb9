"""Waiting and comparing of times in tests, so that no test fails because the machine is slow or busy.

A wait has no end of its own: what hangs for good is ended by pytest's timeout (pyproject.toml), which is a guard and no figure. How long something
takes is measured by benchmarks/; a test may only ask how the time grows with the work.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Final

_LONGER: Final = 16
#: Work that grows with the square of its input takes 256 times as long for an input that is 16 times as long.
_MOST: Final = 64
_TRIES: Final = 3


def until(condition: Callable[[], object], process: subprocess.Popen[str] | subprocess.Popen[bytes] | None = None) -> None:
    """Return once the condition holds; fails where `process`, which is to bring it about, has ended without."""
    while not condition():
        assert process is None or process.poll() is None or condition(), f"ended with {process.returncode}: {process.args}"
        time.sleep(0.05)


def grows_with_its_input(work: Callable[[str], object], text_of: Callable[[int], str], size: int) -> bool:
    """Whether work on `text_of(size)` takes about 16 times what a 16th of it takes, and not the square of that; in processor time."""
    short, long = (min(_processor_seconds(work, text_of(count)) for _ in range(_TRIES)) for count in (size // _LONGER, size))
    return long < _MOST * short


def _processor_seconds(work: Callable[[str], object], text: str) -> float:
    began = time.process_time()
    work(text)
    return time.process_time() - began
