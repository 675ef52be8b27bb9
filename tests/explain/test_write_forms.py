"""What writes fields without being a call: log lines with an arrow, assembly; and lists of encodings in decimal."""

from __future__ import annotations

import pytest
from one_dump import read, values


@pytest.mark.parametrize(
    "line",
    [
        "VMWRITE 0x6820 <- 0x246",
        "0x6820 <- 0x246",
        "GUEST_RFLAGS <- 0x246",
        "vmwrite 0x6820, 0x246",
        "vmwrite GUEST_RFLAGS, 0x246",
        "vmwrite(0x6820) = 0x246",
        "vmwrite: 6820h <- 246h",
    ],
)
def test_a_line_that_tells_of_a_write(line: str) -> None:
    assert values(f"{line}\n") == {"guest_rflags": 0x246}


@pytest.mark.parametrize("line", ["x <- 0x5", "0x1234 <- 0x5", "vmwrite failed 0x5", "rbx <- 0x6820"])
def test_other_arrows_say_nothing(line: str) -> None:
    assert values(f"{line}\n") == {}


def test_assembly() -> None:
    text = (
        "    mov rax, 6820h ; flags\n    mov rbx, 200h\n    vmwrite rax, rbx\n    mov rax, 0x2800\n    mov rbx, -1\n    vmwrite rax, rbx\n"
    )
    assert values(text) == {"guest_rflags": 0x200, "vmcs_link_pointer": (1 << 64) - 1}


def test_assembly_of_gas() -> None:
    assert values("movq $0x6820, %rdx\nmovl $514, %eax\nvmwrite %rax, %rdx\n") == {"guest_rflags": 514}


@pytest.mark.parametrize("between", ["or rbx, 2", "call init", "again:", "mov rbx, [rsp]", "pop rbx"])
def test_what_is_computed_is_not_used(between: str) -> None:
    assert values(f"mov rax, 6820h\nmov rbx, 200h\n{between}\nvmwrite rax, rbx\n") == {}


def test_a_decimal_list() -> None:
    assert values("26624 = 2147811379\n26656 = 582\n2052 = 24\n18434 = 4294967295\n") == {
        "guest_cr0": 0x80050033,
        "guest_rflags": 0x246,
        "guest_ss_selector": 24,
        "guest_cs_limit": 0xFFFFFFFF,
    }


def test_decimal_encodings_with_values_in_hexadecimal() -> None:
    assert values("26624 = 0x80050033\n26656 = 0x246\n2052 = 0x18\n") == {
        "guest_cr0": 0x80050033,
        "guest_rflags": 0x246,
        "guest_ss_selector": 0x18,
    }


def test_a_list_of_both_is_not_used() -> None:
    dump = read("26624 = 2147811379\n26656 = 582\n2052 = 24\n681c = 5\n")
    assert not dump.readings
    assert "only hexadecimal" in dump.warnings[0]


def test_an_encoding_that_nobody_knows_makes_no_list_decimal() -> None:
    assert values("0806 = 0018\n6800 = 80050033\n6820 = 00000246\n2052 = 00000000\n2050 = 00000000\n")["guest_rflags"] == 0x246


@pytest.mark.parametrize("label", ["proc based", "proc-based", "processor based", "VMCS proc", "vmcs.proc"])
def test_the_processor_based_controls_beside_the_pin_based(label: str) -> None:
    pin = "pin based" if "based" in label else label.replace("proc", "pin")
    assert values(f"{pin}: 0x16\n{label}: 0x8401e172\n") == {"pin_based_controls": 0x16, "primary_processor_based_controls": 0x8401E172}


def test_controls_of_the_vmcs_without_more_of_a_name() -> None:
    text = "VMCS pin = 16\nVMCS proc = 401e172\nVMCS entry = 11ff\nVMCS exit = 36fff\n"
    assert values(text) == {
        "pin_based_controls": 0x16,
        "primary_processor_based_controls": 0x401E172,
        "vm_entry_controls": 0x11FF,
        "vm_exit_controls": 0x36FFF,
    }


def test_the_event_beside_fields_that_name_vm_entry() -> None:
    assert values("IntrInfoField = 0x80000b0e\nEntryInstrLen = 0x0\n")["vm_entry_interruption_info"] == 0x80000B0E
    assert "vm_entry_interruption_info" not in values("IntrInfoField = 0x80000b0e\nExitInstrLen = 0x0\nEntryInstrLen = 0x0\n")
