"""Which of several mistakes is called the cause: only one whose field is looked at in the stage that failed."""

from __future__ import annotations

import pytest

from vmfuzz.errors import VmfuzzError
from vmfuzz.execute.kinds import open_executor
from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.as_json import to_json
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.answer.verify import verified
from vmfuzz.explain.judgement.judge import Verdict
from vmfuzz.explain.reading import read_text


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
    assert found.causes == ()
    assert [(mistake.field, mistake.stops) for mistake in found.remarks] == [("pin_based_controls", False)]


def test_control_words_that_are_all_0_are_a_vmcs_that_was_never_written():
    found = answered("pin=0x0 primary=0x0 secondary=0x0\nexit=0x0 entry=0x0 link=0x0\n")
    assert "never written" in found.causes[0].what
    assert "VMCLEAR" in found.causes[0].follows
    assert found.repairs == ()  # bits set in the words would not mend it
    assert "never written" not in render(answered("PIN_BASED_VM_EXEC_CONTROL = 0x0\nCPU_BASED_VM_EXEC_CONTROL = 0x04006172\n"))


def test_control_words_as_wanted_are_one_mistake():
    text = "PIN_BASED_VM_EXEC_CONTROL = 0x1\nCPU_BASED_VM_EXEC_CONTROL = 0x80\nVM_EXIT_CONTROLS = 0x200\nVM_ENTRY_CONTROLS = 0x200\n"
    found = answered(text)
    (mistake,) = found.causes
    assert "00000016H, 04006172H, 00036DFBH and 000011FBH" in mistake.what
    assert "00000017H, 040061F2H, 00036FFBH and 000013FBH" in mistake.change
    assert found.remarks == ()


def test_the_limit_of_a_task_state_segment_is_no_limit_in_pages():
    found = answered("GUEST_TR_LIMIT = 0x67\nGUEST_TR_AR = 0x808b\nexit reason 0x80000021\n")
    assert found.causes == ()
    assert [(change.field, change.new) for change in found.repairs[0].changes] == [("guest_tr_access_rights", 0x8B)]
    text = " ".join(render(found, explain=True).split())
    assert "therefore has G = 0" in text
    assert "It applies because guest TR limit bits 11:0 are not FFFH" in text


def test_lma_without_pae_is_suspect_whatever_the_control_says_that_the_text_does_not_show():
    values = "GUEST_CR0 = 0x80000031\nGUEST_CR4 = 0x2000\nGUEST_IA32_EFER = 0x500\n"
    (mistake,) = answered(values).remarks
    assert mistake.what == "guest IA32_EFER bit 10 (LMA) is 1, but guest CR4 bit 5 (PAE) is 0."
    assert mistake.stops
    text = " ".join(render(answered(values)).split())
    assert "Also suspect" in text
    assert answered(values.replace("0x2000", "0x2020")).remarks == ()
    assert answered(values + "VM_ENTRY_CONTROLS = 0x93ff\nexit reason 0x80000021\n").remarks == ()  # judged by the checks
    assert answered(values + "VM-instruction error: 7\n").remarks == ()


def test_a_check_that_hangs_on_a_capability_is_contradicted_by_no_success():
    found = answered("exit reason: 0x30\nVM_ENTRY_INTR_INFO = 0x80000603\nVM_ENTRY_INSTRUCTION_LEN = 0\n")
    assert [finding.check.id for finding in found.violated] == ["ctl.inject.instrlen"]  # bit 31 is 1: that exit was another entry's
    wide = "GUEST_FS_BASE = 0x0000900000000000\n"
    assert [(finding.check.id, finding.verdict) for finding in answered(wide).violated] == [("guest.fs.base", Verdict.LIKELY)]
    found = answered(f"exit reason: 0x30\n{wide}")
    assert (found.contradicted, found.violated, found.exit_code) == ([], [], 0)


def test_an_entry_that_succeeded_is_no_failure_whatever_the_values_are():
    found = answered("exit reason: 0x30\nGUEST_CR4 = 0x0\n")
    assert [finding.check.id for finding in found.contradicted] == ["guest.cr4.fixed.ones"]
    assert found.exit_code == 0


def test_a_check_that_rests_on_a_reading_of_the_manual_is_a_suspect_and_named():
    found = answered("VM_ENTRY_CONTROLS = 0x1011ff\nGUEST_SSP = 0x7fc180012fd0\nexit reason 0x80000021\n")
    (finding,) = found.two_readings()
    assert (finding.check.id, finding.missing, finding.facts) == ("guest.ssp.high", frozenset(), frozenset())
    text = " ".join(render(found).split())
    assert "Suspect: guest SSP bits 63:32 are 7FC1H, but must be 0; the SDM leaves open whether that is checked" in text
    assert "Manual: it can be read in two ways: Bits 63:32 of guest SSP outside 64-bit mode. `vmfuzz ambiguities` shows them." in text
    assert [one["ambiguity"] for one in to_json(found)["undecided"] if one["ambiguity"]] == ["ssp-high-outside-64-bit-mode"]


