"""What posts about failed entries have besides a plain dump: other programs' forms, AMD's dumps, words of the program itself, nesting."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmfuzz.explain.answer.answer import Answer, answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.answer.teach import why
from vmfuzz.explain.reading import read_text
from vmfuzz.model.bochs_messages import MESSAGES
from vmfuzz.model.checks import BY_ID, CHECKS

KVM = (Path(__file__).parent / "bodies" / "kvm.txt").read_text(encoding="utf-8")
FIELDS_OF_KVM = 104


def answered(text: str) -> Answer:
    (dump,) = read_text(text, "text")
    return answer(dump)


def value(found: Answer, name: str) -> int | None:
    reading = found.dump.readings.get(name)
    return None if reading is None else reading.value


def violated(found: Answer) -> list[str]:
    return [finding.check.id for finding in found.violated if finding.explains]


# struct kvm_sregs

SEGMENT = (
    "base: 0, limit: {limit}, selector: {selector}, type_: {type}, present: 1, dpl: 0, db: {db}, s: {s}, l: {l}, g: {g}, avl: 0, "
    "unusable: 0, padding: 0"
)


def rust_sregs(code_db: int = 0, data_type: int = 3, efer: int = 1280) -> str:
    """As Rust's {:?} prints them: on one line, in decimal."""
    parts = []
    for name in ("cs", "ds", "es", "fs", "gs", "ss"):
        code = name == "cs"
        body = SEGMENT.format(
            limit=4294967295, selector=8 if code else 16, type=11 if code else data_type, db=code_db if code else 1, s=1, l=int(code), g=1
        )
        parts.append(f"{name}: kvm_segment {{ {body} }}")
    for name, kind in (("tr", 11), ("ldt", 2)):
        parts.append(f"{name}: kvm_segment {{ {SEGMENT.format(limit=65535, selector=0, type=kind, db=0, s=0, l=0, g=0)} }}")
    parts.append(
        "gdt: kvm_dtable { base: 1280, limit: 31, padding: [0, 0, 0] }, idt: kvm_dtable { base: 4096, limit: 16, padding: [0, 0, 0] }"
    )
    registers = f"cr0: 2147483697, cr2: 0, cr3: 36864, cr4: 32, cr8: 0, efer: {efer}, apic_base: 4276094208, interrupt_bitmap: [0, 0, 0, 0]"
    return f"sregs after failure: kvm_sregs {{ {', '.join(parts)}, {registers} }}\n"


GDB_SREGS = """\
(gdb) p /x sregs
$1 = {cs = {base = 0x10000, limit = 0xffff, selector = 0x1000, type = 0xb,
    present = 0x1, dpl = 0x0, db = 0x0, s = 0x1, l = 0x0, g = 0x0, avl
= 0x0, unusable = 0x0, padding = 0x0}, ds = {base = 0x0, limit = 0xffff,
    selector = 0x0, type = 0x2, present = 0x1, dpl = 0x0, db = 0x0, s = 0x1,
    l = 0x0, g = 0x0, avl = 0x0, unusable = 0x0, padding = 0x0}, gs = {
    base = 0x0, limit = 0x0, selector = 0x0, type = 0x0, present = 0x0,
    dpl = 0x0, db = 0x0, s = 0x0, l = 0x0, g = 0x0, avl = 0x0, unusable
= 0x1, padding = 0x0}, gdt = {base = 0x1000, limit = 0x17, padding = {0x0, 0x0,
      0x0}}, cr0 = 0x60000011, cr2 = 0x0, cr3 = 0x0, cr4 = 0x0, cr8 = 0x0,
  efer = 0x0, apic_base = 0xfee00900, interrupt_bitmap = {0x0, 0x0, 0x0, 0x0}}
"""


def test_bits_of_kvms_segments_are_access_rights_and_decimal_in_rust() -> None:
    found = answered(rust_sregs())
    assert value(found, "guest_cs_access_rights") == 0xA09B
    assert value(found, "guest_ss_access_rights") == 0xC093
    assert value(found, "guest_tr_access_rights") == 0x8B
    assert value(found, "guest_cs_limit") == 0xFFFFFFFF
    assert value(found, "guest_gdtr_base") == 0x500
    assert value(found, "guest_idtr_limit") == 0x10
    assert (violated(found), found.causes, found.dump.warnings) == ([], (), [])


