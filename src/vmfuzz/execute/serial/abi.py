"""What goes over the line as Python sees it: what image/line.h declares."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from vmfuzz.execute.wire.abi import enumerators, struct_dtype


@cache
def line_constants() -> dict[str, int]:
    """Enumerators of line.h without their prefix: `line_constants()["LINE_PIECE"]`."""
    return enumerators("line", "died")


@cache
def line_dtype(name: str) -> np.dtype[Any]:
    """`struct vmfuzz_<name>` of line.h as a numpy dtype with the same layout."""
    return struct_dtype(name)
