"""Every field, in the shapes of lines that programs print and people paste: none is lost, none is read wrongly."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from vmfuzz.arch.fields import FIELDS
from vmfuzz.errors import UsageError
from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.formats.program import is_code
from vmfuzz.explain.given import from_words
from vmfuzz.explain.names.labels import match_label, match_msr
from vmfuzz.explain.reading import read_text
from vmfuzz.explain.text.large import read_all

KVM = (Path(__file__).parent / "bodies" / "kvm.txt").read_text(encoding="utf-8")
VALUES = {name: reading.value for name, reading in read_text(KVM)[0].readings.items() if name in FIELDS}
SPELLINGS = {
    "own": str,
    "capitals": str.upper,
    "camel": lambda name: name.title().replace("_", ""),
    "k": lambda name: "k" + name.title().replace("_", ""),
}
#: shape -> (field's encoding, its label, its value, hexadecimal digits of its width) as a line
SHAPES = {
    "equals": "{label} = {value:#x}",
    "padded without mark": "{label}: {value:0{digits}x}",
    "not padded, without mark": "{label}: {value:x}",
    "H": "{label} : {value:0{digits}X}H",
    "columns": "{label:<62}{value:#x}",
    "dots": "{label} ........ {value:#x}",
    "tab": "{label}\t{value:0{digits}x}",
    "encoding first": "{encoding:04x} {label}: {value:x}",
    "encoding in brackets": "{label} ({encoding:#06x}) = {value:#x}",
    "encoding only": "{encoding:#010x}: {value:#018x}",
    "encoding with H": "{encoding:04X}H ({label}): {value:X}H",
    "bare encodings": "{encoding:04x} {value:016x}",
    "bare encodings with a mark": "{encoding:#06x} {value:#x}",
    "arrow": "{encoding:#06x} => {value:#x}",
    "CSV": "{label},{encoding:#06x},{value:#x}",
    "CSV of two": '"{label}","{value:#x}"',
    "semicolons": "{label};{value:#x}",
    "bars": "| `{label}` | `{value:#x}` |",
    "HTML": "<tr><td>{label}</td><td>{value:#x}</td></tr>",
    "VMREAD of a name": "vmread({label}) = {value:#x}",
    "VMREAD of an encoding": "vmread({encoding:#x}) = {value:#x}",
    "comment": "  # {label} = {value:#x}",
    "slashes": "// {label} = {value:#x}",
    "statement": "{label}={value:#x};",
    "brackets": "[{label}] {value:#x}",
    "colours": "\x1b[1;32m{label}\x1b[0m: \x1b[33m{value:#x}\x1b[0m",
    "decimal": "    {label}: {value},",
    "decimal, then hexadecimal": "{label} = {value} ({value:#x})",
    "hexadecimal, then decimal": "{label} = {value:#x} ({value})",
    "suffix of C": "{label} = {value:#x}ULL",
    "underscore": "{label} = {value:#_x}",
    "quoted": "{label}: '{value:#x}'",
    "Markdown": "* **{label}:** `{value:#x}`",
    "Markdown with a remark": "- **{label}** = `{value:#x}` (as written)",
    "DebugView": "00000024\t2.18095708\t[hv] {label} = {value:#x}\t",
    "ACRN": "[326649175us][cpu=0][vm0:vcpu0][sev=1][seq=18626]:{label}: {value:#x}",
    "Python's logging": "2024-01-01 10:10:10,123 - hv - INFO - {label} = {value:#x}",
    "width": "{label} ({bits}-bit): {value:#x}",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_field_is_lost_and_none_is_wrong(shape, spelling):
    text = "".join(
        SHAPES[shape].format(
            label=SPELLINGS[spelling](name),
            encoding=FIELDS[name].encoding,
            value=value,
            digits=FIELDS[name].width // 4,
            bits=FIELDS[name].width,
        )
        + "\n"
        for name, value in VALUES.items()
    )
    (dump,) = read_text(text)
    assert {name: reading.value for name, reading in dump.readings.items() if name in FIELDS} == VALUES, dump.warnings[:3]
    assert answer(dump).causes == ()


NESTED = {"cr0": 0x80050033, "rip": 0x1000, "cs": {"selector": 16, "access_rights": 0xA09B, "limit": 0xFFFFFFFF, "base": 0}}
READ = {
    "guest_cr0": 0x80050033, "guest_rip": 0x1000, "guest_cs_selector": 16, "guest_cs_access_rights": 0xA09B, "guest_cs_limit": 0xFFFFFFFF,
    "guest_cs_base": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"vmcs": {"guest": NESTED}}),
        json.dumps({"guest": NESTED}, indent=2),
        "\n".join(json.dumps({"name": name, "value": hex(value)}) for name, value in READ.items()),
        json.dumps([{"field": name, "encoding": hex(FIELDS[name].encoding), "value": value} for name, value in READ.items()]),
        "\n".join(json.dumps({"_PID": "1", "MESSAGE": f"hv: {name} = {value:#x}"}) for name, value in READ.items()),
        "$1 = {cr0 = 0x80050033, rip = 0x1000, cs = {selector = 0x10, access_rights = 0xa09b, limit = 0xffffffff, base = 0x0}}\n",
        "Guest { cr0: 2147811379, rip: 4096, cs: Segment { selector: 16, access_rights: 41115, limit: 4294967295, base: 0 } }\n",
        "Guest { cr0: 80050033, rip: 1000, cs: Segment { selector: 10, access_rights: a09b, limit: ffffffff, base: 0 } }\n",
    ],
)
def test_structures(text):
    (dump,) = read_text(text)
    assert {name: reading.value for name, reading in dump.readings.items()} == READ, dump.warnings


def test_a_path_says_whose_register_it_is():
    (dump,) = read_text("vmcs::host::RIP = 0x1000\nvmcs::guest::RIP = 0x2000\nvmcs->host_cr3 = 0x3000\n")
    assert {name: reading.value for name, reading in dump.readings.items()} == {"host_rip": 0x1000, "guest_rip": 0x2000, "host_cr3": 0x3000}


@pytest.mark.parametrize(
    "form",
    [
        "{name}: selector={sel}, base={base}, limit={limit}, ar={ar}",
        "guest {name}: selector = {sel}, base = {base}, limit = {limit}, access_rights = {ar}",
        "{name}: sel: {sel} base: {base} limit: {limit} attr: {ar}",
        "{name}:  sel = {sel}, attr = {ar}, limit = {limit}, base = {base}",
    ],
)
def test_parts_behind_the_name_of_their_register(form):
    parts = {"sel": "0x10", "base": "0x1000", "limit": "0xffff", "ar": "0x9b"}
    lines = [form.format(name=name, **parts) for name in ("CS", "TR", "LDTR")]
    (dump,) = read_text("\n".join((*lines, "GDTR: base = 0x2000, limit = 0xff", "")))
    of_each = {"selector": 0x10, "base": 0x1000, "limit": 0xFFFF, "access_rights": 0x9B}
    expected = {f"guest_{register}_{part}": value for register in ("cs", "tr", "ldtr") for part, value in of_each.items()}
    expected |= {"guest_gdtr_base": 0x2000, "guest_gdtr_limit": 0xFF}
    assert {name: reading.value for name, reading in dump.readings.items()} == expected
    assert not dump.warnings
    assert not any(reading.assumed for reading in dump.readings.values())


def test_rows_of_markdown():
    text = (
        "| Field | Value | Status |\n| :--- | :--- | :--- |\n"
        "| **GUEST_TR** | Sel=`0x0028`, Base=`0x0816FC90`, Lim=`0x67`, AR=`0x8B` | Match |\n"
        "| **GUEST_GDTR** | Base=`0x08170160`, Limit=`0xFFFF` | Match |\n"
        "| **IA32_VMX_TRUE_ENTRY (0x490)**| `0x0076FFFF000011FB` | N/A |\n"
        "| **IA32_VMX_PROCBASED2 (0x48B)**| `0x0000000000000082` | N/A |\n"
    )
    (dump,) = read_text(text)
    assert {name: reading.value for name, reading in dump.readings.items()} == {
        "guest_tr_selector": 0x28, "guest_tr_base": 0x0816FC90, "guest_tr_limit": 0x67, "guest_tr_access_rights": 0x8B,
        "guest_gdtr_base": 0x08170160, "guest_gdtr_limit": 0xFFFF,
    }  # fmt: skip
    assert {number: msr.value for number, msr in dump.msrs.items()} == {0x490: 0x0076FFFF000011FB, 0x48B: 0x82}
    assert dump.warnings == []


def test_parts_behind_no_one_register_are_not_used():
    (dump,) = read_text(
        "ES: selector=0x1, base=0x4\nCS: selector=0xDS: selector=0x18, base=0x3\nlimit = 0x5\nhost TR: base = 0x6, limit = 0x7\n"
    )
    assert {name: reading.value for name, reading in dump.readings.items()} == {
        "guest_es_selector": 1,
        "guest_es_base": 4,
        "host_tr_base": 6,
    }
    assert {warning.partition(":")[0] for warning in dump.warnings} == {"line 2", "line 3", "line 4"}


def test_shapes_that_also_stand_in_kvm_dumps_are_no_kvm_dump():
    (dump,) = read_text("CR0 = 0x80050033\nCR3 = 0x1000\nCR4 = 0x2020\nRSP = 0x2000\nRIP = 0x3000\nRFLAGS = 0x2\n")
    assert len(dump.readings) == 6


def test_assignments_of_a_program_are_no_values():
    (dump,) = read_text(
        "PIN_BASED_VM_EXEC_CONTROL = 0x16\nint set(void) {\n    pin_ctls.val = 0;\n    entry_ctls.val = 0;\n    return 0;\n}\n"
    )
    assert {name: reading.value for name, reading in dump.readings.items()} == {"pin_based_controls": 0x16}


@pytest.mark.parametrize("end", ["vmx_guest_cr4 = 1 << ", "vmx_control_ept_pointer_full = 0x18 | (u64)e", "ss_rights = 0x93; // accessed"])
def test_the_rest_of_a_statement_is_no_value(end):
    (dump,) = read_text(f"vmx_host_cr0 = get_cr0();\nvmx_guest_cr3 = 0;\n{end}\n")
    assert not dump.readings


def test_lines_that_begin_with_a_sharp_are_no_program():
    text = "# vmread(0x2) failed\n# EPTP_INDEX   INVALID_VALUE\n# GUEST_ES_SEL = 0x10\n# GUEST_CS_SEL = 0x8\n"
    (dump,) = read_text(text)
    assert {name: reading.value for name, reading in dump.readings.items()} == {"guest_es_selector": 0x10, "guest_cs_selector": 8}


@pytest.mark.parametrize("line", ["#define DEBUG", "# include <vmx.h>", "#ifdef DEBUG", "#if DEBUG", "#else", "# endif", "#pragma once"])
def test_directives_are_a_program(line):
    assert is_code(line)


@pytest.mark.parametrize("label", ["VMX_ENTRY_CONTROLS", "VMX_EXIT_CONTROLS"])
def test_a_control_word_is_no_capability_msr(label):
    assert match_msr(label) is None
    assert match_label(label).fields == (f"vm_{label.split('_')[1].lower()}_controls",)


@pytest.mark.parametrize(
    ("words", "reason", "error"),
    [
        ("80000021H", 0x80000021, None),
        ("Failed to enter VM, reason 33, code 0", 0x80000021, None),
        ("VM entry failed: reason 0x21 qual 0x0", 0x80000021, None),
        ("FailEntry(2147483681, 2)", 0x80000021, None),
        ("EXIT_REASON_INVALID_GUEST_STATE", 0x80000021, None),
        ("VM-entry failure due to MSR loading", 0x80000022, None),
        ("unhandled vmexit: reason 0x30", 0x30, None),
        ("VMLAUNCH failed. Instruction error = 7.", None, 7),
        ("kvm: vm entry failed with error 0x7", None, 7),
        ("vmlaunch failed with ZF=1, error 8", None, 8),
        ("vm_instruction_error: VM entry with invalid host-state field(s)", None, 8),
        ("vmwrite failed with error code 12", None, 12),
        ("KVM: entry failed, hardware error 0x0", None, 0),
        ("vmlaunch failed: CF=1 ZF=0", None, None),
    ],
)
def test_outcomes_in_other_words(words, reason, error):
    found = from_words(words)
    assert found is not None
    assert (found.exit_reason, found.error) == (reason, error)


@pytest.mark.parametrize("words", ["0x80000030", "0xC0000005", "0xffffffff", "KVM: entry failed, hardware error 0xffffffff"])
def test_what_no_intel_processor_reports_is_no_outcome(words):
    assert from_words(words) is None


def test_a_large_log_is_searched_and_keeps_its_line_numbers():
    noise = b"".join(b"[%12.6f] usb 1-1: new device number %d\n" % (index / 10, index) for index in range(40_000))
    text, left_out = read_all(io.BytesIO(noise + KVM.encode() + noise), "log")
    assert "only the" in left_out
    (dump,) = read_text(text)
    assert {name: reading.value for name, reading in dump.readings.items() if name in FIELDS} == VALUES
    assert min(reading.line for reading in dump.readings.values()) > 40_000


def test_a_large_log_in_utf_16_is_searched_like_any_other():
    class InPieces(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert size is not None
            assert 0 < size <= 1 << 21, "the whole log is held in memory"
            return super().read(size)

    noise = "usb 1-1: new device\n" * 40_000
    text, left_out = read_all(InPieces((noise + KVM + noise).encode("utf-16")), "log")
    assert "only the" in left_out
    assert min(reading.line for reading in read_text(text)[0].readings.values()) > 40_000


def test_a_large_log_without_a_dump_is_not_called_empty():
    text, left_out = read_all(io.BytesIO(b"usb 1-1: new device\n" * 100_000), "log")
    assert left_out == "log has 100,000 lines, and none that looks like a dump or the outcome of a VM entry"
    assert read_text(text)[0].empty
    with pytest.raises(UsageError, match="is binary data"):
        read_all(io.BytesIO(bytes(2_000_000)), "image")


def test_what_has_no_end_is_refused():
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return bytes(size)

    with pytest.raises(UsageError, match="cut out the part"):
        read_all(Endless(), "zero")  # type: ignore[arg-type]


@pytest.mark.parametrize(("data", "what"), [(b"", "is empty"), (b" \n", "is empty"), (bytes(range(1, 32)) * 40, "is binary data")])
def test_what_is_no_text_is_said(data, what):
    with pytest.raises(UsageError, match=what):
        read_all(io.BytesIO(data), "file")


@pytest.mark.parametrize(
    "text",
    [
        "GUEST_RIP = 0x7c00\nGUEST_RSP = 0x7c00\n",  # a boot sector and its stack
        "GUEST_FS_SELECTOR = 0x7c0\nGUEST_GS_SELECTOR = 0x7c0\nGUEST_FS_BASE = 0x7c00\nGUEST_GS_BASE = 0x7c00\n",
        "GUEST_CR3 = 0x2000\nGUEST_CR4 = 0x2000\n",
        "VM_ENTRY_CONTROLS = 0x2413fb\nVM_EXIT_CONTROLS = 0x36ffb\nexit reason 0x80000021\n",  # "load guest IA32_LBR_CTL" is bit 21
        "#define GUEST_CS_LIMIT 0x4802\n#define GUEST_CS_LIMIT_VAL 0xffff\n#define GUEST_RSP 0x681c\n#define GUEST_STACK 0x8000\n",
        "#define EPT_POINTER 0x201a\n#define EPT_POINTER_HIGH 0x201b\n#define TSC_OFFSET 0x2010\n#define TSC_OFFSET_HIGH 0x2011\n",
        "GUEST_CS_SELECTOR,0x10,0x0\nGUEST_SS_SELECTOR,0x18,0x0\nGUEST_DS_SELECTOR,0x0,0x0\n",
        "GUEST_DS_AR = 0x1c0f3\nGUEST_ES_AR = 0x1cf93\n",
    ],
)
def test_what_may_be_meant_is_no_mistake(text):
    found = answer(read_text(text)[0])
    assert [mistake.what for mistake in [*found.causes, *found.remarks]] == []


def test_rights_of_lar_are_the_cause_though_the_mode_is_not_shown():
    found = answer(read_text("GUEST_CS_AR = 0x00af9b00\nexit reason 0x80000021\n")[0])
    assert "not shifted right by 8" in found.causes[0].what


def test_a_dump_printed_like_kvms_with_blanks():
    text = """*** Guest State ***
     CR0: actual = 0x30, shadow = 0x60000010, gh_mask = 0xe0040037
     CS:  sel = 0x0, attr = 0x9b, limit = 0xffff, base = 0x0
     GDTR:  limit = 0xffff, base = 0x0
     EFER = 0x0
     DebugCtl = 0x0, DebugExceptions = 0x0
