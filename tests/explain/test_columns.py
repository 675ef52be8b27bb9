"""Where on a line a value stands, whatever else is on the line."""

from __future__ import annotations

import pytest

from vmfuzz.explain.text.columns import columns_of


@pytest.mark.parametrize(
    ("line", "value", "label", "number"),
    [
        ("guest_cr0 = 0x80050033", 0x80050033, "guest_cr0", "0x80050033"),
        ("CR0: actual=0x0031, shadow=0x0031, gh_mask=ff", 0x31, "CR0 shadow", "0x0031"),
        ("[   12.5] CS:   sel=0x0010, attr=0x0a09b", 0xA09B, "CS attr", "0x0a09b"),
        ("CS: 0010 0a09b ffffffff 0000000000000000", 0xA09B, "CS", "0a09b"),
        ("limit 4294967295", 0xFFFFFFFF, "limit", "4294967295"),
        ("mov: 6820h, 0FFFH", 0xFFF, "mov", "0FFFH"),
        ("exit reason -2147483615", 0x80000021, "exit reason", "-2147483615"),
        ("rip: 0xffff`80001000", 0xFFFF80001000, "rip", "0xffff`80001000"),
        ("VMCS_LINK_HIGH = 0xffffffff", 0xFFFFFFFF00000000, "VMCS_LINK_HIGH", "0xffffffff"),
        ("| **GUEST_TR** | Sel=`0x0028`, Lim=`0x67` |", 0x28, "GUEST_TR Sel", "0x0028"),
        ("    GuestEsSelector = 0x0800_u32,", 0x800, "GuestEsSelector", "0x0800"),
    ],
)
def test_the_number_of_a_value(line: str, value: int, label: str, number: str) -> None:
    place = columns_of(line, value, label)
    assert place is not None
    assert line[place[0] - 1 : place[1]] == number


def test_of_two_equal_numbers_the_one_behind_the_label_counts() -> None:
    line = "rip=0x10 rsp=0x10"
    assert columns_of(line, 0x10, "rip") == (5, 8)
    assert columns_of(line, 0x10, "rsp") == (14, 17)


@pytest.mark.parametrize(("line", "value"), [("guest_cr0 = computed", 1), ("", 0), ("flags 00009b00", 0x9B)])
def test_a_value_that_the_line_does_not_show(line: str, value: int) -> None:
    assert columns_of(line, value, "label") is None