@pytest.mark.parametrize("text", [rust_sregs(), GDB_SREGS, "== KVM_GET_SREGS ==\nCR0: 0x80050031 CR3: 0x1000 CR4: 0x20\n"])
def test_what_kvm_adds_to_control_registers_is_not_missed_in_its_structures(text: str) -> None:
    found = answered(text)
    assert value(found, "guest_cr0") is None
    assert value(found, "guest_cr4") is None
    assert any(name.startswith("KVM ") for name in found.dump.beside)
    assert not violated(found)


def test_a_mistake_in_kvms_structures_is_the_cause() -> None:
    found = answered("FailEntry(2147483681, 0)\n" + rust_sregs(code_db=1))
    assert violated(found) == ["guest.cs.db-l"]
    assert found.repairs[0].changes[0].new in (0xA09B, 0xC09B)
    assert not violated(answered("FailEntry(2147483681, 0)\n" + rust_sregs(code_db=1, efer=0)))  # L means nothing outside IA-32e mode


def test_gdb_breaks_lines_anywhere() -> None:
    found = answered(GDB_SREGS)
    assert value(found, "guest_cs_base") == 0x10000
    assert value(found, "guest_cs_access_rights") == 0x9B
    assert value(found, "guest_gs_access_rights") == 0x10000
    assert value(found, "guest_gdtr_limit") == 0x17
    assert found.dump.unread == ()


def test_a_vmcs_beside_kvms_structures_keeps_its_own_names() -> None:
    found = answered(GDB_SREGS + "GUEST_IA32_EFER = 0x500\nGUEST_CR0 = 0x80000031\n")
    assert value(found, "guest_ia32_efer") == 0x500
    assert value(found, "guest_cr0") == 0x80000031
    assert found.dump.readings["guest_cs_base"].assumed


def test_what_is_not_present_may_be_unusable_and_is_not_judged() -> None:
    found = answered(GDB_SREGS.replace("type = 0x2, present = 0x1", "type = 0x2, present = 0x0"))
    assert value(found, "guest_cs_access_rights") == 0x9B
    assert value(found, "guest_ds_access_rights") is None


def test_a_segment_that_was_not_accessed_is_named() -> None:
    (warning,) = answered(GDB_SREGS).dump.warnings
    assert "ds has type 2" in warning
    assert "Give ds type 3" in warning


# AMD

VMCB = """\
kvm_amd: VMCB 00000000c0ffee00, last attempted VMRUN on CPU 1
kvm_amd: VMCB Control Area:
kvm_amd: exit_code:          ffffffff
kvm_amd: nested_cr3:         0000000012345000
kvm_amd: VMCB State Save Area:
kvm_amd: cs:   s: f000 a: 009b l: 0000ffff b: 00000000ffff0000
kvm_amd: cr0:            0000000060000010 cr2:          0000000000000000
kvm_amd: cr4:            0000000000000040 rip:          000000000000fff0
"""


@pytest.mark.parametrize("text", [VMCB, VMCB.replace("kvm_amd: ", ""), VMCB.replace("kvm_amd", "[  12.5] kvm_amd")])
def test_a_vmcb_is_no_vmcs(text: str) -> None:
    found = answered(text)
    assert found.dump.readings == {}
    assert found.exit_code == 2
    assert render(found).startswith("This is a dump of an AMD processor (a VMCB")
    assert "Give a VMCS" not in render(found)


def test_svme_gives_an_amd_processor_away() -> None:
    text = "RIP: 0xffffffff81000000 RSP: 0xffffc90000000000 FLAGS: 246\nCR0: 0x80050033 CR4: 0x6a0\nEFER: 0x0000000000001d01\n"
    assert "SVME" in answered(text).dump.foreign
    assert answered(text.replace("1d01", "0d01")).dump.foreign == ""


# What stands around a dump


def test_a_programs_own_prefix_before_every_line() -> None:
    text = "".join(f"myvmm: vcpu 3: dump_state: {line}\n" for line in KVM.splitlines())
    found = answered(text)
    assert len(found.dump.readings) == FIELDS_OF_KVM
    assert found.dump.warnings == []


def test_names_before_each_line_that_mean_something_stay() -> None:
    lines = [
        f"guest: {name} = {number:#x}" for name, number in (("cr0", 0x80050033), ("cr3", 0x1000), ("cr4", 0x26E0), ("rip", 4), ("rsp", 8))
    ]
    found = answered("\n".join(lines) + "\n")
    assert value(found, "guest_cr4") == 0x26E0


