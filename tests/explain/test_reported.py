"""Reported outcomes are understood in all the forms in which people have them."""

from __future__ import annotations

import pytest

from vmfuzz.explain.answer.advice import collect_next, headline, proves
from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.given import from_words
from vmfuzz.explain.outcomes.virtualbox import hm_error
from vmfuzz.explain.reading import read_text

FAILED = 0x80000021


@pytest.mark.parametrize(
    "words",
    [
        "0x80000021",
        "80000021",
        "0x80000021 (2147483681)",
        "2147483681",
        "-2147483615",
        "0x8000_0021",
        "0xffffffff80000021",
        "0x8000021",
        "33",
        "0x21",
        "KVM: entry failed, hardware error 0x80000021",
        "KVM: entry failed, hardware error -2147483615",
        "hardware_entry_failure_reason = 2147483681",
        "(XEN) d2v0 vmentry failure (reason 0x80000021): Invalid guest state (0)",
        "(XEN) Failed vm entry (exit reason 0x80000021) caused by invalid guest state (0).",
        "basic exit reason 33",
        "exit reason: 0x80000021",
        "my handler reads the exit reason field of the VMCS as 0x80000021",
    ],
)
def test_invalid_guest_state(words):
    found = from_words(words)
    assert found is not None
    assert found.exit_reason == FAILED
    assert "invalid guest state" in headline(found)
    assert "controls and the host state passed" in proves(found)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("KVM: entry failed, hardware error 0x7", 7),
        ("(XEN) d2v0 VMLAUNCH error: 0x7", 7),
        ("(XEN) d2v0 VMRESUME error: 0x8", 8),
        ("vmlaunch failed with error 7", 7),
        ("VM_INSTRUCTION_ERROR = 8", 8),
        ("[NoirVisor] Failed at VM-Entry, Code=7", 7),
        ("7", 7),
        ("VMLAUNCH error; code=0x7. HALT!", 7),
    ],
)
def test_instruction_errors(words, error):
    found = from_words(words)
    assert found is not None
    assert found.error == error
    assert collect_next(found)


def test_an_exit_without_bit_31_is_a_success():
    found = from_words("0x30")
    assert found is not None
    assert found.entered
    assert "the guest ran" in headline(found)


@pytest.mark.parametrize("words", ["0x80000021 qual 4", "33 (qualification 4)", "33 4", "80000021, 0x4", "0x80000021/4"])
def test_a_qualification_behind_a_number(words):
    found = from_words(words)
    assert found is not None
    assert (found.exit_reason, found.qualification) == (0x80000021, 4)


def test_qualification_and_msr_entry():
    found = from_words("0x80000021 qual 4")
    assert found is not None
    assert found.qualification == 4
    assert "link pointer" in proves(found)
    dump = read_text("(XEN) d2v0 vmentry failure (reason 0x80000022): MSR loading (entry 1)\n")[0]
    assert dump.reported is not None
    assert dump.reported.msr_entry == 2


def test_error_0_leaves_the_decision_to_the_exit_reason(sample):
    text = "KVM: entry failed, hardware error 0x0\n" + sample("kvm").replace("reason=80000021", "reason=00000030")
    reported = read_text(text)[0].reported
    assert reported is not None
    assert reported.entered


def test_a_vmfail_is_believed_before_a_stale_exit_reason(sample):
    text = "(XEN) d2v0 VMLAUNCH error: 0x7\n" + sample("kvm").replace("reason=80000021", "reason=00000030")
    reported = read_text(text)[0].reported
    assert reported is not None
    assert reported.error == 7


@pytest.mark.parametrize("words", ["", "hello", "0x", "the exit reason is unclear", "12345678901234567890", "0x8000002"])
def test_other_words_are_no_outcome(words):
    assert from_words(words) is None


def test_virtualbox_numbers():
    assert hm_error(570) == "virtual-8086 mode: guest GS: the limit must be 0000FFFFH"
    assert "CR0" in hm_error(504)
    assert hm_error(3) == ""


def shown(text):
    return " ".join(render(answer(read_text(text)[0])).split())


@pytest.mark.parametrize("number", [33, 34, 41])
@pytest.mark.parametrize(
    "form", ["exit_reason\t{0}\n", "EXIT_REASON = {0:#x}\nGUEST_CR0 = 0x80000031\n", "VM exit reason: {0}\nguest_cr0 = 0x31\n"]
)
def test_an_exit_reason_of_failed_entries_without_bit_31_is_a_failure(form, number):
    reported = read_text(form.format(number))[0].reported
    assert reported is not None
    assert reported.exit_reason == 1 << 31 | number
    assert "bit 31 is not shown" in shown(form.format(number))


@pytest.mark.parametrize("error", ["0x1c", "0xc"])
def test_an_error_of_another_instruction_is_left_over_from_it(error):
    text = shown(f"VM_INSTRUCTION_ERROR: {error}!\nEXIT_REASON: 48! //EPT VIOLATION\n")
    assert text.startswith("This VM entry did not fail: exit reason 48 (EPT violation)")
    assert "a VM exit does not change that field" in text
    assert "The VM entry failed" not in shown(f"VM_INSTRUCTION_ERROR: {error}\n")


def test_an_error_of_entries_beside_an_exit_reason_leaves_both_readings_open():
    text = shown("VM_INSTRUCTION_ERROR = 7\nEXIT_REASON = 10\n")
    assert "one of the two is left over" in text
    assert "If the error is newer, the entry failed, and a check of the controls failed." in text
    assert "If the exit reason is newer, the entry succeeded" in text
    assert "cannot be determined" not in text


