"""The kernel module's device, here or on another machine: each takes a request's bytes and returns an errno and the answer's bytes.

The bytes of a run are struct vmfuzz_run, then what its pointers name: base pairs, targets of columns, targets to restore, rows. The answer
is the structure, the results, and the words of the arena that are not 0 as pairs (offset, value) behind their number (kmod/agent.c).
"""

from __future__ import annotations

import errno
import os
import platform
import shlex
import struct
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn, Protocol

import numpy as np
import numpy.typing as npt

from vmfuzz.errors import EnvironmentUnusable, ExecutorError
from vmfuzz.execute.kmod.abi import kmod_constants
from vmfuzz.execute.wire.abi import struct_dtype
from vmfuzz.interrupts import held

DEVICE: Final = Path("/dev/vmfuzz")
#: Vendors whose processors have AMD's SVM, by CPUID.
WITH_SVM: Final = ("AuthenticAMD", "HygonGenuine")
#: What to do where this machine's processor has no VMX.
ELSEWHERE: Final = (
    "use --executor bochs, or a machine with VMX: --executor 'remote:ssh root@target vmfuzz-agent' (its module) or "
    "'remote:ssh target vmfuzz-agent --kvm'"
)
_CPUINFO: Final = Path("/proc/cpuinfo")
_MODULE: Final = Path("/sys/module/vmfuzz")
#: Where a module is after `make -C kmod` in a source tree, and where DKMS and `make modules_install` put it.
_SOURCE: Final = Path(__file__).parents[4] / "kmod"
_INSTALLED: Final = Path("/lib/modules", platform.release())
_FRAME: Final = struct.Struct("<IIQ")
_MAGIC: Final = 0x7A667676


class Device(Protocol):
    """Something that serves the module's requests."""

    #: whether it is this machine that goes down if something goes wrong
    local: bool

    def request(self, code: int, payload: bytes) -> tuple[int, bytes]:
        """Serve one request: (errno or 0, answer)."""

    def close(self) -> None:
        """Give the device back."""


def cpu_has_vmx() -> bool:
    """Whether this machine's processor says that it has VMX."""
    return "vmx" in _said_of_cpu("flags").split()


def cpu_vendor(cpuinfo: Path = _CPUINFO) -> str:
    """The vendor of this machine's processor, as CPUID gives it ("GenuineIntel"); empty where the kernel does not say."""
    return _said_of_cpu("vendor_id", cpuinfo)


def microcode_revision(cpuinfo: Path = _CPUINFO) -> int | None:
    """The revision of this machine's microcode, None where the kernel does not say."""
    try:
        return int(_said_of_cpu("microcode", cpuinfo), 16)
    except ValueError:
        return None


