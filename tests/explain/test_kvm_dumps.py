"""KVM's and Xen's dumps whose lines are broken, damaged or moved: numbers are aligned with the declared lines, and what that leaves open is not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmfuzz.explain.dump import Dump
from vmfuzz.explain.formats.kvm_tables import NUMBERS, SEGMENTS, begins
from vmfuzz.explain.reading import read_text

BODIES = Path(__file__).parent / "bodies"
KVM = (BODIES / "kvm.txt").read_text(encoding="utf-8")
XEN = (BODIES / "xen.txt").read_text(encoding="utf-8")


def read(text: str) -> Dump:
    (dump,) = read_text(text, "text")
    return dump


def changed(text: str, old: str, new: str) -> str:
    assert text.count(old) >= 1, old
    return text.replace(old, new, 1)


def lines_moved(text: str, *moved: str) -> str:
    """The text with the lines that begin so at its end: they stand out of the print order."""
    lines = text.splitlines()
    last = [line for line in lines if line.startswith(moved)]
    return "\n".join([*(line for line in lines if line not in last), *last]) + "\n"


def test_what_a_key_may_be_follows_from_the_declared_lines() -> None:
    assert {slot.field for slot in NUMBERS["", "PAT"][0].slots} == {"guest_ia32_pat", "host_ia32_pat"}
    assert NUMBERS["", "PAT"][0].field == ""
    assert NUMBERS["CS", "attr"][0].field == "guest_cs_access_rights"
    assert NUMBERS["VMExit", "errcode"][0].field == "vm_exit_interruption_error_code"
    assert [may.field for may in NUMBERS["", "CS:RIP"]] == ["", ""]  # two numbers, each the guest's or the host's
    assert [slot.field for slot in NUMBERS["", "CS:RIP"][1].slots] == ["guest_ia32_sysenter_eip", "host_ia32_sysenter_eip"]
    assert "sel" not in {key for head, key in NUMBERS if head == "GDTR"}
    assert SEGMENTS == ("CS", "DS", "SS", "ES", "FS", "GS", "GDTR", "LDTR", "IDTR", "TR")


def test_a_key_that_is_printed_in_two_sections_but_is_one_field_bounds_what_stands_around_it() -> None:
    offset = NUMBERS["", "TSCOffset"][0]
    assert (offset.field, offset.bounds) == ("tsc_offset", (1, 5))  # Xen before 4.6 prints it in the guest's section


@pytest.mark.parametrize("line", KVM.splitlines() + XEN.splitlines()[2:-1])
def test_every_line_of_a_dump_begins_like_one(line: str) -> None:
    assert begins(line.strip()), line


def test_a_line_of_two_numbers_places_both_wherever_it_stands() -> None:
    whole = read(XEN)
    dump = read(lines_moved(XEN, "EFER(VMCS)"))  # the manual's order of sections is broken: EFER alone would tell nothing
    assert dump.readings["guest_ia32_pat"].value == whole.readings["guest_ia32_pat"].value
    assert "host_ia32_pat" not in dump.readings


def test_a_number_that_is_cut_off_by_a_character_is_none_and_the_one_before_it_counts() -> None:
    dump = read(changed(KVM, "CS:RIP=0010:ffffffff81e01770", "CS:RIP=0010:ffffffff;1e01770"))
    assert dump.readings["guest_ia32_sysenter_cs"].value == 0x10
    assert "guest_ia32_sysenter_eip" not in dump.readings
    assert any("guest_ia32_sysenter_eip counts as not given" in warning for warning in dump.warnings)


def test_interrupt_status_may_stand_on_the_next_line() -> None:
    whole = read(KVM)
    dump = read(changed(KVM, "SVI|RVI = ", "SVI|RVI =\n"))
    assert {name: one.value for name, one in dump.readings.items()} == {name: one.value for name, one in whole.readings.items()}
    assert dump.warnings == []


def test_a_number_that_a_console_broke_behind_its_0_is_not_used() -> None:
    dump = read(changed(KVM, "limit=0xffffffff, base=0x0000000000000000\nDS:", "limit=0xffffffff, base=0\nx0000000000000000\nDS:"))
    assert "guest_cs_base" not in dump.readings
    assert any("CS base = 0 may be cut off" in warning for warning in dump.warnings)


def test_the_end_of_a_broken_key_is_no_key() -> None:
    dump = read(changed(KVM, " CS:RIP=0010:ffffffff81e01770", " CS:\nRIP=0010:ffffffff81e01770"))
    assert dump.readings["guest_rip"].value == 0xFFFFFFFF81E00B10


def test_a_part_below_a_register_that_has_none_such_ends_the_register() -> None:
    dump = read(changed(KVM, "GDTR:                           limit=0x0000007f", "GDTR:   sel=0x0000, limit=0x0000007f"))
    assert "guest_gdtr_limit" not in dump.readings
    assert any("sel = 0x0000 stands without the key before it" in warning for warning in dump.warnings)
