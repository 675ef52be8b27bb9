"""What goes over the line as Python sees it: what image/line.h declares."""

from __future__ import annotations

from functools import cache

from vmfuzz.execute.wire.abi import enumerators


@cache
def line_constants() -> dict[str, int]:
    """Enumerators of line.h without their prefix: `line_constants()["LINE_PIECE"]`."""
    return enumerators("line", "died")
