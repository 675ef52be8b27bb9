"""Each format is recognised and read: every value under its field, nothing under another."""

from __future__ import annotations

import json
import re

import pytest

from vmfuzz.arch.capabilities import CAPABILITY_MSRS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.reading import read_text
from vmfuzz.report.dump_code import c_code, rust_code
from vmfuzz.state.vmcs import Vmcs

EXPECTED = {
    "kvm": {
        "guest_cr0": 0x80050033,
        "cr4_guest_host_mask": 0xFFFFFFFFFFFEF871,
        "guest_pdpte3": 3,
        "guest_rsp": 0xAFFF8,
        "host_rsp": 0xFFFFC90000001000,
        "guest_ia32_sysenter_esp": 0xFFFFFE0000003000,
        "host_ia32_sysenter_esp": 0xFFFFFE0000003001,
        "host_ia32_sysenter_cs": 0x11,
        "guest_ss_base": 2,
        "guest_gdtr_base": 0x1008,
        "guest_ia32_efer": 0xD01,
        "host_ia32_efer": 0xD00,
        "guest_ia32_perf_global_ctrl": 7,
        "host_ia32_perf_global_ctrl": 3,
        "guest_interrupt_status": 0xEC00,
        "memory_msr_load_1_index": 0x600,
        "guest_ssp": 8,
        "host_ssp": 0x18,
        "host_ia32_interrupt_ssp_table_addr": 0x20,
        "tertiary_processor_based_controls": 0x10,
        "vm_entry_instruction_length": 2,
        "vm_exit_instruction_length": 7,
        "idt_vectoring_error_code": 9,
        "virtual_apic_address": 0x101235000,
        "ple_window": 0x1000,
    },
    "xen": {
        "guest_rsp": 0xFF0,
        "guest_rip": 0xFFF0,
        "guest_rflags": 0x10002,
        "guest_cs_access_rights": 0xA09B,
        "guest_gdtr_limit": 0xFFFF,
        "guest_gdtr_base": 0x100,
        "guest_tr_base": 0x200,
        "vmx_preemption_timer_value": 5,
        "guest_smbase": 6,
        "host_rsp": 0xFFFF830000007F70,
        "host_ia32_efer": 0xD00,
        "eptp_index": 3,
        "vm_function_controls": 1,
    },
    "qemu": {"guest_cs_selector": 8, "guest_rip": 0xFFF0, "guest_gdtr_limit": 0xFFFF, "guest_cs_limit": 0xFFFFFFFF},
    "printk": {
        "pin_based_controls": 0x16,
        "guest_rip": 0xFFFFFFFFC0001000,
        "host_rip": 0xFFFFFFFFC0002000,
        "guest_idtr_base": 0xFFFFFE0000000000,
        "guest_idtr_limit": 0xFFF,
        "guest_tr_access_rights": 0x8B,
        "guest_gs_base": 0xFFFF98665FB40000,
        "guest_ia32_sysenter_cs": 0x10,
        "guest_ia32_sysenter_eip": 0xFFFFFFFFA6601720,
        "vmcs_link_pointer": 0xFFFFFFFFFFFFFFFF,
    },
    "haxm": {"primary_processor_based_controls": 0xB69861FE, "guest_cs_selector": 0x10, "guest_cs_access_rights": 0xA09B},
    "noirvisor": {
        "guest_cs_base": 1,
        "guest_tr_access_rights": 0x8B,
        "guest_idtr_limit": 0xFFF,
        "guest_cr0": 0x80050033,
        "guest_cr4": 0x606F8,
    },
    "sregs": {"guest_cs_selector": 8, "guest_cs_access_rights": 0xA09B},
}
FORMATS = {"kvm": "Linux KVM VMCS dump", "xen": "Xen VMCS dump", "qemu": "QEMU register dump", "vbox": "VirtualBox log"}


@pytest.mark.parametrize("name", EXPECTED)
def test_values_stand_under_their_fields(read, name):
    dump = read(name)
    assert {field: dump.readings[field].value for field in EXPECTED[name]} == EXPECTED[name]
    assert dump.warnings == []


@pytest.mark.parametrize(("name", "expected"), FORMATS.items())
def test_the_format_is_found_by_content(read, name, expected):
    assert read(name).format == expected


