"""A Linux host sets bit 48 of IA32_PERF_GLOBAL_CTRL on Ice Lake and later: `check` accuses nobody of it, whatever it knows of the processor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from printers import PRINTERS, fields_of

from vmfuzz.arch.capabilities import IA32_PERF_CAPABILITIES, Capabilities
from vmfuzz.arch.controls import Entry, Exit
from vmfuzz.explain.answer.answer import Answer, answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.judgement.judge import Verdict
from vmfuzz.explain.reading import read_text
from vmfuzz.generate.bases import Bases
from vmfuzz.model.predict import model_of, predict
from vmfuzz.state.profiles import known_good
from vmfuzz.state.vmcs import Vmcs

ICE_LAKE = Capabilities.load(Path(__file__).parent / "processors" / "ice_lake_linux.json")
UNREAD = replace(ICE_LAKE, msrs={number: value for number, value in ICE_LAKE.msrs.items() if number != IA32_PERF_CAPABILITIES})
MSRS_ONLY = replace(UNREAD, cpuid={})
#: What Linux has there: bit 48, four fixed and eight general counters.
BY_LINUX = 0x0001_000F_0000_00FF
WHAT_IS_KNOWN = pytest.mark.parametrize("known", [ICE_LAKE, UNREAD, MSRS_ONLY, None], ids=["all", "no 345H", "no CPUID", "nothing"])


def state(value: int = BY_LINUX) -> Vmcs:
    """The known-good state of that host; both areas load IA32_PERF_GLOBAL_CTRL."""
    base = known_good(ICE_LAKE)
    return base.replace(
        vm_exit_controls=(base.get("vm_exit_controls") or 0) | 1 << Exit.LOAD_IA32_PERF_GLOBAL_CTRL,
        vm_entry_controls=(base.get("vm_entry_controls") or 0) | 1 << Entry.LOAD_IA32_PERF_GLOBAL_CTRL,
        host_ia32_perf_global_ctrl=value,
        guest_ia32_perf_global_ctrl=value,
    )


def answered(value: int, known: Capabilities | None, report: str) -> Answer:
    text, _ = PRINTERS["KVM"]({name: value for name, value in fields_of(state(value)).items() if name != "exit_reason"})
    (dump,) = read_text(f"{text}{report}\n")
    return answer(dump, known)


@WHAT_IS_KNOWN
@pytest.mark.parametrize("report", ["VM-instruction error: 8", "exit reason 0x80000021, qualification 0"])
def test_nobody_is_accused_of_bit_48(known: Capabilities | None, report: str) -> None:
    found = answered(BY_LINUX, known, report)
    accused = [finding.check.id for finding in found.checked.of(Verdict.VIOLATED, Verdict.LIKELY)]
    assert accused == []
    assert "Cause: cannot be determined" in render(found)


@WHAT_IS_KNOWN
def test_a_bit_that_no_processor_has_is_named(known: Capabilities | None) -> None:
    found = answered(BY_LINUX | 1 << 60, known, "VM-instruction error: 8")
    assert "host.perfglobal" in [finding.check.id for finding in found.checked.of(Verdict.VIOLATED)]


def test_what_would_settle_it_is_named() -> None:
    assert "IA32_PERF_CAPABILITIES (345H)" in render(answered(BY_LINUX, UNREAD, "VM-instruction error: 8"))


LINES = pytest.mark.parametrize(
    "line", ["IA32_PERF_CAPABILITIES 0x{0:x}", "MSR_IA32_PERF_CAPABILITIES = 0x{0:016x}", "msr 0x345: {0:016x}", "345H = {0:x}H"]
)


def answered_with(value: int, line: str) -> Answer:
    """A text that has a line beside the dump."""
    text, _ = PRINTERS["KVM"]({name: value for name, value in fields_of(state(value)).items() if name != "exit_reason"})
    (dump,) = read_text(f"{text}{line}\nVM-instruction error: 8\n")
    return answer(dump, None)


@LINES
def test_the_msr_in_the_text_settles_it(line: str) -> None:
    without = answered_with(BY_LINUX, line.format(0x74FF))
    assert "host.perfglobal" in [finding.check.id for finding in without.checked.of(Verdict.VIOLATED)]
    with_metrics = answered_with(BY_LINUX, line.format(0xF4FF))
    undecided = [finding.check.id for finding in with_metrics.checked.of(Verdict.VIOLATED, Verdict.LIKELY)]
    assert "host.perfglobal" not in undecided
    assert "345H" in render(with_metrics)


def test_the_state_of_such_a_host_enters_and_gives_bases() -> None:
    prediction = predict(state(), ICE_LAKE)
    assert prediction.enters
    assert not prediction.violations
    bases = Bases(model_of(ICE_LAKE), state())
    assert bases.get("64-bit/loads/nothing") is not None
