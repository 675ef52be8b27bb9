"""Checks that rest on facts of the processor: right where the facts are known, "not modelled" where they are not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vmfuzz.arch.capabilities import Capabilities, Registers
from vmfuzz.arch.controls import Entry, Exit
from vmfuzz.model.predict import Prediction, predict
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

ICE_LAKE = capabilities("corei7_icelake_u")
METRICS = 1 << 48


def processor(
    cpuid: dict[tuple[int, int], Registers] | None = None, without: tuple[tuple[int, int], ...] = (), **msrs: int
) -> Capabilities:
    """The emulated Ice Lake with other leaves and MSRs; `without` leaves nothing known of those."""
    leaves = {leaf: registers for leaf, registers in {**ICE_LAKE.cpuid, **(cpuid or {})}.items() if leaf not in without}
    given = {int(name.removeprefix("msr_"), 16): value for name, value in msrs.items()}
    return Capabilities("made up", {**ICE_LAKE.msrs, **given}, leaves)


def msrs_only(caps: Capabilities = ICE_LAKE) -> Capabilities:
    return Capabilities("MSRs only", {number: value for number, value in caps.msrs.items() if number >= 0x480}, {})


def loading(control: Exit | Entry, **fields: int) -> Vmcs:
    base = known_good(ICE_LAKE)
    word = "vm_exit_controls" if isinstance(control, Exit) else "vm_entry_controls"
    return base.replace(**{word: (base.get(word) or 0) | 1 << control}, **fields)


def host_perf_global(value: int, caps: Capabilities) -> Prediction:
    return predict(loading(Exit.LOAD_IA32_PERF_GLOBAL_CTRL, host_ia32_perf_global_ctrl=value), caps)


def judged(prediction: Prediction) -> str:
    ids = [violation.check.id for violation in prediction.violations]
    return "not modelled" if prediction.not_modelled else "enters" if not ids else " ".join(ids)


@pytest.mark.parametrize(
    ("caps", "value", "answer"),
    [
        (processor(), 0xF_0000_00FF, "enters"),
        (processor(), 0x10_0000_00FF, "host.perfglobal"),
        (processor(), 0x1_0000_01FF, "host.perfglobal"),
        (processor(), METRICS, "host.perfglobal"),
        (processor(msr_345=1 << 15), METRICS | 0xF_0000_00FF, "enters"),
        # fixed counters: the bitmap, or fewer than the number
        (processor({(0xA, 0): (0x8300805, 0, 0b1_0100, 0x8602)}), 0x17_0000_0000, "enters"),
        (processor({(0xA, 0): (0x8300805, 0, 0b1_0100, 0x8602)}), 0x8_0000_0000, "host.perfglobal"),
        # the bitmaps of leaf 23H have precedence
        (processor({(0, 0): (0x23, 0, 0, 0), (0x23, 0): (3, 0, 0, 0), (0x23, 1): (0x300, 0x40, 0, 0)}), 0x40_0000_0300, "enters"),
        (processor({(0, 0): (0x23, 0, 0, 0), (0x23, 0): (3, 0, 0, 0), (0x23, 1): (0x300, 0x40, 0, 0)}), 1, "host.perfglobal"),
        (processor({(0, 0): (0x23, 0, 0, 0), (0x23, 0): (1, 0, 0, 0)}), 0xF_0000_00FF, "enters"),
    ],
)
def test_perf_global_ctrl_has_a_bit_for_each_counter_and_for_the_metrics(caps: Capabilities, value: int, answer: str) -> None:
    assert judged(host_perf_global(value, caps)) == answer


@pytest.mark.parametrize(
    ("caps", "value", "answer"),
    [
        (replace(processor(), msrs=msrs_only().msrs), METRICS, "not modelled"),  # PDCM is 1, and the MSR was not read
        (replace(processor(), msrs=msrs_only().msrs), 0xF_0000_00FF, "enters"),
        (replace(processor(), msrs=msrs_only().msrs), METRICS | 1 << 20, "host.perfglobal"),  # bit 20 is reserved whatever bit 48 is
        (processor(without=((0xA, 0),)), 1, "not modelled"),
        (msrs_only(), METRICS, "not modelled"),
        (msrs_only(), 1, "not modelled"),
        (msrs_only(), 0, "enters"),
        (msrs_only(), 1 << 49, "host.perfglobal"),
    ],
)
def test_perf_global_ctrl_is_not_modelled_in_bits_that_rest_on_what_is_not_known(caps: Capabilities, value: int, answer: str) -> None:
    assert judged(host_perf_global(value, caps)) == answer
