"""Reported outcomes are understood in all the forms in which people have them."""

from __future__ import annotations

import pytest

from vmfuzz.explain.advice import collect_next, headline, hm_error, proves
from vmfuzz.explain.reading import read_text
from vmfuzz.explain.reported import from_words

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
    assert "succeeded" in headline(found)


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


@pytest.mark.parametrize("words", ["", "hello", "0x", "the exit reason is unclear", "12345678901234567890"])
def test_other_words_are_no_outcome(words):
    assert from_words(words) is None


def test_virtualbox_numbers():
    assert hm_error(570) == "virtual-8086 mode: guest GS: the limit must be 0000FFFFH"
    assert "CR0" in hm_error(504)
    assert hm_error(3) == ""