def test_no_number_of_a_kvm_dump_is_lost(sample, read):
    dump = read("kvm")
    numbers = re.findall(r"(?:=|shadow=|\|)\s*(?:0x)?([0-9a-f]{2,16})\b", sample("kvm"))
    assert len(dump.readings) >= 115
    read_values = {reading.value for reading in dump.readings.values()}
    lost = [text for text in numbers if int(text, 16) not in read_values and text not in ("ec", "00", "0010", "0011", "0000000000000001")]
    assert lost == []


def test_a_value_that_is_no_field_stands_beside(sample):
    dump = read_text(sample("kvm").replace("EFER= 0x0000000000000d01", "EFER= 0x0000000000000d01 (effective)"))[0]
    assert "guest_ia32_efer" not in dump.readings
    assert 0xD01 in {reading.value for reading in dump.beside.values()}


def test_wrapping_quoting_and_blanked_times_change_nothing(sample, read):
    plain = {name: reading.value for name, reading in read("kvm").readings.items()}
    wrapped = sample("kvm").replace(", base=", ",\n> base=").replace("kvm_intel: ", "").replace("gh_mask=", "\n> gh_mask=")
    wrapped = "\n".join("> " + line if not line.startswith(">") else line for line in re.sub(r"\[ +[\d.]+\]", "[…]", wrapped).split("\n"))
    mailed = wrapped.replace("=", "=3D").replace(" ", " ")
    for text in (wrapped, mailed, wrapped.replace("\n", "\r\n"), wrapped.replace("  ", "\u00a0 ")):
        assert {name: reading.value for name, reading in read_text(text)[0].readings.items()} == plain


def test_two_dumps_in_one_text_are_two(sample):
    dumps = read_text(sample("kvm") + sample("kvm").replace("0x0000000012345000", "0x0000000099999000"))
    assert [dump.readings["guest_cr3"].value for dump in dumps] == [0x12345000, 0x99999000]


def test_interleaved_dumps_of_two_processors_are_told_apart(sample):
    one = [
        re.sub(r"\] ", "][  T100] ", line, count=1)
        for line in sample("kvm").replace("kvm_intel: ", "").splitlines()
        if line.startswith("[")
    ]
    two = [line.replace("T100", "T200").replace("0x0000000012345000", "0x0000000099999000") for line in one]
    mixed = "\n".join(line for pair in zip(one, two, strict=True) for line in pair)
    assert sorted(dump.readings["guest_cr3"].value for dump in read_text(mixed)) == [0x12345000, 0x99999000]


def test_shared_keys_without_neighbours_are_not_guessed():
    dump = read_text(
        "[1.0] EFER = 0x0000000000000d01  PAT = 0x0007040600070406\n[1.0] Sysenter RSP=0000000000000001 CS:RIP=0010:0000000000000002\n"
    )[0]
    assert not {"guest_ia32_efer", "host_ia32_efer", "guest_ia32_sysenter_esp", "host_ia32_sysenter_esp"} & set(dump.readings)
    assert any("guest's or the host's" in warning for warning in dump.warnings)


def test_generic_lines():
    text = """\
0x4816 = 0xa09b
4818h: C093
vmwrite(GUEST_DS_AR_BYTES, 0xc093)
| GUEST_CR4 | 0x6804 | 0x660 |
2024-05-01T10:00:00.123Z  INFO hv::vmx: guest.cr0: 0x80000031
field=GuestCr3 value=0x1000
VMX_VMCS64_GUEST_EFER_FULL = 0xd01
VMX_VMCS64_GUEST_PAT_HIGH = 0x00070406
GUEST_ES/FS = 0x0010, base 0, limit 0xFFFFFFFF, AR 0x0000C093
HOST_SS/DS/ES = 0x18
guest_GS_base/limit=0x00000005/0xffffffff
"""
    values = {name: reading.value for name, reading in read_text(text)[0].readings.items()}
    assert values["guest_cs_access_rights"] == 0xA09B
    assert values["guest_ss_access_rights"] == 0xC093
    assert values["guest_ds_access_rights"] == 0xC093
    assert values["guest_cr4"] == 0x660
    assert values["guest_cr0"] == 0x80000031
    assert values["guest_cr3"] == 0x1000
    assert values["guest_ia32_efer"] == 0xD01
    assert values["guest_ia32_pat"] == 0x00070406 << 32
    assert values["guest_fs_access_rights"] == 0xC093
    assert values["host_es_selector"] == 0x18
    assert values["guest_gs_limit"] == 0xFFFFFFFF


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("GUEST_CR0 = 0x1\nGUEST_CR0 = 0x2\n", "but line 1 says"),
        ("GUEST_CS_SELECTOR = 0x12345\n", "16 bits"),
        ("GUEST_CR0 = 0xzzz\n", "not a number"),
        ("GUEST_TR_LIMIT = 67\n", "decimal or hexadecimal"),
        ("rights: 0x8b\n", "without the name of a register"),
        ("[1.0] CR3 = 0x12g4\n[1.0] RFLAGS=0x00000002         DR7 = 0x0000000000000400\n", "not a number"),
    ],
)
def test_what_cannot_be_used_is_named_in_a_warning(text, part):
    assert any(part in warning for warning in read_text(text)[0].warnings)


