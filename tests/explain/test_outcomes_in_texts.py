"""What in a text is an outcome, and what only looks like one: values, names in programs, exits of another time, counts."""

from __future__ import annotations

import pytest

from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.reading import read_text

FAILED = 0x80000021
ENTERED = "This VM entry did not fail"


def outcome(text):
    reported = read_text(text + "\n")[0].reported
    return (reported.exit_reason, reported.error) if reported is not None else None


def shown(text):
    return " ".join(render(answer(read_text(text + "\n")[0])).split())


# A number alone


@pytest.mark.parametrize(
    "text",
    [
        "IA32_VMX_CR0_FIXED0 = 0x80000021",
        "00:00:01.183353 HM: MSR_IA32_VMX_CR0_FIXED0         = 0x80000021",
        "GUEST_CR0: 0x80000021",
        "new gstCR0: 0x0000000080000021",
        "CR0=80000021 CR2=00000000 CR3=00000000 CR4=00000000",
        "6800 GUEST_CR0: 80000021",
        "6800 80000021",
        "| CR0 | 0x80000021 |",
        "the guest's CR0 can be 0x8000_0021 or 0x20 here",
        "rdmsr 486: 80000021",
        "mov cr0, 0x80000021",
        "I write 0x80000021 to CR0",
        "msrs[6]=0x0000000080000021",
        "#define CR0_AT_START 0x80000021",
        "if (value == 0x80000021)",
        "00000000 80000021 00000000 00000000",
        "guest_cr0 = 2147483681",
        "Guest CR0:\n  0x80000021",
    ],
)
def test_a_value_that_looks_like_a_failure_is_none(text):
    assert outcome(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "it fails with 0x80000021",
        "I get 0x80000021",
        "and then I get: 0x80000021",
        "0x80000021",
        "error: 0x80000021",
        "ret = 0x80000021",
        "VP.ENTER bad guest state exit_info=0x80000021",
        "Evaluate expression: 2147483681 = 00000000`80000021",
        "my guest dies on CPU0, 0x80000021, what is it?",
        "I wrote the CR0 mask, and now it fails with 0x80000021",
        '"ExitReason": 0x80000021',
    ],
)
def test_a_failure_may_be_told_by_its_number_alone(text):
    assert outcome(text) == (FAILED, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("VM_INSTRUCTION_ERROR = 7\nGUEST_CR0 = 0x80000021", (None, 7)),
        ("exit reason 2 (triple fault), cr0=80000021", (2, None)),
    ],
)
def test_a_value_does_not_take_the_place_of_the_outcome(text, expected):
    assert outcome(text) == expected


# Failures in words


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("VM entry with invalid control field(s): exit_reason=0x0 exit_qual=0x0", 7),
        ("VM entry with invalid host-state field(s): exit_reason=0x0", 8),
        ("VM entry with invalid control field(s)\nVM_INSTRUCTION_ERROR = 12", 7),
    ],
)
def test_the_words_of_an_error_are_that_error(text, error):
    assert outcome(text) == (None, error)


def test_the_words_of_an_error_beside_an_exit_leave_both_readings_open():
    assert "one of the two is left over" in shown("VM entry with invalid host-state field(s): exit_reason=0xc")


@pytest.mark.parametrize("words", ["VMRESUME failure", "VMENTRY failure", "CPU(0x00): VMLAUNCH failed on cpu 2", "ERROR: VM entry failed!"])
def test_a_program_that_says_that_the_launch_failed_is_believed_before_an_exit_reason(words):
    text = shown(f"{words}\nVM_EXIT_REASON: 0x30\nGUEST_CR0: 0x31")
    assert text.startswith("The VM entry failed")
    assert "exit reason 48 in the text is left over" in text