def test_lines_of_a_log_before_a_dump_do_not_touch_it() -> None:
    before = "VM Exit Reason: c\nEPT pointer = 0xfffffc000661205e\nGuest CR3: 0x0\n\n"
    found = answered(before + KVM)
    assert len(found.dump.readings) == FIELDS_OF_KVM
    assert value(found, "eptp") == 0x10C0F305E
    assert found.dump.reported is not None
    assert found.dump.reported.exit_reason == 0x80000021
    assert found.dump.warnings == []


def test_an_exit_reason_that_the_text_contradicts_is_not_believed() -> None:
    found = answered("exit_reason = 0xc\nexit_reason = 0x80000021\nguest_cr0 = 0x80050033\n")
    assert found.dump.reported is not None
    assert found.dump.reported.exit_reason == 0x80000021


def test_a_dump_that_ends_early_says_so() -> None:
    found = answered(KVM[: KVM.index("*** Host State")])
    assert "The dump is incomplete" in render(found)
    assert "read them back" not in render(found)


# Forms of other programs

WINDBG = """\
0: kd> dx -r1 @$curvmcs
@$curvmcs                 [Type: _VMCS]
    [+0x000] GuestCsSelector  : 0x10 [Type: unsigned short]
    [+0x010] GuestCsAccessRights : 0x209b [Type: unsigned long]
    [+0x018] GuestCr4         : 0x406f8 [Type: unsigned __int64]
0: kd> rdmsr 489
msr[489] = 00000000`003767ff
"""


@pytest.mark.parametrize(
    "text", [WINDBG, WINDBG.replace("[+0x0", "+0x0").replace("] G", " G").replace(" [Type: unsigned long]", "")], ids=["dx", "dt"]
)
def test_windbg(text: str) -> None:
    found = answered(text)
    assert value(found, "guest_cs_selector") == 0x10
    assert value(found, "guest_cs_access_rights") == 0x209B
    assert found.dump.msrs[0x489].value == 0x3767FF
    assert violated(found) == ["guest.cr4.fixed.ones"]


def test_jailhouse() -> None:
    found = answered(
        "FATAL: Unhandled VM-Exit, reason 33\nqualification 0\n"
        "RIP: 0xffffffff8104ac5b RSP: 0xffffc90000107e98 FLAGS: 44\n"
        "CS: 10 BASE: 0x0000000000000000 AR-BYTES: 29b EFER.LMA 1\n"
        "CR0: 0x0000000080050033 CR3: 0x0000000003c0a000 CR4: 0x00000000000426e0\nEFER: 0x0000000000000d01\n"
    )
    assert value(found, "guest_rflags") == 0x44
    assert value(found, "guest_cs_selector") == 0x10
    assert value(found, "guest_cs_access_rights") == 0x29B
    assert value(found, "vm_entry_controls") == 0x200
    assert violated(found)[:1] == ["guest.cs.ar.rsvd-low"] or "guest.cs.ar.rsvd-low" in violated(found)
    assert "guest.rflags.reserved.one" in violated(found)


def test_bhyvectl() -> None:
    found = answered(
        "cr0[0]\t\t0x0000000080050033\ncr4[0]\t\t0x00000000000026e0\nrflags[0]\t0x0000000000000002\n"
        "cs desc[0]\t0x0000000000000000/0xffffffff/0x0000c09b\nds desc[0]\t0x0000000000000000/0xffffffff/0x0000c083\n"
        "gdtr[0]\t\t0x000000003fa00000/0x00000047\ncs[0]\t\t0x0010\nentry_ctls[0]\t\t0x000011ff\nexit_reason[0]\t0x80000021\n"
    )
    assert value(found, "guest_ds_access_rights") == 0xC083
    assert value(found, "guest_gdtr_limit") == 0x47
    assert value(found, "guest_cs_selector") == 0x10
    assert value(found, "vm_entry_controls") == 0x11FF
    assert "guest.ds.s" in violated(found)


def test_virtualbox_logs_the_controls_that_the_processor_refused() -> None:
    found = answered(
        "00:00:01.486010 HM: MSR_IA32_VMX_BASIC                = 0xda040000000004\n"
        "00:00:01.486010 HM: MSR_IA32_VMX_PROCBASED_CTLS2      = 0x4ff00000000\n"
        "00:00:05.486010 HM: CPU[0] Instruction error    0x7\n00:00:05.486010 HM: CPU[0] Exit reason          0x0\n"
        "00:00:05.486010 HM: CPU[0] PinCtls              0x16\n00:00:05.486010 HM: CPU[0] ProcCtls             0x8421e172\n"
        "00:00:05.486010 HM: CPU[0] ProcCtls2            0x00200001\n00:00:05.486010 HM: CPU[0] EntryCtls            0x11ff\n"
    )
    assert violated(found) == ["ctl.sec.allowed"]
    text = " ".join(render(found).split())
    assert "secondary processor-based controls bit 21" in text
    assert "is 1, which this processor does not allow" in text
    (change,) = found.repairs[0].changes
    assert (change.field, change.new) == ("secondary_processor_based_controls", 1)


