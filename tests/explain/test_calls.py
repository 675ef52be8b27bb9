"""Program text: calls that write fields, in the spellings of many programs."""

from __future__ import annotations

import pytest

from vmfuzz.explain.reading import read_text

ONES = (1 << 64) - 1


def values(text: str) -> dict[str, int]:
    (dump,) = read_text(text)
    return {name: reading.value for name, reading in dump.readings.items()}


@pytest.mark.parametrize(
    "call",
    [
        "vmwrite(GUEST_CS_AR, 0xa09b);",
        "vmwrite (0xa09b, GUEST_CS_AR);",
        "wvmcs(vcpu, VMCS_GUEST_CS_AR, 0xa09b);",
        "hv_vmx_vcpu_write_vmcs(vcpuid, VMCS_GUEST_CS_AR, 0xa09b);",
        "vmx_write(VMCS_GUEST_CS_AR, 0xa09b);",
        "VmxWrite(VMCS_GUEST_CS_AR, 0xa09b);",
        "vmw32(VMCS_GUEST_CS_AR, 0xa09b);",
        "write_vmcs32(GUEST_CS_AR_BYTES, 0xa09b);",
        "VMXWriteVmcs32(VMX_VMCS32_GUEST_CS_ACCESS_RIGHTS, 0xa09b);",
        "WriteVMCS(GUEST_CS_AR_BYTES, 0xa09b);",
        "vmwrite(vmcs::guest::CS_ACCESS_RIGHTS, 0xa09bu64)?;",
        "unsafe { vmwrite(x86::vmx::vmcs::guest::CS_ACCESS_RIGHTS, 0xa09b)? };",
        "vmwrite::<u64>(guest::CS_ACCESS_RIGHTS, 0xa09b);",
        "vmcs.write(GUEST_CS_AR_BYTES, 0xa09b);",
        "vmcs_write32(0x4816, 0xa09b);",
        "err |= __vmx_vmwrite(GUEST_CS_AR_BYTES, (u64)0xa09b);",
    ],
)
def test_a_call_that_writes_is_read(call: str) -> None:
    assert values(f"{call}\n") == {"guest_cs_access_rights": 0xA09B}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("0x93", 0x93),
        ("0xFFFF_FFFF", 0xFFFFFFFF),
        ("0x93u64", 0x93),
        ("0x93_u64", 0x93),
        ("0x93ULL", 0x93),
        ("!0", -1),
        ("!0u64", -1),
        ("(u64)-1", -1),
        ("~0UL", -1),
        ("0x93 /* accessed */", 0x93),
        ("(uint64_t)0xa09b", 0xA09B),
        ("(unsigned long long) 0xa09b", 0xA09B),
    ],
)
def test_numbers_of_programs(written: str, meant: int) -> None:
    assert values(f"vmwrite(GUEST_RIP, {written});\n") == {"guest_rip": meant & ONES}


@pytest.mark.parametrize("text", ["x", "08", "f(3)", "1 << 3", "~0u", "(u32)-1", "0x93 | GRANULAR", "0777"])
def test_what_is_more_than_a_number_is_computed(text: str) -> None:
    (dump,) = read_text(f"vmwrite(GUEST_RIP, {text});\nvmwrite(GUEST_RSP, 0x10);\n")
    assert set(dump.readings) == {"guest_rsp"}
    assert "the program computes what it writes to guest_rip" in dump.warnings[0]


def test_several_calls_on_a_line() -> None:
    assert values("vmwrite(GUEST_CR0, 0x21); vmwrite(GUEST_CR4, 0x2000);\n") == {"guest_cr0": 0x21, "guest_cr4": 0x2000}


@pytest.mark.parametrize(
    "line",
    [
        "//vmwrite(GUEST_RIP, 0xfff0);",
        "/* vmwrite(GUEST_RIP, 0xfff0); */",
        "# vmwrite(GUEST_RIP, 0xfff0)",
        "/* so:\nvmwrite(GUEST_RIP, 1);\n*/",
    ],
)
def test_a_call_in_a_comment_writes_nothing(line: str) -> None:
    (dump,) = read_text(f"vmwrite(GUEST_RSP, 0);\n{line}\nvmwrite(GUEST_RIP, 0x3f8);\nvmwrite(GUEST_DR7, 0x400);\n")
    assert {name: reading.value for name, reading in dump.readings.items()} == {"guest_rsp": 0, "guest_rip": 1016, "guest_dr7": 0x400}
    assert not any("count as unknown" in warning for warning in dump.warnings)


def test_what_a_program_computes_is_said_once() -> None:
    text = "vmwrite(GUEST_DR7, 0x400);\nvmwrite(HOST_CR0, read_cr0());\nvmwrite(HOST_CR3, cr3);\nvmwrite(GUEST_CR0, 0x21);\nvmwrite(GUEST_CR0, cr0);\n"
    (dump,) = read_text(text)
    assert set(dump.readings) == {"guest_dr7"}
    (warning,) = dump.warnings
    assert warning.startswith("line 2: the program computes what it writes to host_cr0, host_cr3, guest_cr0")


@pytest.mark.parametrize(
    "line",
    [
        "static inline int vmwrite(u32 field, u64 value) {",
        "#define vmwrite_guest_rip(v) vmwrite(GUEST_RIP, 0x10)",
        "vmcs_set_bits(GUEST_RIP, 0x10);",
        "Cr0.write(0x21);",
        "vmwrite(GUEST_RIP, 0x10) failed with error 12",
    ],
)
def test_what_writes_no_field_as_a_whole_gives_none(line: str) -> None:
    assert values(f"vmwrite(GUEST_DR7, 0x400);\n{line}\n") == {"guest_dr7": 0x400}


def test_long_lines_are_read_in_no_time() -> None:
    for piece in ("vmwrite", "vmwrite(", "vmwrite(a,", "a.", "vmcs.write", "(u64)", "/*", "vmw"):
        read_text(piece * 20_000 + "\n")


def test_an_encoding_beside_a_variable_is_no_value():
    dump = read_text("vmwrite(0x6c00, cr0);\nvmwrite(0x6c02, cr3);\nvmwrite(0x6800, 0x31);\nvmwrite(GUEST_RIP, 0x6800);\n")[0]
    assert {name: reading.value for name, reading in dump.readings.items()} == {"guest_cr0": 0x31, "guest_rip": 0x6800}
