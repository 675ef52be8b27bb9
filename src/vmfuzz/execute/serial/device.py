"""The module's device behind a serial line, and the command that resets a machine which hangs."""

from __future__ import annotations

import errno
import hashlib
import subprocess
from typing import Any, Final, NoReturn

import numpy as np

from vmfuzz.errors import EnvironmentUnusable, ExecutorError
from vmfuzz.execute.kmod.abi import kmod_constants
from vmfuzz.execute.kmod.device import DeviceLost
from vmfuzz.execute.serial.coding import BadMessage, Rows, decode, encode
from vmfuzz.execute.serial.link import Hello, Link, MachineHung, Restarted
from vmfuzz.execute.serial.port import Port
from vmfuzz.execute.wire.abi import struct_dtype

#: So long a request, or the machine's boot, may take unless said otherwise.
ANSWER_SECONDS: Final = 60.0
BOOT_SECONDS: Final = 120.0
#: What the errno of the first request means here.
_MISSING: Final = {
    errno.ENODEV: "that machine's processor offers no VMX: turn on nested virtualization for it (docs/hypervisors.md)",
    errno.EACCES: "that machine's firmware locked VMX: turn on Intel VT-x in its setup",
}


#: The low bits of a digest: the row of its chunk that a request begins with.
_FIRST_ROW: Final = 0xFFFF


class MachineReset(DeviceLost):
    """The machine was reset while it worked on a request, and is there again. `row` of the request ran then; None where nobody knows."""

    def __init__(self, text: str, hello: Hello, row: int | None) -> None:
        super().__init__(text)
        self.hello = hello
        self.row = row


def chunk_digest(payload: bytes) -> int:
    """What names a run's request in the image's black box: its base, columns and rows, whatever is restored in between. Its low bits are 0."""
    run = np.frombuffer(payload, struct_dtype("run"), 1)[0]
    columns = sum(int(run[name]) for name in ("field_columns", "arena_columns", "live_columns"))
    at = struct_dtype("run").itemsize + int(run["base_count"]) * struct_dtype("pair").itemsize + columns * 8
    named = hashlib.blake2b(payload[struct_dtype("run").itemsize : at], digest_size=8)
    named.update(payload[at + int(run["restore_count"]) * 8 :])
    return int.from_bytes(named.digest(), "little") & ~_FIRST_ROW


def row_of(hello: Hello, chunk: int) -> int | None:
    """The row of the chunk with this digest that ran when the machine was reset; None where another chunk did."""
    return (hello.digest & _FIRST_ROW) + hello.row if hello.died_of_a_row and hello.digest & ~_FIRST_ROW == chunk else None


def _rows_of(payload: bytes) -> Rows:
    run = np.frombuffer(payload, struct_dtype("run"), 1)[0]
    stride = int(run["row_bytes"])
    return Rows(len(payload) - stride * int(run["row_count"]), stride)


class SerialDevice:
    """The device of the machine at the other end of the line `where` (port.EXPECTED).

    `reset`: a shell command that resets the machine when it hangs, such as "VBoxManage controlvm NAME reset".
    """

    local = False

    def __init__(
        self, where: str, *, reset: str | None = None, answer_seconds: float = ANSWER_SECONDS, boot_seconds: float = BOOT_SECONDS
    ) -> None:
        self.where, self._reset = where, reset
        #: digest of the chunk of rows of which a run's request is a part, None for a whole one; and the row of the chunk that the request begins with
        self.chunk: int | None = None
        self.first_row = 0
        port = Port(where)
        try:
            self.link = Link(port, answer_seconds=answer_seconds, boot_seconds=boot_seconds)
        except BaseException:
            port.close()
            raise

    def request(self, code: int, payload: bytes) -> tuple[int, bytes]:
        """Serve one request. Raises MachineReset where the machine was reset, also by `reset` after it hung; MachineHung and LineClosed."""
        is_run = code == kmod_constants()["IOC_RUN"]
        digest, rows = (self._digest(payload), _rows_of(payload)) if is_run else (0, Rows())
        try:
            error, answer = decode(self.link.request(encode(code, payload, rows, digest)))
        except BadMessage as bad:
            raise ExecutorError(
                f"serial:{self.where}: the image answered something unexpected ({bad}); is it of this version of vmfuzz?"
            ) from None
        except Restarted as restarted:
            self._raise_reset(restarted.hello, digest, "")
        except MachineHung as hung:
            self._raise_reset(self._bring_back(hung), digest, "the machine hung and was reset: ")
        if error in _MISSING:
            raise EnvironmentUnusable(f"serial:{self.where}: {_MISSING[error]}; it says: {self.link.last_words}")
        return error, answer

    def _digest(self, payload: bytes) -> int:
        if self.chunk is None:
            self.chunk = chunk_digest(payload)
        return self.chunk + self.first_row

    def _bring_back(self, hung: MachineHung) -> Hello:
        if self._reset is None:
            raise MachineHung(f"{hung}; reset it, or add --reset COMMAND, and go on with --resume") from None
        before = self.link.hello.boot
        done = subprocess.run(self._reset, shell=True, check=False, stdin=subprocess.DEVNULL, capture_output=True)
        if done.returncode:
            said: Any = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
            raise MachineHung(f"{hung}; --reset {self._reset!r} failed with status {done.returncode}: {said}") from None
        return self.link.greet(before)

    def _raise_reset(self, hello: Hello, digest: int, first: str) -> NoReturn:
        known = hello.died_of_a_row and hello.digest == digest
        raise MachineReset(f"serial:{self.where}: {first}{hello.how}", hello, hello.row if known else None) from None

    def close(self) -> None:
        """Give the line back; the image waits for the next that comes."""
        self.link.close()
