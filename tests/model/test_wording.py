"""Conditions and values in words."""

from __future__ import annotations

import re

import pytest

from vmfuzz.arch.controls import Entry, Secondary
from vmfuzz.model.bochs_messages import MESSAGES
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.expr import FALSE, TRUE, Node, all_of, any_of
from vmfuzz.model.operands import cap, enabled, memory, vmcs
from vmfuzz.model.predict import predict
from vmfuzz.model.wording import bit_name, describe, format_operand, without_formats
from vmfuzz.state.profiles import capabilities, known_good

CAPS = capabilities("corei7_skylake_x")


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (TRUE, "always"),
        (FALSE, "never"),
        (vmcs.guest_cr0[31], "guest_cr0.PG = 1"),
        (~vmcs.guest_cr0[31], "guest_cr0.PG = 0"),
        (vmcs.guest_cr0[40], "guest_cr0[40] = 1"),
        (vmcs.vpid != 0, "vpid != 0"),
        (vmcs.eptp[5:3] == 3, "eptp[5:3] = 3"),
        (vmcs.guest_tr_selector[2:2] == 0, "guest_tr_selector[2] = 0"),
        ((vmcs.guest_cr0 & cap.cr0_must_be_0) == 0, "(guest_cr0 AND <cr0_must_be_0>) = 0"),
        (vmcs.guest_rip + 0x10 <= 0xFF, "(guest_rip + 10H) <= FFH"),
        (vmcs.guest_cs_access_rights[3:0].one_of(9, 11), "guest_cs_access_rights[3:0] in {9, BH}"),
        (~(vmcs.vpid <= 5), "not (vpid <= 5)"),
        (all_of(vmcs.vpid == 1, any_of(vmcs.vpid == 2, vmcs.vpid == 3)), "vpid = 1 and (vpid = 2 or vpid = 3)"),
        (memory.vtpr[7:4] == 0, "memory_vtpr[7:4] = 0"),
        (enabled(Entry.IA32E_MODE_GUEST), 'vm_entry_controls."IA-32e mode guest" = 1'),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_condition_is_described_as_the_manual_would_write_it(node: Node, words: str) -> None:
    assert describe(node) == words


def test_bits_have_the_manuals_names() -> None:
    assert bit_name("guest_cr0", 31) == "PG"
    assert bit_name("secondary_processor_based_controls", Secondary.ENABLE_EPT) == '"enable EPT"'
    assert bit_name("guest_cr0", 40) is None
    assert bit_name("vpid", 0) is None


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [("vpid", 5, "0005H"), ("guest_rip", 0x10, "0000000000000010H"), ("live_smm", 1, "1H"), ("memory_vtpr", 0x20, "20H")],
)
def test_values_have_the_operands_width(name: str, value: int, text: str) -> None:
    assert format_operand(name, value) == text


def test_the_sentence_of_a_control_names_the_bit() -> None:
    good = known_good(CAPS)
    state = good.replace(vpid=0, secondary_processor_based_controls=good["secondary_processor_based_controls"] | 1 << Secondary.ENABLE_VPID)
    (violation,) = predict(state, CAPS).violations
    assert violation.sentence == (
        'If "enable VPID" is 1, the VPID must not be 0000H. Here vpid = 0000H; '
        f'primary_processor_based_controls = {state["primary_processor_based_controls"]:08X}H (bit 31 ("activate secondary controls") is 1); '
        f'secondary_processor_based_controls = {state["secondary_processor_based_controls"]:08X}H (bit 5 ("enable VPID") is 1).'
    )
    assert violation.check is BY_ID["ctl.vpid.nonzero"]


def test_what_an_emulator_says_has_no_conversions_of_its_source() -> None:
    said = {without_formats(message) for message in (*MESSAGES, "100 % of it")}
    assert [text for text in said if re.search(r"%(?! of it)", text)] == []
    assert (
        without_formats("VMENTER FAIL: VMCS guest EFER (0x%08x) inconsistent value !")
        == "VMENTER FAIL: VMCS guest EFER (?) inconsistent value !"
    )
    assert without_formats("VMFAIL: VMCS host state invalid CR4 0x%016lx") == "VMFAIL: VMCS host state invalid CR4 ?"
    assert "100 % of it" in said
