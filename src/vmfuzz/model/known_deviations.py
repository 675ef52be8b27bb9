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


def errata_of(executor: str, capabilities: Capabilities) -> tuple[Deviation, ...]:
    """The processor errata of the executor with this name and these capabilities; an emulated CPU has none, whatever model it names."""
    below = executor.partition(" on ")[2] if executor.startswith("kvm ") else executor
    silicon = executor.startswith(("kmod ", "kvm ")) and not below.startswith("bochs")
    return known_on(Signature.of(capabilities.registers(1)[0])) if silicon and capabilities.cpuid else ()


def deviations_of(executor: str) -> tuple[Deviation, ...]:
    """The deviations of the executor with this name; KVM ("kvm RELEASE on PROCESSOR ...") has those of the processor below it, too."""
    names = [executor]
    if executor.startswith("kvm "):
        names.append(executor.partition(" on ")[2])
    return tuple(deviation for deviation in DEVIATIONS if any(name.startswith(deviation.executor) for name in names))
