"""What goes over the line as Python sees it: read from image/line.h by cffi."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from vmfuzz.execute.wire.abi import Headers


@cache
def _line() -> Headers:
    return Headers("engine.h", "line.h")


@cache
def line_constants() -> dict[str, int]:
    """Enumerators of line.h without their prefix: `line_constants()["LINE_PIECE"]`."""
    return _line().enumerators("line", "died")


@cache
def line_dtype(name: str) -> np.dtype[Any]:
    """`struct vmfuzz_<name>` of line.h as a numpy dtype with the same layout."""
    return _line().dtype(name)
