"""This machine in place of an emulated one: its kernel, its processor with VMX, the module loaded into it.

Only with VMFUZZ_SYSTEM_HERE=1, as root, on a machine whose loss for an hour matters to nobody: docs/bare-metal.md.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from debian_kernels import KMOD, MachineError, build_guest, build_module
from machine import CLOSE, TROUBLE, Machine

from vmfuzz.execute.kmod.device import LocalDevice, cpu_has_vmx

_MARK: Final = "vmfuzz-tests begin"


def needs_here() -> str | None:
    """Why the tests cannot run on this machine, None when they can."""
    if os.geteuid():
        return "VMFUZZ_SYSTEM_HERE=1 loads a kernel module: be root"
    if not cpu_has_vmx():
        return "VMFUZZ_SYSTEM_HERE=1, but this processor has no VMX"
    if not Path("/lib/modules", platform.release(), "build").exists():
        return f"VMFUZZ_SYSTEM_HERE=1 builds the module: install linux-headers-{platform.release()}"
    return None


class ThisMachine(Machine):
    """What `Machine` offers, here; paths in commands that are at the root of an emulated machine are replaced."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="vmfuzz-here-")
        self.folder = Path(self._temporary.name)
        self.emulator, self.cpu = "", "this processor"
        self._device: LocalDevice | None = None

    def start(self) -> Self:
        """Build the module and the guest program, and load the module."""
        build = self.folder / "module"
        build.mkdir()
        self.build_log = build_module(build, Path("/lib/modules", platform.release(), "build"))
        (build / "vmfuzz.ko").rename(self.folder / "vmfuzz.ko")
        build_guest(self.folder / "guest")
        (self.folder / "others.order").write_text("")
        self.shell("if [ -e /sys/module/vmfuzz ]; then rmmod vmfuzz; fi; insmod /vmfuzz.ko")
        self.shell(f"echo {_MARK} {self.folder.name} > /dev/kmsg")
        return self

    def shell(self, command: str, seconds: float = 600.0) -> str:
        """Run a command here as root; raises MachineError when it fails."""
        for name in ("guest", "vmfuzz.ko", "others.order"):
            command = command.replace(f"/{name}", str(self.folder / name))
        # Its own group: what a command leaves in the background must not keep the pipe open.
        with tempfile.TemporaryFile() as out:
            done = subprocess.run(["sh", "-c", command], stdout=out, check=False, timeout=seconds)
            out.seek(0)
            said = out.read().decode(errors="replace")
        if done.returncode:
            raise MachineError(f"{command}: status {done.returncode}: {said}")
        return said

    def request(self, code: int, payload: bytes, seconds: float = 600.0) -> tuple[int, bytes]:  # noqa: ARG002
        """One request to the module."""
        if code == CLOSE:
            if self._device is not None:
                self._device.close()
            self._device = None
            return 0, b""
        if self._device is None:
            self._device = LocalDevice()
        return self._device.request(code, payload)

    def wait_for_batches(self, count: int, seconds: float = 600.0) -> None:  # noqa: ARG002
        """The agent's requests are not seen here: long enough for them."""
        time.sleep(10)

    def agent(self, *options: str) -> str:
        """The command that starts the agent."""
        subprocess.run(["make", "-s", "-C", KMOD, "agent"], check=True)
        return shlex.join([str(KMOD / "vmfuzz-agent"), *options])

    def trouble(self) -> str:
        """Lines of the kernel's log that must not be there, from `start` on."""
        return self.shell(f"dmesg | sed -n '/{_MARK} {self.folder.name}/,$p' | grep -E '{TROUBLE}' || true")

    def close(self) -> None:
        """Unload the module."""
        self.request(CLOSE, b"")
        subprocess.run(["rmmod", "vmfuzz"], check=False, capture_output=True)
        self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
