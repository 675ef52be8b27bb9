"""Lines of names and values with something around the pair: an encoding, a sentence, other pairs, the other half of a field."""

from __future__ import annotations

import pytest
from one_dump import read, values

from patience import grows_with_its_input
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.reading import read_text


@pytest.mark.parametrize(
    "line",
    [
        "(0x6800) guest_CR0 = 0x30",
        "[0x6800] GUEST_CR0 = 0x30",
        "<0x6800> GUEST_CR0: 0x30",
        "(6800h) GUEST_CR0 = 30h",
        "(6800) GUEST_CR0: 00000030",
        "(0x6800): 0x30",
        "(0x6800) VMCS02.guest_CR0 = 0x30",
        "(0x6800) @before02@guest_CR0 = 0x30",
        "(0x6800) :vmcs02:guest_CR0 = 0x30",
        "[0x6800]: guest_CR0 = 0x30",
        "0x6800 - guest_CR0 = 0x30",
    ],
)
def test_an_encoding_in_brackets_before_the_name(line: str) -> None:
    assert values(f"{line}\n") == {"guest_cr0": 0x30}


def test_an_encoding_in_brackets_that_is_another_fields_is_said() -> None:
    dump = read("(0x6800) @a@guest_CR0 = 0x30\n(0x6804) @a@guest_CR4 = 0x20\n(0x681e) @a@guest_RSP = 0x10\n")
    assert {name: reading.value for name, reading in dump.readings.items()} == {"guest_cr0": 0x30, "guest_cr4": 0x20, "guest_rip": 0x10}
    assert any("681EH is guest_rip, but the line says" in warning for warning in dump.warnings)


CONTROL_WORDS = {
    "pin_based_controls": 0x16,
    "primary_processor_based_controls": 0x401E172,
    "vm_exit_controls": 0x36FFF,
    "vm_entry_controls": 0x11FF,
}


@pytest.mark.parametrize(
    "line",
    [
        "Pin: 0x16 Proc: 0x401e172 Exit: 0x36fff Entry: 0x11ff",
        "Pin: 0x00000016, Proc: 0x0401e172, Exit: 0x00036fff, Entry: 0x000011ff",
        "Entry: 0x11ff Exit: 0x36fff Proc: 0x401e172 Pin: 0x16",
        "PIN=0x16 PROC=0x401e172 EXIT=0x36fff ENTRY=0x11ff",
        "[vmx] controls pin=0x16 primary=0x401e172 exit=0x36fff entry=0x11ff",
    ],
)
def test_control_words_beside_the_pin_based_ones(line: str) -> None:
    assert values(f"{line}\n") == CONTROL_WORDS
    assert read(f"VM-instruction error 7\n{line}\n").unread == ()


@pytest.mark.parametrize(
    "line", ["pin: 0x3 exit: 0x1", "proc: 0x401e172 exit: 0x36fff entry: 0x11ff", "spin: 0x16 exit: 0x36fff entry: 0x11ff"]
)
def test_exit_and_entry_are_no_control_words_without_the_pin_based_ones(line: str) -> None:
    assert not {"vm_exit_controls", "vm_entry_controls"} & values(f"{line}\n").keys()


@pytest.mark.parametrize(
    "text",
    [
        "vmwrite(VMCS_LINK_POINTER, 0xffffffff);\nvmwrite(VMCS_LINK_POINTER_HIGH, 0xffffffff);\n",
        "VMCS_LINK_POINTER_FULL = 0xffffffff\nVMCS_LINK_POINTER_HIGH = 0xffffffff\n",
        "(0x2800) guest_VMCS_link_pointer_full = 0xffffffff\n(0x2801) guest_VMCS_link_pointer_high = 0xffffffff\n" * 2,
    ],
)
def test_two_halves_are_one_value(text: str) -> None:
    dump = read(text)
    assert (dump.readings["vmcs_link_pointer"].value, dump.readings["vmcs_link_pointer"].known) == ((1 << 64) - 1,) * 2
    assert not dump.warnings


