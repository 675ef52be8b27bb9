"""QEMU's register dump: what its flags leave open is a suspicion, and two dumps in one text are two states."""

from __future__ import annotations

import pytest

from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.reading import read_text

ERROR = "KVM: entry failed, hardware error 0x80000021\n\nsupport, the failure can be most likely due to the guest\n\n"
RESET = (
    "EAX=00000000 EBX=00000000 ECX=00000000 EDX=00000663\n"
    "EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n"
    "DS =0000 00000000 0000ffff 00009300\n"
    "TR =0000 00000000 0000ffff 00008b00\n"
)
FLAT = (
    "EAX=00000000 EBX=00000000 ECX=00000000 EDX=00000663\n"
    "EIP=00100000 EFL=00000000 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0\n"
    "DS =0010 00000000 ffffffff 00c09300\n"
    "TR =0000 00000000 0000ffff 00008b00\n"
)


def told(text: str) -> str:
    return " ".join(render(answer(read_text(text)[0])).split())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "DS =0033 00000000 ffffffff 00c0f200",
            "Suspect: guest DS access rights bit 0 (ACCESSED) is 0, but must be 1, if guest DS is usable",
        ),
        ("LDT=0000 00001000 0000ffff 00009f00", "guest LDTR access rights bit 4 (S) is 1, but must be 0, if guest LDTR is usable"),
    ],
)
def test_only_the_unusable_bit_is_missing(line, expected):
    text = told(f"{ERROR}EIP=00100000 EFL=00000002 [-------]\n{line}\n")
    assert expected in text
    assert "Cause: cannot be determined from this text" in text


@pytest.mark.parametrize(
    "line", ["DS =0033 00000000 ffffffff 00c0f300", "LDT=0000 00001000 0000ffff 00008200", "DS =0000 00000000 ffffffff 00c01200"]
)
def test_what_is_right_or_not_present_is_not_suspected(line):
    assert "Suspect" not in told(f"{ERROR}EIP=00100000 EFL=00000002 [-------]\n{line}\n")


@pytest.mark.parametrize("text", [f"info registers\n{RESET}\n{ERROR}{FLAT}", f"{ERROR}{FLAT}\n(qemu) info registers\n{RESET}"])
def test_two_dumps_are_two_states_and_the_one_below_the_error_comes_first(text):
    failed, other = read_text(text)
    assert failed.warnings == other.warnings == []
    assert [dump.readings["guest_rip"].value for dump in (failed, other)] == [0x100000, 0xFFF0]
    assert [dump.reported is not None for dump in (failed, other)] == [True, False]
    assert [len(dump.readings) for dump in (failed, other)] == [10, 10]


def test_without_an_error_above_a_dump_the_outcome_counts_for_all():
    dumps = read_text(f"{RESET}\n{FLAT}\n{ERROR}")
    assert [dump.reported is not None for dump in dumps] == [True, True]


def test_a_dump_that_is_quoted_is_one_dump():
    (dump,) = read_text(ERROR + FLAT + "\nOn Monday somebody wrote:\n\n" + "".join(f"> {line}\n" for line in (ERROR + FLAT).splitlines()))
    assert (dump.warnings, len(dump.readings)) == ([], 10)


def test_a_line_that_contradicts_another_is_no_second_dump():
    (dump,) = read_text(ERROR + FLAT + "TR =0000 00000000 0000ffff 00008300\n")
    assert any("guest_tr_access_rights" in warning for warning in dump.warnings)


def test_the_high_half_of_ssp_outside_64_bit_mode_is_a_suspicion():
    text = "exit reason 0x80000021\nVM_ENTRY_CONTROLS = 0x1011fb\nGUEST_SSP = {}\nGUEST_CS_AR = 0x9b\nGUEST_CS_LIMIT = 0xffff\n"
    assert "Suspect: guest SSP bits 63:32 are 7FC0H" in told(text.format("0x7fc012345670"))
    assert "Suspect" not in told(text.format("0x12345670"))
    assert "Suspect" not in told(text.format("0x7fc012345670").replace("0x1011fb", "0x1013fb").replace("0x9b", "0xa09b"))
