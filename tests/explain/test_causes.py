"""Which of several mistakes is called the cause: only one whose field is looked at in the stage that failed."""

from __future__ import annotations

import pytest

from vmfuzz.explain.answer import answer
from vmfuzz.explain.reading import read_text
from vmfuzz.explain.render import render


def answered(text):
    (dump,) = read_text(text, "text")
    return answer(dump)


@pytest.mark.parametrize("reported", ["", "VM-instruction error: 7\n"])
def test_guest_state_is_no_cause_of_a_refused_control(reported):
    found = answered(f"{reported}PIN_BASED_VM_EXEC_CONTROL = 0x1\nVMCS_LINK_POINTER = 0x0\n")
    assert [mistake.field for mistake in found.causes] == ["pin_based_controls"]
    assert [mistake.field for mistake in found.remarks] == ["vmcs_link_pointer"]


def test_a_link_pointer_is_the_cause_where_guest_state_failed():
    found = answered("exit reason 0x80000021 qualification 4\nVMCS_LINK_POINTER = 0x0\n")
    assert [mistake.field for mistake in found.causes] == ["vmcs_link_pointer"]


def test_controls_are_no_cause_where_guest_state_failed():
    found = answered("exit reason 0x80000021\nPIN_BASED_VM_EXEC_CONTROL = 0x1\nGUEST_CR0 = 0x11\n")
    assert found.causes == []
    assert [(mistake.field, mistake.stops) for mistake in found.remarks] == [("pin_based_controls", False)]


def test_control_words_that_are_all_0_are_a_vmcs_that_was_never_written():
    found = answered("pin=0x0 primary=0x0 secondary=0x0\nexit=0x0 entry=0x0 link=0x0\n")
    assert "never written" in found.causes[0].what
    assert "VMCLEAR" in found.causes[0].follows
    assert found.repairs == []  # bits set in the words would not mend it
    assert "never written" not in render(answered("PIN_BASED_VM_EXEC_CONTROL = 0x0\nCPU_BASED_VM_EXEC_CONTROL = 0x04006172\n"))


def test_control_words_as_wanted_are_one_mistake():
    text = "PIN_BASED_VM_EXEC_CONTROL = 0x1\nCPU_BASED_VM_EXEC_CONTROL = 0x80\nVM_EXIT_CONTROLS = 0x200\nVM_ENTRY_CONTROLS = 0x200\n"
    found = answered(text)
    (mistake,) = found.causes
    assert "00000016H, 04006172H, 00036DFBH and 000011FBH" in mistake.what
    assert "00000017H, 040061F2H, 00036FFBH and 000013FBH" in mistake.change
    assert found.remarks == []


def test_the_limit_of_a_task_state_segment_is_no_limit_in_pages():
    found = answered("GUEST_TR_LIMIT = 0x67\nGUEST_TR_AR = 0x808b\nexit reason 0x80000021\n")
    assert found.causes == []
    assert [(change.field, change.new) for change in found.repairs[0].changes] == [("guest_tr_access_rights", 0x8B)]
    text = " ".join(render(found, explain=True).split())
    assert "therefore has G = 0" in text
    assert "It applies because guest TR limit bits 11:0 are not FFFH" in text
