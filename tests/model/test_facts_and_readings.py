"""Rules that newer processors bring (FRED, LA57, memory encryption, STIBP), the TPR threshold, and what the MSR-load area refuses."""

from __future__ import annotations

from functools import cache

import pytest

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.cpuid_features import FEATURES
from vmfuzz.arch.outcomes import Kind
from vmfuzz.differences.ambiguity_cases import hypothetical
from vmfuzz.model.predict import Prediction, predict
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

SKYLAKE = capabilities("corei7_skylake_x")
OTHER_EVENT = 0x8000_0700
ALL_64 = (1 << 64) - 1


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


def with_features(*names: str) -> Capabilities:
    """The emulated Skylake with some features, and without those that have a "-"."""
    leaves = {key: list(registers) for key, registers in SKYLAKE.cpuid.items()}
    for name in names:
        leaf, subleaf, register, bit = FEATURES[name.removeprefix("-")]
        registers = leaves.setdefault((leaf, subleaf), [0, 0, 0, 0])
        registers[register] = registers[register] & ~(1 << bit) | (not name.startswith("-")) << bit
    return Capabilities("made up", SKYLAKE.msrs, {key: (a, b, c, d) for key, (a, b, c, d) in leaves.items()})


FAILS = "entry failure 34 q1"
OPEN = f"not modelled, {FAILS}, enters"


