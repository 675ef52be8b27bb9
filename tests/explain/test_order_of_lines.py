"""Dumps that are printed more than once: where a copy is out of order, what only its place names counts in none."""

from __future__ import annotations

import pytest

from vmfuzz.explain.reading import read_text


def values(text: str) -> dict[str, int]:
    (dump,) = read_text(text)
    return {name: reading.value for name, reading in dump.readings.items()}


_TRY = "guest_cr0: 0x80050033\nguest_rflags: {rflags}\nCS:\n  sel: 0x10\n  base: 0x0\n  lim: 0xffffffff\n  rights: 0xa09b\n"
_TRY += "SS:\n  sel: 0x18\n  base: 0x0\n  lim: 0xffffffff\n  rights: {rights}\n"


@pytest.mark.parametrize("rflags", ["0x246", "0x2"])
@pytest.mark.parametrize("rights", ["0xc093", "0x93"])
def test_a_dump_printed_twice_keeps_the_parts_of_its_registers(rflags: str, rights: str) -> None:
    once = _TRY.format(rflags=rflags, rights=rights)
    twice = f"CPU 0\n{_TRY.format(rflags='0x246', rights='0xc093')}CPU 1\n{once}"
    assert values(twice) == values(once)
    assert len(values(once)) == 10


def test_of_a_dump_printed_twice_no_part_is_taken_if_a_copy_is_out_of_order() -> None:
    once = _TRY.format(rflags="0x2", rights="0xc093")
    torn = once.replace("SS:\n", "").replace("0x18", "0x20")
    read = values(once + torn)
    assert read == {"guest_cr0": 0x80050033, "guest_rflags": 2} == values(torn)


def test_a_copy_that_lost_its_head_takes_nothing_from_the_next() -> None:
    once = _TRY.format(rflags="0x2", rights="0xc093")
    assert values(f"  lim: 0xffff\n  rights: 0x93\n{once}{once}") == values(once)


def test_lines_that_repeat_a_part_of_a_dump_are_out_of_order() -> None:
    once = _TRY.format(rflags="0x2", rights="0xc093")
    assert "guest_ss_limit" not in values(f"{once}  base: 0x0\n  lim: 0xffff\n  rights: 0x8b\n")