def test_a_field_given_twice_keeps_the_bits_that_agree():
    reading = read_text("GUEST_CR0 = 0x80000031\nGUEST_CR0 = 0x80000030\n")[0].readings["guest_cr0"]
    assert not reading.known & 1
    assert reading.value == 0x80000030


def test_json_of_vmfuzz_is_read():
    state = Vmcs({"guest_cr0": 0x31, "guest_cs_selector": 8}, {0x1000: 5})
    dump = read_text(json.dumps(state.to_json()))[0]
    assert {name: reading.value for name, reading in dump.readings.items()} == dict(state)
    assert dump.memory == {0x1000: 5}


def test_json_with_faults_is_read_as_far_as_it_goes():
    data = {"schema": "vmfuzz-vmcs-1", "fields": {"guest_cr0": "0x31", "guest_cs_selector": "0x123456", "no_field": "1", "guest_cr4": "x"}}
    dump = read_text(json.dumps(data))[0]
    assert set(dump.readings) == {"guest_cr0"}
    assert any("does not fit guest_cs_selector" in warning for warning in dump.warnings)


def test_virtualbox_names_the_check_itself(read):
    dump = read("vbox")
    assert dump.hm_error == 570
    assert not dump.readings


@pytest.mark.parametrize("others", [0, 8])
def test_registers_at_the_start_of_virtualbox_are_no_fields(others):
    lines = [
        "Host CR4                          = 0x370678",
        "Host EFER                         = 0xd01",
        "MSR_IA32_VMX_BASIC = 0xda040000000004",
    ]
    lines += ["MSR_IA32_FEATURE_CONTROL          = 0x5"] * others
    (dump,) = read_text("".join(f"00:00:04.28870{index} HM: {line}\n" for index, line in enumerate(lines)))
    assert not dump.readings
    assert {number: msr.value for number, msr in dump.msrs.items()} == {0x480: 0xDA040000000004}


def test_the_output_of_dump_code_is_read_without_loss():
    values = {name: (number + 1) & entry.mask for number, (name, entry) in enumerate(FIELDS.items())}
    text = "".join(f"[   12.345678] {name} = {value:#x}\n" for name, value in values.items())
    text += "".join(f"{name} = {number:#x}\n" for number, name in CAPABILITY_MSRS.items())
    dump = read_text(text)[0]
    assert {name: reading.value for name, reading in dump.readings.items()} == values
    assert {number: msr.value for number, msr in dump.msrs.items()} == {number: number for number in CAPABILITY_MSRS}
    assert dump.warnings == []


@pytest.mark.parametrize("code", [c_code(), rust_code()], ids=["C", "Rust"])
def test_dump_code_names_every_field_and_msr(code):
    assert all(f'0x{entry.encoding:04x}, "{name}"' in code for name, entry in FIELDS.items())
    assert all(f'"{name}"' in code for name in CAPABILITY_MSRS.values())


def test_a_wrapped_line_of_virtualbox_is_not_the_guests_cr0():
    segment = "00:00:05.481475 gs={0000 base=0000000000000000 limit=ffffffff flags=0000c0f3}"
    (dump,) = read_text(f"{segment}\ncr0=00000010 cr2=00000000\ncr3=00000000 cr4=00000000\n")
    assert not {"guest_cr0", "guest_cr3", "guest_cr4"} & set(dump.readings)
    assert dump.beside["saved cr0"].value == 0x10
    assert "guest_cr0" in read_text(f"{segment}\nThe VMCS has:\ncr0=00000010\n")[0].readings


def test_a_wrapped_line_of_qemu_is_not_the_guests_cr4():
    lines = ["EAX=00000000 EBX=00000000 ECX=00000000 EDX=00000663", "CR0=60000010 CR2=00000000 CR3=00000000", "CR4=00000000"]
    (dump,) = read_text("\n".join(lines) + "\n")
    assert "guest_cr4" not in dump.readings
    assert dump.beside["QEMU CR4"].value == 0
