"""The engine's wire format as Python sees it: read from kmod/engine.h itself by cffi."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.hexadecimal import hexadecimal

#: What a request holds in place of the row that is being run, before the engine has begun one.
NO_ROW: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
NATIVE: Final = Path(__file__).parents[1] / "_native"
_BUILD_HINT: Final = "build it with `pip install -e .` (or `make`), which needs gcc and binutils"
#: Where executors run.
_HERE: Final = "Linux x86_64"
#: Why the native files were not built when vmfuzz was installed (setup.py writes it).
_WHY_NOT: Final = "why-not.txt"


def require_platform() -> None:
    """Raise EnvironmentUnusable where no executor can run, whatever is installed."""
    here = f"{platform.system()} {platform.machine()}"
    if here != _HERE:
        raise EnvironmentUnusable(
            f"executors need Linux on x86-64, and this is {here}; what executes nothing works here too: `vmfuzz check`, checks, "
            "fields, caps, the Python interface"
        )


def native_file(name: str) -> Path:
    """Path of a file that the native build made; raises EnvironmentUnusable when it has not been built."""
    require_platform()
    path = NATIVE / name
    if not path.is_file():
        note = NATIVE / _WHY_NOT
        if note.is_file():
            why = note.read_text(encoding="utf-8").strip()
            raise EnvironmentUnusable(f"the native part of vmfuzz is not built, because at installation {why}")
        raise EnvironmentUnusable(f"{path} does not exist: the native part of vmfuzz is not built; {_BUILD_HINT}")
    return path


_KINDS: Final = {"vmfuzz_u8": "u1", "unsigned char": "u1", "unsigned short": "u2", "unsigned int": "u4",
                 "unsigned long long": "u8", "char": "S1"}  # fmt: skip


class Headers:
    """C headers of ours, each of which may use what those before it declare."""

    def __init__(self, *names: str) -> None:
        require_platform()
        try:
            import cffi
        except ImportError:
            raise EnvironmentUnusable("executors need cffi, which is not installed: pip install cffi") from None
        self._ffi = cffi.FFI()
        for name in names:
            text = native_file(name).read_text(encoding="utf-8")
            self._ffi.cdef(re.sub(r"^#.*$", "", text, flags=re.MULTILINE))

    def enumerators(self, *enums: str) -> dict[str, int]:
        """The enumerators of each `enum vmfuzz_<name>`, without their prefix VMFUZZ_."""
        found: dict[str, int] = {}
        for enum in enums:
            values: dict[str, int] = self._ffi.typeof(f"enum vmfuzz_{enum}").relements
            found.update({name.removeprefix("VMFUZZ_"): value for name, value in values.items()})
        return found

    def dtype(self, name: str) -> np.dtype[Any]:
        """`struct vmfuzz_<name>` as a numpy dtype with the same layout."""
        dtype: np.dtype[Any] = self._numpy_type(self._ffi.typeof(f"struct vmfuzz_{name}"))
        return dtype

    def _numpy_type(self, ctype: Any) -> Any:
        if ctype.kind == "primitive":
            return np.dtype(_KINDS[ctype.cname])
        if ctype.kind == "pointer":
            return np.dtype("u8")
        if ctype.kind == "array":
            if ctype.item.cname == "char":
                return np.dtype(f"S{ctype.length}")
            return np.dtype((self._numpy_type(ctype.item), (ctype.length,)))
        return np.dtype(
            {
                "names": [name for name, _ in ctype.fields],
                "formats": [self._numpy_type(member.type) for _, member in ctype.fields],
                "offsets": [member.offset for _, member in ctype.fields],
                "itemsize": self._ffi.sizeof(ctype),
            }
        )


@cache
def _engine() -> Headers:
    return Headers("engine.h")


@cache
def constants() -> dict[str, int]:
    """Every enumerator of engine.h without its prefix VMFUZZ_: `constants()["COMMAND_RUN"]`."""
    return _engine().enumerators("constants", "target", "live", "command", "status", "flags", "kind", "emulated")


@cache
def struct_dtype(name: str) -> np.dtype[Any]:
    """`struct vmfuzz_<name>` as a numpy dtype with the same layout."""
    return _engine().dtype(name)


@cache
def names_of(prefix: str) -> dict[int, str]:
    """Enumerators that begin with `prefix`, by value: for error messages."""
    return {value: name for name, value in constants().items() if name.startswith(prefix)}


#: What a status of the engine means (kmod/engine.h) and what to do; {detail} is the request's.
_STATUS: Final = {
    "STATUS_IDLE": "it did not begin the request; open the executor again",
    "STATUS_BUSY": "it did not finish the request; open the executor again",
    "STATUS_BAD_REQUEST": "it does not understand the request: engine and vmfuzz are of different versions; build it again (`make`, `make -C kmod`)",
    "STATUS_NO_VMX": "there is no VMX, or IA32_FEATURE_CONTROL ({detail}) does not allow it; `vmfuzz doctor` says what can execute here",
    "STATUS_VMXON_FAILED": "VMXON failed: the processor does not enter VMX operation with its CR0 and CR4; restart the machine",
    "STATUS_VMPTRLD_FAILED": "VMCLEAR or VMPTRLD of the VMCS failed; open the executor again",
}


def status_text(status: int, detail: int) -> str:
    """What it means that the engine could not serve a request, as a sentence."""
    name = names_of("STATUS_").get(status, "a status that vmfuzz does not know")
    meant = _STATUS.get(name, "engine and vmfuzz are of different versions; build it again (`make`, `make -C kmod`)").format(
        detail=hexadecimal(detail)
    )
    return f"the engine ended a request with {name} ({status}): {meant}"
