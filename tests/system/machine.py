"""A whole machine for the tests: Debian's kernel, the module and a small program, in Debian's Bochs or in QEMU.

Nothing is installed here: `needs` says what is missing. The machine and the outside talk through a disk image, which both
read and write while the machine runs (guest.c has the other side).
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

KMOD: Final = Path(__file__).parents[2] / "kmod"
HERE: Final = Path(__file__).parent
_MAGIC: Final = 0x7A667676
_HEAD: Final = struct.Struct("<IIQQ")
_REPLY_HEAD, _REQUEST_DATA, _REPLY_DATA = 4096, 1 << 20, 80 << 20
_CYLINDERS: Final = 300
_DISK_BYTES: Final = _CYLINDERS * 16 * 63 * 512
SHELL, CLOSE = 0x100, 0x5600
_BOOT_SECONDS: Final = 300.0
_ISOLINUX: Final = (Path("/usr/lib/ISOLINUX/isolinux.bin"), Path("/usr/lib/syslinux/modules/bios/ldlinux.c32"))
_INIT: Final = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
for module in $(cat /modules.order); do insmod /$module; done
for i in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/sda ] && break; sleep 0.2; done
insmod /vmfuzz.ko && echo "INIT: module loaded"
/guest mailbox /dev/sda
echo "INIT: mailbox ended $?"
poweroff -f
"""
_BOCHSRC: Final = """config_interface: textconfig
display_library: term
cpu: model={cpu}, count={count}, ips=50000000, reset_on_triple_fault=0
memory: guest=256, host=256
romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata0-master: type=disk, path={disk}, mode=flat, cylinders={cylinders}, heads=16, spt=63
ata1-master: type=cdrom, path={iso}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={serial}
clock: sync=none
log: {log}
panic: action=fatal
error: action=ignore
info: action=ignore
"""
_ARGUMENTS: Final = (
    "console=ttyS0,115200 nokaslr tsc=reliable lpj=1000000 no_timer_check random.trust_cpu=on audit=0 quiet loglevel=5 panic=-1"
)


class MachineError(Exception):
    """The machine did not boot, died or did not answer."""


def headers() -> Path | None:
    """Headers of a Debian cloud kernel whose image is there as well."""
    for folder in sorted(Path("/usr/src").glob("linux-headers-*-cloud-amd64"), reverse=True):
        release = folder.name.removeprefix("linux-headers-")
        if Path("/boot", f"vmlinuz-{release}").exists() and Path("/lib/modules", release, "kernel").is_dir():
            return folder
    return None


