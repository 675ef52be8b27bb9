"""Rules that newer processors bring (FRED, LA57, memory encryption, STIBP), the TPR threshold, and what the MSR-load area refuses."""

from __future__ import annotations

from functools import cache

import pytest

from vmfuzz.arch.capabilities import FEATURES, Capabilities
from vmfuzz.arch.outcomes import Kind
from vmfuzz.differences.ambiguity_cases import hypothetical
from vmfuzz.model.predict import Prediction, predict
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

SKYLAKE = capabilities("corei7_skylake_x")
OTHER_EVENT = 0x8000_0700


@cache
def newest() -> Capabilities:
    """The processor with FRED, LA57, key identifiers and without STIBP."""
    return hypothetical().model.capabilities


@cache
def state() -> Vmcs:
    return known_good(newest())


def verdict(prediction: Prediction) -> str:
    """The failures that are allowed, and "enters" where that is."""
    failures = sorted(outcome.short() for outcome in prediction.outcomes if outcome.kind is not Kind.EXIT)
    return ", ".join([*(["not modelled"] if prediction.not_modelled else []), *failures, *(["enters"] if prediction.enters else [])])


@pytest.mark.parametrize(
    ("vector", "length", "answer"),
    [
        (1, 0, "enters"),
        (2, 15, "enters"),
        (1, 16, "VMfailValid(7)"),
        (2, 1 << 31, "VMfailValid(7)"),
        (0, 16, "enters"),
        (3, 1, "VMfailValid(7)"),
    ],
)
def test_the_length_of_freds_events_is_at_most_15(vector: int, length: int, answer: str) -> None:
    base = state().replace(
        guest_cr4=state()["guest_cr4"] | 1 << 32, vm_entry_interruption_info=OTHER_EVENT | vector, vm_entry_instruction_length=length
    )
    assert verdict(predict(base, newest())) == answer


def test_a_pending_mtf_exit_needs_the_monitor_trap_flag_with_fred_too() -> None:
    msrs = {number: value & ~(1 << 59) if number in (0x482, 0x48E) else value for number, value in newest().msrs.items()}
    without = Capabilities("FRED, no monitor trap flag", msrs, newest().cpuid)
    assert verdict(predict(known_good(without).replace(vm_entry_interruption_info=OTHER_EVENT), without)) == "VMfailValid(7)"


def test_freds_event_outside_ia32e_mode_may_fail_in_either_stage() -> None:
    base = state().replace(
        guest_cr4=state()["guest_cr4"] | 1 << 32,
        vm_entry_controls=state()["vm_entry_controls"] & ~(1 << 9),
        vm_entry_interruption_info=OTHER_EVENT | 1,
    )
    assert {"VMfailValid(7)", "entry failure 33 q0"} <= {outcome.short() for outcome in predict(base, newest()).outcomes}


@pytest.mark.parametrize(
    ("field", "value", "answer"),
    [
        ("host_cr3", 1 << 37, "enters"),
        ("host_cr3", 1 << 38, "VMfailValid(8), enters"),  # width 40, two key-identifier bits
        ("host_cr3", 1 << 40, "VMfailValid(8)"),
        ("guest_cr3", 1 << 39, "entry failure 33 q0, enters"),
        ("host_rip", 1 << 46, "enters"),
        ("host_rip", 1 << 50, "VMfailValid(8), enters"),
        ("host_rip", 1 << 57, "VMfailValid(8)"),
    ],
)
def test_widths_that_can_be_read_in_two_ways(field: str, value: int, answer: str) -> None:
    assert verdict(predict(state().replace(**{field: value}), newest())) == answer


def test_host_rip_has_the_processors_width_where_every_reading_says_so() -> None:
    five_levels = state().replace(host_cr4=state()["host_cr4"] | 1 << 12, live_cr4=state()["live_cr4"] | 1 << 12, host_rip=1 << 50)
    assert verdict(predict(five_levels, newest())) == "enters"


@pytest.mark.parametrize(("value", "answer"), [(1, "enters"), (2, "entry failure 33 q0, enters"), (1 << 20, "entry failure 33 q0")])
def test_stibp_without_its_bit_in_cpuid_is_read_in_two_ways(value: int, answer: str) -> None:
    loaded = state().replace(vm_entry_controls=state()["vm_entry_controls"] | 1 << 24, guest_ia32_spec_ctrl=value)
    assert verdict(predict(loaded, newest())) == answer


