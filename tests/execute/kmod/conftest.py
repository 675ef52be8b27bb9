"""The module's containment rules in C, built once for the tests that compare them with those in Python."""

from __future__ import annotations

import ctypes
import shutil

import pytest
from predicate_in_c import build


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Skips where there is no compiler."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    return build(tmp_path_factory.mktemp("kmod"))
