"""Opens KVM of this machine by name; says whether it can be used here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vmfuzz.errors import VmfuzzError
from vmfuzz.execute.availability import Availability, entering
from vmfuzz.execute.kvm.executor import KvmExecutor
from vmfuzz.execute.kvm.process import local_facts


def open_by_name(argument: str, cpu: str | None, options: dict[str, Any]) -> KvmExecutor:  # noqa: ARG001
    """KVM, narrowed to the profile `cpu` where one is named."""
    return KvmExecutor(cpu, **options)


def availability() -> Availability:
    """Enter its known-good VMCS."""
    found = entering("kvm", "nested VMX of")
    return replace(found, text=f"{found.text} (--executor kvm; docs/kvm.md)") if found.usable else found


def nested_kvm() -> str | None:
    """KVM and the processor below where this machine offers nested VMX to this user, else None."""
    try:
        facts = local_facts()
    except VmfuzzError:
        return None
    return None if facts.why_not else f"kvm {facts.release} on {facts.processor}"
