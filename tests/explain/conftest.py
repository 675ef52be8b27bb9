"""The self-written samples of each format (samples/), and the real ones of the specification, where it lies beside the repository."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vmfuzz.explain.dump import Dump
from vmfuzz.explain.reading import read_text

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # printers.py
SPECIFICATION = Path(__file__).resolve().parents[3] / "shared" / "spec"


@pytest.fixture
def sample() -> Callable[[str], str]:
    """The text of a self-written sample."""
    return lambda name: (HERE / "samples" / f"{name}.txt").read_text(encoding="utf-8")


@pytest.fixture
def read(sample: Callable[[str], str]) -> Callable[[str], Dump]:
    """A self-written sample, read."""
    return lambda name: read_text(sample(name), name)[0]


@pytest.fixture
def specification() -> Path:
    """The directory of the specification; the test is skipped where it is not present."""
    if not SPECIFICATION.is_dir():
        pytest.skip(f"{SPECIFICATION} is not present")
    return SPECIFICATION
