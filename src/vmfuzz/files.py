"""Files that a person names: written whole or not at all, read with one sentence about what is wrong."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any, Final

from vmfuzz.errors import EnvironmentUnusable, UsageError

#: A chain of links longer than this is a loop, as the kernel counts.
_MOST_LINKS: Final = 40
#: A temporary file's name has to stay below the 255 bytes that file systems allow.
_NAME_KEPT: Final = 40


def write_text(path: Path, text: str) -> None:
    """Write a file aside, flush it to the disk, and rename it, so that it is there whole or as it was before.

    A link stays a link: the file that it leads to is replaced, and keeps its mode and owner. A device, a pipe and a descriptor of this process
    (`-o /dev/stdout`) are written to as they are. Raises EnvironmentUnusable where it cannot be written.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))  # half a pair of surrogates, as JSON writes it


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file as `write_text` does, of bytes as they are."""
    kept = ""
    try:
        if (descriptor := _descriptor(path)) is not None:
            _write_through(descriptor, data)
        elif (found := _status(path)) is not None and not stat.S_ISREG(found.st_mode):
            with path.open("wb", buffering=0) as device:
                _write_all(device.fileno(), data)
        else:
            kept = "; what was there before is as it was"
            _replace(Path(os.path.realpath(path)), data, found)
    except BrokenPipeError:
        return  # the reader has what it wanted
    except OSError as error:
        raise EnvironmentUnusable(f"cannot write {path}: {error.strerror}{kept}") from None


def require_writable(path: Path) -> None:
    """Raise EnvironmentUnusable where `write_text` could not write the file, before there is anything to write."""
    try:
        found = _status(path)
    except OSError as error:
        raise EnvironmentUnusable(f"cannot write {path}: {error.strerror}") from None
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise EnvironmentUnusable(f"cannot write {path}: it is a directory; name a file")
    if _descriptor(path) is not None:
        return
    if found is not None and not stat.S_ISREG(found.st_mode):
        if not os.access(path, os.W_OK):
            raise EnvironmentUnusable(f"cannot write {path}: {os.strerror(errno.EACCES)}")
        return
    place = Path(os.path.realpath(path)).parent
    while not place.exists() and place != place.parent:
        place = place.parent
    if not (place.is_dir() and os.access(place, os.W_OK)):
        raise EnvironmentUnusable(f"cannot write {path}: {place} is not a directory that can be written")


def _status(path: Path) -> os.stat_result | None:
    """What the path leads to; None where nothing is there yet."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _descriptor(path: Path) -> int | None:
    """The descriptor of this process that the path stands for: /dev/stdout, /dev/fd/3, links to them, and the file that is standard output.

    Whoever replaced that file would lose what the command prints beside it.
    """
    own, step = os.path.realpath("/proc/self/fd"), path
    for _ in range(_MOST_LINKS):
        parent = os.path.realpath(step.parent)
        if parent == own and step.name.isdigit():
            return int(step.name)
        try:
            step = Path(parent, os.readlink(Path(parent, step.name)))  # noqa: PTH115 - a Path would drop what a link begins with
        except OSError:
            break
    found = _status(path)
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if found is not None and os.path.samestat(found, os.fstat(descriptor)):
                return descriptor
    return None


def _write_through(descriptor: int, data: bytes) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()  # what was printed before stands before
    _write_all(descriptor, data)


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _replace(path: Path, data: bytes, before: os.stat_result | None) -> None:
    temporary = path.with_name(f".{path.name[:_NAME_KEPT]}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            if before is not None:
                with contextlib.suppress(OSError):  # only root gives files away
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_json(path: Path, expected: str = "") -> Any:
    """The data in a JSON file; raises UsageError where it cannot be read or is none, which says what was `expected`."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}{f'; {expected}' if expected else ''}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {why_not_json(error)}{f'; {expected}' if expected else ''}") from None


def why_not_json(error: ValueError | RecursionError) -> str:
    """What is wrong with a text that the JSON parser refused."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is not UTF-8 text"
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
