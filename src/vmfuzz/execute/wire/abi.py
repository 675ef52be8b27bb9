"""The engine's wire format as Python sees it: what its headers declare, kmod/engine.h first."""

from __future__ import annotations

import json
import platform
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.hexadecimal import hexadecimal

if TYPE_CHECKING:
    import numpy as np

#: What a request holds in place of the row that is being run, before the engine has begun one.
NO_ROW: Final = 0xFFFF_FFFF_FFFF_FFFF
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


#: What the headers declare (setup.py has it written by wire/declared.py).
_DECLARED: Final = "declared.json"


@cache
def _declared() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(native_file(_DECLARED).read_text(encoding="utf-8"))
    return found


def enumerators(*enums: str) -> dict[str, int]:
    """The enumerators of each `enum vmfuzz_<name>` of the headers, without their prefix VMFUZZ_."""
    found = (_declared()["enums"][f"vmfuzz_{enum}"] for enum in enums)
    return {name.removeprefix("VMFUZZ_"): value for values in found for name, value in values.items()}


@cache
def struct_dtype(name: str) -> np.dtype[Any]:
    """`struct vmfuzz_<name>` of the headers as a numpy dtype with the same layout."""
    import numpy as np  # not before there are columns: a single VMCS is executed without (bochs/single.py)

    dtype: np.dtype[Any] = np.dtype(_numpy_type(structure(name)))
    return dtype


def structure(name: str) -> dict[str, Any]:
    """`struct vmfuzz_<name>` of the headers: its size and its fields, as declared.py describes them."""
    found: dict[str, Any] = _declared()["structs"][f"vmfuzz_{name}"]
    return found


def _numpy_type(layout: Any) -> Any:
    import numpy as np

    if isinstance(layout, str):
        return np.dtype(layout)
    if isinstance(layout, list):
        return np.dtype((_numpy_type(layout[0]), (layout[1],)))
    names = list(layout["fields"])
    offsets, layouts = zip(*layout["fields"].values(), strict=True)
    return np.dtype({"names": names, "formats": [*map(_numpy_type, layouts)], "offsets": [*offsets], "itemsize": layout["size"]})


@cache
def constants() -> dict[str, int]:
    """Every enumerator of engine.h without its prefix VMFUZZ_: `constants()["COMMAND_RUN"]`."""
    return enumerators("constants", "target", "live", "command", "status", "flags", "kind", "emulated")


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
