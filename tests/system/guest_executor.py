"""The kernel-module executor on a test machine, as if through an agent, and the comparison with the emulated CPU in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from image_machine import ImageMachine
from machine import CLOSE, Machine
from without_panics import KvmWithoutPanics, LeavesOutPanics, WithoutPanics

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.execute.kmod.executor import KmodExecutor
from vmfuzz.execute.kvm.process import KvmProcess
from vmfuzz.execute.serial.device import SerialDevice
from vmfuzz.execute.serial.executor import SerialExecutor
from vmfuzz.execute.serial.link import Link
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

#: Seconds in which an image boots or answers, however much else the host does.
_PATIENCE: Final = 600.0


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


class GuestExecutor(WithoutPanics):
    """Reports itself as the emulator that it runs on (Debian 12's Bochs), whose deviations are known; on this machine as what it is."""

    def __init__(self, machine: Machine, **options: Any) -> None:
        self.machine = machine
        super().__init__(MailboxDevice(machine), **options)

    @property
    def name(self) -> str:
        return f"bochs-2.7 {self.machine.cpu}" if self.machine.emulator else super().name

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        return super().run(batch) if self.machine.emulator else KmodExecutor.run(self, batch)


class ImageExecutor(LeavesOutPanics, SerialExecutor):
    """The bootable image on a test machine; it reports itself as the emulator that it runs on, whose deviations are known."""

    def __init__(self, machine: ImageMachine, **options: Any) -> None:
        self.machine = machine
        super().__init__(SerialDevice(f"unix:{machine.line}", answer_seconds=_PATIENCE, boot_seconds=_PATIENCE), **options)

    @property
    def name(self) -> str:
        return f"bochs-2.7 {self.machine.cpu}"

    @property
    def link(self) -> Link:
        """The line, with what the image said of itself."""
        return self._line.link


class KvmGuestExecutor(KvmWithoutPanics):
    """KVM on a test machine; the processor below it is named as the emulator that it is, whose deviations are known."""

    def __init__(self, machine: Machine, cpu: str | None = None, **options: Any) -> None:
        super().__init__(cpu, **{"connect": lambda: MailboxDevice(machine), "below": f"bochs-2.7 {machine.cpu}", **options})

    @property
    def machine_process(self) -> KvmProcess:
        """What the last request said besides outcomes."""
        return self._process


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
    theirs = ("live_current_vmcs_pointer", "live_empty_paging", "live_empty_ept", "live_efer", "live_cr4")
    facts = {name: new[name] for name in live if name in theirs}
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
