"""Lists of encodings in the forms of many languages: each wrong encoding is named, and no number of a list is taken for a value."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from vmfuzz.cli.check import check
from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.causes.mistakes import used_wrong_definitions
from vmfuzz.explain.dump import Dump
from vmfuzz.explain.reading import read_text

#: (name, what the list gives as its encoding); guest SS access rights are wrong (4818H would be right).
LIST = (
    ("GUEST_ES_SELECTOR", 0x800), ("GUEST_CS_SELECTOR", 0x802), ("GUEST_CS_LIMIT", 0x4802), ("GUEST_ES_AR_BYTES", 0x4814),
    ("GUEST_CS_AR_BYTES", 0x4816), ("GUEST_SS_AR_BYTES", 0x4828), ("GUEST_CR0", 0x6800), ("GUEST_CR3", 0x6802), ("GUEST_CR4", 0x6804),
    ("GUEST_RSP", 0x681C), ("GUEST_RIP", 0x681E), ("HOST_RIP", 0x6C16),
)  # fmt: skip
#: what stands before the lines, a line, what stands behind
FORMS = {
    "JavaScript": ("let fields = {{\n", "    {name}: 0x{value:08x},\n", "}};\n"),
    "Python's dict": ("FIELDS = {{\n", '    "{name}": 0x{value:x},\n', "}}\n"),
    "Python's names": ("", "{name} = 0x{value:04X}\n", ""),
    "Python's class": ("class Vmcs(IntEnum):\n", "    {name} = 0x{value:04X}  # no value\n", ""),
    "NASM": ("", "%define {name} 0x{value:x}\n", ""),
    ".equ": ("", ".equ {name}, 0x{value:x}\n", ""),
    ".set": ("", "    .set {name}, 0x{value:x}\n", ""),
    "MASM": ("", "{name} = 0{value:x}h\n", ""),
    "Go": ("const (\n", "\t{camel} = 0x{value:x}\n", ")\n"),
    "Go with a type": ("const (\n", "\t{camel} Field = 0x{value:x} // {name}\n", ")\n"),
    "Rust's enum": ("#[repr(u32)]\npub enum Field {{\n", "    /// 16-bit or wider\n    {camel} = 0x{value:04x}_u32,\n", "}}\n"),
    "Rust's match": ("match field {{\n", '    0x{value:04x} => "{camel}",\n', "}}\n"),
    "braces of C++": ("", "inline constexpr uint32_t {name}{{0x{value:04X}}};\n", ""),
    "table": ("static struct field all[] = {{\n", '    {{ 0x{value:04x}, "{name}" }},\n', "}};\n"),
    "table, name first": ("static struct field all[] = {{\n", '    {{"{name}",0x{value:04x}}},\n', "}};\n"),
    "designators": ("static const char *names[] = {{\n", '    [0x{value:04x}] = "{name}",\n', "}};\n"),
    "Markdown": ("| Field | Encoding |\n|---|---|\n", "| {name} | 0x{value:04x} |\n", ""),
    "Markdown, encoding first": ("| Encoding | Field |\n|---|---|\n", "| {value:04X}H | {name} |\n", ""),
    "digits without a mark": ("", "{name}\t{value:04x}\n", ""),
    "decimal": ("", "{name} = {value};\n", ""),
    "Ada": ("", "   {camel} : constant := 16#{value:04X}#;\n", ""),
    "Pascal": ("const\n", "  {name} = ${value:04X};\n", ""),
    "Kotlin": ("", "const val {name} = 0x{value:04X}\n", ""),
    "Swift": ("enum Field: UInt32 {{\n", "    case {camel} = 0x{value:04x}\n", "}}\n"),
    "brackets behind the name": ("", "{name} (0x{value:04x})\n", ""),
    "macro": ("", "VMCS_FIELD({name}, 0x{value:04x})\n", ""),
    "two on a line": ("enum {{\n", "  {name} = 0x{value:04x}, {name}_HIGH = 0x{high:04x},\n", "}};\n"),
}


def written(form: str) -> str:
    before, line, behind = FORMS[form]
    return (
        before.format()
        + "".join(
            line.format(name=name, camel="".join(word.capitalize() for word in name.split("_")), value=value, high=value + 1)
            for name, value in LIST
        )
        + behind.format()
    )


def accused(dump: Dump) -> dict[str, int]:
    return {item.field: item.encoding for item in used_wrong_definitions(dump)}


@pytest.mark.parametrize("form", FORMS)
def test_a_list_is_read_and_none_of_it_is_a_value(form):
    (dump,) = read_text(written(form))
    assert (dump.readings, dump.warnings, dump.unread) == ({}, [], ())
    assert accused(dump) == {"guest_ss_access_rights": 0x4828}


@pytest.mark.parametrize("form", FORMS)
def test_a_list_and_values_in_one_text(form):
    (dump,) = read_text(written(form) + "\nGUEST_RIP: 0x100000\nGUEST_RSP: 0x9000\nGUEST_CR4: 0x2020\n")
    assert {name: reading.value for name, reading in dump.readings.items()} == {
        "guest_rip": 0x100000,
        "guest_rsp": 0x9000,
        "guest_cr4": 0x2020,
    }
    assert accused(dump) == {"guest_ss_access_rights": 0x4828}


@pytest.mark.parametrize("form", ["NASM", "Markdown", "macro"])
def test_a_list_in_a_file_of_its_own(form, tmp_path: Path):
    (tmp_path / "list.txt").write_text(written(form), encoding="utf-8")
    (tmp_path / "dump.txt").write_text("GUEST_SS_AR = 0xc093\nGUEST_CS_AR = 0xa09b\n", encoding="utf-8")
    result = CliRunner().invoke(check, [str(tmp_path / "dump.txt"), "--encodings", str(tmp_path / "list.txt"), "--no-verify"])
    assert "GUEST_SS_AR_BYTES is defined as 4828H" in " ".join(result.output.split())


def test_a_short_list():
    (dump,) = read_text("| GUEST_CR4 | 0x6804 |\n| GUEST_CR0 | 0x6800 |\n| GUEST_CS_AR | 0x4814 |\n")
    assert (dump.readings, accused(dump)) == ({}, {"guest_cs_access_rights": 0x4814})
    assert answer(dump).violated == []


def test_an_offset_is_not_set_by_the_line_that_names_it():
    (dump,) = read_text("GUEST_CR0 (0x6800)\nTSC_OFFSET (0x2010)\nGUEST_CR4 (0x6804)\n")
    assert {item.field for item in dump.program.definitions} == {"guest_cr0", "tsc_offset", "guest_cr4"}


@pytest.mark.parametrize("line", ["GUEST_CS_LIMIT (0x00004800) ", "GUEST_CR0 [0x80000031]"])
def test_a_number_in_brackets_behind_a_name_is_no_value(line):
    (dump,) = read_text(f"GUEST_RIP (0x0000681e) = 0x1000\n{line}")
    assert {name: reading.value for name, reading in dump.readings.items()} == {"guest_rip": 0x1000}


def test_names_of_the_manual_and_names_without_an_area():
    (dump,) = read_text(
        "| Guest CR0 | 00006800H |\n| Host CR0 | 00006C00H |\n| Host CR4 | 00006C06H |\n| VM-instruction error | 00004400H |\n"
    )
    assert accused(dump) == {"host_cr4": 0x6C06}
    (dump,) = read_text("cr0 = 0x6c00\ncr3 = 0x6c02\ncr4 = 0x6c04\nrsp = 0x6c14\nrip = 0x6c16\n")
    assert (dump.readings, accused(dump)) == ({}, {})
    assert {item.field for item in dump.program.definitions} == {"host_cr0", "host_cr3", "host_cr4", "host_rsp", "host_rip"}


@pytest.mark.parametrize("line", ["PAIR({0:#x}, {1:#x}, {2})", "| {2} | {0:04X}H | {1:04X}H |"])
def test_one_name_with_the_encodings_of_guest_and_host_gives_no_value(line):
    rows = ((0x800, 0xC00, "ES_selector"), (0x802, 0xC02, "CS_selector"), (0x6800, 0x6C00, "CR0"), (0x6804, 0x6C06, "CR4"))
    (dump,) = read_text("".join(line.format(*row) + "\n" for row in rows))
    assert (dump.readings, dump.program.definitions) == ({}, [])


def test_a_letter_in_a_name_is_no_value():
    (dump,) = read_text("| Address of I/O bitmap A | 00002000H |\n| Address of I/O bitmap B | 00002002H |\n| Guest CR0 | 00006800H |\n")
    assert (dump.readings, len(dump.program.definitions)) == ({}, 3)


@pytest.mark.parametrize(
    "line", ["0x{0:04x} {1} {2:x}", "{0:04X}H {1} {2:X}H", "{0:04x}  {1}  {2:08x}", "{1} (0x{0:04x}): {2:#x}", "{1}[{0:x}] = {2:#x}"]
)
def test_a_dump_that_gives_encodings_too_is_no_list(line):
    values = (
        (0x4816, "GUEST_CS_AR", 0xA09B),
        (0x6800, "GUEST_CR0", 0x80000031),
        (0x802, "GUEST_CS_SELECTOR", 0x10),
        (0x681E, "GUEST_RIP", 0x9BC),
    )
    (dump,) = read_text("".join(line.format(*value) + "\n" for value in values))
    assert [reading.value for reading in dump.readings.values()] == [value for _, _, value in values]


@pytest.mark.parametrize("word", ["unavailable", "not supported", "failed", "<error>"])
def test_a_dump_without_values_is_no_list(word):
    (dump,) = read_text("".join(f"(0x{value:04x}) {name} = {word}\n" for name, value in LIST))
    assert (dump.program.definitions, dump.readings) == ([], {})


def test_the_last_line_of_a_list_has_no_comma():
    (dump,) = read_text("fields = {\n  GUEST_CR0: 0x6800,\n  GUEST_CR3: 0x6802,\n  GUEST_CS_AR: 0x4816,\n  GUEST_RIP: 0x6820\n}\n")
    assert (dump.readings, accused(dump)) == ({}, {"guest_rip": 0x6820})


def test_values_that_follow_a_list_in_its_form_are_values():
    (dump,) = read_text(written("Python's names") + "GUEST_ES_LIMIT = 0xffff\nGUEST_DS_AR_BYTES = 0xc093\nGUEST_CR0 = 0x31\n")
    assert set(dump.readings) == {"guest_es_limit", "guest_ds_access_rights", "guest_cr0"}


def test_a_log_that_names_fields_with_their_encodings_is_a_list():
    names = (("GUEST_CS_SELECTOR", 0x802), ("GUEST_CS_LIMIT", 0x4802), ("GUEST_CS_AR_BYTES", 0x4814), ("GUEST_RIP", 0x681E))
    (dump,) = read_text("".join(f"vmwrite {name} ({value:#x}) ok\n" for name, value in names))
    assert (dump.readings, accused(dump)) == ({}, {"guest_cs_access_rights": 0x4814})


def test_msrs_in_a_list_are_no_encodings():
    """They are named as fields are (IA32_DEBUGCTL, IA32_VMX_PINBASED_CTLS), and a name may begin with what a call begins with."""
    msrs = (("kIa32Debugctl", 0x1D9), ("kIa32VmxPinbasedCtls", 0x481), ("kIa32VmxExitCtls", 0x483))
    names = (("kGuestIa32Debugctl", 0x2802), ("kVmreadBitmap", 0x2026), ("kGuestCr0", 0x6800), ("kGuestCr4", 0x6804), ("kGuestRip", 0x681E))
    enums = ("".join(f"  {name} = {value:#x},\n" for name, value in rows) for rows in (msrs, names))
    (dump,) = read_text("".join(f"enum class Number {{\n{rows}}};\n" for rows in enums))
    assert (accused(dump), dump.readings, len(dump.program.definitions)) == ({}, {}, 5)


def test_a_call_hands_over_a_value_and_names_nothing():
    (dump,) = read_text(
        "vmwrite(0x6800, guest_cr0);\nvmwrite(0x6802, guest_cr3);\nvmwrite(0x6c02, guest_cr3);\nvmwrite(0x6c00, guest_cr0);\n"
    )
    assert dump.program.definitions == []
