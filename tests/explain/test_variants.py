"""Formats in variants that no sample has, each with a planted cause: the values are read, and the cause is what the answer names.

bodies/ holds a legal VMCS each as a new kernel and as Xen print it; the rest is here, in the shapes that hobby hypervisors print.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from vmfuzz.explain.answer.answer import Answer, answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.reading import read_text
from vmfuzz.explain.text.large import decode

BODIES = Path(__file__).parent / "bodies"
KVM = (BODIES / "kvm.txt").read_text(encoding="utf-8")
XEN = (BODIES / "xen.txt").read_text(encoding="utf-8")


def answered(text: str | bytes) -> Answer:
    (dump,) = read_text(decode(text, "text") if isinstance(text, bytes) else text, "text")
    return answer(dump)


def planted(body: str, old: str, new: str) -> str:
    assert body.count(old) >= 1, old
    return body.replace(old, new, 1)


def lines(text: str, prefix: str) -> str:
    """Every line with a prefix; {n} in it counts."""
    return "".join(prefix.format(n=index, t=f"{417.1 + index / 1000:12.6f}") + line + "\n" for index, line in enumerate(text.splitlines()))


def wrap(text: str, width: int = 72) -> str:
    """Lines broken at blanks as mail programs do."""
    result = []
    for line in text.splitlines():
        while len(line) > width and " " in line[:width].strip():
            at = line.rindex(" ", 1, width)
            result.append(line[: at + 1])
            line = line[at + 1 :]
        result.append(line)
    return "\n".join(result) + "\n"


KVM_FORMS = {
    "journalctl": lambda text: lines(text, "Mar 07 21:14:03 build-7 kernel: "),
    "journalctl, ISO time": lambda text: lines(text, "2024-03-07T21:14:03+0100 build-7 kernel: kvm_intel: "),
    "syslog with dmesg time": lambda text: lines(text, "Mar  7 21:14:03 build-7 kernel: [{t}] "),
    "dmesg with caller and module": lambda text: lines(text, "[{t}][ T4312] kvm_intel: "),
    "dmesg -T": lambda text: lines(text, "[Thu Mar  7 21:14:03 2024] kvm_intel: "),
    "dmesg -x": lambda text: lines(text, "kern  :err   : [{t}] "),
    "kernel levels": lambda text: lines(text, "<3>[{t}] "),
    "mail, wrapped and quoted": lambda text: lines(wrap(lines(text, "[{t}] ")), "> "),
    "mail, wrapped twice": lambda text: lines(wrap(text, 60), ">> "),
    "tabs": lambda text: lines(text.replace("  ", "\t"), "\t"),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "capital digits": lambda text: "".join(
        word.upper().replace("0X", "0x") if word.startswith("0x") else word for word in text.replace("=0x", "= 0x").partition("\0")[0]
    ),
    "html": lambda text: "<pre>\n" + text.replace(">", "&gt;").replace("=", "&#61;") + "</pre>\n",
    "code fence and list": lambda text: "The dump:\n\n```\n" + lines(text, "    ") + "```\n\nAny idea?\n",
    "quoted printable": lambda text: wrap(text.replace("=", "=3D"), 70).replace(" \n", " =\n"),
}
#: old text, new text, the check that then fails
KVM_CAUSES = [
    ("RFLAGS=0x00000246", "RFLAGS=0x00000244", "guest.rflags.reserved.one"),
    ("TR:   sel=0x0040, attr=0x0008b", "TR:   sel=0x0040, attr=0x00089", "guest.tr.type"),
    ("CS:   sel=0x0010, attr=0x0a09b", "CS:   sel=0x0010, attr=0x0e09b", "guest.cs.db"),
    ("base=0xffff88813bc00000", "base=0x0fff88813bc00000", "guest.gs.base"),
    ("actual=0x00000000001726f0", "actual=0x00000000001726d0", "guest.ia32e.pae"),
    ("ActivityState = 00000000", "ActivityState = 00000007", "guest.activity.range"),
]


def ids(found: Answer) -> list[str]:
    return [finding.check.id for finding in found.violated if finding.explains]


@pytest.mark.parametrize("form", KVM_FORMS)
def test_a_legal_kvm_dump_is_accused_of_nothing(form):
    found = answered(KVM_FORMS[form](planted(KVM, "reason=80000021", "reason=0000001e")))
    assert len(found.dump.readings) == 104, found.dump.warnings
    assert found.dump.warnings == []
    assert (ids(found), found.causes, found.remarks, found.contradicted) == ([], (), (), [])
    assert render(found).startswith("This VM entry did not fail")


@pytest.mark.parametrize(("number", "form"), list(enumerate(KVM_FORMS)))
def test_a_planted_mistake_in_a_kvm_dump_is_the_cause(number, form):
    old, new, check = KVM_CAUSES[number % len(KVM_CAUSES)]
    found = answered(KVM_FORMS[form](planted(KVM, old, new)))
    assert check in " ".join(ids(found)), ids(found)
    assert len(ids(found)) == 1
    assert found.repairs
    assert found.causes == ()
    assert "Smallest change: " in "\n".join(render(found).splitlines()[:12])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8-sig"])
def test_byte_order_marks(encoding):
    text = planted(KVM, "RFLAGS=0x00000246", "RFLAGS=0x00000244")
    found = answered(text.encode(encoding) if encoding == "utf-8-sig" else ("\ufeff" + text).encode(encoding))
    assert ids(found) == ["guest.rflags.reserved.one"]


def test_utf_16_that_lost_its_mark():
    assert ids(answered(planted(KVM, "RFLAGS=0x00000246", "RFLAGS=0x00000244").encode("utf-16-le"))) == ["guest.rflags.reserved.one"]
    words = planted(f"VM entry fails – why?\n{KVM}", "RFLAGS=0x00000246", "RFLAGS=0x00000244").encode("utf-16-le")
    assert ids(answered(words)) == ["guest.rflags.reserved.one"]


XEN_FORMS = {
    "serial console": lambda text: lines(text, "(XEN) "),
    "with time": lambda text: lines(text, "(XEN) [2023-02-11 08:01:44] "),
    "with seconds": lambda text: lines(text, "(XEN) [{t}] "),
    "in syslog": lambda text: lines(text, "Feb 11 08:01:44 dom0 xenconsoled: (XEN) "),
    "bare": lambda text: text,
    "CRLF": lambda text: lines(text, "(XEN) ").replace("\n", "\r\n"),
    "quoted": lambda text: lines(text, "> > (XEN) "),
}
XEN_CAUSES = [
    ("CS: 0010 0a09b", "CS: 0010 0a08b", "guest.cs.s"),
    ("TR: 0040 0008b 00002087", "TR: 0044 0008b 00002087", "guest.tr.sel.ti"),
    ("GDTR:            0000007f ffff88003d00a000", "GDTR:            0000007f 00ff88003d00a000", "gdtr"),
    ("actual=0x00000000000426f0", "actual=0x00000000000406f0", "guest.cr4.fixed.ones"),
    ("SS: 0018 0c093", "SS: 0018 0c09b", "guest.ss.type"),
    ("EFER(VMCS) = 0x0000000000000d01", "EFER(VMCS) = 0x0000000000000901", "guest.efer"),
    ("RFLAGS=0x00000246", "RFLAGS=0x00008246", "guest.rflags.reserved"),
]


@pytest.mark.parametrize("form", XEN_FORMS)
def test_a_legal_xen_dump_is_accused_of_nothing(form):
    found = answered(
        XEN_FORMS[form](
            XEN.replace("d4v1 vmentry failure (reason 0x80000021): Invalid guest state (0)\n", "").replace("=80000021", "=0000000c")
        )
    )
    assert len(found.dump.readings) == 106, found.dump.warnings
    assert found.dump.warnings == []
    assert (ids(found), found.causes, found.remarks, found.contradicted) == ([], (), (), [])


@pytest.mark.parametrize(("number", "form"), list(enumerate(XEN_FORMS)))
def test_a_planted_mistake_in_a_xen_dump_is_the_cause(number, form):
    old, new, check = XEN_CAUSES[number]
    found = answered(XEN_FORMS[form](planted(XEN, old, new)))
    assert ids(found), found.undecided
    assert any(check in one for one in ids(found)), ids(found)
    assert found.repairs
    assert found.dump.reported is not None
    assert found.dump.reported.qualification == 0


# Lines of names and values: (text, fields that must be read, the check that must be the cause)
PLAIN = {
    "Rust's alternate debug form": (
        """\
