"""The record of the batch that a real processor is running: when the machine goes down, it names the culprits.

A journal is the running boot's id and the request's bytes (device.py), on disk before the first row runs and emptied after the last.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import numpy as np

from vmfuzz.arch.fields import BY_ENCODING
from vmfuzz.errors import EnvironmentUnusable, ExecutorError, SafetyStop, UsageError
from vmfuzz.execute.wire.abi import struct_dtype
from vmfuzz.hexadecimal import hexadecimal

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_MARK: Final = b"vmfuzz-journal-1 "


def default_journal() -> Path:
    """Where the journal is unless said otherwise."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "vmfuzz" / "kmod-journal"


def _boot() -> bytes:
    try:
        return _BOOT_ID.read_bytes().strip()
    except OSError:
        return b"unknown"


def _sync_directory(path: Path) -> None:
    """Have a file's name on disk, too: fsync of the file alone does not."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Journal:
    """The journal at `path`, for who has the device open: there is one program at a time.

    Raises SafetyStop when it holds a batch of an earlier boot: the machine went down with it. Raises EnvironmentUnusable where it cannot
    be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_journal()
        self._head = _MARK + _boot() + b"\n"
        self._file = -1
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            left = os.pread(self._file, 200, 0)
            _sync_directory(self.path.parent)
        except OSError as error:
            raise EnvironmentUnusable(
                f"the journal {self.path}, which names the candidate if the machine goes down, cannot be written: {error.strerror}; set "
                "XDG_STATE_HOME to a directory that can"
            ) from None
        if left.startswith(_MARK) and not left.startswith(self._head):
            os.close(self._file)
            raise SafetyStop(
                f"the machine went down while it ran the batch in {self.path}. Keep that file for a report (docs/bare-metal.md says how to read "
                f"it); to go on, move it away: mv {self.path} {self.path}.kept"
            )
        self.clear()

    def write(self, payload: bytes) -> None:
        """Have a batch on disk before it runs. Raises ExecutorError when that is impossible; it must not run then."""
        whole = self._head + payload
        try:
            os.ftruncate(self._file, 0)
            written = os.pwrite(self._file, whole, 0)
            os.fsync(self._file)
        except OSError as error:
            raise ExecutorError(f"the journal {self.path} cannot be written: {error.strerror}; the batch did not run") from None
        if written != len(whole):
            raise ExecutorError(f"the journal {self.path} cannot be written: the disk is full; the batch did not run")

    def clear(self) -> None:
        """The batch is through."""
        os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Leave an empty journal behind."""
        if self._file >= 0:
            self.clear()
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1


def _name(target: int) -> str:
    if target in BY_ENCODING:
        return BY_ENCODING[target].name
    return f"arena+{hexadecimal(target & ~(1 << 63))}" if target >> 63 else f"target {hexadecimal(target)}"


def read_journal(path: Path) -> tuple[dict[str, int], list[dict[str, int]]]:
    """(base, rows): the batch in a journal, by the names of fields; each row holds the values of the columns only."""
    data = path.read_bytes()
    head, _, payload = data.partition(b"\n")
    if not head.startswith(_MARK) or len(payload) < struct_dtype("run").itemsize:
        raise UsageError(f"{path} is not a journal of the kernel-module executor, or it is empty")
    run: Any = np.frombuffer(payload, struct_dtype("run"), 1)[0]
    at = struct_dtype("run").itemsize
    base = np.frombuffer(payload, struct_dtype("pair"), int(run["base_count"]), at)
    at += base.nbytes
    columns = sum(int(run[name]) for name in ("field_columns", "arena_columns", "live_columns"))
    targets = np.frombuffer(payload, np.uint64, columns, at)
    at += targets.nbytes + int(run["restore_count"]) * 8
    stride, result = int(run["row_bytes"]), struct_dtype("result").itemsize
    names = [_name(int(target)) for target in targets]
    rows = []
    for index in range(int(run["row_count"])):
        values = np.frombuffer(payload, np.uint64, columns, at + index * stride + result)
        rows.append(dict(zip(names, map(int, values), strict=True)))
    return {_name(int(pair["target"])): int(pair["value"]) for pair in base}, rows
