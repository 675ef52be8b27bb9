"""The kernel module's wire format as Python sees it: read from its own headers by cffi."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

import cffi
import numpy as np

from vmfuzz.execute.abi import native_file

_HEADERS: Final = ("engine.h", "containment.h", "vmfuzz_uapi.h")
_KINDS: Final = {"unsigned char": "u1", "unsigned short": "u2", "unsigned int": "u4", "unsigned long long": "u8"}


@cache
def _ffi() -> cffi.FFI:
    ffi = cffi.FFI()
    for name in _HEADERS:
        text = native_file(name).read_text(encoding="utf-8")
        ffi.cdef(re.sub(r"^#.*$", "", text, flags=re.MULTILINE))
    return ffi


@cache
def kmod_constants() -> dict[str, int]:
    """Enumerators of the module's headers without their prefix: `kmod_constants()["IOC_RUN"]`."""
    found: dict[str, int] = {}
    for enum in ("constants", "flags", "status", "rule", "risk", "walls", "slot", "uapi"):
        values: dict[str, int] = _ffi().typeof(f"enum vmfuzz_{enum}").relements
        found.update({name.removeprefix("VMFUZZ_"): value for name, value in values.items()})
    return found


def _numpy_type(ctype: Any) -> Any:
    if ctype.kind == "primitive":
        return np.dtype(_KINDS[ctype.cname])
    if ctype.kind == "array":
        return np.dtype((_numpy_type(ctype.item), (ctype.length,)))
    return np.dtype(
        {
            "names": [name for name, _ in ctype.fields],
            "formats": [_numpy_type(member.type) for _, member in ctype.fields],
            "offsets": [member.offset for _, member in ctype.fields],
            "itemsize": _ffi().sizeof(ctype),
        }
    )


@cache
def kmod_dtype(name: str) -> np.dtype[Any]:
    """`struct vmfuzz_<name>` of the module's headers as a numpy dtype with the same layout."""
    dtype: np.dtype[Any] = _numpy_type(_ffi().typeof(f"struct vmfuzz_{name}"))
    return dtype


def kmod_struct(name: str) -> Any:
    """A zeroed request with its head filled in."""
    record = np.zeros(1, kmod_dtype(name))
    record["size"], record["version"] = record.nbytes, kmod_constants()["UAPI_VERSION"]
    return record