@pytest.mark.parametrize(
    ("on", "index", "value", "answer"),
    [
        ((), 0x480, 0, FAILS),
        ((), 0x493, 0, FAILS),
        ((), 0x494, 0, OPEN),
        ((), 0x3A, 5, FAILS),
        ((), 0x345, 0, FAILS),
        ((), 0x4000_0000, 0, FAILS),
        ((), 0x4000_FFFF, 0, FAILS),
        ((), 0x4001_0000, 0, OPEN),
        ((), 0x1D9, 3, "enters"),
        ((), 0x1D9, 1 << 5, FAILS),
        ((), 0x1D9, 1 << 6, OPEN),
        ((), 0x38F, 0x7_0000_000F, "enters"),
        ((), 0x38F, 1 << 48, FAILS),
        ((), 0x48, 0, FAILS),  # the processor has no IA32_SPEC_CTRL
        (("spec_ctrl",), 0x48, 1, "enters"),
        (("spec_ctrl",), 0x48, 2, OPEN),
        (("spec_ctrl",), 0x48, 4, FAILS),
        (("spec_ctrl", "ssbd"), 0x48, 4, "enters"),
        ((), 0x6E1, 0, FAILS),
        (("pks",), 0x6E1, 0xFFFF_FFFF, "enters"),
        (("pks",), 0x6E1, 1 << 32, FAILS),
        ((), 0xC000_0084, 0xFFFF_FFFF, "enters"),
        ((), 0xC000_0084, 1 << 32, FAILS),
        (("rdtscp",), 0xC000_0103, 7, "enters"),
        (("rdtscp",), 0xC000_0103, 1 << 32, FAILS),
        # only read, or written in SMM only
        *(((), number, 0, FAILS) for number in (0x9E, 0x198, 0x38E, 0x392, 0x771, 0x981, 0x1F2, 0x1F3)),
        # the TSC and what belongs to it
        ((), 0x10, ALL_64, "enters"),
        (("tsc_adjust",), 0x3B, ALL_64, "enters"),
        (("-tsc_adjust",), 0x3B, 0, FAILS),
        (("tsc_deadline",), 0x6E0, ALL_64, "enters"),
        (("-tsc_deadline",), 0x6E0, 0, FAILS),
        # IA32_APIC_BASE: bits 7:0 and 9, the width of addresses, x2APIC mode
        (("x2apic",), 0x1B, 0xFEE0_0900, OPEN),
        (("x2apic",), 0x1B, 0xFEE0_0901, FAILS),
        (("x2apic",), 0x1B, 0xFEE0_0A00, FAILS),
        (("x2apic",), 0x1B, 1 << 52, FAILS),
        (("x2apic",), 0x1B, 0xFEE0_0C00, OPEN),
        (("x2apic",), 0x1B, 0xFEE0_0400, FAILS),
        (("-x2apic",), 0x1B, 0xFEE0_0C00, FAILS),
        (("-apic",), 0x1B, 0xFEE0_0900, FAILS),
        # MTRRs: memory types and reserved bits; how many exist is not known
        ((), 0x200, 6, OPEN),
        ((), 0x200, 7, FAILS),
        ((), 0x212, 2, FAILS),
        ((), 0x202, 0x106, FAILS),
        ((), 0x200, 1 << 52 | 6, FAILS),
        ((), 0x201, 0x800, OPEN),
        ((), 0x201, 0x400, FAILS),
        ((), 0x213, 1 << 52, FAILS),
        (("-mtrr",), 0x201, 0x800, FAILS),
        ((), 0x214, 0x400, OPEN),  # no architectural MSR
        ((), 0x250, 0x0606_0606_0505_0400, OPEN),
        ((), 0x26F, 0x0706_0606_0505_0400, FAILS),
        ((), 0x259, 0x0000_0002_0000_0000, FAILS),
        ((), 0x2FF, 0x806, "enters"),
        ((), 0x2FF, 0xC06, OPEN),  # whether there are fixed MTRRs is not known
        ((), 0x2FF, 0x807, FAILS),
        ((), 0x2FF, 0x1006, FAILS),
        ((), 0x2FF, 0x106, FAILS),
        # commands
        (("spec_ctrl",), 0x49, 1, "enters"),
        (("spec_ctrl",), 0x49, 2, FAILS),
        (("-spec_ctrl",), 0x49, 0, FAILS),
        (("flush_l1d",), 0x10B, 1, "enters"),
        (("flush_l1d",), 0x10B, 2, FAILS),
        (("-flush_l1d",), 0x10B, 0, FAILS),
        (("waitpkg",), 0xE1, 0xFFFF_FFFD, "enters"),
        (("waitpkg",), 0xE1, 2, FAILS),
        (("-waitpkg",), 0xE1, 0, FAILS),
        ((), 0x122, 3, OPEN),
        ((), 0x122, 4, FAILS),
        # a bank of machine checks is cleared, and nothing else; how many exist is not known
        ((), 0x401, 0, OPEN),
        ((), 0x47D, 1 << 63, FAILS),
        # CET
        (("cet_ss",), 0x6A0, 3, "enters"),
        (("cet_ss",), 0x6A2, 4, FAILS),
        (("cet_ss", "cet_ibt"), 0x6A2, 4, "enters"),
        (("cet_ss", "cet_ibt"), 0x6A0, 0x40, FAILS),
        (("cet_ibt",), 0x6A0, 0x400, "enters"),
        (("cet_ibt",), 0x6A0, 0xC00, FAILS),  # SUPPRESS and TRACKER
        (("cet_ibt",), 0x6A0, 1 << 47, FAILS),
        (("cet_ibt",), 0x6A4, 0, FAILS),
        ((), 0x6A2, 0, FAILS),
        *((("cet_ss",), number, 4, "enters") for number in (0x6A4, 0x6A5, 0x6A6, 0x6A7, 0x6A8)),
        *((("cet_ss",), number, 1 << 47, FAILS) for number in (0x6A4, 0x6A5, 0x6A6, 0x6A7, 0x6A8)),
        *((("cet_ss",), number, 2, FAILS) for number in (0x6A4, 0x6A5, 0x6A6, 0x6A7)),
        (("fred",), 0x6A4, 8, "enters"),  # IA32_FRED_SSP0
        # IA32_XSS: the bits of CPUID.0DH.1:EDX:ECX
        (("xsaves",), 0xDA0, 0, "enters"),
        (("xsaves",), 0xDA0, 1, FAILS),
        (("-xsaves",), 0xDA0, 0, FAILS),
        # others that exist with a feature
        (("mpx",), 0xD90, 0x1003, "enters"),
        (("mpx",), 0xD90, 4, FAILS),
        (("-mpx",), 0xD90, 0, FAILS),
        (("enqcmd",), 0xD93, 0x800F_FFFF, "enters"),
        (("enqcmd",), 0xD93, 1 << 20, FAILS),
        ((), 0x600, 0, OPEN),
        ((), 0x600, 1 << 47, FAILS),
        (("pt",), 0x570, 0, OPEN),
        (("pt",), 0x570, 1 << 63, FAILS),
        ((), 0x14CE, 0, FAILS),
        (("arch_lbr",), 0x14CE, 1, "enters"),
        (("arch_lbr",), 0x14CE, 1 << 30, FAILS),
        (("arch_lbr",), 0x14CF, 8, FAILS),  # CPUID.1CH:EAX[7:0] is 0
        (("fred",), 0x1CC, 0x40, "enters"),
        (("fred",), 0x1CF, 0x20, FAILS),
        (("fred",), 0x1D0, ALL_64, "enters"),
        (("fred",), 0x1D1, 8, "enters"),
        (("fred",), 0x1D3, 4, FAILS),
        (("fred",), 0x1D4, 0x3, "enters"),
        (("fred",), 0x1D4, 0x800, FAILS),
        (("fred",), 0x1D4, 1 << 47, FAILS),
        ((), 0x1CC, 0, FAILS),
        (("uintr",), 0x985, ALL_64, "enters"),
        (("uintr",), 0x986, 1 << 47, FAILS),
        (("uintr",), 0x987, 0x1001, "enters"),
        (("uintr",), 0x987, 2, FAILS),
        (("uintr",), 0x988, 0xFF_FFFF_FFFF, "enters"),
        (("uintr",), 0x988, 1 << 40, FAILS),
        (("uintr",), 0x989, 0x20, FAILS),
        (("uintr",), 0x98A, 2, FAILS),
        ((), 0x985, 0, FAILS),
    ],
)
def test_what_the_msr_load_area_refuses(on: tuple[str, ...], index: int, value: int, answer: str) -> None:
    base, caps = known_good(SKYLAKE), with_features(*on)
    address = base["vm_entry_msr_load_address"]
    assert verdict(predict(base.replace(vm_entry_msr_load_count=1).with_memory({address: index, address + 8: value}), caps)) == answer