def test_high_halves_that_differ_are_a_contradiction() -> None:
    dump = read("EPT_POINTER = 0x101e\nEPT_POINTER_HIGH = 0x1\nEPT_POINTER_HIGH = 0x0\n")
    assert (dump.readings["eptp"].value, dump.readings["eptp"].known) == (0x101E, ~(1 << 32) & (1 << 64) - 1)
    assert "count as unknown" in dump.warnings[0]


def test_a_number_with_a_value_is_a_capability_msr_a_row_of_a_table_is_none() -> None:
    assert read("  0x480\t\t0x180\t\t64-bit fields\n  0x481\t\t0x182\t\t64-bit fields\n").msrs == {}
    msrs = read("0x480: 0x00da040000000004\n0x481: 0x0000007f00000016\n").msrs
    assert (msrs[0x480].value, msrs[0x481].value) == (0xDA040000000004, 0x7F00000016)


def test_of_two_values_for_a_capability_msr_none_is_used() -> None:
    dump = read("IA32_VMX_MISC = 0x401e7\nIA32_VMX_MISC = 0x401e5\nIA32_VMX_CR4_FIXED0 = 0x2000\nIA32_VMX_CR4_FIXED0 = 0x2000\n")
    assert {number: msr.value for number, msr in dump.msrs.items()} == {0x488: 0x2000}
    assert [warning.partition(":")[0] for warning in dump.warnings] == ["line 2"]


DUMP = "guest_CR0=0x00000011\nguest_CR3=0x00001000\nguest_CR4=0x00002000\nguest_RIP=0x1044\n"


@pytest.mark.parametrize("before", [True, False])
def test_what_a_sentence_says_is_not_the_dumps(before: bool) -> None:
    sentence = "Moving from EDX to CR0, control_CR0_shadow = guest_CR0 = 0x80050033 = [PG ? NE]\n"
    dump = read(sentence + DUMP if before else DUMP + sentence)
    assert (dump.readings["guest_cr0"].value, dump.readings["guest_cr0"].known) == (0x11, (1 << 64) - 1)
    assert [warning for warning in dump.warnings if "guest_CR0 = 80050033H stands in a sentence" in warning]


@pytest.mark.parametrize(
    "sentence",
    [
        "done with guest_rflags=0x102",
        "It enters with `guest_rflags=0x102`, TF set",
        "we see `guest_RFLAGS = 0x102`. By the way,",
        "guest_rflags = 0x102.",
    ],
)
def test_a_value_in_a_sentence_is_read_where_no_dump_gives_it(sentence: str) -> None:
    dump = read(f"{DUMP}{sentence}\n")
    assert dump.readings["guest_rflags"].value == 0x102
    assert not dump.warnings


@pytest.mark.parametrize(
    "sentence", ["the old guest_cr0 = 0x5", "Linux should use CS=0x33 and then SS=0x2b in this case.", "before this guest_cr0 = 0x5"]
)
def test_a_value_of_another_time_or_of_nobody_is_not_used(sentence: str) -> None:
    assert values(f"{sentence}\n") == {}


def test_no_part_of_a_register_follows_a_sentence() -> None:
    assert values("Now the guest has a wrong value in ss, it is guest_SS_selector = 0x2b\nType=0xb S=1 DPL=3 P=1\n") == {
        "guest_ss_selector": 0x2B
    }


def test_a_number_that_is_cut_off_is_said_to_be() -> None:
    dump = read(f"{DUMP}host_rip = 0xffff...\nhost_rsp = ffffff\u2026\n")
    assert not {"host_rip", "host_rsp"} & set(dump.readings)
    assert [warning.partition(";")[0] for warning in dump.warnings] == [
        "line 5: host_rip = 0xffff... is cut off",
        "line 6: host_rsp = ffffff\u2026 is cut off",
    ]


def test_members_of_a_structure_in_program_text_are_no_lost_values() -> None:
    dump = read("pub struct Guest {\n    guest_cr0: u64,\n    guest_cr3: vmread(guest::CR3)?,\n}\n")
    assert (dump.readings, dump.warnings) == ({}, [])
    assert "is not a number" in read("guest_cr0: unavailable\n").warnings[0]


