"""What can execute VM entries on this machine: each executor tried or looked at, with the reason where it cannot be used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vmfuzz.errors import VmfuzzError
from vmfuzz.execute.base import open_executor

_DEVICE = Path("/dev/vmfuzz")
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Availability:
    """One executor: whether it can be used here, and a sentence that says what it is or why not and what to do."""

    executor: str
    usable: bool
    text: str


def availability() -> list[Availability]:
    """Try every executor; the emulated one really enters its known-good VMCS."""
    return [_bochs(), _kmod()]


def _bochs() -> Availability:
    try:
        with open_executor("bochs") as executor:
            outcome = executor.run([executor.known_good()])[0]
            return Availability("bochs", True, f"emulated CPU {executor.name}; its known-good VMCS: {outcome}")
    except VmfuzzError as error:
        return Availability("bochs", False, str(error))


def _kmod() -> Availability:
    """The kernel module is not part of this version; say what this machine would offer it."""
    try:
        flags = _CPUINFO.read_text(encoding="utf-8")
    except OSError:
        flags = ""
    vmx = "vmx" in next((line for line in flags.splitlines() if line.startswith("flags")), "").split()
    processor = "this processor has VMX" if vmx else "this processor has no VMX"
    if _DEVICE.exists():
        right = "and can" if os.access(_DEVICE, os.R_OK | os.W_OK) else "but cannot"
        return Availability("kmod", False, f"{_DEVICE} exists {right} be opened; this version of vmfuzz has no kernel-module executor yet")
    return Availability(
        "kmod", False, f"{processor}; this version of vmfuzz has no kernel-module executor yet: use the emulated CPU (--executor bochs)"
    )
