"""The lock of a campaign's directory: one process writes there at a time."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, Final

from vmfuzz.errors import EnvironmentUnusable, UsageError

_FILE: Final = "campaign.lock"


def at_work(directory: Path) -> bool:
    """Whether a campaign is at work in the directory."""
    fcntl = _locks()
    try:
        lock = os.open(directory / _FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False


def _locks() -> Any:
    """The module fcntl; raises EnvironmentUnusable on a system that has none."""
    try:
        import fcntl
    except ImportError:
        raise EnvironmentUnusable("a campaign's directory needs the file locks of Linux or another Unix; leave out --directory") from None
    return fcntl


def locked(directory: Path) -> int:
    """The file descriptor of the directory's lock, which the system releases when the process ends, however it ends."""
    fcntl = _locks()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / _FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise EnvironmentUnusable(
            f"cannot keep a campaign in {directory}: {error.strerror}; name a directory that you can write to"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise EnvironmentUnusable(
                f"cannot lock {directory}: {error.strerror}; the campaign there is as it was: make room, or use a directory on another file system"
            ) from None
        raise UsageError(
            f"{directory}: another campaign (process {holder}) is at work there; wait for it or use another directory"
        ) from None
    return lock
