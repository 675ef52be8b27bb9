"""The processor that showed something: its name, its capabilities by content, and what executed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.execute.base import Executor


@dataclass(frozen=True)
class Processor:
    """One processor that showed a result: its name, its capabilities by content, what executed, and how often it was seen there."""

    name: str
    capabilities: str
    executor: str
    version: str
    seen: int = 1


def fingerprint(capabilities: Capabilities) -> str:
    """A name of the capabilities made of their content, the processor's own name apart."""
    data = capabilities.to_json()
    text = json.dumps([data["msrs"], data["cpuid"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def executor_version(name: str) -> str:
    """The version of what executes under an executor's name."""
    if name.startswith("bochs@"):
        return f"bochscpu-python {name.split()[0].removeprefix('bochs@')}"
    if name.startswith("bochs"):
        return f"bochscpu-python {metadata.version('bochscpu-python')}"
    return f"vmfuzz {metadata.version('vmfuzz')}"


def version_of(executor: Executor) -> str:
    """The version of what executes: a program says its own."""
    own: str = getattr(executor, "version", "")
    return own or executor_version(executor.name)


def processor_of(executor: Executor, seen: int = 1) -> Processor:
    """The executor's processor as entries name it."""
    capabilities = executor.capabilities()
    return Processor(capabilities.name, fingerprint(capabilities), executor.name, version_of(executor), seen)
