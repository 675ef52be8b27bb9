"""A whole machine for the tests: Debian's kernel, the module and a small program, in Debian's Bochs or in QEMU.

Nothing is installed here: `needs` says what is missing. The machine and the outside talk through a disk image, which both
read and write while the machine runs (guest.c has the other side).
"""

from __future__ import annotations

import contextlib
import fcntl
import lzma
import os
import re
import secrets
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from debian_kernels import MachineError, build_guest, build_module, image_of, kernels, modules_of, with_dependencies

from vmfuzz.execute.kmod.abi import kmod_constants

HERE: Final = Path(__file__).parent
_MAGIC: Final = 0x7A667676
_HEAD: Final = struct.Struct("<IIQQ")
_REPLY_HEAD, _REQUEST_DATA, _REPLY_DATA = 4096, 1 << 20, 80 << 20
_CYLINDERS: Final = 300
_CYLINDER_BYTES: Final = 16 * 63 * 512
_DISK_BYTES: Final = _CYLINDERS * _CYLINDER_BYTES
_KVM_CREATE_VM: Final = 0xAE01
SHELL, CLOSE = 0x100, 0xE600
#: What a clean kernel log does not have.
TROUBLE: Final = "|".join(
    (
        "BUG:|WARNING:|Oops|Call Trace|general protection|nable to handle|lockup|self-detected stall",
        "came back|VMX(ON|OFF) failed|is lost|machine check",
    )
)
#: After these nobody in the machine answers any more: an oops of its kernel ended the program that does, or the kernel itself.
_ENDED: Final = re.compile(r"note: guest\[\d+\] exited|Kernel panic - ")
#: A machine's processor time, so that other work on the host changes nothing. By the clock so many times as much, for one that sleeps for ever.
_BOOT_SECONDS: Final = 300.0
_ANSWER_SECONDS: Final = 300.0
_PATIENCE: Final = 10
#: The machine ends with who started it, whatever ended that: one that stays behind would slow down all that come after it.
TIED: Final = ("setpriv", "--pdeathsig", "TERM", "--")
_KVM_SECONDS: Final = 4.0
_ISOLINUX: Final = (Path("/usr/lib/ISOLINUX/isolinux.bin"), Path("/usr/lib/syslinux/modules/bios/ldlinux.c32"))
#: The kernel names disks in the order in which it happens to find them; their sizes tell which is which.
_INIT: Final = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox --install -s /bin
mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev
for module in $(cat /modules.order); do insmod /$module; done
while :; do
    mailbox= second=
    for disk in /sys/block/sd*; do
        [ -b /dev/${{disk##*/}} ] || continue
        if [ "$(cat $disk/size)" = {sectors} ]; then mailbox=/dev/${{disk##*/}}; else second=/dev/${{disk##*/}}; fi
    done
    [ "$mailbox" ] && [ {disks} = 1 -o "$second" ] && break
    sleep 0.2
done
if [ "$second" ]; then
    mkdir -p /root; mount -t ext4 $second /root
    for dir in dev proc sys; do mount -o bind /$dir /root/$dir; done
fi
insmod /vmfuzz.ko && echo "INIT: module loaded"
/guest mailbox $mailbox
echo "INIT: mailbox ended $?"
poweroff -f
"""
_BOCHSRC: Final = """config_interface: textconfig
display_library: term
cpu: model={cpu}, count={count}, ips=50000000, reset_on_triple_fault=0
memory: guest={memory}, host={memory}
romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata1: enabled=1, ioaddr1=0x170, ioaddr2=0x370, irq=15
ata0-master: type=disk, path={disk}, mode=flat, cylinders={cylinders}, heads=16, spt=63
{second_disk}
ata1-master: type=cdrom, path={iso}, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev={serial}
{devices}
clock: sync=none
log: {log}
panic: action=fatal
error: action=ignore
info: action=ignore
"""
_ARGUMENTS: Final = (
    "console=ttyS0,115200 nokaslr tsc=reliable lpj=1000000 no_timer_check random.trust_cpu=on audit=0 quiet loglevel=5 panic=-1"
)


#: For a kernel whose KVM is tested. Bochs reports a TSC of 3.5 GHz that counts at 50 MHz; believing it, KVM gives up the VMX-preemption timer.
KVM_ARGUMENTS: Final = "nopti mitigations=off tsc_early_khz=50000"
#: Modules that the tests load: KVM, which takes VMX away from ours.
_OTHERS: Final = ("kvm-intel",)


def needs(emulator: str) -> str | None:
    """What is missing for a machine in `emulator` (bochs, qemu; build: only to build the module), as a sentence; None when all is there."""
    if "PYTEST_XDIST_WORKER" in os.environ and "VMFUZZ_SYSTEM" not in os.environ:
        return "they boot machines: run `make test-system`, or `pytest tests/system` without -n"
    wanted = {"bochs": ("bochs", "script", "xorriso"), "qemu": ("qemu-system-x86_64",), "build": ("sparse",)}[emulator]
    missing = [tool for tool in (*wanted, "gcc", "make", "cpio", "setpriv") if not shutil.which(tool)]
    if not Path("/bin/busybox").exists():
        missing.append("busybox-static")
    if emulator == "bochs":
        missing += [str(path) for path in (*_ISOLINUX, Path("/usr/share/bochs/VGABIOS-lgpl-latest")) if not path.exists()]
    if not kernels():
        missing.append("linux-image-cloud-amd64 with linux-headers-cloud-amd64")
    return f"missing: {', '.join(missing)}; tests/system/README.md says what to install" if missing else None


def kvm_works() -> bool:
    """Whether this machine runs virtual machines itself."""
    try:
        with Path("/dev/kvm").open("rb") as kvm:
            os.close(fcntl.ioctl(kvm, _KVM_CREATE_VM, 0))
    except OSError:
        return False
    return True


def exchange(file: int, code: int, payload: bytes) -> Iterator[tuple[int, bytes] | None]:
    """Put a frame into the disk image that is the mailbox; yields None until the answer is there, then its code and bytes."""
    number = secrets.randbits(63)
    os.pwrite(file, payload, _REQUEST_DATA)
    os.pwrite(file, _HEAD.pack(_MAGIC, code, len(payload), number), 0)
    while True:
        _, answer, length, answered = _HEAD.unpack(os.pread(file, _HEAD.size, _REPLY_HEAD))
        yield (answer, os.pread(file, length, _REPLY_DATA) if length else b"") if answered == number else None


def drain_screen(folder: Path) -> None:
    """Bochs draws the machine's text screen into a terminal of its own and sleeps in write() for ever once that is full of what nobody reads.

    `folder` has its standard output as screen.log.
    """
    screen = folder / "screen.log"
    for _ in range(int(_BOOT_SECONDS * _PATIENCE * 10)):
        found = re.search(r'connected to screen "(/dev/pts/\d+)"', screen.read_text(errors="replace")) if screen.exists() else None
        if found:
            break
        time.sleep(0.1)
    else:
        return
    terminal = os.open(found[1], os.O_RDONLY | os.O_NOCTTY)
    with contextlib.suppress(OSError):  # EIO once Bochs has ended
        tty.setraw(terminal)
        while os.read(terminal, 1 << 16):
            continue
    os.close(terminal)


class Machine:
    """One machine: built and booted by `start`, asked through `request` and `shell`, ended by `close`.

    `second_disk`: an ext4 image that is mounted on /root; the machine has more memory then. `kernel`: one of `kernels`, the first of them otherwise.
    `modules`: kernel modules that take the place of Debian's with the same file name. `devices`: lines of Bochs's configuration, besides.
    """

    def __init__(
        self,
        emulator: str,
        *,
        cpu: str = "corei7_skylake_x",
        count: int = 1,
        arguments: str = "nopti mitigations=off",
        second_disk: Path | None = None,
        kernel: Path | None = None,
        modules: Sequence[Path] = (),
        devices: str = "",
    ) -> None:
        self._devices = devices
        self.emulator, self.cpu, self.count, self.arguments = emulator, cpu, count, arguments
        self._replaced = {module.name: module for module in modules}
        self.second_disk, self.kernel = second_disk, kernel or kernels()[0]
        self.memory = 256 if second_disk is None else 1024
        self._temporary = tempfile.TemporaryDirectory(prefix="vmfuzz-machine-")
        self.folder = Path(self._temporary.name)
        self.serial = self.folder / "serial.log"
        self.disk = self.folder / "disk.img"
        self._file = -1
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Build everything, boot, and wait until the machine answers."""
        self._build_initrd()
        with self.disk.open("wb") as disk:
            disk.truncate(_DISK_BYTES)
        self._file = os.open(self.disk, os.O_RDWR)
        image = image_of(self.kernel)
        if self.emulator == "bochs":
            threading.Thread(target=drain_screen, args=(self.folder,), daemon=True).start()
            self._boot(self._bochs(image), _BOOT_SECONDS)
        elif not (kvm_works() and self._boots(self._qemu(image, kvm=True))):
            self._boot(self._qemu(image, kvm=False), _BOOT_SECONDS)
        return self

    def _boot(self, command: list[str], seconds: float) -> None:
        with (self.folder / "screen.log").open("wb") as screen:
            self._process = subprocess.Popen([*TIED, *command], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=screen, stderr=screen)
        self.shell("true", seconds)

    def _boots(self, command: list[str]) -> bool:
        """Whether it does within a time in which a virtual machine of KVM does: where KVM is nested in something, it may hang."""
        try:
            self._boot(command, _KVM_SECONDS)
        except MachineError:
            self._end()
            return False
        return True

    def _build_initrd(self) -> None:
        build, root = self.folder / "module", self.folder / "root"
        build.mkdir()
        (root / "bin").mkdir(parents=True)
        self.build_log = build_module(build, self.kernel)
        build_guest(root / "guest")
        shutil.copy("/bin/busybox", root / "bin/busybox")
        shutil.copy(build / "vmfuzz.ko", root)
        self._add_modules(root, ("ata_piix", "sd_mod", *(("ext4",) if self.second_disk else ())), "modules.order")
        self._add_modules(root, _OTHERS, "others.order")
        disks = 1 if self.second_disk is None else 2
        (root / "init").write_text(_INIT.format(sectors=_DISK_BYTES // 512, disks=disks))
        (root / "init").chmod(0o755)
        pack = "find . | cpio -o -H newc --quiet | gzip -1 > ../initrd.gz"
        subprocess.run(["sh", "-c", pack], cwd=root, check=True)

    def _add_modules(self, root: Path, names: tuple[str, ...], order: str) -> None:
        """Copy modules and what they need; `order` lists them as they have to be loaded. busybox cannot read compressed ones."""
        listed = []
        for path in with_dependencies(modules_of(self.kernel), names):
            name = path.name.removesuffix(".xz")
            listed.append(name)
            source = self._replaced.get(name, path)
            data = source.read_bytes()
            (root / name).write_bytes(lzma.decompress(data) if source.suffix == ".xz" else data)
        (root / order).write_text("".join(f"{name}\n" for name in listed))

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
        second = ""
        if self.second_disk is not None:
            cylinders = self.second_disk.stat().st_size // _CYLINDER_BYTES
            second = f"ata0-slave: type=disk, path={self.second_disk}, mode=flat, cylinders={cylinders}, heads=16, spt=63"
        settings = {"cpu": self.cpu, "count": self.count, "disk": self.disk, "cylinders": _CYLINDERS, "memory": self.memory}
        settings |= {"second_disk": second, "devices": self._devices}
        paths = {"iso": self.folder / "boot.iso", "serial": self.serial, "log": self.folder / "bochs.log"}
        (self.folder / "bochsrc").write_text(_BOCHSRC.format(**settings, **paths))
        (self.folder / "debugger.rc").write_text("c\nquit\n")
        # The debugger build wants a terminal, which `script` gives it, and deadlocks on its own alarm.
        return ["env", "--block-signal=ALRM", "script", "-qec", "exec bochs -q -f bochsrc -rc debugger.rc", "/dev/null"]

    def _qemu(self, image: Path, *, kvm: bool) -> list[str]:
        options = ["-display", "none", "-no-reboot", "-m", str(self.memory), "-smp", str(self.count), "-serial", f"file:{self.serial}"]
        disks = [disk for disk in (self.disk, self.second_disk) if disk is not None]
        drive = [word for disk in disks for word in ("-drive", f"file={disk},format=raw,if=ide")]
        arguments = f"{_ARGUMENTS} {self.arguments}"
        kernel = ["-kernel", str(image), "-initrd", str(self.folder / "initrd.gz"), "-append", arguments]
        processor = ["-accel", "kvm", "-cpu", "host,-vmx,-arch-capabilities"] if kvm else ["-accel", "tcg", "-cpu", "max"]
        return ["qemu-system-x86_64", *processor, *options, *drive, *kernel]

    def _processor_seconds(self) -> float:
        """Processor time that the machine has had."""
        ticks, processes = 0, [] if self._process is None else [self._process.pid]
        while processes:
            process = Path("/proc", str(processes.pop()))
            with contextlib.suppress(OSError):  # it has ended
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
                processes += map(int, (process / "task" / process.name / "children").read_text().split())
        return ticks / os.sysconf("SC_CLK_TCK")

    def request(self, code: int, payload: bytes, seconds: float = _ANSWER_SECONDS) -> tuple[int, bytes]:
        """One frame to the machine; returns its answer's code and bytes. `seconds`: of the machine's processor time."""
        began, had = time.monotonic(), self._processor_seconds()
        look = began + 1
        for answer in exchange(self._file, code, payload):
            if answer is not None:
                return answer
            if self._process is None or self._process.poll() is not None:
                raise MachineError(f"the machine ended: {self.last_words()}")
            if time.monotonic() > look:
                look = time.monotonic() + 1
                if _ENDED.search(self.console()):
                    raise MachineError(f"the machine's kernel broke: {self.last_words()}")
                if self._processor_seconds() - had > seconds or look - began > seconds * _PATIENCE:
                    break
            time.sleep(0.002)
        spent = f"{self._processor_seconds() - had:.0f} s of processor time, {time.monotonic() - began:.0f} s by the clock"
        raise MachineError(f"no answer for {spent}: {self.last_words()}")

    def last_request(self) -> bytes:
        """The payload that the machine got last: the culprit, if it died of it."""
        _, _, length, _ = _HEAD.unpack(os.pread(self._file, _HEAD.size, 0))
        return os.pread(self._file, length, _REQUEST_DATA)

    def wait_for_batches(self, count: int, seconds: float = _ANSWER_SECONDS * _PATIENCE) -> None:
        """Until another program has sent so many runs through the mailbox; raises MachineError when it does not."""
        deadline, seen = time.monotonic() + seconds, set[int]()
        while len(seen) < count:
            _, code, _, number = _HEAD.unpack(os.pread(self._file, _HEAD.size, 0))
            if code == kmod_constants()["IOC_RUN"]:
                seen.add(number)
            if time.monotonic() > deadline:
                raise MachineError(f"{len(seen)} of {count} runs came in {seconds:g} s")
            time.sleep(0.001)

    def shell(self, command: str, seconds: float = _ANSWER_SECONDS) -> str:
        """Run a command in the machine as root; raises MachineError when it fails."""
        status, said = self.request(SHELL, command.encode(), seconds)
        if status:
            raise MachineError(f"{command}: status {status}: {said.decode(errors='replace')}")
        return said.decode(errors="replace")

    def trouble(self) -> str:
        """Lines of the kernel's log that must not be there, from the module's first on (Linux warns about Bochs' own CPUID before)."""
        return self.shell(f"dmesg | sed -n '/vmfuzz: loading/,$p' | grep -E '{TROUBLE}' || true")

    def agent(self, *options: str) -> str:
        """The command that stands for the agent on a remote machine; `options`: "--kvm", as for the agent."""
        return shlex.join([sys.executable, str(HERE / "relay.py"), str(self.disk), *options])

    def load_others(self, parameters: str = "") -> None:
        """Load KVM, with these parameters of kvm_intel, and let its tracepoints be read."""
        self.shell("grep -q tracefs /proc/mounts || mount -t tracefs tracefs /sys/kernel/tracing")
        self.shell(f"for module in $(cat /others.order); do insmod /$module $([ $module = kvm-intel.ko ] && echo '{parameters}'); done")

    def unload_others(self) -> None:
        """Unload KVM; whoever has it open has to close it before."""
        self.shell("for module in $(tac /others.order); do rmmod ${module%.ko}; done")

    def console(self) -> str:
        """What came out of the serial port so far."""
        return self.serial.read_text(errors="replace") if self.serial.exists() else ""

    def last_words(self) -> str:
        """The ends of all logs: for a machine that died."""
        logs = (self.serial, self.folder / "bochs.log", self.folder / "screen.log")
        return "\n".join(f"{path.name}: {path.read_text(errors='replace')[-700:]}" for path in logs if path.exists())

    def _end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def close(self) -> None:
        """End the machine and remove its files."""
        self._end()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
