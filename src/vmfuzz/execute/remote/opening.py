"""Opens what another machine's agent offers: the kernel module there, or KVM."""

from __future__ import annotations

import shlex
from typing import Any

from vmfuzz.errors import UsageError
from vmfuzz.execute.base import Executor
from vmfuzz.execute.kmod.executor import KmodExecutor
from vmfuzz.execute.kmod.opening import require_no_cpu
from vmfuzz.execute.kvm.executor import KvmExecutor
from vmfuzz.execute.kvm.process import is_kvm_agent


def open_by_name(command: str, cpu: str | None, options: dict[str, Any]) -> Executor:
    """The module or KVM of the machine on which `command` starts the agent: the agent says which."""
    name = f"remote:{command}"
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"{name!r}: {error}; quote the command as for a shell") from None
    if is_kvm_agent(words):
        if "poison" in options:
            raise UsageError(
                f"poison: {name} is KVM, which always runs poisoned candidates, because they cannot harm the machine; leave it out"
            )
        return KvmExecutor.remote(words, cpu, **options)
    require_no_cpu(name, cpu)
    return KmodExecutor.remote(words, **{key: value for key, value in options.items() if key != "risk_panic"})