*** Host State ***
     CS = 0x8, SS = 0x28, DS = 0x0, ES = 0x0, FS = 0x0, GS = 0x0, TR = 0x50
     CR0 = 0x80000033
*** Control State ***
     VMExit: intr_info = 0x0, errcode = 0x0, ilen = 0x3
                 reason = 0x30, qualification = 0x182
"""
    dump = read_text(text)[0]
    expected = {"guest_cr0": 0x30, "guest_cs_access_rights": 0x9B, "guest_gdtr_limit": 0xFFFF, "guest_ia32_efer": 0, "host_cs_selector": 8}
    expected |= {"host_tr_selector": 0x50, "host_cr0": 0x80000033, "exit_reason": 0x30, "exit_qualification": 0x182}
    assert {name: dump.readings[name].value for name in expected} == expected
    assert dump.warnings == []


def test_lines_of_a_dump_that_a_reply_quotes_below_it():
    logged = [
        "*** Guest State ***",
        "CS:   sel=0x0010, attr=0x0a09b, limit=0xffffffff, base=0x0000000000000000",
        "EFER = 0x0000000000000d01",
    ]
    logged += [
        "Interruptibility = 00000002  ActivityState = 00000000",
        "*** Control State ***",
        "VMEntry: intr_info=80000501 errcode=00000000 ilen=00000001",
    ]
    text = "".join(f">> (XEN) {line}\n" for line in logged)
    reply = ">> (XEN) domain_crash called from vmx.c:3335\n> Interruptibility = 00000002 (Blocked by Mov SS) and VMEntry:\n> intr_info=80000501 (ICEBP)\n"
    assert (
        set(read_text(text + reply)[0].readings) == set(read_text(text)[0].readings) >= {"guest_ia32_efer", "vm_entry_instruction_length"}
    )


def test_two_logs_put_together_at_a_heading():
    guest = ["*** Guest State ***", "CS:   sel=0x0010, attr=0x0a09b, limit=0xffffffff, base=0x0000000000000000", "EFER= 0x0000000000000000"]
    host = ["*** Host State ***", "CS=0010 SS=0018 DS=0000 ES=0000 FS=0000 GS=0000 TR=0040", "EFER= 0x0000000000000d01"]
    text = "".join(f"[   {34 - (line in host)}.454{index:03}] {line}\n" for index, line in enumerate([*guest, *host]))
    readings = read_text(text)[0].readings
    assert (readings["guest_ia32_efer"].value, readings["host_ia32_efer"].value) == (0, 0xD01)


def test_registers_of_a_crash_of_the_host_are_not_the_guests():
    oops = """BUG: unable to handle page fault for address: ffd43f00063049e8