def test_an_area_counts_to_the_end_of_its_line() -> None:
    assert values("boot: host CS=0x38 SS=0x30 CR3=0x1000\nrip=0x7c00\n") == {
        "host_cs_selector": 0x38,
        "host_ss_selector": 0x30,
        "host_cr3": 0x1000,
        "guest_rip": 0x7C00,
    }


STATES = [
    "rip=0x1000 cr0=0x80000031 cr4=0x2020 rflags=0x2",
    "rip=0x2000 cr0=0x31 cr4=0x2020 rflags=0x2",
    "rip=0x3000 cr0=0x33 cr4=0x2020 rflags=0x2",
]


@pytest.mark.parametrize(("failed", "rip"), [(1, 0x2000), (0, 0x1000), (None, 0x3000)])
def test_the_state_next_to_the_failure_or_the_last_is_judged(failed: int | None, rip: int) -> None:
    lines = [f"{state}\n{'vmresume failed' if index == failed else 'another line'}\nand so on\n" for index, state in enumerate(STATES)]
    dump = read("".join(lines))
    assert dump.readings["guest_rip"].value == rip
    assert all(reading.known == (1 << 64) - 1 for reading in dump.readings.values())
    (warning,) = dump.warnings
    assert "the text shows 3 states of the same fields" in warning


@pytest.mark.parametrize(
    "text",
    [
        "rip=0x1000 cr0=0x31\nrip=0x2000 cr0=0x33\n",
        "vmcs12.guest_rip=1h\nvmcs12.guest_cr0=31h\nvmcs12.guest_cr4=20h\nvmcs02.guest_rip=2h\nvmcs02.guest_cr0=33h\nvmcs02.guest_cr4=21h\n",
    ],
)
def test_few_fields_or_other_names_are_a_contradiction(text: str) -> None:
    assert any("count as unknown" in warning for warning in read(text).warnings)


@pytest.mark.parametrize(
    "remark",
    [
        "(PE, MP, ET, NE, WP, AM, PG)",
        "PE MP ET NE WP AM PG",
        "// is this what it should be?",
        "-> looks fine to me",
        "<-- the only one I am not sure of",
        "# taken from the host as it is",
        "   copied from the running system",
    ],
)
@pytest.mark.parametrize("separator", [": ", " = ", "="])
def test_a_remark_behind_a_register_takes_nothing_from_its_value(separator: str, remark: str) -> None:
    assert values(f"cr0{separator}0x80050033 {remark}\n") == {"guest_cr0": 0x80050033}


def test_parts_follow_a_register_that_has_a_remark() -> None:
    dump = read(
        "rflags: 0x2\ntr: 0x40 // is this one right at all?\n  rights: 0x8b // busy, as it has to be\n  lim: 0x67\n  base: 0x1000\n"
    )
    assert {name: reading.value for name, reading in dump.readings.items()} == {
        "guest_rflags": 0x2,
        "guest_tr_selector": 0x40,
        "guest_tr_access_rights": 0x8B,
        "guest_tr_limit": 0x67,
        "guest_tr_base": 0x1000,
    }


def test_a_pair_in_a_remark_is_the_authors() -> None:
    dump = read("cr0: 0x80050033 // or rather guest_cr0 = 0x31 here\ncr4: 0x2020\n")
    assert dump.readings["guest_cr0"].value == 0x80050033
    assert dump.readings["guest_cr0"].known == (1 << 64) - 1


def test_a_heading_of_several_words_before_pairs_makes_no_sentence() -> None:
    assert values("guest registers of this cpu: cr4=0x26b0 rip=0x7c00\n") == {"guest_cr4": 0x26B0, "guest_rip": 0x7C00}


@pytest.mark.parametrize(
    "line",
    [
        "CPU(0x03): vcpu->vmcs.guest_RIP=0x1000",
        "vcpu->vmcs.guest_RIP = 0x1000",
        "vcpu->arch.guest_rip = 0x1000;",
        "vmx->vmcs.guest.rip = 0x1000",
        "this->vmcs->guest_rip = 0x1000",
        "vcpu.vmcs.guest_RIP: 0x1000",
    ],
)
def test_a_member_of_structures_names_its_field(line: str) -> None:
    assert values(f"{line}\n") == {"guest_rip": 0x1000}


