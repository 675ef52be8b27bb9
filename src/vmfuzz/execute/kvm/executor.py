"""The executor on KVM's nested VMX: VM entries of a guest of KVM, each family in a virtual machine of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import numpy as np

from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.errors import EnvironmentUnusable, SafetyStop, UsageError
from vmfuzz.execute.base import AS
from vmfuzz.execute.containment.rules import Containment
from vmfuzz.execute.engine_executor import EngineExecutor
from vmfuzz.execute.kmod.device import AgentDevice, Device
from vmfuzz.execute.kvm.containment import NO_MEMORY, KvmContainment
from vmfuzz.execute.kvm.narrowing import narrowed
from vmfuzz.execute.kvm.process import KvmProcess, local_agent
from vmfuzz.execute.kvm.words import text_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities as capabilities_of_profile
from vmfuzz.state.vmcs import Vmcs

BOLD: Final = "bold"
RISKS: Final = ("safe", BOLD)
#: Of a candidate that ran without memory and did not cost the virtual machine: its outcome is KVM's own matter.
SURVIVED: Final = "ran without memory behind an address: the virtual machine lives on"


class KvmExecutor(EngineExecutor):
    """KVM on the machine whose agent `connect` reaches; without one, on this machine.

    `cpu`: a profile to whose capabilities those of KVM are narrowed; `lacking` then lists what it has and KVM lacks. `hang_seconds`: how long
    a row may take, in whole seconds. `risk`: "safe", or "bold" to run also what KVM finds no memory for (docs/kvm.md). `risk_panic`: run
    although a warning of the kernel would be its end (panic_on_warn). `below`: another name for the processor below KVM than its vendor,
    family, model and stepping (an emulator's, whose deviations are known). `paranoid`, `contain`: as in EngineExecutor.
    Raises EnvironmentUnusable where KVM or its nested VMX cannot be used, SafetyStop where a warning would be the kernel's end,
    UnknownNameError for an unknown profile.
    """

    _process: KvmProcess

    def __init__(
        self,
        cpu: str | None = None,
        *,
        connect: Callable[[], Device] = local_agent,
        hang_seconds: int = 3,
        risk: str = "safe",
        risk_panic: bool = False,
        below: str | None = None,
        paranoid: bool = False,
        contain: bool = True,
    ) -> None:
        if risk not in RISKS:
            raise UsageError(f"risk = {risk!r}: expected {' or '.join(RISKS)}")
        self.risk = risk
        self.profile = None if cpu is None else capabilities_of_profile(cpu)
        #: what the profile has and KVM lacks
        self.lacking: list[str] = []
        process = KvmProcess(connect, hang_seconds=hang_seconds)
        self.facts, self.below = process.facts, below or process.facts.processor
        try:
            _require_usable(process, risk_panic)
            process.open()
        except BaseException:
            process.close()
            raise
        super().__init__(process, paranoid=paranoid, contain=contain)

    @classmethod
    def remote(cls, command: Sequence[str], cpu: str | None = None, **options: Any) -> Self:
        """KVM of the machine on which `command` starts the agent with --kvm."""
        return cls(cpu, connect=lambda: AgentDevice(command), **options)

    @property
    def name(self) -> str:
        """Kernel, processor below, the parameters of kvm_intel that change outcomes, and the profile."""
        profile = "" if self.profile is None else f"{AS}{self.profile.name}"
        return f"kvm {self.facts.release} on {self.below} ({self.facts.settings}){profile}"

    def _processor(self, cpuid: dict[tuple[int, int], tuple[int, int, int, int]]) -> str:  # noqa: ARG002
        return self.facts.processor if self.profile is None else f"{self.facts.processor}{AS}{self.profile.name}"

    def _probed(self) -> None:
        if self.profile is None:
            return
        msrs, self.lacking = narrowed(self._capabilities, self.profile)
        self._process.open(msrs)
        self._capabilities, self._facts = self._probe()

    def _containment(self) -> Containment:
        return KvmContainment(self._capabilities, self._known_good, self.arena)

    def _run_batch(self, batch: VmcsBatch) -> Outcomes:
        """With risk "bold", candidates that KVM finds no memory for run too, each alone, and are a crash or refused."""
        outcomes = super()._run_batch(batch)
        if self.risk == BOLD and self.contain and NO_MEMORY in outcomes.messages:
            for row in np.flatnonzero(outcomes.message == outcomes.messages.index(NO_MEMORY)).tolist():
                self._run_without_memory(batch, row, outcomes)
        return outcomes

    def run_in_order(self, batch: VmcsBatch) -> Outcomes:
        """As `run`, but with risk "bold" what KVM finds no memory for runs among the others: in a sequence it shows what it does to them."""
        assert isinstance(self.containment, KvmContainment)
        self.containment.lets_memory_lack = self.risk == BOLD
        try:
            return self.run(batch)
        finally:
            self.containment.lets_memory_lack = False

    def _run_without_memory(self, batch: VmcsBatch, row: int, outcomes: Outcomes) -> None:
        self.contain = False
        try:
            alone = super()._run_batch(batch.take([row]))
        finally:
            self.contain = True
        survived = alone.kind[0] != Kind.EXECUTOR_CRASHED
        text = SURVIVED if survived else alone.message_of(0) or "no reason given"
        outcomes.kind[row] = Kind.REFUSED if survived else Kind.EXECUTOR_CRASHED
        outcomes.message[row] = self._message_index(text)
        outcomes.messages = list(self._messages)

    @property
    def warnings(self) -> list[str]:
        """What the kernel's log warned of while candidates ran, where it may be read there: "WARNING at FILE:LINE FUNCTION"."""
        return list(self._process.warnings)

    def own_word(self, candidate: Vmcs) -> str | None:
        """The source text of KVM's check that failed (tracepoint kvm_nested_vmenter_failed), where the trace may be read there."""
        self.run(VmcsBatch(candidate, {}, count=1))
        # a launched VMCS is made by an entry of the base: the candidate's own is the last
        texts = [text for line in self._process.trace if (text := text_of(line)) is not None]
        return texts[-1] if texts else None


def _require_usable(process: KvmProcess, risk_panic: bool) -> None:
    why_not = process.facts.why_not
    if why_not is not None:
        raise EnvironmentUnusable(f"kvm: {why_not}")
    if process.facts.panic_on_warn and not risk_panic:
        raise SafetyStop(
            "kvm: kernel.panic_on_warn = 1: a candidate that makes KVM print a warning takes this machine down; "
            "run `sudo sysctl kernel.panic_on_warn=0` first, or add --yes to run all the same"
        )