@pytest.mark.parametrize("words", ["VM entry failed", "VMX: VMLAUNCH failed!"])
def test_a_failure_of_which_nothing_else_is_known_is_one(words):
    assert outcome(words) == (None, 0)
    assert "Cause: guest RFLAGS bit 1 (RESERVED_1) is 0" in shown(f"{words}\nGUEST_RFLAGS = 0x0")


@pytest.mark.parametrize("words", ["VMLAUNCH worked without failure", "VMLAUNCH: no failure", "I ask what it means if VM entry fails"])
def test_a_failure_that_did_not_happen_is_none(words):
    text = shown(f"{words}\nVM_EXIT_REASON: 0x30\nGUEST_CR0: 0x31")
    assert text.startswith(ENTERED)
    assert "The text also says" not in text


def test_vmfailinvalid_beside_an_exit_reason_is_not_passed_over():
    assert "The text also says 'VMfailInvalid'" in shown("VMfailInvalid\nVM_EXIT_REASON: 0x30")
    assert "The text also says" not in shown("    VmFailInvalid,\n    VmFailValid,\nVM_EXIT_REASON: 0x30")


def test_a_sentence_about_a_failed_launch_is_not_passed_over():
    text = shown("I saw one VMRESUME failure yesterday\nVM_EXIT_REASON: 0x30\nGUEST_CR0: 0x31")
    assert text.startswith(ENTERED)
    assert "The text also says 'I saw one VMRESUME failure yesterday'" in text


@pytest.mark.parametrize(
    "text",
    [
        "[*] VMLAUNCH Error : 0x7",
        "VMLAUNCH Error = 0x7",
        "VMLAUNCH(regs) failed insn_error=0x00000007",
        "vmlaunch: inst_error=7",
        "vm_inst_err=7",
        "vmlaunch/vmresume failed instr_err=7",
        "launch failed vmx_error=7",
        "vmlaunch failed with status 7",
        "VMfailValid, error 7",
        "vmxerror #7",
        "VM-instruction error number 7",
        "vm entry failure, error code (7)",
        'VMLAUNCH failed: "VM entry with invalid control field(s)", rflags=0x46',
    ],
)
def test_the_number_of_the_error_under_the_names_of_programs(text):
    assert outcome(text) == (None, 7)


@pytest.mark.parametrize(
    "text",
    [
        "VM entry failure: Invalid Guest State (33)",
        "exit of vcpu 0: ExitInfo { entry_failure: true, exit_reason: INVALID_GUEST_STATE, guest_rip: 0xfff0 }",
        "Reason { basic: 33, entry_failure: true }",
        "exit reason: InvalidGuestState",
    ],
)
def test_a_failed_entry_by_its_name(text):
    assert outcome(text) == (FAILED, None)


# Exit reasons of another time


def test_an_event_still_to_be_injected_shows_that_the_exit_reason_is_old():
    found = answer(read_text("VM_EXIT_REASON: 0x30\nVM_ENTRY_INTR_INFO: 0x80000603\nVM_ENTRY_CONTROLS: 0x0\n")[0])
    text = " ".join(render(found).split())
    assert found.dump.reported is None
    assert "did not fail" not in text
    assert "exit reason 48 is left over from an exit before" in text
    assert "ctl.entry" in " ".join(finding.check.id for finding in found.violated)


def test_an_event_of_which_bit_31_is_clear_says_nothing():
    assert outcome("VM_EXIT_REASON: 0x30\nVM_ENTRY_INTR_INFO: 0x603") == (0x30, None)


def test_an_event_that_the_text_gives_in_two_ways_says_nothing():
    assert outcome("VM_EXIT_REASON: 0x30\nVM_ENTRY_INTR_INFO: 0x80000603\nVM_ENTRY_INTR_INFO: 0x603") == (0x30, None)


def test_what_people_tell_of_other_exits_is_not_the_outcome():
    assert outcome("KVM: entry failed, hardware error 0x0\n\nhere most of the VMEXITs that I see are reason=30 and the like") == (None, 0)


