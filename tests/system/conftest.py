"""Lets the tests of this folder import its other modules; machines are shared by a module's tests.

VMFUZZ_SYSTEM_TIMES names a file to which each test adds what it took: the tables of README.md are made of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
_TIMES = os.environ.get("VMFUZZ_SYSTEM_TIMES")


def _processor_seconds() -> float:
    """Processor time of this process and of all that it started, machines that still run included."""
    ticks, processes = 0, [os.getpid()]
    while processes:
        process = Path("/proc", str(processes.pop()))
        with contextlib.suppress(OSError):  # it has ended
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
            for thread in (process / "task").iterdir():
                processes += map(int, (thread / "children").read_text().split())
    return ticks / os.sysconf("SC_CLK_TCK")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Note what a test took, with the fixtures that were made or ended for it."""
    before, began = _processor_seconds(), time.monotonic()
    result = yield
    if _TIMES:
        took = {
            "test": item.nodeid,
            "processor": _processor_seconds() - before,
            "clock": time.monotonic() - began,
            "load": os.getloadavg()[0],
        }
        with Path(_TIMES).open("a") as file:
            file.write(json.dumps(took) + "\n")
    return result
