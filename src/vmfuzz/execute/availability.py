"""What can execute VM entries on this machine: each executor tried or looked at, with the reason where it cannot be used."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vmfuzz.errors import VmfuzzError
from vmfuzz.execute.base import open_executor
from vmfuzz.execute.kmod.abi import kmod_constants, kmod_struct
from vmfuzz.execute.kmod.device import DEVICE, LocalDevice, error_text
from vmfuzz.execute.kvm.process import local_facts
from vmfuzz.execute.wire.abi import require_platform


@dataclass(frozen=True)
class Availability:
    """One executor: whether it can be used here, and a sentence that says what it is or why not and what to do."""

    executor: str
    usable: bool
    text: str


def availability() -> list[Availability]:
    """Try every executor; the emulated one and KVM really enter their known-good VMCS."""
    try:
        require_platform()
    except VmfuzzError as error:
        return [Availability(name, False, str(error)) for name in ("bochs", "kvm", "kmod")]
    return [_entering("bochs", "emulated CPU"), _kvm(), _kmod()]


def _entering(name: str, what: str) -> Availability:
    try:
        with open_executor(name) as executor:
            outcome = executor.run([executor.known_good()])[0]
            return Availability(name, True, f"{what} {executor.name}; its known-good VMCS: {outcome}")
    except VmfuzzError as error:
        return Availability(name, False, str(error).removeprefix(f"{name}: "))


def _kvm() -> Availability:
    found = _entering("kvm", "nested VMX of")
    return replace(found, text=f"{found.text} (--executor kvm; docs/kvm.md)") if found.usable else found


def nested_kvm() -> str | None:
    """KVM and the processor below where this machine offers nested VMX to this user, else None."""
    try:
        facts = local_facts()
    except VmfuzzError:
        return None
    return None if facts.why_not else f"kvm {facts.release} on {facts.processor}"


def _kmod() -> Availability:
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
