"""What programs report beside the outcome of an entry: failed VMX instructions, KVM's own checks and errors, exits of a trace, AMD's VMRUN."""

from __future__ import annotations

import pytest

from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.reading import read_text

CONTROLS = "PIN_BASED_VM_EXEC_CONTROL = 0x16\nVM_ENTRY_CONTROLS = 0x11ff\n"
REGISTERS = "EIP=000a0000 EFL=00010006 [-----P-] CPL=0 II=0 A20=1 SMM=0 HLT=0\nCS =0010 00000000 ffffffff 00c09b00 DPL=0 CS32 [-RA]\n"


def answered(text):
    return answer(read_text(text + "\n")[0])


def shown(text):
    return " ".join(render(answered(text)).split())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "kvm_intel: vmwrite failed: field=682a val=0 err=12",
            ("VMWRITE of guest SSP (682AH) failed with error 12", "does not have that field"),
        ),
        ("[17952.582712] vmwrite error: reg 6820 value 46 (err 70)", ("VMWRITE of guest RFLAGS (6820H)", "70 is no VM-instruction error")),
        (
            "[ 36.3] kvm: vmwrite failed: field=6c0a val=fffffe0000003000 err=0",
            ("TR base (6C0AH)", "0 is no VM-instruction error", "no current VMCS"),
        ),
        ("vmread failed: field=4400", ("VMREAD of VM-instruction error (4400H) failed",)),
        ("[ 1868.8] kvm: vmptrld           (null)/6b8640000000 failed", ("VMPTRLD failed", "no current VMCS", "revision identifier")),
        ("boot: ERROR: sched VMPTRLD failed slot=00000000", ("VMPTRLD failed",)),
        ("VMPTRLD error: 11", ("VMPTRLD failed with error 11",)),
        ("VMPTRLD failed, error 11", ("VMPTRLD failed with error 11", "incorrect VMCS revision identifier")),
        ("vmwrite(0x401e, 0) failed with error 12", ("VMWRITE of secondary processor-based controls (401EH)",)),
    ],
)
def test_a_failed_instruction_is_named_with_its_field_and_is_no_failed_entry(text, wanted):
    said = shown(text)
    assert said.startswith("This is no failed VM entry: ")
    assert all(part in said for part in wanted), said
    assert "read them back" not in said


def test_a_field_that_a_dump_could_not_read_is_not_what_the_text_is_about():
    assert answered(CONTROLS + "vmread failed: field=2028").dump.reported is None


def test_a_field_that_could_not_be_read_is_no_outcome_beside_an_exit():
    found = answered("vmread of EXIT_INTR_INFO failed with error 12\nVM exit reason: 0x30")
    assert found.dump.reported is not None
    assert found.dump.reported.exit_reason == 0x30


def test_a_failed_instruction_beside_a_failed_entry_is_a_warning():
    found = answered("VMLAUNCH failed with error 7\nvmwrite failed: field=682a val=0 err=12")
    assert found.dump.reported is not None
    assert found.dump.reported.error == 7
    assert any("682AH" in warning for warning in found.dump.warnings)


@pytest.mark.parametrize(
    "text",
    [
        "in such a case it is possible that VMWRITE would fail for the new field",
        "#define VMWRITE_FAILED 3",
        'if (vmwrite(GUEST_CR0, 0)) { printf("vmwrite failed\\n"); }',
        "vmwrite_error+0x71/0x110",
        'printk("[*]  vmwrite failed with invalid region\\n\\n"); }',
    ],
)
def test_what_may_happen_is_no_failed_instruction(text):
    assert answered(text).dump.reported is None


def test_the_check_by_which_kvm_refused_a_nested_entry_is_quoted():
    found = answered("qemu-1 [000] 1.0: kvm_nested_vmenter_failed: !nested_cpu_has_vid(vmcs12)")
    said = " ".join(render(found).split())
    assert said.startswith("The VM entry failed: KVM refused the VMCS of the hypervisor in its guest (vmcs12)")
    assert "!nested_cpu_has_vid(vmcs12)" in said
    assert "Collect next" not in said
    assert found.exit_code == 1


def test_kvms_word_for_a_failed_entry_of_a_nested_guest():
    found = answered("[  158.349308] nested_vmx_exit_reflected failed vm entry 7")
    assert found.dump.reported is not None
    assert found.dump.reported.error == 7
    assert "vmcs02" in found.dump.nested


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("CPU 3/KVM-93 [013] ....  6076.4: kvm_nested_vmexit: vcpu 3 reason EPT_VIOLATION rip 0x103c00 info1 0x781", "EPT_VIOLATION"),
        (" qemu-31 [000] 159269.8: kvm_exit:             reason EPT_MISCONFIG rip 0x133025 info 0 0", "EPT_MISCONFIG"),
        ("  36.22%  reason MSR_WRITE rip 0xffffffff8110ac58 info 0 0", "MSR_WRITE"),
    ],
)
def test_an_exit_in_a_trace_shows_that_the_guest_ran(text, name):
    assert shown(text).startswith(f'This VM entry did not fail: "reason {name}" in a trace, so the guest ran until that exit.')
    assert answered(text).exit_code == 0


def test_exits_of_a_trace_say_nothing_of_a_vmcs_beside_them():
    assert answered(CONTROLS + "kvm_exit: reason EPT_MISCONFIG rip 0x133025 info 0 0").dump.reported is None


@pytest.mark.parametrize("text", ["KVM internal error. Suberror: 1\nemulation failure\n", "emulation failure\n"])
def test_a_failed_emulation_is_no_failed_entry(text):
    said = shown(text + REGISTERS)
    assert said.startswith(f"This is no failed VM entry: {text.splitlines()[0]}. ")
    assert "VMREAD" not in said
    assert answered(text + REGISTERS).exit_code == 0


@pytest.mark.parametrize(
    "text",
    [
        "KVM: entry failed, hardware error 0xffffffff\nEAX=00000004 EBX=00000000 ECX=00000000 EDX=00000000\n" + REGISTERS,
        "!!         VCPU0: Guru Meditation -4054 (VERR_SVM_IN_USE)",
        "Details: VERR_SVM_UNKNOWN_EXIT",
        "kvm_run: failed entry, reason 65535",
    ],
)
def test_a_failed_vmrun_is_amds(text):
    assert shown(text).startswith("This comes from an AMD processor")
    assert answered(text).exit_code == 2


def test_an_intel_failure_beside_amds_is_judged():
    found = answered("On AMD it gives hardware error 0xffffffff, and here\nKVM: entry failed, hardware error 0x80000021")
    assert found.dump.foreign == ""
    assert found.exit_code == 1


def test_a_quotation_of_bochs_ends_with_its_mark_and_the_change_names_the_field():
    said = shown('It prints "VMFAIL: VMCS host state invalid CR0 0x00000000", so I have read all of it again')
    assert 'says "VMFAIL: VMCS host state invalid CR0 0x00000000".' in said
    assert "Change: read host CR0 (6C00H) with VMREAD right before the entry" in said
