"""Which emulated CPU runs: the bochscpu library of an environment, its version, and how that version numbers the CPU models.

The emulated CPU runs in a process of its own, so it need not be the one that is installed beside vmfuzz: an executor named
`bochs@VENV/bin/python` takes the one of that environment. Two versions of the emulator are two processors.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from vmfuzz.errors import EnvironmentUnusable, UnknownNameError
from vmfuzz.execute.wire.abi import require_platform

PACKAGE: Final = "bochscpu-python"
#: The version that pyproject.toml pins.
PINNED: Final = "0.4.0"
_VERSION_SECONDS: Final = 30.0

#: The Intel CPU models with VMX of Bochs 3.0: name -> number in Bochs' parameter "cpu.model" (place in cpudb.h).
_MODELS_3_0: Final = MappingProxyType(
    {
        "core2_penryn_t9600": 16,
        "corei5_lynnfield_750": 17,
        "corei5_arrandale_m520": 18,
        "corei7_sandy_bridge_2600k": 19,
        "corei7_ivy_bridge_3770k": 23,
        "corei7_haswell_4770": 24,
        "broadwell_ult": 25,
        "corei7_skylake_x": 26,
        "corei3_cnl": 27,
        "corei7_icelake_u": 28,
        "tigerlake": 29,
        "sapphire_rapids": 30,
        "arrow_lake": 31,
    }
)
#: Those of Bochs 2.8, whose list has two fewer models before them and no arrow_lake.
_MODELS_2_8: Final = MappingProxyType({name: number - 2 for name, number in _MODELS_3_0.items() if name != "arrow_lake"})
#: Version of the package -> what it carries.
_KNOWN: Final[Mapping[str, tuple[str, Mapping[str, int]]]] = {"0.3.1": ("2.8", _MODELS_2_8), PINNED: ("3.0", _MODELS_3_0)}
MODELS: Final = _MODELS_3_0

_ASK: Final = """
import importlib.util, json
from importlib import metadata
spec = importlib.util.find_spec("bochscpu")
try:
    version = metadata.version("bochscpu-python")
except metadata.PackageNotFoundError:
    version = None
print(json.dumps([list(spec.submodule_search_locations) if spec else [], version]))
"""


@dataclass(frozen=True)
class BochsLibrary:
    """One bochscpu: the interpreter that its worker runs on, the shared object, the package's version, Bochs' version, its CPU models."""

    python: str
    path: Path
    version: str
    bochs: str
    models: Mapping[str, int]

    @property
    def is_pinned(self) -> bool:
        """Whether it is the version that vmfuzz is made for, whose deviations are on the list."""
        return self.version == PINNED

    def model(self, cpu: str) -> int:
        """The number of a CPU model; raises UnknownNameError where this version has none of that name."""
        if cpu not in self.models:
            raise UnknownNameError(f"CPU model of Bochs {self.bochs}", cpu, self.models)
        return self.models[cpu]


def bochs_library(python: str | None = None) -> BochsLibrary:
    """The library of this environment, or of the one whose interpreter is `python`, found without importing the package (that needs glibc 2.38).

    Raises EnvironmentUnusable where there is none or where its version is not known.
    """
    if python is None:
        python, where = sys.executable, "this environment"
        spec = importlib.util.find_spec("bochscpu")
        folders = list(spec.submodule_search_locations or []) if spec else []
        version = _installed(folders) if spec else None
    else:
        where = f"the environment of {python}"
        folders, version = _asked(python)
    for folder in folders:
        for path in sorted(Path(folder).glob("_bochscpu*.so")):
            if version is None or version not in _KNOWN:
                raise EnvironmentUnusable(
                    f"{where} has {PACKAGE} {version}, of which vmfuzz does not know the layout; known: {', '.join(_KNOWN)}"
                )
            return BochsLibrary(python, path, version, *_KNOWN[version])
    require_platform()
    raise EnvironmentUnusable(
        f"the emulated CPU is not installed in {where}: the package {PACKAGE} was not found; "
        f"install it with `{'' if python == sys.executable else f'{python} -m '}pip install {PACKAGE}=={PINNED}` "
        "(wheels exist for Linux x86-64 and CPython 3.9 to 3.14)"
    )


def _installed(folders: list[str]) -> str | None:
    """The package's version, by the folder that an installer leaves beside the package; importlib.metadata reads mail headers, which takes longer."""
    for folder in folders:
        for found in Path(folder).parent.glob(f"{PACKAGE.replace('-', '_')}-*.dist-info"):
            return found.name.removesuffix(".dist-info").rpartition("-")[2]
    from importlib import metadata

    try:
        return metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        return None


def _asked(python: str) -> tuple[list[str], str | None]:
    """Where another interpreter finds bochscpu, and the package's version."""
    try:
        done = subprocess.run([python, "-I", "-c", _ASK], capture_output=True, text=True, timeout=_VERSION_SECONDS, check=False)
        folders, version = json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no answer within {_VERSION_SECONDS:g} s"
        raise EnvironmentUnusable(f"cannot run {python}: {reason}; expected a Python interpreter, such as VENV/bin/python") from None
    except ValueError:
        # other programs take the question for their own options or program, and what they say of that helps nobody
        said = f": {done.stderr.strip().splitlines()[-1]}" if "Traceback" in done.stderr or "Fatal Python error" in done.stderr else ""
        raise EnvironmentUnusable(
            f"{python} is not a Python interpreter that works (exit status {done.returncode}{said}); expected one such as VENV/bin/python"
        ) from None
    return list(folders), version