@pytest.mark.parametrize(
    ("threshold", "memory", "answer"),
    [
        (0, {}, "enters"),
        (1, {}, "not modelled, VMfailValid(7), enters"),
        (1, {0x7000_0080: 0x10}, "enters"),
        (2, {0x7000_0080: 0x10}, "VMfailValid(7)"),
    ],
)
def test_a_threshold_of_0_passes_whatever_the_virtual_apic_page_holds(threshold: int, memory: dict[int, int], answer: str) -> None:
    base = known_good(SKYLAKE)
    shadow = base.replace(
        primary_processor_based_controls=base["primary_processor_based_controls"] | 1 << 21,
        virtual_apic_address=0x7000_0000,
        tpr_threshold=threshold,
    ).with_memory(memory)
    prediction = predict(shadow, SKYLAKE)
    assert verdict(prediction) == answer
    if not threshold:
        assert [outcome.number for outcome in prediction.outcomes] == [52]


def with_features(*on: str) -> Capabilities:
    leaves = {key: list(registers) for key, registers in SKYLAKE.cpuid.items()}
    for name in on:
        leaf, subleaf, register, bit = FEATURES[name]
        leaves.setdefault((leaf, subleaf), [0, 0, 0, 0])[register] |= 1 << bit
    return Capabilities("made up", SKYLAKE.msrs, {key: (a, b, c, d) for key, (a, b, c, d) in leaves.items()})


FAILS = "entry failure 34 q1"


@pytest.mark.parametrize(
    ("on", "index", "value", "answer"),
    [
        ((), 0x480, 0, FAILS),
        ((), 0x493, 0, FAILS),
        ((), 0x494, 0, f"not modelled, {FAILS}, enters"),
        ((), 0x3A, 5, FAILS),
        ((), 0x345, 0, FAILS),
        ((), 0x4000_0000, 0, FAILS),
        ((), 0x4000_FFFF, 0, FAILS),
        ((), 0x4001_0000, 0, f"not modelled, {FAILS}, enters"),
        ((), 0x1D9, 3, "enters"),
        ((), 0x1D9, 1 << 5, FAILS),
        ((), 0x1D9, 1 << 6, f"not modelled, {FAILS}, enters"),
        ((), 0x38F, 0x7_0000_000F, "enters"),
        ((), 0x38F, 1 << 48, FAILS),
        ((), 0x48, 0, FAILS),  # the processor has no IA32_SPEC_CTRL
        (("spec_ctrl",), 0x48, 1, "enters"),
        (("spec_ctrl",), 0x48, 2, f"not modelled, {FAILS}, enters"),
        (("spec_ctrl",), 0x48, 4, FAILS),
        (("spec_ctrl", "ssbd"), 0x48, 4, "enters"),
        ((), 0x6E1, 0, FAILS),
        (("pks",), 0x6E1, 0xFFFF_FFFF, "enters"),
        (("pks",), 0x6E1, 1 << 32, FAILS),
        ((), 0xC000_0084, 0xFFFF_FFFF, "enters"),
        ((), 0xC000_0084, 1 << 32, FAILS),
        (("rdtscp",), 0xC000_0103, 7, "enters"),
        (("rdtscp",), 0xC000_0103, 1 << 32, FAILS),
    ],
)
def test_what_the_msr_load_area_refuses(on: tuple[str, ...], index: int, value: int, answer: str) -> None:
    base, caps = known_good(SKYLAKE), with_features(*on)
    address = base["vm_entry_msr_load_address"]
    assert verdict(predict(base.replace(vm_entry_msr_load_count=1).with_memory({address: index, address + 8: value}), caps)) == answer


def test_an_entry_whose_value_is_not_known_is_not_modelled() -> None:
    base = known_good(SKYLAKE)
    address = 0x7100_0000
    only_index = base.replace(vm_entry_msr_load_count=1, vm_entry_msr_load_address=address).with_memory({address: 0xC000_0082})
    assert verdict(predict(only_index, SKYLAKE)) == f"not modelled, {FAILS}, enters"
