"""The kernel-module executor on a test machine, as if through an agent, and the comparison with the emulated CPU in this process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from machine import CLOSE, Machine

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.execute.bochs import BochsExecutor
from vmfuzz.execute.kmod import KmodExecutor
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs


class MailboxDevice:
    """/dev/vmfuzz of a test machine."""

    local = False

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.seconds = 0.0

    def request(self, code: int, payload: bytes) -> tuple[int, bytes]:
        return self.machine.request(code, payload)

    def close(self) -> None:
        self.machine.request(CLOSE, b"")


class GuestExecutor(KmodExecutor):
    """Reports itself as the emulator that it runs on (Debian 12's Bochs), whose deviations are known."""

    def __init__(self, machine: Machine, **options: str) -> None:
        self.machine = machine
        super().__init__(MailboxDevice(machine), **options)

    @property
    def name(self) -> str:
        return f"bochs-2.7 {self.machine.cpu}" if self.machine.emulator else super().name

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        """Without what ends Bochs 2.7 with a panic; those rows are NOT_RUN.

        That is the injection of "other" events (type 7), and a guest without protection whose IA32_EFER.LMA is or stays 1: because IA32_EFER
        is not loaded, or with "IA-32e mode guest", which Bochs accepts without paging.
        """
        if not isinstance(batch, VmcsBatch) or not self.machine.emulator:
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


def translate(batch: VmcsBatch, guest: KmodExecutor, here: BochsExecutor) -> VmcsBatch:
    """The same family for another machine: values that are the known-good ones become the other's, arena addresses move."""
    old, new = guest.known_good(), here.known_good()
    start, size, target = guest.arena.base, guest.arena.size, here.arena.base

    def values(name: str, column: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        known = np.uint64(old.get(name) or 0)
        inside = (column >= np.uint64(start)) & (column < np.uint64(start + size))
        moved = np.where(inside, column - np.uint64(start) + np.uint64(target), column)
        other = np.where(column == known, np.uint64(new.get(name) or 0), moved)
        return np.asarray(other & np.uint64(FIELDS[name].mask) if name in FIELDS else column, np.uint64)

    base = {
        name: int(values(name, np.array([value], np.uint64))[0]) for name, value in batch.base.items() if name in FIELDS and name in new
    }
    live = {name: value for name, value in batch.base.items() if name not in FIELDS}
    facts = {name: new[name] for name in live if name in ("live_current_vmcs_pointer", "live_empty_paging", "live_empty_ept", "live_efer")}
    memory = {address - start + target: word for address, word in batch.base.memory.items()}
    vmcs = Vmcs({**base, **live, **facts})
    return VmcsBatch(
        vmcs.with_memory(memory) if memory else vmcs,
        {name: values(name, column) for name, column in batch.columns.items()},
        {address - start + target: column for address, column in batch.memory_columns.items()},
        count=len(batch),
    )


def ran(outcomes: Outcomes) -> npt.NDArray[np.bool_]:
    """Rows that were executed."""
    return np.asarray(~np.isin(outcomes.kind, [Kind.REFUSED, Kind.NOT_RUN, Kind.EXECUTOR_CRASHED]), np.bool_)
