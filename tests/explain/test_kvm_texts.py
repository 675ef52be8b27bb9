"""KVM's own word on a failed entry of its guest hypervisor: the tracepoint's text in a log names the checks and the outcome."""

from __future__ import annotations

import pytest

from vmfuzz.arch.outcomes import Kind
from vmfuzz.explain.answer.answer import Answer, answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.reading import read_text
from vmfuzz.explain.reported import Report
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.kvm_messages import BELOW, BELOW_ERRORS, CONSISTENCY_CHECKS

TRACE = "           <...>-1234    [002] .....   812.005421: kvm_nested_vmenter_failed: {}\n"


def answered(text: str) -> Answer:
    (dump,) = read_text(text, "text")
    return answer(dump)


@pytest.mark.parametrize("text", [text for text, ids in CONSISTENCY_CHECKS.items() if ids])
def test_every_text_names_its_checks_and_an_outcome_that_they_have(text: str) -> None:
    for line in (TRACE.format(text), f"{text}\n"):
        (said,) = (dump := answered(line).dump).named
        assert (said.program, said.text) == ("KVM", text)
        assert {check.id for check in said.checks} == CONSISTENCY_CHECKS.checks_named(text)
        assert dump.reported is not None
        assert (dump.reported.kind, dump.reported.text) == (Report.REFUSED, text)
        reported = dump.reported.other
        outcomes = {outcome for check in said.checks for outcome in check.fails.outcomes}
        if reported is None:
            assert len({(outcome.kind, outcome.number) for outcome in outcomes}) > 1
        elif reported.exit_reason is not None:
            assert (Kind.ENTRY_FAILURE, reported.exit_reason & 0xFFFF) in {(outcome.kind, outcome.number) for outcome in outcomes}
        else:
            assert reported.error is None or (Kind.VMFAIL_VALID, reported.error) in {(outcome.kind, outcome.number) for outcome in outcomes}


@pytest.mark.parametrize(
    ("text", "first", "check", "error", "reason"),
    [
        ("!nested_host_cr0_valid(vcpu, vmcs12->host_cr0)", "VM-instruction error 8", "host.cr0.fixed.ones", 8, None),
        ("vmcs12->cr3_target_count > nested_cpu_vmx_misc_cr3_count(vcpu)", "VM-instruction error 7", "ctl.cr3target.count", 7, None),
        ("!kvm_dr7_valid(vmcs12->guest_dr7)", "VM-entry failure", "guest.dr7", None, 0x80000021),
        ("hdr.revision_id != VMCS12_REVISION", "VM-entry failure", "guest.link.revision", None, 0x80000021),
        ("e->reserved != 0", "VM-entry failure", "msrload.reserved.1", None, 0x80000022),
        # what the manual leaves open between 7 and 8, KVM makes with the host state
        (
            "!!(vmcs12->vm_exit_controls & VM_EXIT_HOST_ADDR_SPACE_SIZE) != !!(vcpu->arch.efer & EFER_LMA)",
            "VM-instruction error 8",
            "host.as.lma1.exit",
            8,
            None,
        ),
    ],
)
def test_what_is_said_to_people(text: str, first: str, check: str, error: int | None, reason: int | None) -> None:
    found = answered(TRACE.format(text))
    assert found.dump.reported is not None
    outcome = found.dump.reported.other
    assert outcome is not None
    assert (outcome.error, outcome.exit_reason) == (error, reason)
    shown = " ".join(render(found).split())
    assert f"That hypervisor sees {first}" in shown
    assert f'KVM says "{text}"' in shown
    assert BY_ID[check].text in shown


def test_one_failure_of_many_like_it_is_told_once() -> None:
    line = TRACE.format("!kvm_dr7_valid(vmcs12->guest_dr7)")
    assert len(answered(line * 500).dump.named) == 1
    two = answered(line + TRACE.format("e->reserved != 0"))
    assert [said.line for said in two.dump.named] == [1, 2]
    assert two.dump.reported is not None
    assert two.dump.reported.other is not None
    assert two.dump.reported.other.exit_reason == 0x80000021


@pytest.mark.parametrize(("name", "error"), BELOW_ERRORS.items())
def test_the_processor_below(name: str, error: int) -> None:
    reported = answered(TRACE.format(BELOW + name)).dump.reported
    assert reported is not None
    assert reported.error == error


@pytest.mark.parametrize(("left", "error"), [("0x1c", 0x1C), ("", 0)])
def test_the_processor_below_with_a_number_or_none(left: str, error: int | None) -> None:
    reported = answered(TRACE.format(BELOW + left)).dump.reported
    assert reported is not None
    assert (reported.error, reported.exit_reason) == (error, None)


def test_a_text_of_another_kernel_is_said_to_be_unknown() -> None:
    found = answered(TRACE.format("vmcs12->something_new & BIT(3)"))
    assert found.dump.named == ()
    assert any("vmcs12->something_new & BIT(3)" in warning for warning in found.dump.warnings)


def test_source_code_is_no_log() -> None:
    assert answered("\tif (CC(!kvm_dr7_valid(vmcs12->guest_dr7)))\n\t\treturn -EINVAL;\n").dump.named == ()


def test_values_beside_it_count_too() -> None:
    """Where the values show the check violated, the text adds no second cause."""
    found = answered(
        TRACE.format("vmcs12->vm_entry_instruction_len > 15")
        + "vm_entry_interruption_info = 0x80000480\nvm_entry_instruction_length = 16\n"
    )
    assert "ctl.inject.instrlen" in {finding.check.id for finding in found.violated}
    assert not any("KVM says" in cause.what for cause in found.causes)


def test_what_kvm_refuses_proves_nothing_of_what_it_leaves_to_the_processor() -> None:
    """KVM checks some guest state before some controls: the controls are not proven to be right."""
    found = answered(TRACE.format("!kvm_dr7_valid(vmcs12->guest_dr7)") + "pin_based_controls = 0x16\n")
    assert found.dump.reported is not None
    assert found.dump.reported.exit_reason is None