def test_the_trial_says_what_it_carried_over_of_cr3():
    try:
        open_executor().close()
    except VmfuzzError as error:
        pytest.skip(str(error))
    said = verified(answered("GUEST_CR3 = 0x8000000012345000\nexit reason 0x80000021\n"))
    assert "The trial took from the dump: the faulty bits of CR3. Controls," in said
    assert "the rest of CR3 and other addresses" in said


def plain(text):
    return " ".join(render(answered(text)).split())


def test_bits_that_every_64_bit_kernel_has_are_no_suspects():
    text = "exit reason 0x80000021\nGUEST_IA32_EFER = 0xd01\nVM_ENTRY_CONTROLS = 0x93ff\nGUEST_CR4 = 0x3726e0\n"
    assert "Suspect" not in plain(text)
    cet = text.replace("0x3726e0", "0xb726e0")
    assert (
        "Suspect: guest CR4 bits 22 (PKE), 23 (CET) are 1; IA32_VMX_CR4_FIXED0/1 (488H, 489H) says whether the processor allows that"
        in plain(cet.replace("0xb7", "0xf7"))
    )
    assert "Suspect" not in plain(f"{cet}HOST_CR4 = 0xb726e0\n")
    assert "Suspect" not in plain("VM-instruction error 8\nHOST_CR4 = 0x3726e0\nHOST_IA32_EFER = 0xd01\nVM_EXIT_CONTROLS = 0x236fff\n")


def test_bits_of_which_a_capability_is_open_are_suspects_only_where_nothing_else_is():
    text = "exit reason 0x80000021\nGUEST_CR4 = 0x3726e0\nGUEST_CS_AR = 0xa093\n"
    assert 'is 3 (data), which is allowed only if secondary processor-based controls bit 7 ("unrestricted guest") is 1' in plain(text)
    assert "SMEP" not in plain(text)
    assert "Suspect" not in plain(text.replace("0xa093", "0x93"))
    assert "allowed only if" not in plain(text.replace("0xa093", "0xa09b"))


def test_a_selector_that_only_the_program_knows_is_given_in_words():
    found = answered("VM-instruction error 8\nHOST_TR_SELECTOR = 0\nHOST_CS_SELECTOR = 0\n")
    text = " ".join(render(found).split())
    assert "to the selector of your TSS (what STR gives), with bits 2:0 = 0" in text
    assert "to the selector of your code segment (what CS holds), with bits 2:0 = 0" in text
    assert "0008H" not in text
    assert [(change["new"], "your" in change["to"]) for change in to_json(found)["repairs"][0]] == [(None, True), (None, True)]


def test_what_a_cause_changes_is_not_changed_again_to_another_value():
    text = "exit reason 0x80000021\nVMCS_LINK_POINTER = 0xffffffff\n"
    assert [[change.new for change in repair.changes] for repair in answered(text).repairs] == [[(1 << 64) - 1]]
    (repair,) = answered(f"{text}GUEST_RFLAGS = 0x0\n").repairs
    assert ([change.field for change in repair.changes], repair.partial) == (["guest_rflags"], True)
    assert "every check that can be judged" not in plain(f"{text}GUEST_RFLAGS = 0x0\n")


def test_a_change_that_a_cause_says_in_other_digits_stays():
    found = answered("exit reason 0x80000021\nGUEST_RFLAGS = 0x2\nGUEST_DS_AR = 0x0\nGUEST_DS_SELECTOR = 0x0\n")
    assert "write 10000H" in found.causes[0].change
    assert [(change.field, change.new) for change in found.repairs[0].changes] == [("guest_ds_access_rights", 0x10000)]


def test_an_entry_of_a_page_table_stays_present():
    text = (
        "exit reason 0x80000021 qualification 2\nGUEST_CR0 = 0x80000031\nGUEST_CR4 = 0x2020\nGUEST_PDPTR0 = 0x1007\nVM_ENTRY_CONTROLS = 0x11ff\n"
        "CPU_BASED_VM_EXEC_CONTROL = 0x84006172\nSECONDARY_VM_EXEC_CONTROL = 0x2\n"
    )
    assert [(change.field, change.new) for change in answered(text).repairs[0].changes] == [("guest_pdpte0", 0x1001)]


def test_a_vpid_of_0_is_1_or_the_control_is_turned_off():
    found = answered("VM-instruction error 7\nCPU_BASED_VM_EXEC_CONTROL = 0x84006172\nSECONDARY_VM_EXEC_CONTROL = 0x20\nVPID = 0\n")
    changes = [[(change.field, change.new) for change in repair.changes] for repair in found.repairs]
    assert changes == [[("vpid", 1)], [("secondary_processor_based_controls", 0)]]


@pytest.mark.parametrize("shows", ["GUEST_IA32_EFER = 0xd01\n", "GUEST_CS_AR = 0xa09b\n"])
def test_a_64_bit_guest_gets_no_16_bit_task_state_segment(shows):
    text = "exit reason 0x80000021\nGUEST_TR_AR = 0x89\n"
    assert [[change.new for change in repair.changes] for repair in answered(text).repairs] == [[0x8B], [0x83]]
    assert [[change.new for change in repair.changes] for repair in answered(text + shows).repairs] == [[0x8B]]
