"""What the engine answers, the same wherever it runs: facts of its processor, the status of a request, results of rows, and fields that drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.capabilities import FACT_MSRS, Capabilities
from vmfuzz.arch.fields import BY_ENCODING
from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.errors import ExecutorError, UsageError
from vmfuzz.execute.wire.abi import constants, status_text
from vmfuzz.hexadecimal import encoded
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

#: CPUID registers (EAX, EBX, ECX, EDX) by leaf and subleaf.
Cpuid = dict[tuple[int, int], tuple[int, int, int, int]]
_EFER: Final = 0xC0000080
_RTIT_CTL: Final = 0x570
_MAX_RERUNS: Final = 20


def msrs_of(answer: Any) -> dict[int, int]:
    """The MSRs of an answer by number."""
    return {int(pair["target"]): int(pair["value"]) for pair in answer["msrs"][: int(answer["msr_count"])]}


def fact_msrs(msrs: Mapping[int, int]) -> dict[int, int]:
    """Those MSRs of which capabilities are made."""
    return {number: value for number, value in msrs.items() if number in FACT_MSRS}


def cpuid_of(answer: Any) -> Cpuid:
    """The CPUID leaves of an answer."""
    return {
        (int(leaf["leaf"]), int(leaf["subleaf"])): (int(leaf["eax"]), int(leaf["ebx"]), int(leaf["ecx"]), int(leaf["edx"]))
        for leaf in answer["cpuid"][: int(answer["cpuid_count"])]
    }


def live_facts(msrs: Mapping[int, int], answer: Any) -> dict[str, int]:
    """What the processor's MSRs and the place of its VMCS say of the conditions of an entry."""
    return {
        "live_efer": msrs[_EFER],
        "live_rtit_ctl": msrs.get(_RTIT_CTL, 0),
        "live_current_vmcs_pointer": int(answer["vmcs_pa"]),
    }


def captured_fields(answer: Any) -> dict[int, int]:
    """The fields of a captured VMCS by encoding, also those that the catalogue does not have."""
    return {int(pair["target"]): int(pair["value"]) for pair in answer["fields"][: int(answer["field_count"])]}


def captured_vmcs(found: Mapping[int, int], capabilities: Capabilities, facts: Mapping[str, int]) -> Vmcs:
    """The known-good VMCS of what was captured: the fields that the capabilities promise, since VMREAD may give others too."""
    values = {
        BY_ENCODING[encoding].name: value
        for encoding, value in found.items()
        if encoding in BY_ENCODING and capabilities.has_field(BY_ENCODING[encoding].name)
    }
    # what contains the captured guest: tables that map nothing
    walls = {"live_empty_paging": values["guest_cr3"] & ~0xFFF}
    if "eptp" in values:
        walls["live_empty_ept"] = values["eptp"] & ~0xFFF
    return Vmcs({**values, **facts, "live_cr4": values["host_cr4"], **walls})


def _field_name(encoding: int) -> str:
    return BY_ENCODING[encoding].name if encoding in BY_ENCODING else f"field {encoded(encoding)}"


def require_done(name: str, status: int, detail: int) -> None:
    """Raise what the status of a request to the executor `name` means: UsageError where the batch cannot run there, else ExecutorError."""
    if status == constants()["STATUS_DONE"]:
        return
    if status == constants()["STATUS_BASE_FAILED"]:
        field = _field_name(detail)
        raise UsageError(f"{field}: the base of the batch writes it, but {name} lacks this field; leave it out")
    if status == constants()["STATUS_BASE_NOT_LAUNCHED"]:
        raise ExecutorError(
            f"{name}: live_launch_state = 1: the launched state is reached by entering with the known-good VMCS, "
            f"but that did not enter ({Kind(detail).name}); leave it out"
        )
    raise ExecutorError(f"{name}: {status_text(status, detail)}")


def take_over(results: npt.NDArray[Any], rows: npt.NDArray[np.intp], outcomes: Outcomes) -> None:
    """Put the engine's results of `rows` into the outcomes, all but the messages."""
    outcomes.kind[rows] = results["kind"]
    exited = (results["kind"] == Kind.ENTRY_FAILURE) | (results["kind"] == Kind.EXIT)
    outcomes.number[rows] = np.where(exited, results["exit_reason"] & 0xFFFF, results["number"])
    outcomes.raw_reason[rows] = results["exit_reason"]
    outcomes.qualification[rows] = results["qualification"]
    outcomes.entry_interruption_info[rows] = results["entry_interruption_info"]
    outcomes.encoding[rows] = results["encoding"]


class Drift:
    """Fields that an entry or an exit changes although nobody wrote them: once seen, they are written back after each row."""

    def __init__(self, *known: int) -> None:
        #: what is written back after each row of every batch
        self.restored = set(known)
        #: what no longer held the base's values after the last run, although it was written back after each row
        self.left: set[int] = set()
        #: runs repeated because fields had drifted
        self.reruns = 0

    def until_still(self, name: str, restored: set[int], run: Callable[[set[int]], set[int]]) -> None:
        """Call `run` with what it shall write back, from `restored` on, until what it says has drifted was among it.

        Raises ExecutorError where that does not come to an end.
        """
        restored = self.restored | restored
        for _ in range(_MAX_RERUNS):
            self.left = run(restored)
            new = self.left - restored
            if not new:
                return
            restored |= new
            self.restored |= new
            self.reruns += 1
        named = ", ".join(_field_name(encoding) for encoding in sorted(restored))
        raise ExecutorError(f"{name}: fields keep drifting after {_MAX_RERUNS} runs: {named}")

    def of_one(self, run: Callable[[VmcsBatch], object], candidate: Vmcs) -> list[str]:
        """Run a candidate by itself; names of the fields that this left changed."""
        self.left = set()
        run(VmcsBatch(candidate, {}, count=1))
        return self.left_fields()

    def left_fields(self) -> list[str]:
        """Names of the fields among what the last run left changed."""
        return sorted(BY_ENCODING[target].name for target in self.left if target in BY_ENCODING)