@pytest.mark.parametrize(
    ("mode", "values", "answer"),
    [
        (1, (0xFEE0_0900,), FAILS),  # from x2APIC mode the APIC can only be disabled
        (1, (0xFEE0_0D00,), OPEN),
        (1, (0xFEE0_0100,), OPEN),
        # the first entry may have disabled it
        (1, (0xFEE0_0100, 0xFEE0_0900), "not modelled, entry failure 34 q1, entry failure 34 q2, enters"),
        (1, (0xFEE0_0D00, 0xFEE0_0900), "not modelled, entry failure 34 q1, entry failure 34 q2"),
        (0, (0xFEE0_0900,), OPEN),
    ],
)
def test_what_x2apic_mode_changes(mode: int, values: tuple[int, ...], answer: str) -> None:
    base, caps = known_good(SKYLAKE), with_features("x2apic")
    address = base["vm_entry_msr_load_address"]
    words = {address + 16 * place + at: word for place, value in enumerate(values) for at, word in ((0, 0x1B), (8, value))}
    found = verdict(predict(base.replace(vm_entry_msr_load_count=len(values), live_x2apic_mode=mode).with_memory(words), caps))
    assert found == answer


def test_an_entry_whose_value_is_not_known_is_not_modelled() -> None:
    base = known_good(SKYLAKE)
    address = 0x7100_0000
    only_index = base.replace(vm_entry_msr_load_count=1, vm_entry_msr_load_address=address).with_memory({address: 0xC000_0082})
    assert verdict(predict(only_index, SKYLAKE)) == OPEN


def test_what_may_be_written_in_smm_only_is_not_modelled_there() -> None:
    base = known_good(SKYLAKE)
    address = base["vm_entry_msr_load_address"]
    smm = base.replace(live_smm=1, vm_entry_msr_load_count=1).with_memory({address: 0x1F2, address + 8: 0})
    assert predict(smm, SKYLAKE).not_modelled


@pytest.mark.parametrize(
    ("index", "value", "answer"),
    [
        (0xDA0, 0, OPEN),
        (0x6E0, 0, OPEN),
        (0x200, 0x106, FAILS),
        (0x1B, 1, FAILS),
        (0x10, 0, "enters"),
        (0x9E, 0, FAILS),
        (0x6A0, 0x40, FAILS),
    ],
)
def test_where_cpuid_is_not_known_only_what_fails_on_every_processor_is_certain(index: int, value: int, answer: str) -> None:
    caps = Capabilities("MSRs only", {number: value for number, value in SKYLAKE.msrs.items() if number >= 0x480}, {})
    base = known_good(caps)
    address = base["vm_entry_msr_load_address"]
    assert verdict(predict(base.replace(vm_entry_msr_load_count=1).with_memory({address: index, address + 8: value}), caps)) == answer


def test_the_depth_of_lbrs_is_one_that_cpuid_lists() -> None:
    caps = with_features("arch_lbr")
    caps = Capabilities("made up", caps.msrs, {**caps.cpuid, (0x1C, 0): (0b1010, 0, 0, 0)})
    base = known_good(SKYLAKE)
    address = base["vm_entry_msr_load_address"]
    answers = {
        depth: verdict(predict(base.replace(vm_entry_msr_load_count=1).with_memory({address: 0x14CF, address + 8: depth}), caps))
        for depth in (8, 16, 24, 32, 33, 64)
    }
    assert answers == {8: FAILS, 16: "enters", 24: FAILS, 32: "enters", 33: FAILS, 64: FAILS}
