"""Lines of names and values with something around the pair: an encoding, a sentence, other pairs, the other half of a field."""

from __future__ import annotations

import pytest

from vmfuzz.explain.dump import Dump
from vmfuzz.explain.reading import read_text


def read(text: str) -> Dump:
    (dump,) = read_text(text)
    return dump


def values(text: str) -> dict[str, int]:
    return {name: reading.value for name, reading in read(text).readings.items()}


@pytest.mark.parametrize(
    "line",
    [
        "(0x6800) guest_CR0 = 0x30",
        "[0x6800] GUEST_CR0 = 0x30",
        "<0x6800> GUEST_CR0: 0x30",
        "(6800h) GUEST_CR0 = 30h",
        "(6800) GUEST_CR0: 00000030",
        "(0x6800): 0x30",
        "(0x6800) VMCS02.guest_CR0 = 0x30",
        "(0x6800) @before02@guest_CR0 = 0x30",
        "(0x6800) :vmcs02:guest_CR0 = 0x30",
        "[0x6800]: guest_CR0 = 0x30",
        "0x6800 - guest_CR0 = 0x30",
    ],
)
def test_an_encoding_in_brackets_before_the_name(line: str) -> None:
    assert values(f"{line}\n") == {"guest_cr0": 0x30}


def test_an_encoding_in_brackets_that_is_another_fields_is_said() -> None:
    dump = read("(0x6800) @a@guest_CR0 = 0x30\n(0x6804) @a@guest_CR4 = 0x20\n(0x681e) @a@guest_RSP = 0x10\n")
    assert {name: reading.value for name, reading in dump.readings.items()} == {"guest_cr0": 0x30, "guest_cr4": 0x20, "guest_rip": 0x10}
    assert any("681EH is guest_rip, but the line says" in warning for warning in dump.warnings)


def test_control_words_beside_the_pin_based_ones() -> None:
    expected = {
        "pin_based_controls": 0x16,
        "primary_processor_based_controls": 0x401E172,
        "vm_exit_controls": 0x36FFF,
        "vm_entry_controls": 0x11FF,
    }
    assert values("PIN=0x16 PROC=0x401e172 EXIT=0x36fff ENTRY=0x11ff\n") == expected
    assert values("PIN: 0x16\nPROC: 0x401e172\nEXIT: 0x36fff\nENTRY: 0x11ff\n") == expected
    assert values("VMCS ctls pin=0x16 primary=0x401e172 exit=0x36fff entry=0x11ff\n") == expected
    assert values("PIN: 0x16\nEXIT: 0x30\nENTRY: 0x1\n") == {"pin_based_controls": 0x16}
    assert values("proc: 0x401e172\nexit: 0x36fff\n") == {}


@pytest.mark.parametrize(
    "text",
    [
        "vmwrite(VMCS_LINK_POINTER, 0xffffffff);\nvmwrite(VMCS_LINK_POINTER_HIGH, 0xffffffff);\n",
        "VMCS_LINK_POINTER_FULL = 0xffffffff\nVMCS_LINK_POINTER_HIGH = 0xffffffff\n",
        "(0x2800) guest_VMCS_link_pointer_full = 0xffffffff\n(0x2801) guest_VMCS_link_pointer_high = 0xffffffff\n" * 2,
    ],
)
def test_two_halves_are_one_value(text: str) -> None:
    dump = read(text)
    assert (dump.readings["vmcs_link_pointer"].value, dump.readings["vmcs_link_pointer"].known) == ((1 << 64) - 1,) * 2
    assert not dump.warnings


def test_high_halves_that_differ_are_a_contradiction() -> None:
    dump = read("EPT_POINTER = 0x101e\nEPT_POINTER_HIGH = 0x1\nEPT_POINTER_HIGH = 0x0\n")
    assert (dump.readings["eptp"].value, dump.readings["eptp"].known) == (0x101E, ~(1 << 32) & (1 << 64) - 1)
    assert "count as unknown" in dump.warnings[0]


def test_a_number_in_a_table_is_no_capability_msr_if_no_processor_has_its_value() -> None:
    assert read("  0x480\t\t0x180\t\t64-bit fields\n  0x481\t\t0x182\t\t64-bit fields\n").msrs == {}
    assert read("0x480: 0x00da040000000004\n0x481: 0x0000007f00000016\n").msrs == {0x480: 0xDA040000000004, 0x481: 0x7F00000016}