[hypervisor] VM entry failed, dumping guest state
GuestState {
    cr0: 0x80050033,
    cr3: 0x1aad000,
    cr4: 0x2668,
    rflags: 0x2,
    rip: 0xffff800000101000,
    cs: SegmentState {
        selector: 0x8,
        base: 0x0,
        limit: 0xffffffff,
        access_rights: 0xa09b,
    },
    tr: SegmentState {
        selector: 0x10,
        base: 0xffff800000200000,
        limit: 0x67,
        access_rights: 0x89,
    },
}
exit reason: 0x80000021
""",
        {"guest_cr4": 0x2668, "guest_tr_access_rights": 0x89, "guest_cs_base": 0, "guest_rip": 0xFFFF800000101000},
        "guest.tr.type",
    ),
    "Rust with width and underscores": (
        "vmcs::guest::CS_ACCESS_RIGHTS = 0x0000_a09b\nvmcs::guest::SS_ACCESS_RIGHTS = 0x0000_c095\n"
        "vmcs::guest::RFLAGS = 0x0000_0000_0000_0002\nvmcs::control::VMENTRY_CONTROLS = 0x0000_93ff\nexit reason 0x8000_0021\n",
        {"guest_cs_access_rights": 0xA09B, "guest_ss_access_rights": 0xC095, "vm_entry_controls": 0x93FF, "guest_rflags": 2},
        "guest.ss.type",
    ),
    "capital X and tabs": (
        "GUEST_CR0\t0X80000031\nGUEST_CR4\t0X2020\nGUEST_RFLAGS\t0X1\nVM_EXIT_REASON\t0X80000021\n",
        {"guest_cr0": 0x80000031, "guest_cr4": 0x2020, "guest_rflags": 1},
        "guest.rflags.reserved.one",
    ),
    "decimal": (
        "GUEST_TR_LIMIT = 103\nGUEST_TR_AR_BYTES = 137\nGUEST_TR_SELECTOR = 24\nGUEST_CR0 = 0x80000031\nGUEST_CR4 = 0x2020\nVM_ENTRY_CONTROLS = 0x13fb\n"
        "VM exit reason: 2147483681\n",
        {"guest_tr_limit": 103, "guest_tr_access_rights": 0x89, "guest_tr_selector": 0x18},
        "guest.tr.type",
    ),
    "encodings with H": (
        "6800h: 80000031h\n6804h: 0000000000002020h\n6820h: 0000000000000002h\n4824h: 00000003h\n4402h: 80000021h\n",
        {"guest_cr0": 0x80000031, "guest_interruptibility_state": 3, "exit_reason": 0x80000021},
        "guest.intr.sti-movss",
    ),
    "encodings and values": (
        "0x00006800 = 0x0000000080000031\n0x00006804 = 0x0000000000000020\n0x00006820 = 0x0000000000000002\n0x00004402 = 0x80000021\n",
        {"guest_cr0": 0x80000031, "guest_cr4": 0x20, "guest_rflags": 2},
        "guest.cr4.fixed.ones",
    ),
    "VMREAD lines": (
        "vmread(0x6800) = 0x80000011\nvmread(0x6804) = 0x2020\nvmread(0x4402) = 0x80000021\n",
        {"guest_cr0": 0x80000011, "guest_cr4": 0x2020},
        "guest.cr0.fixed.ones",
    ),
    "Bochs": (
        "VMCS_GUEST_CR0: 0x0000000080000031\nVMCS_GUEST_CR4: 0x0000000000002020\nVMCS_32BIT_GUEST_LDTR_ACCESS_RIGHTS: 0x00000082\n"
        "VMCS_16BIT_GUEST_LDTR_SELECTOR: 0x0004\nVMCS_GUEST_RFLAGS: 0x2\nexit reason: 0x80000021\n",
        {"guest_ldtr_access_rights": 0x82, "guest_ldtr_selector": 4},
        "guest.ldtr.sel.ti",
    ),
    "VirtualBox": (
        "VMX_VMCS32_GUEST_SS_ACCESS_RIGHTS 0xc013\nVMX_VMCS_GUEST_CR0 0x80000031\nVMX_VMCS_GUEST_RFLAGS 0x2\nVMX_VMCS32_GUEST_CS_ACCESS_RIGHTS 0xa09b\n"
        "VM-exit reason: 0x80000021\n",
        {"guest_ss_access_rights": 0xC013, "guest_cr0": 0x80000031},
        "guest.ss.p",
    ),
    "hvpp": (
        "VMCS_GUEST_IDTR_BASE = 0x0000800000000000\nVMCS_GUEST_GDTR_LIMIT = 0x57\nVMCS_CTRL_VMENTRY_CONTROLS = 0x93ff\nexit reason = 0x80000021\n",
        {"guest_idtr_base": 0x0000800000000000, "guest_gdtr_limit": 0x57, "vm_entry_controls": 0x93FF},
        "idtr.base",
    ),
    "Windows driver": (
        "[+] GuestCsArBytes      = 0xA09B\n[+] GuestCr0 = 0x80000031\n[+] GuestCr4 = 0x2620\n[+] GuestRFlags = 0x2002\n[+] GuestDr7 = 0x100000400\n"
        "[+] VmEntryControls = 0x93FF\n[-] VMLAUNCH failed, exit reason 0x80000021, qualification 0x0\n",
        {"guest_cs_access_rights": 0xA09B, "guest_dr7": 0x100000400, "guest_rflags": 0x2002},
        "guest.dr7",
    ),
    "markdown table": (
        "| field | encoding | value |\n|---|---|---|\n| GUEST_CR0 | 0x6800 | 0x80000031 |\n| GUEST_CR4 | 0x6804 | 0x2020 |\n"
        "| GUEST_ACTIVITY_STATE | 0x4826 | 0x1 |\n| GUEST_RFLAGS | 0x6820 | 0x202 |\n| GUEST_INTERRUPTIBILITY_INFO | 0x4824 | 0x1 |\n"
        "\nexit reason 0x80000021\n",
        {"guest_activity_state": 1, "guest_interruptibility_state": 1, "guest_rflags": 0x202},
        "guest.activity",
    ),
    "tracing": (
        "2024-05-01T10:00:00.000001Z  INFO vmx::vcpu: field=GuestCr0 value=0x80000031\n"
        '2024-05-01T10:00:00.000002Z  INFO vmx::vcpu: field="GuestCr4" value=0x20\n'
        "2024-05-01T10:00:00.000003Z ERROR vmx::vcpu: vm-entry failed, exit reason: 0x80000021\n",
        {"guest_cr0": 0x80000031, "guest_cr4": 0x20},
        "guest.cr4.fixed.ones",
    ),
    "the SDM's words": (
        "Guest RFLAGS: 0000000000000202H\nGuest interruptibility state: 00000001H\nVM-entry interruption-information field: 80000020H\n"
        "VM-entry exception error code: 00000000H\nExit reason: 80000021H\nExit qualification: 0000000000000000H\n",
        {"guest_rflags": 0x202, "guest_interruptibility_state": 1, "vm_entry_interruption_info": 0x80000020},
        "guest.intr.extint.sti",
    ),
    "HAXM on macOS": (
        "2019-06-01 10:00:00.123456+0200 localhost kernel[0]: (intelhaxm) haxm_warning: 4402 VMX_EXIT_INFO_REASON: 80000021\n"
        "2019-06-01 10:00:00.123457+0200 localhost kernel[0]: (intelhaxm) haxm_warning: 6820 GUEST_RFLAGS: 8002\n"
        "2019-06-01 10:00:00.123458+0200 localhost kernel[0]: (intelhaxm) haxm_warning: 6800 GUEST_CR0: <private>\n",
        {"guest_rflags": 0x8002, "exit_reason": 0x80000021},
        "guest.rflags.reserved",
    ),
    "XMHF": (
        "CPU(0x00): VM-ENTRY error: reason=0x80000021, qualification=0x0000000000000000\nGuest State follows:\n"
        "guest_CS_selector=0x0010\nguest_CS_access_rights=0x0000c09b\nguest_CS_base/limit=0x00000000/0xffff\n"
        "guest_TR_selector=0x0018\nguest_TR_access_rights=0x0000008b\nguest_TR_base/limit=0x00012000/0x0067\n"
        "guest_CR0=0x80000031, guest_CR4=0x00000030, guest_CR3=0x00101000\nguest_RFLAGS=0x00000002\n",
        {"guest_cs_access_rights": 0xC09B, "guest_tr_limit": 0x67, "guest_cr4": 0x30, "guest_cr3": 0x101000},
        "guest.cr4.fixed.ones",
    ),
}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("form", ["as is", "CRLF", "quoted", "UTF-16"])
def test_names_and_values(name, form):
    text, fields, check = PLAIN[name]
    shaped: str | bytes = {
        "as is": text,
        "CRLF": text.replace("\n", "\r\n"),
        "quoted": lines(text, "> "),
        "UTF-16": ("\ufeff" + text).encode("utf-16-le"),
    }[form]
    found = answered(shaped)
    assert {field: found.dump.readings[field].value for field in fields if field in found.dump.readings} == fields, found.dump.warnings
    assert found.dump.reported is not None
    assert found.dump.reported.exit_reason == 0x80000021
    assert any(check in one for one in ids(found)), ids(found)


def old_kernel(text: str) -> str:
    """The same dump as kernels up to 5.18 print it."""
    for new, old in (
        ("EFER= 0x0000000000000d01\nPAT = 0x0407010600070106", "EFER =     0x0000000000000d01  PAT = 0x0407010600070106"),
        ("EFER= 0x0000000000000d01\nPAT = 0x0407050600070106", "EFER = 0x0000000000000d01  PAT = 0x0407050600070106"),
        (" TertiaryExec=0x0000000000000000\nPinBased=0x000000ff EntryControls", " PinBased=000000ff\nEntryControls"),
        ("CPUBased=0xb5a06dfa SecondaryExec=0x021217ea", "CPUBased=b5a06dfa SecondaryExec=001217ea"),
    ):
        text = planted(text, new, old)
    return text


def test_an_old_and_a_new_dump_in_one_text_are_held_apart():
    wrong = planted(old_kernel(KVM), "attr=0x0008b", "attr=0x0008f")
    first, second = read_text(f"{KVM}\nand on the other host:\n{wrong}")
    assert (len(first.readings), len(second.readings)) == (104, 103)
    assert ids(answer(first)) == []
    assert ids(answer(second)) == ["guest.tr.type.ia32e"]


def test_dumps_of_two_processors_interleaved_are_held_apart():
    wrong = planted(KVM, "attr=0x0008b", "attr=0x0008f").splitlines()
    both = [
        line for pair in zip(KVM.splitlines(), wrong, strict=True) for line in (f"[  99.1][ T41] {pair[0]}", f"[  99.1][ T42] {pair[1]}")
    ]
    first, second = read_text("\n".join(both) + "\n")
    assert len(first.readings) == len(second.readings) == 104
    assert ids(answer(first)) == []
    assert ids(answer(second)) == ["guest.tr.type.ia32e"]


def test_cet_of_the_host_at_the_very_end():
    cet = "S_CET = 0x000000000000000{0}\nSSP = 0xffffc9000000000{0}\n{1}SSP TABLE = 0x0000000000000000\n"
    text = planted(KVM, "*** Host State ***\n", cet.format(8, "") + "*** Host State ***\n") + cet.format(0, "INTR ") + "DeadlinePhy = 0x0\n"
    found = answered(text)
    assert found.dump.warnings == []
    assert (found.dump.readings["guest_ssp"].value, found.dump.readings["host_ssp"].value) == (0xFFFFC90000000008, 0xFFFFC90000000000)


def test_an_old_xen_prints_the_hosts_rsp_before_its_rip(sample):
    dump = read_text(sample("xen-4.4"))[0]
    assert (len(dump.readings), dump.warnings) == (101, [])
    assert dump.readings["host_rsp"].value == 0xFFFF83043FF0FF90
    assert dump.readings["guest_rip"].value == 0x1000
    assert dump.readings["guest_ia32_pat"].value != dump.readings["host_ia32_pat"].value


#: Lines like KVM's that a monitor of one's own may print among registers in other forms: (line, a field in it, its value)
LIKE_KVM = [
    ("CS: sel=0x8 base=0x0 limit=0xffffffff ar=0xc09b", "guest_cs_access_rights", 0xC09B),
    ("TR: sel=0x28, base=0x1000, limit=0x67, attr=0x8b", "guest_tr_base", 0x1000),
    ("GDTR: base=0x1000 limit=0x7f", "guest_gdtr_limit", 0x7F),
    ("EntryControls=0x11ff", "vm_entry_controls", 0x11FF),
    ("DebugCtl=0x0", "guest_ia32_debugctl", 0),
    ("Interruptibility = 0x0", "guest_interruptibility_state", 0),
    ("VMExit: intr_info=0x0", "vm_exit_interruption_info", 0),
    ("reason=80000021 qualification=0", "exit_reason", 0x80000021),
]


@pytest.mark.parametrize(("line", "field", "value"), LIKE_KVM)
def test_one_line_like_kvms_makes_no_dump_of_kvm(line, field, value):
    found = answered(f"cr0=0x31 rflags=0x0\n{line}\n")
    assert found.dump.format == "name and value lines"
    assert found.dump.readings[field].value == value
    assert found.dump.readings["guest_cr0"].value == 0x31
    assert ids(found) == ["guest.rflags.reserved.one"]


@pytest.mark.parametrize(
    "text",
    [
        "FSBase=00007f0000000740 GSBase=ffff888000000000 TRBase=fffffe0000003000",
        "FSBase=00007f0000000740 GSBase=ffff888000000000 TRBase=fffffe0000003000\nRIP: 0010:0xffffffff81000000",
        "CR0: actual=0x0000000080050033, shadow=0x0000000080050033, gh_mask=ffffffffffffffff\ncr0=0x31",
    ],
)
def test_a_few_lines_in_kvms_form_are_of_kvm(text):
    assert read_text(f"{text}\n")[0].format == "Linux KVM VMCS dump"


def values(dump) -> dict[str, int]:
    return {field: reading.value for field, reading in dump.readings.items()}


MARKS = ["**{}**", "[{}]", "-> {}", ">>> {}", "!!! {}", "[b]{}[/b]", "`{}`", "__{}__"]


@pytest.mark.parametrize("body", [KVM, XEN], ids=["KVM", "Xen"])
@pytest.mark.parametrize("mark", MARKS)
def test_marks_of_emphasis_make_no_value_wrong(body, mark):
    for line in ("RFLAGS=0x00000246", "Interruptibility = 00000000  ActivityState = 00000000"):
        (dump,) = read_text(planted(body, line, mark.format(line)))
        assert values(dump).items() <= values(read_text(body)[0]).items()
        assert len(dump.readings) >= 100


def columns(text: str, width: int, prefix: str) -> str:
    """Lines broken at a column, wherever that is, as consoles do."""
    whole = [prefix + line for line in text.splitlines()]
    return "".join(line[at : at + width] + "\n" for line in whole for at in range(0, len(line), width))


@pytest.mark.parametrize("width", [72, 80, 90])
@pytest.mark.parametrize(
    ("body", "prefix"),
    [(KVM, "[  417.100001] "), (KVM, "kernel: "), (XEN, "[  417.100001] "), (XEN, "(XEN) ")],
    ids=["KVM", "kernel", "Xen", "(XEN)"],
)
def test_lines_that_a_console_broke_at_a_column_make_no_value_wrong(body, width, prefix):
    (dump,) = read_text(columns(body, width, prefix))
    assert values(dump).items() <= values(read_text(body)[0]).items()
    assert len(dump.readings) >= 50


@pytest.mark.parametrize("rest", ["ffffffff", "ffffffffff", "fffffffff0, x"])
def test_a_broken_number_that_does_not_add_up_is_not_used(rest):
    (dump,) = read_text(planted(KVM, "gh_mask=fffffffffffffff7", f"gh_mask=fffffff\n{rest}"))
    assert "cr0_guest_host_mask" not in dump.readings
    assert len(dump.readings) == 103
    assert any("gh_mask = fffffff may be cut off" in warning for warning in dump.warnings)


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        ("RSP = 0x", "RSP = 0xffff...  RIP = 0x0000000000001000\nX = 0x", "guest_rsp"),
        ("GSBase=", "GSBase=ffff888... X=", "host_gs_base"),
        ("attr=0x0008b, limit=0x", "attr=0x0008b, limit=0x0… X=0x", "guest_tr_limit"),
    ],
)
def test_an_address_left_out_in_part_is_no_value(old, new, lost):
    (dump,) = read_text(planted(KVM, old, new))
    assert lost not in dump.readings
    assert any("is not a number" in warning for warning in dump.warnings)


@pytest.mark.parametrize("body", [KVM, XEN], ids=["KVM", "Xen"])
@pytest.mark.parametrize("key", ["RFLAGS=", "Sysenter RSP=", "PAT = ", "TR:", "reason="])
@pytest.mark.parametrize("place", ["below", "above"])
def test_a_line_quoted_again_makes_no_value_wrong(body, key, place):
    line = next(line for line in body.splitlines() if key in line)
    quoted = f"> {line}\nThat line looks odd.\n"
    (dump,) = read_text(f"{body}\n{quoted}" if place == "below" else f"{quoted}\n{body}")
    assert values(dump).items() <= values(read_text(body)[0]).items()


def test_a_line_of_a_wrapped_dump_quoted_again_costs_nothing():
    wrapped = wrap(lines(KVM, "[{t}] "))
    quoted = "\n".join(
        f"> {line}" for line in wrap("TR:   sel=0x0040, attr=0x0008b, limit=0x00002087, base=0xfffffe0000003000", 50).splitlines()
    )
    body = planted(wrapped, "TR:   sel=0x0040", "TR:   sel=0x0040")
    (dump,) = read_text(f"{body}\nIs it this?\n{quoted}\n")
    assert len(dump.readings) == 104, dump.warnings


@pytest.mark.parametrize("body", [KVM, XEN], ids=["KVM", "Xen"])
def test_a_dump_with_every_line_twice_is_one(body):
    (dump,) = read_text("".join(f"{line}\n{line}\n" for line in lines(body, "[{t}] ").splitlines()))
    assert values(dump).items() <= values(read_text(body)[0]).items()


def test_the_hosts_cet_state_that_equals_the_guests_is_no_quotation():
    cet = "S_CET = 0x0000000000000000\nSSP = 0x0000000000000008\n"
    (dump,) = read_text(planted(KVM, "*** Host State ***\n", cet + "*** Host State ***\n") + cet)
    assert dump.readings["host_ssp"].value == dump.readings["guest_ssp"].value == 8
