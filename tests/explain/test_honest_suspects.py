"""What is suspect is said only where it tells something: QEMU's registers, nesting in the words of the hypervisor, a checker that errs."""

from __future__ import annotations

import pytest
from one_dump import read

from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.reading import read_text

QEMU = """\
KVM: entry failed, hardware error 0x80000021
EAX=00000000 EBX=00000000 ECX=00000000 EDX=00000663
EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=0
CS =f000 ffff0000 0000ffff 00009300 DPL=0 DS16 [-WA]
CR0={cr0:08x} CR2=00000000 CR3=00000000 CR4=00000000
EFER={efer:016x}
"""
XEN = """\
(XEN) d24v1 vmentry failure (reason 0x80000021): Invalid guest state (0)
(XEN) *** Guest State ***
(XEN) RFLAGS=0x00000002 (0x00000002)  DR7 = 0x0000000000000400
(XEN) *** Control State ***
(XEN) PinBased=0000003f CPUBased=b62065fa SecondaryExec=000054eb
"""


def suspects(text: str) -> list[str]:
    return [line for line in render(answer(read(text)), width=None).split("\n") if line.startswith("Suspect: ")]


def test_a_bit_of_amds_in_qemus_efer_is_suspect_and_no_amd_processor() -> None:
    (found,) = suspects(QEMU.format(cr0=0x80000011, efer=0x1D01))
    assert found.startswith("Suspect: EFER = 1D01H (line 6) has bit 12 (SVME, which only AMD processors have) = 1.")
    assert suspects(QEMU.format(cr0=0x80000011, efer=0xD01)) == []


def test_without_protection_only_an_unrestricted_guest_enters_and_the_type_of_cs_alone_tells_nothing() -> None:
    first, *others = suspects(QEMU.format(cr0=0x60000010, efer=0))
    assert first.startswith("Suspect: neither protection (PE) nor paging (PG) is on in CR0 = 60000010H")
    assert len(others) <= 1
    assert suspects(QEMU.format(cr0=0x80000011, efer=0)) == []


def test_qemus_control_registers_are_said_not_to_be_judged_and_nothing_that_is_shown_is_asked_for() -> None:
    text = render(answer(read(QEMU.format(cr0=0x80000011, efer=0))), width=None)
    assert "CR0, CR3 and CR4 of QEMU's dump are what the guest sees" in text
    wanted = next(line for line in text.split("\n") if line.startswith("Collect next:"))
    assert "RFLAGS" not in wanted
    assert "Xen:" not in text


def test_vmcs_shadowing_that_xen_sets_on_its_own_is_no_nesting() -> None:
    assert read(XEN).nested == ""
    nested = read(XEN + "(XEN) vvmx: L2 guest\n").nested
    assert "Xen runs L2 in a VMCS of its own" in nested
    assert "KVM" not in nested


@pytest.mark.parametrize(("msr", "errs"), [("0xfff9fffe0401e172", True), ("0xeff9fffe0401e172", False)])
def test_a_checker_is_judged_by_the_values_of_the_same_text(msr: str, errs: bool) -> None:
    text = (
        "VMCS-Auditor: VMFAIL: VMCS EXEC CTRL: VMX proc-based controls allowed 1-settings\nVM-instruction error 7\n"
        f"IA32_VMX_BASIC: 0x005a04000000000f\nIA32_VMX_PROCBASED_CTLS: {msr}\nCPU_BASED_VM_EXEC_CONTROL = 0xb6a06dfa\n"
    )
    (dump,) = read_text(text)
    found = answer(dump)
    remarks = [remark.what for remark in found.remarks if remark.what.startswith("VMCS-Auditor")]
    assert bool(remarks) is errs
    assert ("ctl.prim.allowed1" in {finding.check.id for finding in found.violated}) is not errs


def test_the_head_of_a_dump_of_kvms_that_is_cut_says_that_something_failed() -> None:
    text = (
        "kvm_intel: VMCS 00000000f971be22, last attempted VM-entry on CPU 3\nkvm_intel: *** Guest State ***\nkvm_intel: RFLAGS=0x00000002\n"
    )
    (dump,) = read_text(text)
    assert answer(dump).exit_code == 1
    assert render(answer(dump), width=None).startswith(
        'KVM printed this VMCS ("last attempted VM-entry"): either the VM entry failed, or KVM'
    )
