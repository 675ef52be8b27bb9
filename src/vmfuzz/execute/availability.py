"""What can execute VM entries on this machine: each executor tried or looked at, with the reason where it cannot be used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from vmfuzz.errors import VmfuzzError
from vmfuzz.execute import kinds
from vmfuzz.execute.kinds import Kind, open_executor
from vmfuzz.execute.wire.abi import require_platform


@dataclass(frozen=True)
class Availability:
    """One executor: whether it can be used here, and a sentence that says what it is or why not and what to do."""

    executor: str
    usable: bool
    text: str


def availability() -> list[Availability]:
    """Try every executor that can be tried without being told more; the emulated one and KVM really enter their known-good VMCS."""
    return [tried for kind in kinds.TABLE if not kind.argument and (tried := _tried(kind)) is not None]


def _tried(kind: Kind) -> Availability | None:
    """None where the executor has nothing that may be missing."""
    if kind.native:
        try:
            require_platform()
        except VmfuzzError as error:
            return Availability(kind.name, False, str(error))
    opening = import_module(kind.opening)
    return opening.availability() if hasattr(opening, "availability") else None


def entering(name: str, what: str) -> Availability:
    """Open an executor and enter its known-good VMCS; `what` says what is there, before its name."""
    try:
        with open_executor(name) as executor:
            outcome = executor.run([executor.known_good()])[0]
            return Availability(name, True, f"{what} {executor.name}; its known-good VMCS: {outcome}")
    except VmfuzzError as error:
        return Availability(name, False, str(error).removeprefix(f"{name}: "))
