"""KVM's and Xen's dumps whose lines are broken, damaged or moved: numbers are aligned with the declared lines, and what that leaves open is not read."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmfuzz.explain.dump import Dump
from vmfuzz.explain.formats.kvm_tables import NUMBERS, OWN, SEGMENTS, STARTS
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
    assert {(slot.field, slot.section) for slot in NUMBERS["", "PAT"]} == {("guest_ia32_pat", 3), ("host_ia32_pat", 5)}
    assert {slot.field for slot in NUMBERS["CS", "attr"]} == {"guest_cs_access_rights"}
    assert {slot.field for slot in NUMBERS["VMExit", "errcode"]} == {"vm_exit_interruption_error_code"}
    assert {slot.field for slot in NUMBERS["", "CS:RIP"] if slot.part} == {"guest_ia32_sysenter_eip", "host_ia32_sysenter_eip"}
    assert "sel" not in {key for head, key in NUMBERS if head == "GDTR"}
    assert SEGMENTS == ("CS", "DS", "SS", "ES", "FS", "GS", "GDTR", "LDTR", "IDTR", "TR")


@pytest.mark.parametrize("line", KVM.splitlines() + XEN.splitlines()[2:-1])
def test_every_line_of_a_dump_begins_like_one(line: str) -> None:
    assert STARTS.match(line.strip()), line


@pytest.mark.parametrize(
    ("line", "own"),
    [
        ("*** Host State ***", True),
        ("CR0: actual=0x0000000080050033, shadow=0x0000000080050033, gh_mask=ffffffffffffffff", True),
        ("GDTBase=fffffe0000001000 IDTBase=fffffe0000000000", True),
        ("IDTVectoring: info=00000000 errcode=00000000", True),
        ("VMEntry: intr_info=0x0", False),
        ("ExceptionBitmap=00060042 PFECmask=00000000 PFECmatch=00000000", True),
        ("ExceptionBitmap=0x60042", False),
        ("CS: 0010 0a09b ffffffff 0000000000000000", True),
        ("GDTR:            0000007f fffffe0000001000", True),
        ("CS:  0010 DS: 0000 ES: 0000 CR0: 0000000080050033", False),
        ("CS: sel=0x0010, attr=0x0a09b, limit=0xffffffff, base=0x0000000000000000", False),
        ("RIP = 0x0000000000001000  RSP = 0x0000000000002000", False),
        ("reason=80000021 qualification=0000000000000000", False),
        ("CR3 = 0x0000000012345000", False),
    ],
)
def test_some_lines_no_other_program_prints(line: str, own: bool) -> None:
    assert bool(OWN.match(line)) is own


def test_registers_of_qemu_stand_in_for_those_that_kvms_dump_has_lost() -> None:
    qemu = (BODIES.parent / "samples" / "qemu.txt").read_text(encoding="utf-8")
    rest = KVM[KVM.index("*** Host State") :]
    (alone,), (both,) = read_text(qemu), read_text(rest + qemu)
    names = [name for name in alone.readings if name.startswith("guest_") and name not in read(rest).readings]
    assert len(names) > 20
    assert all(both.readings[name].value == alone.readings[name].value and both.readings[name].assumed for name in names)
    assert read(KVM + qemu).readings["guest_cs_base"] == read(KVM).readings["guest_cs_base"]


def test_a_dump_that_lost_the_ends_of_its_lines_is_read() -> None:
    joined = read(" ".join(f"(XEN) {line}" for line in XEN.splitlines()))
    assert {name: one.value for name, one in joined.readings.items()} == {name: one.value for name, one in read(XEN).readings.items()}


def test_a_line_of_two_numbers_places_both_wherever_it_stands() -> None:
    whole = read(XEN)
    dump = read(lines_moved(XEN, "EFER(VMCS)"))
    for name in ("guest_ia32_pat", "host_ia32_pat"):  # not all versions print EFER in one place: where the line stands breaks no order
        assert dump.readings[name].value == whole.readings[name].value


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


def test_the_hosts_rsp_of_an_old_xen_is_known_without_the_consoles_prefix() -> None:
    text = (BODIES.parent / "samples" / "xen-4.4.txt").read_text(encoding="utf-8")
    dump = read(text.replace("(XEN) ", ""))
    assert {name: dump.readings[name].value for name in ("host_rsp", "host_rip")} == {
        "host_rsp": 0xFFFF83043FF0FF90,
        "host_rip": 0xFFFF82C4801D5D70,
    }
    assert dump.readings["guest_rsp"].value == 0xAFFF8


@pytest.mark.parametrize("body", [KVM, XEN], ids=["KVM", "Xen"])
def test_a_dump_that_is_quoted_is_one_dump(body: str) -> None:
    dump = read(body + "\nOn Monday somebody wrote:\n\n" + "".join(f"> {line}\n" for line in body.splitlines()))
    assert {name: one.value for name, one in dump.readings.items()} == {name: one.value for name, one in read(body).readings.items()}


@pytest.mark.parametrize("key", ["EntryControls=", "ExitControls=", "SecondaryExec=", "PAT = 0x", "PDPTR2 = "])
def test_a_line_may_begin_where_some_version_begins_one(key: str) -> None:
    assert STARTS.match(f"{key}0")


@pytest.mark.parametrize("line", ["CR3=0000000000001000", "RIP=000000000000fff0 RFL=00000002", "DR7=0000000000000400", "CS=0010 10"])
def test_a_key_that_other_programs_print_begins_no_line(line: str) -> None:
    assert not STARTS.match(line)