# Program text


@pytest.mark.parametrize(
    "text",
    [
        '    7 => "VM entry with invalid control field(s)",',
        "    EXIT_REASON_BAD_GUEST = 33, // VM-entry failure due to invalid guest state.",
        "    VmFailInvalid,",
        '    case 33: printf("VM-entry failure due to invalid guest state"); break;',
        "// exit reason 32 is WRMSR",
        '    7: "VM entry with invalid control field(s)",',
        'static const char *words = "VM entry with invalid control field(s)";',
        "VM entry with invalid control field(s)\nVM entry with invalid host-state field(s)",
    ],
)
def test_a_name_in_a_program_or_a_table_is_no_outcome(text):
    assert outcome(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "VM-entry exception error code: 0x0",
        "VM-entry exception error code: 0x7",
        "VM entry interruption info 0x80000b0e, error code 0x4",
        "VM entry: event error code=4",
        "VM-exit interruption error code 7 after VM entry",
    ],
)
def test_the_error_code_of_an_event_is_no_outcome(text):
    assert outcome(text) is None


def test_a_count_is_no_outcome():
    assert outcome("The count for exit 33 - VM-entry failure due to invalid guest state, went from 0 to 31759.") is None


def test_all_exit_reasons_have_names():
    undefined = [number for number in range(80) if "no name" in shown(f"exit reason: {number}")]
    assert undefined == [35, 38, 42, 71]


def test_what_the_printing_of_a_dump_leaves_is_no_outcome(sample):
    """VMREADs of fields that the processor does not have leave error 12; exit reason 0 without an exception is a new VMCS's."""
    fields = sample("printk").replace("[**] ", "")
    dump = read_text(f"{fields}\nVM-instruction error: 12\nexit reason: 0x0\nVM_EXIT_INTR_INFO = 0x0\n")[0]
    assert dump.reported is None
    assert sum("VM-instruction error 12 is no error of a VM entry" in warning for warning in dump.warnings) == 1
    assert sum("exit reason 0 is what a new VMCS holds" in warning for warning in dump.warnings) == 1
    entered = read_text(f"{fields}\nexit reason: 0x0\nVM_EXIT_INTR_INFO = 0x80000b0e\n")[0]
    assert entered.reported is not None
    assert entered.reported.entered


@pytest.mark.parametrize(
    "text",
    [
        "vmlaunch -> error 7",
        "vmlaunch gives error 7",
        "vmlaunch stops with error 7",
        "I get error 7 from VMLAUNCH",
        "vmlaunch returned 7",
        "VMLAUNCH_ERROR=7",
        "VMLAUNCH -> CF=0 ZF=1, VMCS error 7",
        "error 7 (invalid control field)",
        "Failed to vmlaunch: VMX error number 7",
        "vmread(VM_INSTRUCTION_ERROR) gives 7",
        "vm-instruction error field contains 7",
        "vmlaunch 失败，错误码：7",
        "VMLAUNCH: ошибка 7",
        "Err(VmxError::VmFailValid(InvalidControlFields))",
        "error: VmFail { code: 7 }",
        "__vmx_vmlaunch() returns 1 and __vmx_vmread(VM_INSTRUCTION_ERROR) gives 7",
        "KVM_EXIT_FAIL_ENTRY, reason 0x7",
    ],
)
def test_error_7_as_people_say_it(text):
    assert outcome(text) == (None, 7)


def test_what_an_intrinsic_returns_is_no_error():
    assert outcome("vmlaunch returned 1") is None


@pytest.mark.parametrize(
    "text",
    [
        "80000021h",
        "The guest's CR0 is right. 0x80000021.",
        "exit reason: 80000021\ncr0: 0x31",
        "vmexit: exit_reason=80000021 qualification=0\ncr0=0x31",
    ],
)
def test_80000021_behind_other_things(text):
    assert outcome(text) == (0x80000021, None)
