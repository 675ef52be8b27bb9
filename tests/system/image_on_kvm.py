"""A campaign on the bootable image as a guest of QEMU on KVM, whose nested VMX is the processor under test: everything in Debian's Bochs (emulated).

    python tests/system/image_on_kvm.py [--candidates 3000] [--cpu corei7_skylake_x] [--seed 1] [--memory 128]

boots Debian's kernel with kvm_intel and Debian's QEMU, whose guest is the image; its serial line leaves Bochs as the second port of that machine.
Prints what became of the campaign; exit code 1 where an outcome is unexplained. What KVM does by choice is known by its name, as for `--executor kvm`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from debian_kernels import release
from image_machine import Line, build_image, image_options, needs_image
from kvm_campaign import KvmFigures
from machine import KVM_ARGUMENTS, Machine, needs
from python_root import ext4_of
from without_panics import LeavesOutPanics

from vmfuzz.campaign.loop import Campaign
from vmfuzz.execute.kvm.facts import TELLING
from vmfuzz.execute.serial.device import SerialDevice
from vmfuzz.execute.serial.executor import SerialExecutor

_QEMU: Final = Path("/usr/bin/qemu-system-x86_64")
#: What QEMU reads to start a multiboot kernel without devices of its own.
_FIRMWARE: Final = (
    *map(Path("/usr/share/seabios").joinpath, ("bios-256k.bin",)),
    *map(Path("/usr/share/qemu").joinpath, ("kvmvapic.bin", "multiboot_dma.bin")),
)
#: Seconds for a request, and for QEMU and the image to boot, however much else the host does.
_PATIENCE: Final = 1800.0


class KvmImageExecutor(LeavesOutPanics, SerialExecutor):
    """The image as a guest of KVM in a test machine: reports itself as that KVM, whose deviations are known."""

    def __init__(self, line: Path, name: str, **options: Any) -> None:
        self._name = name
        super().__init__(SerialDevice(f"unix:{line}", answer_seconds=_PATIENCE, boot_seconds=_PATIENCE), **options)

    @property
    def name(self) -> str:
        return self._name

    @property
    def boots(self) -> int:
        """So often the image has booted."""
        return self._line.link.hello.boots


def qemu_root(folder: Path, image: Path) -> Path:
    """An ext4 image with QEMU, what it needs, and the bootable image as /vmfuzz.bin."""
    root = folder / "root"
    said = subprocess.run(["ldd", _QEMU], capture_output=True, text=True, check=True).stdout
    libraries = [Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+)", said, re.MULTILINE)]
    for path in (_QEMU, *libraries, *_FIRMWARE):
        target = root / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    shutil.copy(image, root / "vmfuzz.bin")
    for name in ("dev", "proc", "sys", "tmp"):
        (root / name).mkdir()
    return ext4_of(root)


def executor_name(machine: Machine) -> str:
    """As `--executor kvm` has it, so that what is known about KVM applies."""
    files = " ".join(f"/sys/module/kvm_intel/parameters/{name}" for name in TELLING)
    lines = machine.shell(f"grep -H . {files} || true").splitlines()
    settings = " ".join(f"{Path(path).name}={value}" for path, value in (line.split(":", 1) for line in lines))
    return f"kvm {release(machine.kernel)} on bochs-2.7 {machine.cpu} ({settings})"


@contextmanager
def image_on_kvm(folder: Path, cpu: str, memory: int) -> Iterator[tuple[Machine, Path]]:
    """The machine with KVM, QEMU and the image, and the Unix socket that is the image's line."""
    disk, path = qemu_root(folder, build_image(folder / "build").with_name("vmfuzz.bin")), folder / "line"
    line = Line(path)
    line.start()
    devices = f"com2: enabled=1, mode=socket-client, dev=127.0.0.1:{line.port}"
    with Machine("bochs", cpu=cpu, arguments=KVM_ARGUMENTS, second_disk=disk, devices=devices).start() as machine:
        machine.load_others()
        qemu = f"{_QEMU} -accel kvm -cpu host -m {memory} -nodefaults -display none -serial /dev/ttyS1 -kernel /vmfuzz.bin"
        machine.shell(f"chroot /root {qemu} >/tmp/qemu.log 2>&1 & sleep 1; cat /tmp/qemu.log")
        yield machine, path
    line.close()


def campaign(executor: KvmImageExecutor, candidates: int, seed: int) -> KvmFigures:
    """Run until so many candidates were executed."""
    figures, loop, chunk, began = KvmFigures(), Campaign(executor, seed=seed), 0, time.monotonic()
    while True:
        for plan in loop.plan(chunk):
            figures.add(loop, loop.execute(plan), plan.base)
            figures.seconds, figures.executor_seconds = time.monotonic() - began, loop.progress.executor_seconds
            print(f"{figures.executed:,} executed, {figures.executor_seconds:.0f} s, {executor.boots} boots", flush=True)
            if figures.executed >= candidates:
                return figures
        chunk += 1


def main() -> None:
    """Command line."""
    parser = image_options(__doc__, 3000)
    parser.add_argument("--memory", type=int, default=128, help="MiB of the image's machine")
    wanted = parser.parse_args()
    missing = needs("bochs") or needs("qemu") or needs_image()
    if missing:
        sys.exit(missing)
    with tempfile.TemporaryDirectory() as folder, image_on_kvm(Path(folder), wanted.cpu, wanted.memory) as (machine, line):
        print(f"booted: {executor_name(machine)}", flush=True)
        try:
            with KvmImageExecutor(line, executor_name(machine)) as executor:
                figures = campaign(executor, wanted.candidates, wanted.seed)
                print(executor._line.link.last_words)
        except Exception:
            print(machine.shell("cat /tmp/qemu.log; dmesg | tail -n 20; ps | tail -n 5"))
            raise
        figures.log = machine.trouble().splitlines()
    print(figures)
    sys.exit(1 if figures.verdicts["MISMATCH"] or figures.log else 0)


if __name__ == "__main__":
    main()