def needs(emulator: str) -> str | None:
    """What is missing for a machine in `emulator` (bochs, qemu), as a sentence; None when all is there."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return "each worker would boot a machine of its own: run `pytest tests/system` without -n"
    wanted = {"bochs": ("bochs", "script", "xorriso"), "qemu": ("qemu-system-x86_64",)}[emulator]
    missing = [tool for tool in (*wanted, "gcc", "make", "cpio") if not shutil.which(tool)]
    if not Path("/bin/busybox").exists():
        missing.append("busybox-static")
    if emulator == "bochs":
        missing += [str(path) for path in (*_ISOLINUX, Path("/usr/share/bochs/VGABIOS-lgpl-latest")) if not path.exists()]
    if headers() is None:
        missing.append("linux-image-cloud-amd64 with linux-headers-cloud-amd64")
    return f"missing: {', '.join(missing)}; tests/system/README.md says what to install" if missing else None


def build_module(folder: Path, *, kernel: Path | None = None) -> str:
    """Build vmfuzz.ko in `folder`; returns what the compiler and the kernel's tools said."""
    kernel = kernel or headers()
    assert kernel is not None
    for name in ("*.c", "*.h", "Kbuild"):
        for path in KMOD.glob(name):
            shutil.copy(path, folder)
    done = subprocess.run(["make", "-C", kernel, f"M={folder}", "W=1", "modules"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(f"the module does not build:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def _with_dependencies(release: str, names: tuple[str, ...]) -> list[Path]:
    """Kernel modules in the order in which they have to be loaded."""
    folder = Path("/lib/modules", release)
    depends: dict[str, list[str]] = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        depends[Path(path).name] = [path, *rest.split()]
    found: dict[Path, None] = {}
    for name in names:
        path, *before = depends[f"{name}.ko"]
        found.update(dict.fromkeys(folder / other for other in [*reversed(before), path]))
    return list(found)


class Machine:
    """One machine: built and booted by `start`, asked through `request` and `shell`, ended by `close`."""

    def __init__(self, emulator: str, *, cpu: str = "corei7_skylake_x", count: int = 1, arguments: str = "nopti mitigations=off") -> None:
        self.emulator, self.cpu, self.count, self.arguments = emulator, cpu, count, arguments
        self._temporary = tempfile.TemporaryDirectory(prefix="vmfuzz-machine-")
        self.folder = Path(self._temporary.name)
        self.serial = self.folder / "serial.log"
        self.disk = self.folder / "disk.img"
        self._number = 0
        self._file = -1
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Build everything, boot, and wait until the machine answers."""
        kernel = headers()
        assert kernel is not None
        release = kernel.name.removeprefix("linux-headers-")
        self._build_initrd(release)
        with self.disk.open("wb") as disk:
            disk.truncate(_DISK_BYTES)
        self._file = os.open(self.disk, os.O_RDWR)
        image = Path("/boot", f"vmlinuz-{release}")
        command = self._bochs(image) if self.emulator == "bochs" else self._qemu(image)
        with (self.folder / "screen.log").open("wb") as screen:
            self._process = subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=screen, stderr=screen)
        self.shell("true", _BOOT_SECONDS)
        return self

    def _build_initrd(self, release: str) -> None:
        build, root = self.folder / "module", self.folder / "root"
        build.mkdir()
        (root / "bin").mkdir(parents=True)
        self.build_log = build_module(build)
        guest = root / "guest"
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-static", f"-I{KMOD}", "-o", guest, HERE / "guest.c"], check=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        shutil.copy(build / "vmfuzz.ko", root)
        modules = _with_dependencies(release, ("ata_piix", "sd_mod"))
        for path in modules:
            shutil.copy(path, root)
        (root / "modules.order").write_text("".join(f"{path.name}\n" for path in modules))
        (root / "init").write_text(_INIT)
        (root / "init").chmod(0o755)
        pack = "find . | cpio -o -H newc --quiet | gzip -1 > ../initrd.gz"
        subprocess.run(["sh", "-c", pack], cwd=root, check=True)

    def _bochs(self, image: Path) -> list[str]:
        iso = self.folder / "iso"
        (iso / "isolinux").mkdir(parents=True)
        shutil.copy(image, iso / "vmlinuz")
        shutil.copy(self.folder / "initrd.gz", iso)
        for path in _ISOLINUX:
            shutil.copy(path, iso / "isolinux")
        append = f" APPEND initrd=/initrd.gz {_ARGUMENTS} {self.arguments}"
        (iso / "isolinux/isolinux.cfg").write_text(f"DEFAULT l\nPROMPT 0\nTIMEOUT 1\nLABEL l\n KERNEL /vmlinuz\n{append}\n")
        boot = ["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
        subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", "boot.iso", *boot, "iso"], cwd=self.folder, check=True)
        settings = {"cpu": self.cpu, "count": self.count, "disk": self.disk, "cylinders": _CYLINDERS}
        paths = {"iso": self.folder / "boot.iso", "serial": self.serial, "log": self.folder / "bochs.log"}
        (self.folder / "bochsrc").write_text(_BOCHSRC.format(**settings, **paths))
        (self.folder / "debugger.rc").write_text("c\nquit\n")
        # The debugger build wants a terminal, which `script` gives it, and deadlocks on its own alarm.
        return ["env", "--block-signal=ALRM", "script", "-qec", "exec bochs -q -f bochsrc -rc debugger.rc", "/dev/null"]

    def _qemu(self, image: Path) -> list[str]:
        options = ["-display", "none", "-no-reboot", "-m", "256", "-smp", str(self.count), "-serial", f"file:{self.serial}"]
        drive = ["-drive", f"file={self.disk},format=raw,if=ide"]
        arguments = f"{_ARGUMENTS} {self.arguments}"
        kernel = ["-kernel", str(image), "-initrd", str(self.folder / "initrd.gz"), "-append", arguments]
        return ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", *options, *drive, *kernel]

    def request(self, code: int, payload: bytes, seconds: float = 120.0) -> tuple[int, bytes]:
        """One frame to the machine; returns its answer's code and bytes."""
        self._number += 1
        os.pwrite(self._file, payload, _REQUEST_DATA)
        os.pwrite(self._file, _HEAD.pack(_MAGIC, code, len(payload), self._number), 0)
        deadline = time.monotonic() + seconds
        while True:
            _, answer, length, number = _HEAD.unpack(os.pread(self._file, _HEAD.size, _REPLY_HEAD))
            if number == self._number:
                return answer, os.pread(self._file, length, _REPLY_DATA) if length else b""
            if self._process is None or self._process.poll() is not None:
                raise MachineError(f"the machine ended: {self.last_words()}")
            if time.monotonic() > deadline:
                raise MachineError(f"no answer for {seconds:g} s: {self.last_words()}")
            time.sleep(0.002)

    def shell(self, command: str, seconds: float = 120.0) -> str:
        """Run a command in the machine as root; raises MachineError when it fails."""
        status, said = self.request(SHELL, command.encode(), seconds)
        if status:
            raise MachineError(f"{command}: status {status}: {said.decode(errors='replace')}")
        return said.decode(errors="replace")

    def trouble(self) -> str:
        """Lines of the kernel's log that must not be there, from the module's first on (Linux warns about Bochs' own CPUID before)."""
        words = "BUG:|WARNING:|Oops|Call Trace|general protection|nable to handle|lockup|self-detected stall|came back|VMXON failed"
        return self.shell(f"dmesg | sed -n '/vmfuzz: loading/,$p' | grep -E '{words}' || true")

    def console(self) -> str:
        """What came out of the serial port so far."""
        return self.serial.read_text(errors="replace") if self.serial.exists() else ""

    def last_words(self) -> str:
        """The ends of all logs: for a machine that died."""
        logs = (self.serial, self.folder / "bochs.log", self.folder / "screen.log")
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-700:]}" for path in logs if path.exists())

    def close(self) -> None:
        """End the machine and remove its files."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