# What programs say themselves


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_of_bochs_names_its_checks(message: str) -> None:
    segment = next((name for name in ("tr", "ldtr") if any(f"guest.{name}." in one for one in MESSAGES[message])), "gs")
    text = message.replace("%s", segment.upper()).replace("%d", "3").replace("%08x", "00000500").replace("%lx", "174").replace("%x", "174")
    text = text.replace("%016lx", "0000000000042000").replace("%c", "A")
    (said,) = answered(f"00412345678e[CPU0  ] {text}\n").dump.named
    named, meant = {check.id for check in said.checks}, MESSAGES.checks_named(message)
    assert said.text == text
    assert meant is not None
    assert named <= meant
    assert named or not any(f".{segment}." in check for check in meant)


def test_bochs_names_the_cause_where_the_values_do_not_show_it() -> None:
    found = answered("00412345678e[CPU0  ] VMENTER FAIL: VMCS guest TR not present\n")
    assert found.dump.reported is not None
    assert found.dump.reported.exit_reason == 0x80000021
    assert "guest.tr.p" in "\n".join(render(found).splitlines()[:10])


@pytest.mark.parametrize(("number", "shown"), [("1ffff80676f52be5", "not canonical"), ("0000000000000002", "WRMSR refuses this one")])
def test_xen_shows_the_msr_that_could_not_be_loaded(number: str, shown: str) -> None:
    found = answered(f"(XEN) d24v1 vmentry failure (reason 0x80000022): MSR loading (entry 1)\n(XEN)   msr 000001dd val {number} (mbz 0)\n")
    text = " ".join(" ".join(render(found).splitlines()[:12]).split())
    assert "It is entry 2, counting from 1" in text
    assert "Cause: MSR 1DDH with the value" in text
    assert shown in text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kvm_nested_vmexit: vcpu 1\nreason INVALID_STATE FAILED_VMENTRY rip 0x1000 info1 0x0", 0x80000021),
        ("kvm_exit: reason MSR_LOAD_FAIL FAILED_VMENTRY rip 0x1000", 0x80000022),
        ("EXIT_REASON_INVALID_GUEST_STATE\nArguments:\nArg1: 01", 0x80000021),
    ],
)
def test_outcomes_in_words(text: str, reason: int) -> None:
    reported = answered(text + "\n").dump.reported
    assert reported is not None
    assert reported.exit_reason == reason


def test_a_failure_without_its_number_leaves_the_cause_to_the_registers() -> None:
    assert "failed" in render(answered("KVM_EXIT_FAIL_ENTRY\n")).splitlines()[0]
    found = answered("KVM_EXIT_FAIL_ENTRY\nguest_cs_access_rights = 0xa08b\nguest_rflags = 0x2\n")
    assert [finding.check.id for finding in found.explaining] == ["guest.cs.s"]


# Suspicions and changes


@pytest.mark.parametrize(
    ("text", "suspect"),
    [
        (
            "RFLAGS=0x00000002         DR7 = 0x4000000000000001",
            'guest DR7 bits 63:32 are 40000000H, but must be 0, if VM-entry controls bit 2 ("load debug controls") is 1',
        ),
        (
            "Interruptibility = 00000002\nDebugExceptions = 0x0000000000000000",
            "bit 14 (BS) is 0, but must be 1, if guest RFLAGS bit 8 (TF) is 1",
        ),
    ],
)
def test_what_looks_wrong_is_a_suspicion_where_its_premise_is_not_shown(text: str, suspect: str) -> None:
    found = answered(f"hardware error 0x80000021\nKVM: entry failed, hardware error 0x80000021\n{text}\nActivityState = 00000000\n")
    shown = " ".join(render(found).split())
    assert "cannot be determined" in shown
    assert f"Suspect: {suspect}" in shown.replace("guest pending debug exceptions ", "") or suspect in shown
    assert found.violated == []


