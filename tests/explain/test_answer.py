"""The answer: cause, smallest change, what is not decidable, mistakes of the program rather than of a value."""

from __future__ import annotations

import re

import pytest

from vmfuzz.errors import VmfuzzError
from vmfuzz.execute.kinds import open_executor
from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.as_json import to_json
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.answer.verify import verified
from vmfuzz.explain.judgement.judge import Verdict, judge, operands_of
from vmfuzz.explain.reading import read_text
from vmfuzz.model.partial import Partial
from vmfuzz.state.profiles import capabilities


def answered(text):
    return answer(read_text(text)[0])


def test_all_violations_are_named_with_field_value_rule_and_fix(read):
    found = answer(read("kvm"))
    assert {finding.check.id for finding in found.violated} == {"guest.gs.type.accessed", "guest.gs.s", "guest.gs.p"}
    text = render(found)
    assert "guest GS access rights bit 4 (S) is 0, but must be 1" in text
    assert "guest GS access rights (481EH) = 00000000H, line 16" in text
    assert "set guest GS access rights (481EH) to 00010000H" in text
    assert found.exit_code == 1


def test_the_smallest_change_passes_the_model(read):
    found = answer(read("kvm"))
    (change,) = found.repairs[0].changes
    assert (change.field, change.new) == ("guest_gs_access_rights", 0x10000)
    values = {**operands_of(found.dump), change.field: Partial(change.new)}
    assert judge(found.dump, found.knowledge, values).of(Verdict.VIOLATED, Verdict.LIKELY) == []


def test_an_activity_state_that_is_none_is_mended_to_active(sample):
    found = answered(sample("kvm").replace("ActivityState = 00000000", "ActivityState = 00000007").replace("attr=0x00000", "attr=0x10000"))
    assert [(change.field, change.new) for change in found.repairs[0].changes] == [("guest_activity_state", 0)]


def test_a_real_entry_on_the_emulated_cpu_agrees(read):
    try:
        open_executor().close()
    except VmfuzzError as error:
        pytest.skip(str(error))
    assert "the entry fails (exit reason 80000021H, qualification 0), with the change it succeeds" in verified(answer(read("kvm")))


def test_bit_63_of_cr3_is_wrong_on_every_processor(read):
    found = answer(read("xen"))
    assert [finding.check.id for finding in found.violated] == ["guest.cr3.reserved"]
    assert found.repairs[0].changes[0].new == 0x12345000


def test_a_wrong_encoding_is_the_cause_where_the_values_are_right(read):
    found = answer(read("wrong-encoding"))
    assert found.encodings_are_the_cause
    assert found.causes[0].what == "GUEST_GS_ACCESS_RIGHTS is defined as 482EH; that is the encoding of VMX-preemption timer value."
    assert "481EH. That field keeps 0" in found.causes[0].follows
    assert {finding.check.id for finding in found.violated} == {"guest.gs.type.accessed", "guest.gs.s", "guest.gs.p"}


def test_a_wrong_encoding_is_a_second_suspect_where_a_value_is_wrong(read, sample):
    text = sample("wrong-encoding").replace("cr0:       0x80050033", "cr0:       0x80050013")
    found = answer(read_text(text)[0])
    assert not found.encodings_are_the_cause
    assert found.violated[0].check.id == "guest.cr0.fixed.ones"
    assert any("482EH" in mistake.what and mistake.stops for mistake in found.remarks)


def test_a_list_of_encodings_alone_is_compared():
    found = answered(
        "#define GUEST_CS_LIMIT 0x4800\n#define GUEST_ES_LIMIT 0x4801\n#define GUEST_SS_LIMIT 0x4804\n#define HOST_RIP 0x6c16\n"
    )
    assert [mistake.change for mistake in found.causes] == ["define GUEST_CS_LIMIT as 0x4802", "define GUEST_ES_LIMIT as 0x4800"]
    assert "high half" in found.causes[1].what


def test_an_entry_that_succeeded_is_said_first(sample):
    found = answered(sample("kvm").replace("reason=80000021", "reason=00000030").replace("attr=0x00000", "attr=0x10000"))
    assert render(found).startswith("This VM entry did not fail")
    assert found.exit_code == 0


def test_error_7_with_guest_state_only_is_not_decidable():
    found = answered("VMLAUNCH error: 0x7\nguest_cr0 = 0x80000031\nguest_rflags = 0x2\n")
    text = render(found)
    assert "cannot be determined from this text" in text
    assert "primary processor-based controls (4002H)" in text
    assert found.exit_code == 1


