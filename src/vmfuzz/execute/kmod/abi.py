"""The kernel module's wire format as Python sees it: what its own headers declare."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from vmfuzz.execute.wire.abi import enumerators, struct_dtype


@cache
def kmod_constants() -> dict[str, int]:
    """Enumerators of the module's headers without their prefix: `kmod_constants()["IOC_RUN"]`."""
    return enumerators("constants", "flags", "status", "rule", "risk", "features", "walls", "slot", "list", "uapi")


def kmod_struct(name: str) -> Any:
    """A zeroed request with its head filled in."""
    record = np.zeros(1, struct_dtype(name))
    record["size"], record["version"] = record.nbytes, kmod_constants()["UAPI_VERSION"]
    return record
