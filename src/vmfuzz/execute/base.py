"""What every executor offers, and how one is opened by name."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Protocol, Self, runtime_checkable

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.outcomes import Outcomes
from vmfuzz.errors import UnknownNameError, UsageError
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities_named, known_good, processor_names
from vmfuzz.state.vmcs import Vmcs


@runtime_checkable
class Executor(Protocol):
    """Something that executes VM entries. A candidate that kills the executor is an outcome, not an error."""

    @property
    def name(self) -> str:
        """What executes, for reports: "bochs corei7_skylake_x"."""

    def capabilities(self) -> Capabilities:
        """What the processor allows."""

    def known_good(self) -> Vmcs:
        """A VMCS captured from the processor's own state that enters a 64-bit guest and exits at once."""

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        """The outcome of each candidate, in order. Candidates do not influence one another."""

    def close(self) -> None:
        """Release the processor; further calls raise ExecutorError. Closing twice is allowed."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


@runtime_checkable
class ReadsBack(Protocol):
    """An executor that can tell whether the VMCS holds what was written to it."""

    def not_kept(self, candidate: Vmcs) -> list[str]:
        """Fields of a candidate, which is run once by itself, of which VMREAD gives another value than VMWRITE wrote."""


@runtime_checkable
class Poisons(Protocol):
    """An executor on which a candidate that is poisoned (execute/containment/poison.py) may run although containment refuses it otherwise."""

    def with_twins(self, batch: VmcsBatch) -> VmcsBatch:
        """The batch in which each candidate that containment refuses is poisoned, if containment lets it run then."""


@runtime_checkable
class HasItsOwnWord(Protocol):
    """An executor that can say of one candidate which of its checks failed, but not of each in a batch."""

    def own_word(self, candidate: Vmcs) -> str | None:
        """What it says of a candidate, which is run once by itself; None where it has nothing to say."""


#: Names that `open_executor` takes.
EXECUTORS: Final = ("auto", "bochs", "kvm", "kmod", "model")
#: The one that is the model itself in a processor's place; names of its processors begin so.
MODEL: Final = "model"
#: A name that begins so is the command that starts the agent of another machine: "remote:ssh root@target vmfuzz-agent".
REMOTE: Final = "remote:"
#: In the name of capabilities: between the processor's and that of the profile to which they were narrowed.
AS: Final = " as "
#: A name that begins so is the emulated CPU of another environment, by its interpreter: "bochs@VENV/bin/python".
ELSEWHERE: Final = "bochs@"
#: All kinds of names, as a person reads them.
KINDS: Final = (*EXECUTORS, f"{ELSEWHERE}PYTHON", f"{REMOTE}COMMAND")


def lacking_fields(executor: Executor) -> tuple[str, ...]:
    """The fields that the executor's capabilities promise and that VMWRITE did not take when its known-good VMCS was captured.

    Hypervisors have such: KVM's nested VMX has no executive_vmcs_pointer and no guest_smbase, and no capability MSR says so.
    """
    captured = executor.known_good()
    return tuple(field.name for field in executor.capabilities().fields if field.writable and field.name not in captured)


def open_executor(name: str = "auto", cpu: str | None = None, **options: Any) -> Executor:
    """Open an executor. `auto` is the emulated CPU: a real one has to be asked for.

    `cpu` is the CPU model of an emulated one; for kvm a profile to whose capabilities KVM's are narrowed; of `model`, which is the model itself
    in a processor's place, any stored profile or a capabilities file.
    Raises UnknownNameError (executor, CPU model or profile), UsageError (a profile that the executor cannot be) and EnvironmentUnusable
    (something is not installed, no device).
    """
    if name.startswith(REMOTE):
        return _open_remote(name, cpu, options)
    if name == "kmod":
        return _open_kmod(name, cpu, options)
    if name == "kvm":
        from vmfuzz.execute.kvm.executor import KvmExecutor

        return KvmExecutor(cpu, **options)
    if name.startswith(ELSEWHERE):
        python = name.removeprefix(ELSEWHERE)
        if not python:
            raise UsageError(f"{name!r}: expected the interpreter of an environment, such as {ELSEWHERE}VENV/bin/python")
        name, options = "bochs", {**options, "python": python}
    if name not in EXECUTORS:
        raise UnknownNameError("executor", name, KINDS)
    # an executor's needs are its own: import only what is opened
    from vmfuzz.execute.bochs.executor import DEFAULT_CPU, BochsExecutor

    if name == MODEL:
        from vmfuzz.execute.model.executor import ModelExecutor

        known = capabilities_named(cpu or DEFAULT_CPU)
        return ModelExecutor(known, known_good(known), **options)
    if cpu in processor_names():
        raise UsageError(
            f"--cpu {cpu}: this is a stored profile of a processor, not an emulated CPU model, and no emulator here can be it; "
            f"the model can: --executor model --cpu {cpu}"
        )
    return BochsExecutor(cpu or DEFAULT_CPU, **options)


def is_the_processor_there(name: str) -> bool:
    """Whether an executor of this name is the one processor of some machine, and not a model of which there are several."""
    return name in ("kvm", "kmod") or name.startswith(REMOTE)


def cpu_option(name: str, processor: str) -> str | None:
    """What `open_executor` takes as `cpu` to open the executor `name` again, whose capabilities are called `processor`.

    Nothing where that is the processor that is there; for KVM the profile to which its capabilities were narrowed, if they were.
    """
    if is_the_processor_there(name):
        return processor.partition(AS)[2] or None
    return processor


def _open_kmod(name: str, cpu: str | None, options: dict[str, Any], command: Sequence[str] = ()) -> Executor:
    if cpu is not None:
        raise UsageError(f"--cpu {cpu}: {name} executes on the processor that is there; leave out --cpu")
    from vmfuzz.execute.kmod.executor import KmodExecutor

    return KmodExecutor.remote(command, **options) if command else KmodExecutor(**options)


def _open_remote(name: str, cpu: str | None, options: dict[str, Any]) -> Executor:
    """The module or KVM of another machine: its agent says which."""
    from vmfuzz.execute.kvm.executor import KvmExecutor
    from vmfuzz.execute.kvm.process import is_kvm_agent

    try:
        command = shlex.split(name.removeprefix(REMOTE))
    except ValueError as error:
        raise UsageError(f"{name!r}: {error}; quote the command as for a shell") from None
    if not command:
        raise UsageError(f"{name!r}: expected the command that starts the agent, such as {REMOTE}ssh root@target vmfuzz-agent")
    if is_kvm_agent(command):
        if "poison" in options:
            raise UsageError(f"poison: {name} is KVM, which costs no machine, so that it poisons by itself; leave it out")
        return KvmExecutor.remote(command, cpu, **options)
    return _open_kmod(name, cpu, {key: value for key, value in options.items() if key != "risk_panic"}, command)
