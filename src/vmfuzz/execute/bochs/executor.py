"""The emulated executor: VM entries on the Bochs CPU of bochscpu-python, in a worker process of its own."""

from __future__ import annotations

from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.errors import UnknownNameError
from vmfuzz.execute.bochs.library import MODELS, bochs_library
from vmfuzz.execute.bochs.process import BochsProcess
from vmfuzz.execute.engine_executor import EngineExecutor
from vmfuzz.state.vmcs import Vmcs

#: The Intel CPU models with VMX of the pinned version: name -> number in Bochs' parameter "cpu.model".
CPU_MODELS: Final = MODELS
DEFAULT_CPU: Final = "corei7_skylake_x"


class BochsExecutor(EngineExecutor):
    """An emulated CPU of the given model.

    `hang_seconds`: how much of its worker's processor time a row may take before the worker is ended and replaced.

    `paranoid` compares all fields with the base after every row instead of once a family (slow; for tests),
    `plain_platform` keeps Bochs' own flushes and timer and has the engine's own instructions write and look at every row (for tests),
    `contain=False` runs even what containment
    refuses (for tests; may hang the worker). `python`: the interpreter of an environment with another version of
    bochscpu-python, which then runs. Raises UnknownNameError for an unknown model,
    EnvironmentUnusable when the emulated CPU or the native build is missing.
    """

    _process: BochsProcess

    def __init__(
        self,
        cpu: str = DEFAULT_CPU,
        *,
        hang_seconds: float = 3.0,
        paranoid: bool = False,
        plain_platform: bool = False,
        contain: bool = True,
        python: str | None = None,
    ) -> None:
        if python is None and cpu not in CPU_MODELS:
            raise UnknownNameError("CPU model", cpu, CPU_MODELS)
        self.cpu = cpu
        self.library = bochs_library(python)
        process = BochsProcess(self.library, self.library.model(cpu), hang_seconds=hang_seconds, plain_platform=plain_platform)
        self.platform_rows = not plain_platform
        super().__init__(process, paranoid=paranoid, contain=contain)

    @property
    def name(self) -> str:
        """What executes, for reports; a version other than the pinned one is named."""
        return f"bochs {self.cpu}" if self.library.is_pinned else f"bochs@{self.library.version} {self.cpu}"

    @property
    def worker_pid(self) -> int:
        """Process id of the present worker (it changes when a worker had to be replaced)."""
        return self._process.pid

    def _processor(self, cpuid: dict[tuple[int, int], tuple[int, int, int, int]]) -> str:  # noqa: ARG002
        return self.cpu

    def _probed(self) -> None:
        if self._capabilities.has("la57"):
            self._process.small_pages = True
            self._process.restart()


def writable_fields(vmcs: Vmcs) -> list[str]:
    """Names of the fields of a known-good VMCS that a candidate may change."""
    return [name for name in vmcs if name in FIELDS and FIELDS[name].writable]