def _said_of_cpu(name: str, cpuinfo: Path = _CPUINFO) -> str:
    """What the kernel says of the first CPU by this name; empty where it says nothing."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def why_not_open(error: OSError) -> str:
    """What is wrong and what to do when /dev/vmfuzz cannot be opened."""
    if isinstance(error, FileNotFoundError):
        if (vendor := cpu_vendor()) in WITH_SVM:
            return f"this processor ({vendor}) has SVM instead of VMX, so the kernel module cannot be used here; {ELSEWHERE}"
        if not cpu_has_vmx():
            return (
                'this processor has no VMX, or a hypervisor hides it, or the firmware disabled it (`dmesg` says "VMX (outside TXT) disabled by '
                'BIOS" then: enable Intel VT-x in its setup); without VMX the kernel module cannot be used; use --executor bochs'
            )
        if _MODULE.exists():
            return f"the module vmfuzz is loaded, but {DEVICE} does not exist; is devtmpfs mounted on /dev?"
        return f"{DEVICE} does not exist: {_how_to_load()}"
    if isinstance(error, PermissionError):
        return f"{DEVICE}: permission denied; only root (CAP_SYS_ADMIN) may execute VM entries: use sudo"
    if error.errno == errno.EBUSY:
        return f"{DEVICE} is in use: it serves one program at a time; `fuser {DEVICE}` names the other program"
    return f"{DEVICE}: {error.strerror}"


def _how_to_load() -> str:
    """What to do about a module that is not loaded, as far as it is built."""
    if next(_INSTALLED.glob("*/**/vmfuzz.ko*"), None):
        return "the module is installed, but not loaded: read docs/bare-metal.md, then `modprobe vmfuzz`"
    built = _SOURCE / "vmfuzz.ko"
    if built.exists():
        return f"the module is built, but not loaded: read docs/bare-metal.md, then `insmod {built}`"
    source = str(_SOURCE) if (_SOURCE / "Kbuild").exists() else "kmod"
    return (
        f"the module is not built: read docs/bare-metal.md, then `apt-get install linux-headers-{platform.release()}`, `make -C {source}` in "
        f"vmfuzz's source tree, and `insmod {source}/vmfuzz.ko`"
    )


#: What an errno of a request means (kmod/vmfuzz_uapi.h) and what to do.
_ERRORS: Final = {
    "ENODEV": "the processor has no VMX, or a hypervisor hides it; use --executor bochs",
    "EACCES": (
        "the firmware disabled VMX, or nothing locked IA32_FEATURE_CONTROL (the kernel log says which); enable virtualization (Intel VT-x) "
        "in its setup, or boot a kernel with KVM, which locks it"
    ),
    "EADDRINUSE": "another program is in VMX operation on this CPU, most likely KVM; stop virtual machines and `modprobe -r kvm_intel`",
    "EPROTONOSUPPORT": "the kernel uses FRED, supervisor shadow stacks, Intel PT, PEBS or BTS, which the module cannot restore; see the kernel log",
    "EXDEV": "the process moved to another CPU (was its CPU taken offline?); open the executor again",
    "EIO": "the module gave up, because VMXON failed or the host's state was not restored; see the kernel log, then restart the machine",
    "EINVAL": "the module refuses this request; see the kernel log (are module and vmfuzz of different versions?)",
    "ENOTTY": "the module does not know this request, so it is of another version than vmfuzz; build module and agent again, and load the module",
    "EOPNOTSUPP": "poison was used before this processor was seen to refuse guest RFLAGS bit 1 = 0",
    "EPERM": f"only root (CAP_SYS_ADMIN) may open {DEVICE}",
    "ENOENT": f"{DEVICE} does not exist there: load the module (docs/bare-metal.md)",
    "ENOMEM": "the kernel has no memory for the module's pages below 4 GiB; restart the machine, or free some",
    "EBUSY": f"{DEVICE} is in use: one program at a time",
}


_EXPECTED: Final = "a command that starts it, such as `ssh root@target vmfuzz-agent`"
#: Linux numbers no error higher.
_LAST_ERRNO: Final = 4095


def error_text(number: int) -> str:
    """An errno of a request as a sentence."""
    meant = {getattr(errno, name): text for name, text in _ERRORS.items()}  # errno.errorcode has one of several names of a number
    return meant.get(number, f"the request failed: {os.strerror(number)} (errno {number}); see the kernel log")


class LocalDevice:
    """/dev/vmfuzz of this machine; the calling thread stays on one CPU until `close`.

    That is `cpu`, or the last one it may use: a kernel misses the first one most, which keeps its time and takes most interrupts.
    """

    local = True

    def __init__(self, cpu: int | None = None) -> None:
        try:
            self._file = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise EnvironmentUnusable(f"kmod: {why_not_open(error)}") from None
        self._affinity = os.sched_getaffinity(0)
        try:
            os.sched_setaffinity(0, {max(self._affinity) if cpu is None else cpu})
        except OSError as error:
            os.close(self._file)
            raise EnvironmentUnusable(f"kmod: CPU {cpu} cannot be used: {error.strerror}") from None

    def request(self, code: int, payload: bytes) -> tuple[int, bytes]:
        """Serve one request."""
        buffer = bytearray(payload)
        if code != kmod_constants()["IOC_RUN"]:
            return self._ioctl(code, buffer), bytes(buffer)
        return self._run(buffer)

    def _ioctl(self, code: int, buffer: bytearray | memoryview) -> int:
        try:
            import fcntl  # there is none on Windows

            fcntl.ioctl(self._file, code, buffer, True)
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _run(self, buffer: bytearray) -> tuple[int, bytes]:
        dtype, pair = struct_dtype("run"), struct_dtype("pair").itemsize
        whole: npt.NDArray[np.uint8] = np.frombuffer(buffer, np.uint8)
        head = whole[: dtype.itemsize].view(dtype)
        columns = sum(int(head[name][0]) for name in ("field_columns", "arena_columns", "live_columns"))
        at = whole.ctypes.data + dtype.itemsize
        sizes = {"base": int(head["base_count"][0]) * pair, "columns": columns * 8, "restore": int(head["restore_count"][0]) * 8}
        for name, size in sizes.items():
            head[name] = at
            at += size
        head["rows"] = at
        arena = np.zeros(kmod_constants()["ARENA_PAGES"] * kmod_constants()["PAGE"] // 8, np.uint64)
        head["arena"] = arena.ctypes.data
        error = self._ioctl(kmod_constants()["IOC_RUN"], memoryview(buffer)[: dtype.itemsize])
        count, stride, result = int(head["row_count"][0]), int(head["row_bytes"][0]), struct_dtype("result").itemsize
        rows = np.ndarray((count, result), np.uint8, whole, at - whole.ctypes.data, (stride, 1)) if count else whole[:0]
        used = np.flatnonzero(arena)
        words = np.stack([used.astype(np.uint64) * np.uint64(8), arena[used]], axis=1)
        return error, head.tobytes() + rows.tobytes() + len(used).to_bytes(8, "little") + words.tobytes()

    def close(self) -> None:
        """Close the file, which ends all that the module holds."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            os.sched_setaffinity(0, self._affinity)


