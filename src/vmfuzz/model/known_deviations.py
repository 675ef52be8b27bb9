"""All known deviations, and those of one executor."""

from __future__ import annotations

from typing import Final

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.model.bochs_2_7_deviations import BOCHS_2_7_DEVIATIONS
from vmfuzz.model.bochs_cet_fred_deviations import BOCHS_CET_FRED_DEVIATIONS
from vmfuzz.model.bochs_deviations import BOCHS_DEVIATIONS
from vmfuzz.model.deviations import Deviation
from vmfuzz.model.kvm_deviations import KVM_DEVIATIONS
from vmfuzz.model.processor_errata import Signature, known_on

#: Every known deviation of every executor.
DEVIATIONS: Final[tuple[Deviation, ...]] = (*BOCHS_DEVIATIONS, *BOCHS_CET_FRED_DEVIATIONS, *BOCHS_2_7_DEVIATIONS, *KVM_DEVIATIONS)

DEVIATIONS_BY_ID: Final = {deviation.id: deviation for deviation in DEVIATIONS}

#: Not those of the processor below KVM: KVM loads the MSR-load list itself, and knows other MSRs than an emulator does.
_NOT_BELOW_KVM: Final = frozenset({"bochs-msr-load-smm-monitor-ctl", "bochs-msr-load-unknown"})


def errata_of(executor: str, capabilities: Capabilities) -> tuple[Deviation, ...]:
    """The processor errata of the executor with this name and these capabilities; an emulated CPU has none, whatever model it names."""
    below = executor.partition(" on ")[2] if executor.startswith("kvm ") else executor
    silicon = executor.startswith(("kmod ", "kvm ")) and not below.startswith("bochs")
    return known_on(Signature.of(capabilities.registers(1)[0])) if silicon and capabilities.cpuid else ()


def deviations_of(executor: str) -> tuple[Deviation, ...]:
    """The deviations of the executor with this name; KVM ("kvm RELEASE on PROCESSOR ...") has those of the processor below it, too."""
    own = tuple(deviation for deviation in DEVIATIONS if executor.startswith(deviation.executor))
    if not executor.startswith("kvm "):
        return own
    processor = executor.partition(" on ")[2]
    below = (deviation for deviation in DEVIATIONS if processor.startswith(deviation.executor) and deviation.id not in _NOT_BELOW_KVM)
    return (*below, *own)
