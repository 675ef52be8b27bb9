"""Forms of lines that have no "=" between name and value, and tables whose header names the parts of registers."""

from __future__ import annotations

import pytest
from one_dump import read, values

PARTS = ("selector", "base", "limit", "access_rights")


def register(name: str, *parts: int) -> dict[str, int]:
    return {f"guest_{name}_{part}": value for part, value in zip(PARTS, parts, strict=True)}


@pytest.mark.parametrize(
    "line",
    [
        "GUEST_SS: sel 0x28 base 0 limit 0xffffffff rights 0xc093",
        "SS: sel 0x28, base 0, limit 0xffffffff, rights 0xc093",
        "SS  : selector 0028 base 0000000000000000 limit ffffffff attributes 0000c093",
        "guest ss selector 0x28, limit 0xffffffff, access rights 0xc093, base 0x0",
        "guest ss: 0028:0000000000000000 limit ffffffff ar c093",
        "guest ss 0028:00000000 limit ffffffff ar c093",
        "SS: 0028 base 0 limit ffffffff rights c093",
    ],
)
def test_a_register_with_blanks_between_parts_and_values(line: str) -> None:
    dump = read(f"{line}\n")
    assert {name: reading.value for name, reading in dump.readings.items()} == register("ss", 0x28, 0, 0xFFFFFFFF, 0xC093)
    assert not dump.warnings


def test_parts_that_the_host_has_not_are_not_used() -> None:
    assert values("host state\ncs: sel 0x8 limit 0xffffffff\n") == {"host_cs_selector": 8}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cr0 0x80000031 cr3 0x1000 cr4 0x2020", {"guest_cr0": 0x80000031, "guest_cr3": 0x1000, "guest_cr4": 0x2020}),
        ("GUEST_CR0 0x80000011, GUEST_CR4 0x2020", {"guest_cr0": 0x80000011, "guest_cr4": 0x2020}),
        ("host: cr0 0000000080000031  cr3 0000000000002000", {"host_cr0": 0x80000031, "host_cr3": 0x2000}),
        (
            "pin 0x16, proc 0x8401e172, entry 0x11ff",
            {"pin_based_controls": 0x16, "primary_processor_based_controls": 0x8401E172, "vm_entry_controls": 0x11FF},
        ),
    ],
)
def test_fields_side_by_side(line: str, expected: dict[str, int]) -> None:
    assert values(f"{line}\n") == expected


def test_a_number_behind_a_table_register_is_no_selector() -> None:
    assert not any(name.endswith("selector") for name in values("GDTR: 1000 limit 7f ar 3\n"))


@pytest.mark.parametrize("head", ["host:", "Host state:"])
def test_whose_pairs_are_stands_before_the_first(head: str) -> None:
    assert values(f"{head} cr0=0x80000031, cr3 = 0x2000\n") == {"host_cr0": 0x80000031, "host_cr3": 0x2000}


@pytest.mark.parametrize(
    "line",
    [
        "cr0 0x80000031 and cr4 0x2020 are wrong",
        "cr0 31 cr4 2020",
        "cr0 0x31 something 0x5",
        "mov cr0 0x31",
    ],
)
def test_what_is_no_list_of_fields_is_not_read(line: str) -> None:
    assert values(f"{line}\n") == {}


@pytest.mark.parametrize(
    "table",
    [
        "seg selector base limit rights\nCS 0x8 0x0 0xffffffff 0xa09b\nTR 0x18 0x0 0x67 0x8b\n",
        "seg   sel   base              limit     access\ncs    0008  0000000000000000  ffffffff  0000a09b\n"
        "tr    0018  0000000000000000  00000067  0000008b\n",
        "| seg | selector | base | limit | access rights |\n|---|---:|---|---|---|\n| CS | 0x8 | 0x0 | 0xffffffff | 0xa09b |\n"
        "| TR | 0x18 | 0x0 | 0x67 | 0x8b |\n",
        "reg,selector,base,limit,ar\ncs,0x8,0,0xffffffff,0xa09b\ntr,0x18,0,0x67,0x8b\n",
        "sel\tbase\tlimit\tar\ncs\t0x8\t0x0\t0xffffffff\t0xa09b\ntr\t0x18\t0x0\t0x67\t0x8b\n",
    ],
)
def test_a_table_of_registers(table: str) -> None:
    assert values(f"what is wrong here?\n{table}thanks\n") == register("cs", 8, 0, 0xFFFFFFFF, 0xA09B) | register("tr", 0x18, 0, 0x67, 0x8B)


def test_the_order_of_columns_is_the_headers() -> None:
    text = "reg,limit,ar,base,selector\ntr,0x67,0x8b,0x1000,0x18\n"
    assert values(text) == register("tr", 0x18, 0x1000, 0x67, 0x8B)


def test_a_register_without_a_part_has_no_value_there() -> None:
    assert values("| seg | sel | base | limit |\n|--|--|--|--|\n| GDTR | - | 0x1000 | 0x7f |\n") == {
        "guest_gdtr_base": 0x1000,
        "guest_gdtr_limit": 0x7F,
    }


def test_the_hosts_table() -> None:
    assert values("host sel base\nfs 0x0 0x7000\nthanks\n") == {"host_fs_selector": 0, "host_fs_base": 0x7000}


def test_a_row_with_another_number_of_cells_is_not_read() -> None:
    assert values("seg sel base limit ar\nCS 0x8 0x0 0xffffffff\n") == {}