def test_a_bit_that_not_every_processor_allows_is_a_suspicion() -> None:
    text = KVM.replace("actual=0x00000000001726f0", "actual=0x00000000001766f0")
    shown = " ".join(render(answered(text)).split())
    assert "Suspect: guest CR4 bit 14 (SMXE) is 1; IA32_VMX_CR4_FIXED0/1 (488H, 489H) says whether the processor allows that." in shown


def test_a_segment_that_is_wrong_in_every_mode_needs_no_rflags() -> None:
    assert "guest.gs.s" in " ".join(violated(answered("guest_gs_access_rights = 0x0\n")))
    assert not violated(answered("guest_gs_access_rights = 0xf3\n"))


def test_a_change_is_found_where_much_is_wrong() -> None:
    text = KVM.replace("TR:   sel=0x0040, attr=0x0008b, limit=0x00004087", "TR:   sel=0x0040, attr=0x10021, limit=0x01211091")
    text = text.replace("RFLAGS=0x00000246", "RFLAGS=0x00000002").replace("VMEntry: intr_info=00000000", "VMEntry: intr_info=80000044")
    text = text.replace(
        "GDTR:                           limit=0x0000007f, base=0xfffffe", "GDTR:                           limit=0x0000007f, base=0x001f00"
    )
    found = answered(text)
    assert len(found.violated) >= 5
    changed = {change.field: change.new for change in found.repairs[0].changes}
    assert changed["guest_tr_access_rights"] & 0x1008F == 0x8B
    mended = found.dump
    for name, new in changed.items():
        mended.readings[name] = type(mended.readings[name])(new, "mended", 1)
    assert not violated(answer(mended))


def test_a_null_host_tr_has_a_change_too() -> None:
    found = answered("VMLAUNCH error: 0x8\nhost_tr_selector = 0x0\nhost_cs_selector = 0x13\n")
    assert {change.field: change.new for change in found.repairs[0].changes} == {"host_tr_selector": 8, "host_cs_selector": 0x10}


# Nesting


@pytest.mark.parametrize(
    "text",
    [
        "kvm_nested_vmexit: vcpu 0 reason INVALID_STATE FAILED_VMENTRY\n",
        "Hardware name: QEMU Standard PC (Q35 + ICH9, 2009)\n" + KVM,
        KVM.replace("shadow=0x00000000001706f0", "shadow=0x00000000001726f0"),
    ],
)
def test_nested_guests_get_a_word_on_whose_vmcs_it_is(text: str) -> None:
    shown = " ".join(render(answered(text)).split())
    assert "vmcs02" in shown
    assert "kvm_nested_vmenter_failed" in shown


def test_no_word_on_nesting_where_nothing_speaks_of_it() -> None:
    assert "Nested" not in render(answered(KVM))


# --explain


@pytest.mark.parametrize(
    ("check", "word"),
    [
        ("guest.ssp.align", "shadow stack"),
        ("guest.ss.dpl.zero", "CPL"),
        ("guest.pat", "memory types"),
        ("host.base.gs", "canonical"),
        ("guest.sysenter.esp", "canonical"),
        ("guest.gdtr.limit", "16 bits"),
        ("guest.dr7", "load debug controls"),
        ("guest.pdbg.bs.must1", "BTF = 0"),
        ("guest.fred.config.reserved", "reserved bits"),
        ("ctl.ug.needs-ept", "rest on another"),
        ("ctl.vapic.align", "physical address"),
        ("ctl.entry.msrload.last", "16 bytes"),
        ("ctl.eptp.walk", "guest-physical"),
        ("guest.efer.lme", "CR0.PG = 1"),
        ("host.efer.lma", "host address-space size"),
        ("guest.cr0.fixed.ones", "NW and CD"),
        ("guest.cr4.fixed.ones", "VMXE"),
        ("guest.cr3.reserved", "Bit 63"),
    ],
)
def test_the_reason_is_about_the_check(check: str, word: str) -> None:
    assert word in why(BY_ID[check])


def test_few_checks_have_only_the_general_reason_of_their_stage() -> None:
    general = {why(BY_ID["ctl.x2apic.vs-apicaccess"]), why(BY_ID["host.cr3.reserved"])}
    assert sum(why(check) in general for check in CHECKS) < len(CHECKS) / 8
    assert all(len(why(check)) > 60 for check in CHECKS)


def test_a_whole_dump_that_violates_nothing_is_not_asked_for_again() -> None:
    shown = " ".join(render(answered(KVM.replace("EFER= 0x0000000000000d01", "EFER= 0x0000000000000501", 1))).split())
    assert "no check that could give this result is left open" in shown
    assert "Collect next" not in shown
