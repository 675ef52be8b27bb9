"""Values that a sentence states, and names and values in two lists."""

from __future__ import annotations

import pytest
from one_dump import values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("VMCS_HOST_TR_SELECTOR is written with 0x0, like the TR of UEFI", {"host_tr_selector": 0}),
        ("the host TR selector is 0x40, as in the GDT that the loader made", {"host_tr_selector": 0x40}),
        ("GUEST_CR4 holds 0x2000 and this is what the other processor has", {"guest_cr4": 0x2000}),
        ("(EXIT_REASON, EXIT_QUALIFICATION): 80000021, 0", {"exit_reason": 0x80000021, "exit_qualification": 0}),
        ("guest (GUEST_CR0, GUEST_CR4) = (0x80000031, 0x2020)", {"guest_cr0": 0x80000031, "guest_cr4": 0x2020}),
        ("@failure3@guest_RFLAGS = 0x2", {"guest_rflags": 2}),
        ("CPU(0x01): @failure3@guest_RFLAGS = 0x2", {"guest_rflags": 2}),
        ("GUEST_CS_AR_BYTES: 0x            a09b, GUEST_RFLAGS: 0x               2", {"guest_cs_access_rights": 0xA09B, "guest_rflags": 2}),
        ("VM_EXIT_REASON raw=0x80000021", {"exit_reason": 0x80000021}),
        ("| GUEST_CR0 = 0x80000031 | GUEST_CR4 = 0x2020 |", {"guest_cr0": 0x80000031, "guest_cr4": 0x2020}),
    ],
)
def test_a_statement_gives_its_value(text: str, expected: dict[str, int]) -> None:
    assert values(f"{text}\n") == expected


@pytest.mark.parametrize(
    "text",
    [
        "if VMCS_HOST_TR_SELECTOR is 0x0, the entry fails",
        "HOST_TR_SELECTOR must be 0x40",
        "HOST_TR_SELECTOR should be set to 0x40",
        "HOST_TR_SELECTOR is not 0x40",
        "bit 1 of GUEST_RFLAGS is 1",
        "(a, b) = (1, 2)",
    ],
)
def test_a_wish_or_a_condition_gives_none(text: str) -> None:
    assert values(f"{text}\n") == {}


@pytest.mark.parametrize("name", ["vmx_msrs[2]", "vcpu->vmx_caps[0x482]", "vmx_msr_values[2]"])
def test_an_element_of_an_array_of_capability_msrs(name: str) -> None:
    from one_dump import read

    msrs = read(f"{name}=0xeff9fffe0401e172\n").msrs
    assert {number: msr.value for number, msr in msrs.items()} == {0x482: 0xEFF9FFFE0401E172}