def test_what_the_reported_outcome_excludes_is_set_apart():
    found = answered("exit reason: 0x80000021\nHOST_CR4 = 0x660\nGUEST_CR4 = 0x660\n")
    assert [finding.check.id for finding in found.violated] == ["guest.cr4.fixed.ones"]
    assert [finding.check.id for finding in found.contradicted] == ["host.cr4.fixed.ones"]


def test_a_likely_violation_names_what_would_excuse_it(sample):
    found = answered(sample("kvm").replace("reason=80000021", "").replace("VMEntry: intr_info=00000000", "VMEntry: intr_info=8000030d"))
    (likely,) = [finding for finding in found.violated if finding.verdict is Verdict.LIKELY]
    assert likely.check.id == "ctl.inject.errcode.required"
    assert "IA32_VMX_BASIC[56]" in render(found)


def test_capabilities_settle_what_a_dump_leaves_open(read):
    dump = read("xen")
    assert len(answer(dump, capabilities("corei7_skylake_x")).undecided) < len(answer(dump).undecided)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("GUEST_CS_AR = 0x00a09b00\n", "not shifted right by 8"),
        ("GUEST_CS_AR = 0xaf9b\n", "reserved bits 11:8"),
        ("GUEST_FS_SELECTOR = 0x0\nGUEST_FS_AR = 0x0\n", "null selector"),
        ("GUEST_CS_AR = 0xa09b\nGUEST_CS_LIMIT = 0xfffff\n", "units of 4 KBytes"),
        ("GUEST_SYSENTER_CS = 0xd01\nGUEST_IA32_EFER = 0xd01\n", "is the value of guest IA32_EFER"),
        ("VMCS_LINK_POINTER = 0x0\n", "VMCS link pointer = 0000000000000000H"),
        ("VMCS_LINK_POINTER = 0xffffffff\n", "only its low half"),
        ("IA32_VMX_PINBASED_CTLS = 0x000000160000007f\n", "halves swapped"),
        ("IA32_VMX_PINBASED_CTLS = 0x0000007f00000016\nPIN_BASED_VM_EXEC_CONTROL = 0x7f\n", "high half of IA32_VMX_PINBASED_CTLS"),
        ("VM_EXIT_CONTROLS = 0x13fb\nVM_ENTRY_CONTROLS = 0x36ffb\n", "look like VM-exit controls"),
        ("VM_ENTRY_CONTROLS = 0x2013fb\n", '"load IA32_EFER" is bit 21 of the VM-exit controls'),
        ("PIN_BASED_VM_EXEC_CONTROL = 0x1\n", "that must be 1 on every processor"),
        ("guest rsp: 0xffff880000001000\nhost rsp: 0xffff880000001000\n", "guest RSP and host RSP are both"),
    ],
)
def test_mistakes_that_show_in_the_values(text, what):
    found = answered(text)
    assert any(what in mistake.what for mistake in [*found.causes, *found.remarks])


def test_a_shifted_structure_is_named(sample):
    order = ["CS", "DS", "SS", "ES", "FS", "GS", "LDTR", "TR"]
    text = sample("kvm").replace("GS:   sel=0x0038, attr=0x00000", "GS:   sel=0x0038, attr=0x1c000")
    pattern = r"( {name}:.*attr=)(0x[0-9a-f]+)"
    rights = {name: re.search(pattern.format(name=name), text)[2] for name in order}
    for index, name in enumerate(order):
        text = re.sub(pattern.format(name=name), rf"\g<1>{rights[order[index - 1]]}", text)
    found = answered(text)
    assert "one place off" in found.causes[0].what


def test_virtualbox_gives_its_own_cause(read):
    assert "limit must be 0000FFFFH" in answer(read("vbox")).causes[0].what


@pytest.mark.parametrize("name", ["kvm", "xen", "qemu", "printk", "haxm", "noirvisor", "sregs", "vbox", "wrong-encoding"])
def test_the_text_is_plain_and_narrow_and_the_json_complete(read, name):
    found = answer(read(name))
    lines = render(found, explain=True).splitlines()
    assert [line for line in lines if len(line) > 80 and " " in line.strip()] == []
    assert "\x1b" not in "".join(lines)
    data = to_json(found)
    assert set(data["fields"]) == set(found.dump.readings)
    assert len(data["violated"]) == len(found.violated)


def test_the_explanation_teaches(read):
    text = render(answer(read("kvm")), explain=True)
    assert "Access rights of 0 do not mean" in text
    assert "It applies because" in text
