"""One executor a CPU model for the whole session: opening costs little, but thirteen times in every test adds
up.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from vmfuzz.arch.fields import FIELDS
from vmfuzz.execute.bochs.executor import CPU_MODELS, DEFAULT_CPU, BochsExecutor, writable_fields
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

sys.path.insert(0, str(Path(__file__).parent))  # predicate_in_c.py


@pytest.fixture(scope="session", params=list(CPU_MODELS))
def each_cpu(request: pytest.FixtureRequest) -> Iterator[BochsExecutor]:
    """An executor of each CPU model in turn."""
    with BochsExecutor(request.param) as executor:
        yield executor


@pytest.fixture(scope="module")
def bochs() -> Iterator[BochsExecutor]:
    """An executor of the default CPU model."""
    with BochsExecutor(DEFAULT_CPU) as executor:
        yield executor


@pytest.fixture
def random_families() -> Callable[..., Iterator[VmcsBatch]]:
    """A function that yields random families of a base: `random_families(base, seed=1, families=10, rows=100)`."""
    return _random_families


def _random_families(base: Vmcs, *, seed: int, families: int, rows: int) -> Iterator[VmcsBatch]:
    """Up to twelve fields a family; a value is the base's (60 %), the base's with one bit flipped (35 %), or
    random.
    """
    rng = np.random.default_rng(seed)
    names = writable_fields(base)
    for _ in range(families):
        columns = {}
        for name in rng.choice(names, size=rng.integers(1, 13), replace=False):
            field = FIELDS[str(name)]
            flipped = np.uint64(base[field.name]) ^ np.left_shift(np.uint64(1), rng.integers(0, field.width, rows, dtype=np.uint64))
            anything = rng.integers(0, 1 << 64, rows, dtype=np.uint64) & np.uint64(field.mask)
            what = rng.random(rows)
            columns[field.name] = np.where(what < 0.6, np.uint64(base[field.name]), np.where(what < 0.95, flipped, anything))
        yield VmcsBatch(base, columns)