RIP: 0010:mmu_free_root_page+0x3c/0x90 [kvm]
RSP: 0018:ffa000000b3afb88 EFLAGS: 00010286
RAX: ffd43f00063049c0 RBX: ff110000777ff000 RCX: 0000000000000001
FS:  0000000000000000(0000) GS:ff1100084e300000(0000) knlGS:0000000000000000
CS:  0010 DS: 0000 ES: 0000 CR0: 0000000080050033
CR2: ffd43f00063049e8 CR3: 000000000260a006 CR4: 0000000000773ee0
DR3: 0000000000000000 DR6: 00000000fffe07f0 DR7: 0000000000000400
PKRU: 55555554
"""
    text = "KVM: entry failed, hardware error 0x80000021\n" + "".join(
        f"[  293.{index:06}] {line}\n" for index, line in enumerate(oops.splitlines())
    )
    assert {name for name in read_text(text)[0].readings if name.startswith(("guest", "host"))} == set()


def test_userspace_registers_below_a_dump_of_the_vmcs_are_passed_over():
    sregs = """(gdb) p /x sregs
$3 = {cs = {base = 0x2110000, limit = 0x1a0, selector = 0x97, type = 0xb,
     present = 0x1, dpl = 0x3, db = 0x1, s = 0x1, l = 0x0, g = 0x0, avl = 0x0,
     unusable = 0x0, padding = 0x0},
"""
    lines = [
        "*** Guest State ***",
        "CS:   sel=0x0010, attr=0x0a09b, limit=0xffffffff, base=0x0000000000000000",
        "RFLAGS=0x00000002         DR7 = 0x0000000000000400",
    ]
    dump = "\n".join(lines) + "\n"
    alone, beside = read_text(dump)[0], read_text(dump + sregs)[0]
    assert (beside.readings, beside.warnings) == (alone.readings, alone.warnings)
