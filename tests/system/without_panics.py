"""The executors of the kernel module and of KVM for Debian's Bochs: they leave out the candidates that end Bochs 2.7 with a panic.

As a program it is `vmfuzz` with those in place of the ordinary ones:

    python tests/system/without_panics.py run --executor "remote:..."
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.outcomes import Outcomes
from vmfuzz.cli.main import main
from vmfuzz.execute.base import Executor
from vmfuzz.execute.kmod import executor as kmod
from vmfuzz.execute.kvm import executor as kvm
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

_Base = Executor if TYPE_CHECKING else object


class LeavesOutPanics(_Base):
    """Rows that would be the emulator's end are NOT_RUN.

    That is the injection of "other" events (type 7), and a guest without protection whose IA32_EFER.LMA is or stays 1: because IA32_EFER
    is not loaded, or with "IA-32e mode guest", which Bochs accepts without paging.
    """

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        """The outcomes of the rows that may run."""
        if not isinstance(batch, VmcsBatch):
            return super().run(batch)

        def values(name: str) -> npt.NDArray[np.uint64]:
            return np.broadcast_to(OperandValues(batch)(name), (len(batch),)).astype(np.uint64)

        other_event = values("vm_entry_interruption_info") & np.uint64(0x80000700) == np.uint64(0x80000700)
        entry = values("vm_entry_controls")
        long_mode = (entry & np.uint64(1 << 15) == 0) | (entry & np.uint64(1 << 9) != 0)
        unprotected = values("guest_cr0") & np.uint64(1) == 0
        rows = np.flatnonzero(~(other_event | long_mode & unprotected))
        if len(rows) == len(batch):
            return super().run(batch)
        outcomes = Outcomes.empty(len(batch))
        if not len(rows):
            return outcomes
        some = super().run(batch.take(rows))
        for name in ("kind", "number", "raw_reason", "qualification", "entry_interruption_info", "encoding", "message"):
            getattr(outcomes, name)[rows] = getattr(some, name)
        outcomes.messages = some.messages
        return outcomes


class WithoutPanics(LeavesOutPanics, kmod.KmodExecutor):
    """The kernel-module executor."""


class KvmWithoutPanics(LeavesOutPanics, kvm.KvmExecutor):
    """The executor on KVM, on a kernel that Debian's Bochs runs; the variable VMFUZZ_SYSTEM_BELOW names that (`bochs-2.7 MODEL`)."""

    def __init__(self, cpu: str | None = None, **options: Any) -> None:
        super().__init__(cpu, **{"below": os.environ.get("VMFUZZ_SYSTEM_BELOW"), **options})


def put_in_place() -> None:
    """From now on, opening the executors of the kernel module and of KVM opens these."""
    kmod.KmodExecutor = WithoutPanics  # type: ignore[misc]
    kvm.KvmExecutor = KvmWithoutPanics  # type: ignore[misc]


if __name__ == "__main__":
    put_in_place()
    main()