def test_an_error_of_entries_counts_where_words_say_that_the_launch_failed():
    text = shown("VMLAUNCH failed\nVM_INSTRUCTION_ERROR = 7\nEXIT_REASON = 10\n")
    assert text.startswith("The VM entry failed: VM-instruction error 7")
    assert "exit reason 10 in the text is left over" in text


def test_exit_reasons_of_kvm_to_its_user_are_none_of_the_processor():
    reported = read_text("Wanted KVM exit reason: 2 (IO), got: 3\n")[0].reported
    assert reported is None
    text = (
        "  Wanted KVM exit reason: 2 (IO), got: 9 (FAIL_ENTRY)\nRFLAGS=0x00000002\nInterruptibility = 00000009  ActivityState = 00000000\n"
    )
    assert shown(text).startswith('The VM entry failed: "FAIL_ENTRY", without the number that says why.')
    assert "Cause: guest RFLAGS bit 9 (IF) is 0" in shown(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kvm_run->exit_reason = 2\nguest_cr0 = 0x31\n", None),
        ("KVM exit reason: 33\n", None),
        ("expected VM exit reason 10, got VM exit reason 33\n", FAILED),
        ("Unexpected exit reason: 48\n", 48),
        ("kvm exit reason 0x80000021\n", FAILED),
    ],
)
def test_whose_exit_reason_it_is(text, reason):
    reported = read_text(text)[0].reported
    assert (reported and reported.exit_reason) == reason


def test_an_error_and_a_failed_exit_reason_leave_both_readings_open():
    text = shown("VM_INSTRUCTION_ERROR = 8\nEXIT_REASON = 0x80000021\n")
    assert "one of the two is left over" in text
    assert "the entry failed with it, after controls and host state had passed" in text


def test_source_that_names_the_failure_is_no_report_of_one():
    assert read_text("    case KVM_EXIT_FAIL_ENTRY:\n        break;\n#define KVM_EXIT_FAIL_ENTRY 9\n")[0].reported is None


@pytest.mark.parametrize(
    ("words", "error", "reason"),
    [
        ("kvm_run: failed entry, reason 7", 7, None),
        ("hvm_run: failed entry, reason 8", 8, None),
        ("kvm_run: failed entry, reason 33", None, FAILED),
        ("i debug __vmx_vmlaunch() return 1 and i try to get VM_INSTRUCTION_ERROR content, return 7.", 7, None),
    ],
)
def test_failures_in_older_words(words, error, reason):
    reported = read_text(words + "\n")[0].reported
    assert reported is not None
    assert (reported.error, reported.exit_reason) == (error, reason)


@pytest.mark.parametrize("error", [5, 0])
def test_an_outcome_of_no_check_has_no_open_cause(error):
    text = shown(
        f"KVM: entry failed, hardware error {error:#x}\nRIP=ffffffffada37453 RFL=00000202 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n"
    )
    assert "The VM entry failed" in text
    assert "Cause:" not in text


# What to collect next


def test_a_capability_that_decides_is_asked_for_with_its_command_and_the_answer_is_read(sample):
    text = sample("kvm").replace("attr=0x00000", "attr=0x10000").replace("CR4: actual=0x0000000000002", "CR4: actual=0x0000000000006", 1)
    assert "actual=0x0000000000006" in text
    said = shown(text)
    assert "Collect next: IA32_VMX_CR4_FIXED0/1 (488H, 489H)." in said
    assert 'echo "IA32_VMX_CR4_FIXED1 0x$(sudo rdmsr 0x489)"' in said
    assert "dump_invalid_vmcs" not in said
    assert read_text(text + "IA32_VMX_CR4_FIXED1 0x3727ff\n")[0].msrs[0x489].value == 0x3727FF


def test_only_missing_fields_are_asked_for(sample):
    lines = [line for line in sample("kvm").replace("attr=0x00000", "attr=0x10000").splitlines() if "RFLAGS" not in line]
    said = shown("\n".join(lines) + "\n")
    assert "Collect next: guest RFLAGS (6820H)" in said
    assert "GDTR" not in said.partition("Collect next:")[2]
    assert "dump_invalid_vmcs" not in said


def test_a_wrong_pdpte_is_asked_for_with_what_decides_where_it_lies():
    text = "reason=80000021 qualification=0000000000000002\nguest_cr3 = 0x12345020\n"
    said = shown(text).partition("Collect next:")[2]
    for wanted in ("PDPTE0 to PDPTE3", "CR0, CR3, CR4", "IA32_EFER", "32 bytes of memory at guest CR3", "xp /4gx 0x12345020"):
        assert wanted in said
    assert "GDTR" not in said


def test_the_msr_that_could_not_be_loaded_is_asked_for():
    said = shown("exit reason: 0x80000022\nVM_ENTRY_MSR_LOAD_COUNT = 2\nVM_ENTRY_MSR_LOAD_ADDR = 0x1000\n")
    assert "index and value of the entry that failed" in said


def test_a_failed_entry_without_a_number_ends_with_1_whatever_the_fields_say():
    text = "kvm_run: exit_reason = KVM_EXIT_FAIL_ENTRY\nGUEST_RIP = 0x1000\nGUEST_RSP = 0x2000\n"
    found = answer(read_text(text)[0])
    assert (found.violated, found.exit_code) == ([], 1)
    assert "failed" in render(found).splitlines()[0]


def test_a_failure_in_words_beside_a_dump_of_another_exit_is_said(sample):
    """The dump's own exit reason counts; that the text speaks of another entry is not passed over."""
    text = "It fails with KVM: entry failed, hardware error 0x80000021\n" + sample("kvm").replace("reason=80000021", "reason=00000030")
    words = shown(text)
    assert words.startswith("This VM entry did not fail: exit reason 48")
    assert "The text also says 'KVM: entry failed, hardware error 0x80000021'. That was another entry" in words
