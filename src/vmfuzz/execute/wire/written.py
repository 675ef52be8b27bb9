"""What of a VMCS the engine writes."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.state.vmcs import Vmcs

#: Encodings of the fields that are written, by name: exit-information fields say what happened, not what to do.
_ENCODINGS: Final = MappingProxyType({name: field.encoding for name, field in FIELDS.items() if field.writable})


def written(vmcs: Vmcs) -> dict[int, int]:
    """Encodings and values of the fields that are written."""
    return {_ENCODINGS[name]: value for name, value in vmcs.items() if name in _ENCODINGS}
