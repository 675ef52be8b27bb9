"""Opens the kernel module of this machine by name; says whether it can be used here."""

from __future__ import annotations

from typing import Any

from vmfuzz.errors import UsageError, VmfuzzError
from vmfuzz.execute.availability import Availability
from vmfuzz.execute.kmod.abi import kmod_constants, kmod_struct
from vmfuzz.execute.kmod.device import DEVICE, LocalDevice, error_text
from vmfuzz.execute.kmod.executor import KmodExecutor


def open_by_name(argument: str, cpu: str | None, options: dict[str, Any]) -> KmodExecutor:  # noqa: ARG001
    """The processor that is there; raises UsageError where somebody names one."""
    require_no_cpu("kmod", cpu)
    return KmodExecutor(**options)


def require_no_cpu(name: str, cpu: str | None) -> None:
    """Raise UsageError where a CPU model is named for an executor that cannot choose."""
    if cpu is not None:
        raise UsageError(f"--cpu {cpu}: {name} executes on the processor of its machine; leave out --cpu")


def availability() -> Availability:
    """Open the device, ask what the processor is, and have the module enter VMX operation once; no candidate runs."""
    try:
        device = LocalDevice()
    except VmfuzzError as error:
        return Availability("kmod", False, str(error).removeprefix("kmod: "))
    try:
        for code, name in (("IOC_INFO", "info"), ("IOC_CAPTURE", "capture")):
            number, _ = device.request(kmod_constants()[code], kmod_struct(name).tobytes())
            if number:
                return Availability("kmod", False, error_text(number))
    finally:
        device.close()
    return Availability("kmod", True, f"{DEVICE} is ready; read docs/bare-metal.md before you run anything on it (--executor kmod)")
