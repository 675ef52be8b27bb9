"""A virtual machine of KVM as executors with an engine see one: its memory here, and requests that carry parts of it to the agent and back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vmfuzz.errors import ExecutorError
from vmfuzz.execute.engine_process import WorkerDied
from vmfuzz.execute.kmod.device import AgentDevice, Device, DeviceLost
from vmfuzz.execute.kvm.abi import kvm_constants, kvm_dtype
from vmfuzz.execute.kvm.facts import Facts
from vmfuzz.execute.kvm.words import warning_of
from vmfuzz.execute.wire.abi import NO_ROW, constants, native_file, struct_dtype

#: Of struct vmfuzz_messages only this comes back: the machine has no messages besides its last one.
_FATAL_BYTES: Final = 520
#: So many agents lost one after the other are no matter of candidates.
_MOST_LOST: Final = 40


def local_agent() -> Device:
    """An agent on this machine; raises EnvironmentUnusable when it is not built."""
    # Ctrl-C in a terminal goes to the whole group; the agent ends when this process says so, or ends
    return AgentDevice([str(native_file("vmfuzz-agent")), "--kvm"], process_group=0)


class KvmProcess:
    """The agent that `connect` reaches, and the memory of its virtual machine, which outlives it.

    `hang_seconds`: how long a row may take, in whole seconds.
    """

    def __init__(self, connect: Callable[[], Device] = local_agent, *, hang_seconds: int = 3) -> None:
        self._connect = connect
        self._hang_seconds = hang_seconds
        self._msrs: dict[int, int] = {}
        self._image = native_file("engine.bin").read_bytes()
        self._lost = 0
        self.memory: npt.NDArray[np.uint8] = np.zeros(constants()["EMU_BYTES"], np.uint8)
        self.request: Any = self.view("EMU_REQUEST", struct_dtype("request"), 1)[0]
        self._messages: Any = self.view("EMU_MESSAGES", struct_dtype("messages"), 1)[0]
        #: of the last request: lines of the tracepoint, new warnings of the kernel's log, VM exits below KVM (0: not counted)
        self.trace: list[str] = []
        self.log: list[str] = []
        self.exits = 0
        #: all warnings so far, in words.warning_of's form; most are printed only once by a kernel
        self.warnings: list[str] = []
        self._device = connect()
        try:
            self.facts = self._ask_facts()
        except BaseException:
            self.close()
            raise

    def _ask_facts(self) -> Facts:
        error, answer = self._device.request(kvm_constants()["KVM_FACTS"], b"")
        if error:
            raise ExecutorError(f"kvm: the agent does not know KVM ({os.strerror(error)}); start it as `vmfuzz-agent --kvm`")
        return Facts.parse(answer)

    def open(self, msrs: Mapping[int, int] | None = None) -> None:
        """Open /dev/kvm there. `msrs`: capability MSRs (number, value) that virtual machines get in place of KVM's own."""
        if msrs is not None:
            self._msrs = dict(msrs)
        request = np.zeros(1, kvm_dtype("open"))
        request["abi"], request["hang_seconds"] = constants()["ABI"], self._hang_seconds
        request["msr_count"], request["image_bytes"] = len(self._msrs), len(self._image)
        request["msrs"]["target"][0, : len(self._msrs)] = list(self._msrs)
        request["msrs"]["value"][0, : len(self._msrs)] = np.array(list(self._msrs.values()), np.uint64)
        error, _ = self._device.request(kvm_constants()["KVM_OPEN"], request.tobytes() + self._image)
        if error:
            raise ExecutorError(f"kvm: no virtual machine: {_refusal(error)}")

    def view(self, place: str, dtype: Any, count: int, offset: int = 0) -> npt.NDArray[Any]:
        """`count` elements of the memory at a place named in engine.h, plus `offset` bytes."""
        start = constants()[place] + offset
        return self.memory[start : start + np.dtype(dtype).itemsize * count].view(dtype)

    def restart(self) -> None:
        """Nothing to do where the agent lives: each request has a virtual machine of its own."""

    def _reconnect(self) -> None:
        self._device.close()
        self._device = self._connect()
        self.open()

    def call(self) -> None:
        """Have the request served in a new virtual machine; raises WorkerDied when that is lost, or the agent."""
        layout = constants()
        self.request["current_row"] = NO_ROW
        running = int(self.request["command"]) == layout["COMMAND_RUN"]
        sent, back = [("EMU_REQUEST", struct_dtype("request").itemsize)], [("EMU_REQUEST", struct_dtype("request").itemsize)]
        back.append(("EMU_MESSAGES", _FATAL_BYTES))
        if running:
            rows = int(self.request["row_bytes"]) * int(self.request["row_count"])
            sent += [("EMU_LISTS", struct_dtype("pair").itemsize * int(self.request["base_count"])), ("EMU_ROWS", rows)]
            back += [("EMU_ARENA", layout["ARENA_PAGES"] * layout["PAGE"]), ("EMU_ROWS", rows)]
        try:
            answer = self._exchange(sent, back)
        except KeyboardInterrupt:
            # the agent still owes this answer, which the next request would take for its own
            self._reconnect()
            raise
        except DeviceLost as lost:
            self._lost += 1
            if self._lost > _MOST_LOST:
                raise
            self._reconnect()
            raise WorkerDied(str(lost), row_known=False) from None
        self._lost = 0
        self._take(answer, back)

    def _exchange(self, sent: list[tuple[str, int]], back: list[tuple[str, int]]) -> bytes:
        head = np.zeros(1, kvm_dtype("run"))
        head["in"], head["out"] = len(sent), len(back)
        for number, (place, length) in enumerate([*sent, *back]):
            head["part"][0, number] = (constants()[place], length)
        parts = [self.view(place, np.uint8, length).tobytes() for place, length in sent]
        error, answer = self._device.request(kvm_constants()["KVM_RUN"], b"".join([head.tobytes(), *parts]))
        if error:
            raise ExecutorError(f"kvm: the agent refuses a request: {_refusal(error)}")
        return answer

    def _take(self, answer: bytes, back: list[tuple[str, int]]) -> None:
        head = np.frombuffer(answer, kvm_dtype("ran"), 1)[0]
        at = head.nbytes
        for place, length in back:
            self.view(place, np.uint8, length)[:] = np.frombuffer(answer, np.uint8, length, at)
            at += length
        self.trace, self.log, self.exits = _lines(head["trace"]), _lines(head["log"]), int(head["exits"])
        warned = [warning_of(line) for line in self.log]
        self.warnings += warned
        if head["died"]:
            fatal = bytes(self._messages["fatal"]).split(b"\0")[0].decode("utf-8", "replace")
            raise WorkerDied("; the kernel's log: ".join([fatal, *([", ".join(warned)] if warned else [])]))

    def texts(self) -> list[str]:
        """KVM numbers no messages."""
        return []

    def close(self) -> None:
        """End the agent, and with it the virtual machine."""
        self._device.close()


def _refusal(number: int) -> str:
    """An errno with which the agent answers (machine.c), and what to do."""
    if number in (errno.EPROTO, errno.EMSGSIZE):
        return "agent and vmfuzz are of different versions; build it again (`make`, or `make -C kmod agent` for another machine)"
    if number == errno.ENOMEM:
        return "there is not enough memory; free some"
    return f"/dev/kvm cannot be used: {os.strerror(number)}; `vmfuzz doctor` says what can execute here"


def _lines(text: bytes) -> list[str]:
    return bytes(text).split(b"\0")[0].decode("utf-8", "replace").splitlines()


def local_facts() -> Facts:
    """The facts of this machine; raises EnvironmentUnusable when the agent is not built, ExecutorError when it does not answer."""
    process = KvmProcess()
    process.close()
    return process.facts


def is_kvm_agent(command: Sequence[str]) -> bool:
    """Whether the agent that `command` starts serves KVM (and not the kernel module); raises EnvironmentUnusable when none answers."""
    device = AgentDevice(command)
    try:
        return device.request(kvm_constants()["KVM_FACTS"], b"")[0] == 0
    finally:
        device.close()
