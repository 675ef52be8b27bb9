"""A root file system with this Python, its packages and vmfuzz, for a test machine: an ext4 image with everything where it is here."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

from machine import HERE, Machine

PROJECT: Final = Path(__file__).parents[2]
_UNUSED: Final = (
    "test",
    "idlelib",
    "ensurepip",
    "lib2to3",
    "tkinter",
    "turtledemo",
    "site-packages",
    "config-*",
    "__pycache__/test*",
    "pydoc_data",
)
_BLOCK_BYTES: Final = 4096
_WAIT: Final = "while [ ! -e /root/tmp/answer ]; do sleep 0.1; done"
_CYLINDER_BYTES: Final = 16 * 63 * 512


def needed_distributions() -> list[Distribution]:
    """What vmfuzz needs to run, and what that needs."""
    found: dict[str, Distribution] = {}
    wanted = ["vmfuzz"]
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # an optional one, for another system
        for requirement in found[name].requires or ():
            if "extra ==" not in requirement:
                wanted.append(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
    return list(found.values())


def _files() -> Iterator[Path]:
    """Files and links of the Python installation, the virtual environment and vmfuzz, besides shared libraries of the system."""
    for item in needed_distributions():
        for path in item.files or ():
            full = Path(str(item.locate_file(path)))
            if full.exists() and full.suffix != ".pyc":
                yield full
    yield Path(sys.prefix, "pyvenv.cfg")
    yield from (PROJECT / "src").rglob("*.py")
    yield from (PROJECT / "src/vmfuzz/execute/_native").iterdir()


def _libraries(root: Path) -> set[Path]:
    """Shared libraries of the system that the executables and extension modules below `root` load."""
    objects = [str(path) for path in root.rglob("*") if path.is_file() and (path.suffix == ".so" or ".so." in path.name)]
    said = subprocess.run(["ldd", sys.executable, *objects], capture_output=True, text=True, check=False).stdout
    return {Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+)", said, re.MULTILINE) if Path(path).is_file()}


def _copy(path: Path, root: Path) -> None:
    target = root / path.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(path, target)


def ext4_of(root: Path) -> Path:
    """An ext4 image with what is below `root`, which is removed, and a quarter more room; a disk of whole cylinders."""
    image = root.with_suffix(".img")
    used = sum(path.lstat().st_size + _BLOCK_BYTES for path in root.rglob("*"))
    with image.open("wb") as file:
        file.truncate(-(-(used * 5 // 4 + (64 << 20)) // _CYLINDER_BYTES) * _CYLINDER_BYTES)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-d", root, image], check=True)
    shutil.rmtree(root)
    return image


def build_root(folder: Path) -> Path:
    """The image. Python there is at the path of sys.executable."""
    root = folder / "python-root"
    library = Path(sys.base_prefix, "lib", f"python{sys.version_info.major}.{sys.version_info.minor}")
    shutil.copytree(library, root / library.relative_to("/"), ignore=shutil.ignore_patterns(*_UNUSED))
    _copy(Path(sys.executable).resolve(), root)
    link = root / Path(sys.executable).relative_to("/")
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(Path(sys.executable).resolve())
    for path in _files():
        _copy(path, root)
    for path in _libraries(root):
        _copy(path, root)
    for name in ("inside.py", "without_panics.py"):
        shutil.copy2(HERE / name, root / name)
    for name in ("dev", "proc", "sys", "tmp", "root"):
        (root / name).mkdir(exist_ok=True)
    return ext4_of(root)


class Vmfuzz:
    """vmfuzz's command line in a test machine whose second disk is such an image."""

    def __init__(self, machine: Machine, seconds: float = 1800.0) -> None:
        self.machine, self.seconds = machine, seconds
        how = "panics" if machine.emulator == "bochs" else ""
        start = f"OPENBLAS_NUM_THREADS=1 COLUMNS=80 chroot /root {sys.executable} /inside.py {how} > /root/tmp/server.log 2>&1 &"
        machine.shell(f"{start} {_WAIT}", seconds)

    def _ask(self, **command: Any) -> dict[str, Any]:
        line = shlex.quote(json.dumps(command))
        answer: dict[str, Any] = json.loads(
            self.machine.shell(f"rm /root/tmp/answer; echo {line} > /root/tmp/commands; {_WAIT}; cat /root/tmp/answer", self.seconds)
        )
        return answer

    def run(self, *arguments: str, user: int = 0) -> tuple[int, str]:
        """Exit code and all output of a command."""
        said = self._ask(arguments=arguments, user=user, wait=True)
        return said["status"], said["output"]

    def start(self, *arguments: str) -> int:
        """Start a command; returns its process id."""
        return int(self._ask(arguments=arguments, user=0, wait=False)["pid"])

    def kill(self, pid: int) -> int:
        """Kill -9; returns the wait status, which is 9 when it was still there."""
        return int(self._ask(kill=pid)["status"])