class DeviceLost(ExecutorError):
    """The agent ended, or the connection to it, in the middle of a request."""


class AgentDevice:
    """The device of a machine on which `command` starts the agent, such as `ssh root@target vmfuzz-agent`.

    `process_group`: as in subprocess.Popen; by default the command is of this process's group.
    """

    local = False

    def __init__(self, command: Sequence[str], *, process_group: int | None = None) -> None:
        self._command = tuple(command)
        try:
            with held():
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=process_group)
        except OSError as error:
            raise EnvironmentUnusable(f"cannot start the agent ({shlex.join(command)}): {error.strerror}; expected {_EXPECTED}") from None
        self._answered = False
        #: whether a request is without its answer
        self._owes = False

    def request(self, code: int, payload: bytes) -> tuple[int, bytes]:
        """Send one frame and wait for its answer."""
        assert self._process.stdin is not None
        self._owes = True
        try:
            self._process.stdin.write(_FRAME.pack(_MAGIC, code, len(payload)) + payload)
            self._process.stdin.flush()
        except OSError:
            self._lost(b"" if self._answered or self._process.stdout is None else self._process.stdout.read(_FRAME.size))
        answer = self._read(_FRAME.size)
        magic, error, length = _FRAME.unpack(answer)
        if magic != _MAGIC:
            raise ExecutorError(
                f"{self._name()} answered {_shown(answer)}, which is not an answer of vmfuzz-agent; expected {_EXPECTED}; does the other machine's "
                "shell print a greeting?"
            )
        if error > _LAST_ERRNO:  # `cat` sends the request back
            raise ExecutorError(f"{self._name()} sent back what it was asked, which is not an answer of vmfuzz-agent; expected {_EXPECTED}")
        self._answered = True
        data = self._read(length)
        self._owes = False
        return error, data

    @property
    def pid(self) -> int:
        """Process id of the command."""
        return self._process.pid

    def _name(self) -> str:
        return f"the agent ({shlex.join(self._command)})"

    def _read(self, length: int) -> bytes:
        assert self._process.stdout is not None
        data: bytes = self._process.stdout.read(length)
        if len(data) != length:
            self._lost(data)
        return data

    def _lost(self, said: bytes) -> NoReturn:
        """Raise an error that says how the agent ended; `said`: what it said instead of an answer."""
        if self._answered:
            raise DeviceLost(f"{self._name()} ended; did the machine go down?")
        try:
            status = f"with status {self._process.wait(5)}"
        except subprocess.TimeoutExpired:
            status = "without a status"
        if said:
            raise ExecutorError(
                f"{self._name()} said {_shown(said)} and ended {status}, which is not an answer of vmfuzz-agent; expected {_EXPECTED}"
            )
        raise ExecutorError(
            f"{self._name()} ended {status} before it answered; is vmfuzz-agent there (`make -C kmod agent` builds it; "
            "`vmfuzz kmod-source kmod` writes its sources), and may you log in?"
        )

    def close(self) -> None:
        """End the agent; one that owes an answer (who waited for it was interrupted) is not waited for."""
        try:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None and not pipe.closed:
                    try:
                        pipe.close()
                    except BrokenPipeError:
                        continue
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0 if self._owes else 5)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()


def _shown(said: bytes) -> str:
    """The beginning of what a program said, as a person reads it."""
    return repr(said.decode("utf-8", "replace").strip("\0"))
