"""What of a VMCS the engine writes."""

from __future__ import annotations

from vmfuzz.arch.fields import FIELDS
from vmfuzz.state.vmcs import Vmcs


def written(vmcs: Vmcs) -> dict[int, int]:
    """Encodings and values, without exit-information fields: they say what happened, not what to do."""
    return {FIELDS[name].encoding: value for name, value in vmcs.items() if name in FIELDS and FIELDS[name].writable}
