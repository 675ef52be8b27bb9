"""A control that the text does not show: only what fails either way is called wrong and is changed; a mode is changed only where nothing less helps."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.judgement.judge import Verdict, judge, proven_passed
from vmfuzz.explain.reading import read_text
from vmfuzz.model.partial import Partial


def answered(text):
    (dump,) = read_text(text, "text")
    return answer(dump)


def changes(found):
    return [[(change.field, change.new) for change in repair.changes] for repair in found.repairs]


PAGED = 0x80000031


@pytest.mark.parametrize(("value", "mended"), [(0x10, [0x30, PAGED]), (0x11, [0x31, PAGED]), (0x80000011, [PAGED])])
def test_of_cr0_only_ne_is_certain_where_unrestricted_guest_is_not_known(value, mended):
    """The smallest change first; a guest with paging is offered too, since without "unrestricted guest" nothing less enters."""
    found = answered(f"GUEST_CR0 = {value:#x}\nexit reason 0x80000021\n")
    (finding,) = found.violated
    assert found.faults(finding)[0] == "guest CR0 bit 5 (NE) is 0, but must be 1"
    assert all(line.startswith('if "unrestricted guest" is 0, ') for line in found.faults(finding)[1:])
    assert changes(found) == [[("guest_cr0", new)] for new in mended]


def test_of_cr0_all_bits_are_certain_where_there_are_no_secondary_controls():
    found = answered("GUEST_CR0 = 0x11\nCPU_BASED_VM_EXEC_CONTROL = 0x04006172\nexit reason 0x80000021\n")
    (finding,) = found.violated
    assert found.faults(finding) == ["guest CR0 bits 5 (NE), 31 (PG) are 0, but must be 1"]
    assert changes(found)[0] == [("guest_cr0", 0x80000031)]


def test_a_type_of_tr_that_fails_in_every_mode_becomes_the_one_that_every_mode_has():
    found = answered("GUEST_TR_AR = 0x82\nexit reason 0x80000021\n")
    assert changes(found)[0] == [("guest_tr_access_rights", 0x8B)]
    text = " ".join(render(found, explain=True).split())
    assert 'guest TR type (bits 3:0) is 2 (LDT), but must be BH (busy TSS); 3 is allowed too if "IA-32e mode guest" is 0' in text
    assert "because VM-entry controls" not in text


def test_one_control_is_cleared_rather_than_all_secondary_controls():
    found = answered(
        "VM-instruction error 7\nCPU_BASED_VM_EXEC_CONTROL = 0x84006172\nSECONDARY_VM_EXEC_CONTROL = 0x12\nEPT_POINTER = 0x105e\n"
    )
    assert changes(found) == [[("secondary_processor_based_controls", 0x2)], [("primary_processor_based_controls", 0x84206172)]]


@pytest.mark.parametrize(
    "text",
    [
        "VM_ENTRY_CONTROLS = 0x13ff\nGUEST_CR0 = 0x31\nSECONDARY_VM_EXEC_CONTROL = 0x82\nGUEST_CR4 = 0x2020\nexit reason 0x80000021\n",
        "VM_ENTRY_CONTROLS = 0x13ff\nGUEST_CR0 = 0x80000031\nGUEST_CR4 = 0x2000\nexit reason 0x80000021\n",
        "VM_ENTRY_CONTROLS = 0x93ff\nGUEST_CR0 = 0x80000031\nGUEST_CR4 = 0x2020\nGUEST_IA32_EFER = 0x400\nexit reason 0x80000021\n",
    ],
)
def test_long_mode_is_completed_rather_than_left(text):
    found = answered(text)
    assert found.violated
    for name, value in changes(found)[0]:
        assert name != "vm_entry_controls"
        assert value > found.dump.readings[name].value


def test_a_change_mends_all_that_fails_in_virtual_8086_mode_and_outside_of_it():
    found = answered("GUEST_SS_AR = 0x8\nexit reason 0x80000021\n")
    assert {finding.check.id for finding in found.violated} == {"guest.ss.type", "guest.ss.s", "guest.ss.p"}
    assert changes(found)
    for ((name, value),) in changes(found):
        again = answered(f"GUEST_SS_AR = {value:#x}\nexit reason 0x80000021\n")
        assert (name, again.violated) == ("guest_ss_access_rights", [])


@pytest.mark.parametrize("seed", range(60))
def test_with_the_change_no_check_that_the_text_decides_is_violated(seed):
    """Some fields of a good dump, a few bits of them wrong: what the answer says of its change holds when all is judged again."""
    source = random.Random(seed)
    (good,) = read_text((Path(__file__).parent / "bodies" / "kvm.txt").read_text(encoding="utf-8"), "good")
    share = source.choice([0.3, 0.6, 0.9])
    values = {name: reading.value for name, reading in good.readings.items() if name in FIELDS and source.random() < share}
    values = {name: value for name, value in values.items() if not name.startswith(("exit_", "vm_exit_i"))}
    for name in source.sample(sorted(values), min(len(values), source.randint(1, 4))):
        values[name] ^= 1 << source.randrange(min(20, FIELDS[name].width))
    reported = source.choice(["", "exit reason 0x80000021\n", "VM-instruction error: 7\n"])
    found = answered("".join(f"{name} = {value:#x}\n" for name, value in values.items()) + reported)
    for repair in found.repairs:
        mended = {**found.checked.values, **{change.field: Partial(change.new) for change in repair.changes}}
        after = judge(None, found.knowledge, mended).of(Verdict.VIOLATED, Verdict.LIKELY)
        assert [finding.check.id for finding in after if not proven_passed(finding.check, found.dump.reported)] == []


def test_a_type_of_cs_that_no_mode_has_is_violated_though_no_control_is_shown():
    found = answered("GUEST_CS_AR = 0xa092\nexit reason 0x80000021\n")
    assert {finding.check.id for finding in found.violated} == {"guest.cs.type"}
    assert changes(found)[0] == [("guest_cs_access_rights", 0xA09B)]
