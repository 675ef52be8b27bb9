"""What every executor offers."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Protocol, Self, runtime_checkable

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.live import LIVE
from vmfuzz.arch.outcomes import Outcomes
from vmfuzz.errors import ExecutorError, UsageError
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs


@runtime_checkable
class Executor(Protocol):
    """Something that executes VM entries, opened by `open_executor`. A candidate that kills the executor is an outcome, not an error.

    >>> with vmfuzz.open_executor("model", cpu="corei7_skylake_x") as executor:
    ...     print(executor.run([good.replace(cr3_target_count=5)])[0])
    VMfailValid(7): VM entry with invalid control field(s)
    """

    @property
    def name(self) -> str:
        """What executes, for reports: "bochs corei7_skylake_x"."""

    def capabilities(self) -> Capabilities:
        """What the processor allows."""

    def known_good(self) -> Vmcs:
        """A VMCS captured from the processor's own state that enters a 64-bit guest and exits at once."""

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        """The outcome of each candidate, in order. Candidates do not influence one another.

        Raises UsageError for a batch that the executor cannot express, and ExecutorError if the executor is closed or fails.
        """

    def close(self) -> None:
        """Release the processor; further calls raise ExecutorError. Closing twice is allowed."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Opened:
    """What executors have in common that hold a processor until they are closed: a subclass runs batches, and releases what it holds in `close`."""

    _closed = False

    @property
    def name(self) -> str:
        """What executes, for reports."""
        raise NotImplementedError

    def _run_batch(self, batch: VmcsBatch) -> Outcomes:
        raise NotImplementedError

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        """The outcome of each candidate, in order.

        Raises UsageError for a batch that cannot be expressed here, and ExecutorError once the executor is closed, or where it fails.
        """
        self._require_open()
        if not isinstance(batch, VmcsBatch):
            if not batch:
                return Outcomes.empty(0)
            batch = VmcsBatch.of(batch)
        return self._run_batch(batch)

    def _require_open(self) -> None:
        if self._closed:
            raise ExecutorError(f"{self.name}: the executor is closed; open another one")

    def close(self) -> None:
        """Release the processor."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


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
class Warns(Protocol):
    """An executor whose machine has a kernel that warns, in a log that may be read."""

    @property
    def warnings(self) -> list[str]:
        """All warnings so far, each as "WARNING at FILE:LINE FUNCTION"; most are printed only once by a kernel."""


@runtime_checkable
class RunsInOrder(Protocol):
    """An executor that lets run as a sequence what it keeps out of batches, where it would change what others do."""

    def run_in_order(self, batch: VmcsBatch) -> Outcomes:
        """The outcome of each candidate; all run in one new machine, in order."""


@runtime_checkable
class NamesCulprits(Protocol):
    """An executor whose machine remembers over a reset which candidate it was running."""

    def culprit(self, batch: VmcsBatch) -> int | None:
        """Which candidate of a batch that did not come to its end ran last; None where the machine knows of none of this batch."""


@runtime_checkable
class HasItsOwnWord(Protocol):
    """An executor that can say of one candidate which of its checks failed, but not of each in a batch."""

    def own_word(self, candidate: Vmcs) -> str | None:
        """What it says of a candidate, which is run once by itself; None where it has nothing to say."""


#: In the name of capabilities: between the processor's and that of the profile to which they were narrowed.
AS: Final = " as "


def warnings_of(executor: Executor) -> list[str]:
    """What the kernel of the executor's machine has warned of so far; nothing where it has none, or its log may not be read."""
    return list(executor.warnings) if isinstance(executor, Warns) else []


def require_settable(batch: VmcsBatch) -> None:
    """Raise UsageError where a batch varies a live condition that nothing can set."""
    fixed = next((name for name in batch.columns if name in LIVE and not LIVE[name].settable), None)
    if fixed is not None:
        raise UsageError(f"{fixed} cannot vary in a batch: it is a fact of the processor, not something to set")


def require_fields(name: str, known_good: Vmcs, batch: VmcsBatch) -> None:
    """Raise UsageError where a batch writes a field that the executor `name` lacks: what its known-good VMCS does not hold."""
    for operand in (*batch.base, *batch.columns):
        if operand in FIELDS and FIELDS[operand].writable and operand not in known_good:
            raise UsageError(f"{operand}: the batch writes it, but {name} lacks this field; leave it out")


def lacking_fields(executor: Executor) -> tuple[str, ...]:
    """The fields that the executor's capabilities promise and that VMWRITE did not take when its known-good VMCS was captured.

    Hypervisors have such: KVM's nested VMX has no executive_vmcs_pointer and no guest_smbase, and no capability MSR says so.
    """
    captured = executor.known_good()
    return tuple(field.name for field in executor.capabilities().fields if field.writable and field.name not in captured)
