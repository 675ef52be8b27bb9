"""What the virtual machine's C (machine.h) and Python share: what the header declares."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from vmfuzz.execute.wire.abi import enumerators, struct_dtype


@cache
def kvm_constants() -> dict[str, int]:
    """Enumerators of machine.h without their prefix: `kvm_constants()["KVM_RUN"]`."""
    return enumerators("kvm")


def kvm_dtype(name: str) -> np.dtype[Any]:
    """`struct vmfuzz_kvm_<name>` as a numpy dtype with the same layout."""
    return struct_dtype(f"kvm_{name}")