@pytest.mark.parametrize("name", ["vcpu->arch.cr0", "old->guest_cr0", "vcpu->backup.guest_cr0"])
def test_a_member_that_is_not_surely_the_field_is_not_used(name: str) -> None:
    assert values(f"guest_rip = 0x1000\n{name} = 0x31\n") == {"guest_rip": 0x1000}


@pytest.mark.parametrize("before", ["", "CPU(0x00): ", "2026-01-02T03:04:05.6789Z stderr F "])
def test_parts_between_slashes_behind_anything(before: str) -> None:
    assert values(f"{before}guest_CS_base/limit=0x0/0xffffffff\n") == {"guest_cs_base": 0, "guest_cs_limit": 0xFFFFFFFF}


@pytest.mark.parametrize(
    "line",
    [
        'audit: type=1326 audit(1700000000.123:45): auid=1000 comm="tool" arch=c000003e syscall=16 ip=0x4512e9 code=0x50000',
        "tool[77]: segfault at 0 ip=0x4512e9 sp=0x7ffc0000 error=4",
        "traps: tool[77] general protection fault ip:4512e9 sp:7ffc0000 error:0",
        "traps: tool[77] trap invalid opcode ip:4512e9 sp:7ffc0000 error:0",
    ],
)
def test_the_registers_of_a_process_are_not_the_guests(line: str) -> None:
    assert values(f"guest_cr0: 0x31\n{line}\n") == {"guest_cr0": 0x31}


@pytest.mark.parametrize("label", ["Guest CS Segment", "guest cs", "CS"])
def test_a_structure_of_a_segment_behind_words(label: str) -> None:
    text = f"{label}: SegmentRegister {{ selector: 0x10, attributes: 0x209B, limit: 0xFFFFFFFF, base: 0x0 }}\n"
    assert values(text) == {
        "guest_cs_selector": 0x10,
        "guest_cs_access_rights": 0x209B,
        "guest_cs_limit": 0xFFFFFFFF,
        "guest_cs_base": 0,
    }
    assert values(text.replace("0x", "").replace(" base: 0 ", " base: 0x0 "))["guest_cs_access_rights"] == 0x209B


def test_the_structure_of_a_hosts_register_is_no_heading_of_the_host() -> None:
    text = "Host CS Segment: Segment { selector: 0x10 }\ncr3: 0x1000\n"
    assert values(text) == {"host_cs_selector": 0x10, "guest_cr3": 0x1000}


@pytest.mark.parametrize("unit", ["a", "a/", "a->", "cr0 0x1 ", "a b ", "("])
def test_the_time_for_a_line_grows_with_its_length(unit: str) -> None:
    def read_line(line: str) -> None:
        values(f"guest_cr0: 0x31 {line}\n{line} = 0x31\n")

    assert grows_with_its_input(read_line, lambda size: unit * (size // len(unit)), 100_000)


def test_a_negative_number_has_the_width_of_its_field() -> None:
    text = "VMCS_LINK_POINTER = -1\nGUEST_CS_LIMIT = -1\nEXCEPTION_BITMAP = -2147483615\nGUEST_RFLAGS = 0x2\n"
    assert values(text) == {
        "vmcs_link_pointer": (1 << 64) - 1,
        "guest_cs_limit": 0xFFFFFFFF,
        "exception_bitmap": 0x80000021,
        "guest_rflags": 2,
    }


def test_of_a_line_without_end_no_number_is_cut_and_a_warning_says_what_is_not_read() -> None:
    value = 0x123456789ABCDEF
    names = [name for name in FIELDS if name.startswith("guest_") and FIELDS[name].width == 64]
    line = ", ".join(f"{name}=0x{value:x}" for name in names * 20)
    (dump,) = read_text(f"dump: {line}\n")
    assert len(line) > 16384
    assert {name: reading.value for name, reading in dump.readings.items()} == dict.fromkeys(names, value)
    assert any("characters; those behind the first 16,384 are not read" in warning for warning in dump.warnings)
