"""Settings of the whole suite: Hypothesis gives the same examples in every run, and how far something is minimized does not depend on the machine."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings

from vmfuzz.differences import difference
from vmfuzz.findings import minimize, triage

sys.path.insert(0, str(Path(__file__).parent))  # patience.py

settings.register_profile(
    "vmfuzz-tests", derandomize=True, database=None, deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("vmfuzz-tests")


@pytest.fixture(autouse=True, scope="session")
def _no_hurry() -> None:
    """In this process the clock of whatever has a time limit stands still: a limit of 0 is over at once, any other is never reached."""
    standing = SimpleNamespace(monotonic=lambda: 0.0, perf_counter=difference.time.perf_counter)
    for module in (difference, minimize, triage):
        module.time = standing  # type: ignore[attr-defined]
