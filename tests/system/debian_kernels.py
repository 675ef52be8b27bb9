"""Debian's kernels on this machine, and the module built for one of them."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

KMOD: Final = Path(__file__).parents[2] / "kmod"
#: All warnings of the kernel's build.
BUILD_OPTIONS: Final = ("W=1",)
KVM: Final = KMOD.parent / "src/vmfuzz/execute/kvm"


class MachineError(Exception):
    """The machine did not boot, died or did not answer."""


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"[0-9]+", folder.name))


def kernels() -> list[Path]:
    """Headers of Debian's cloud kernels whose images are there as well, from the oldest to the newest.

    VMFUZZ_SYSTEM_ROOT names a folder in which more packages were unpacked.
    """
    roots = [Path("/"), *map(Path, filter(None, [os.environ.get("VMFUZZ_SYSTEM_ROOT")]))]
    found = [folder for root in roots for folder in root.glob("usr/src/linux-headers-*-cloud-amd64") if image_of(folder).exists()]
    return sorted((folder for folder in found if (modules_of(folder) / "kernel").is_dir()), key=_version)


def release(headers: Path) -> str:
    """The kernel's release."""
    return headers.name.removeprefix("linux-headers-")


def image_of(headers: Path) -> Path:
    """The kernel that belongs to headers."""
    return headers.parents[2] / "boot" / f"vmlinuz-{release(headers)}"


def modules_of(headers: Path) -> Path:
    """The modules that belong to headers."""
    return headers.parents[2] / "lib/modules" / release(headers)


def headers() -> list[Path]:
    """Headers of all of Debian's kernels that are installed, whatever their flavour and with or without the kernel."""
    return sorted(Path("/usr/src").glob("linux-headers-*-amd64"), key=_version)


def module_sources() -> list[str]:
    """What the module is built of: the objects that Kbuild names, and the headers of its own that these include."""
    objects = re.search(r"^vmfuzz-y := (.*)$", (KMOD / "Kbuild").read_text(), re.MULTILINE)
    assert objects is not None
    names = [f"{Path(name).stem}.c" for name in objects[1].split()]
    for name in names:
        names += [other for other in re.findall(r'^#include "(.*)"$', (KMOD / name).read_text(), re.MULTILINE) if other not in names]
    return sorted(names)


def digest() -> str:
    """The module's sources in a word, so that what was measured with others does not count for these."""
    whole = hashlib.sha256()
    for name in module_sources():
        whole.update((KMOD / name).read_bytes())
    return whole.hexdigest()[:12]


def copy_sources(folder: Path) -> None:
    """Copy what the module is built of."""
    for name in ("*.c", "*.h", "Kbuild"):
        for path in KMOD.glob(name):
            shutil.copy(path, folder)


def complaints(log: str) -> list[str]:
    """The lines of a build's log that are warnings or errors."""
    return [line for line in log.splitlines() if "warning" in line.lower() or "error" in line.lower()]


def build_module(folder: Path, kernel: Path) -> str:
    """Build vmfuzz.ko in `folder` with all warnings, and with sparse where that is installed; returns what compiler and tools said."""
    copy_sources(folder)
    checks = ["C=2"] if shutil.which("sparse") else []
    done = subprocess.run(
        ["make", "-C", kernel, f"M={folder}", *BUILD_OPTIONS, *checks, "modules"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise MachineError(f"the module does not build:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def build_guest(guest: Path) -> None:
    """Build the small program that is in the machine, with the agent's code in it (guest.c)."""
    sources = (Path(__file__).with_name("guest.c"), KVM / "machine.c", KVM / "words.c")
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-static", "-pthread", f"-I{KMOD}", f"-I{KVM}", "-o", guest, *sources]
    subprocess.run(command, check=True)


def with_dependencies(folder: Path, names: tuple[str, ...]) -> list[Path]:
    """Kernel modules of /lib/modules/RELEASE in the order in which they have to be loaded."""
    depends: dict[str, list[str]] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        depends[Path(path).name] = [path, *rest.split()]
    builtin = {Path(line).stem for line in (folder / "modules.builtin").read_text().splitlines()}
    found: dict[Path, None] = {}
    for name in names:
        if name in builtin:
            continue
        path, *before = next(line for file, line in depends.items() if file.split(".")[0] == name)
        found.update(dict.fromkeys(folder / other for other in [*reversed(before), path]))
    return list(found)
