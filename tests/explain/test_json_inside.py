"""JSON within a post: sentences around it take nothing from it, and give it no other meaning."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from one_dump import read, values

from patience import grows_with_its_input
from vmfuzz.explain.reading import read_text

OBJECT = {
    "reason": "0x80000021",
    "guest": {"cr0": "0x80050033", "rip": "0x1000", "activity_state": "0x1", "cs": {"selector": "0x10", "ar": "0xa09b"}},
    "host": {"cr0": 2147483697, "cr3": 4096},
}


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("before", ["what is wrong?\n", "log: ", "vmcs = ", "the dump\n\n"])
def test_sentences_around_it_change_nothing(before: str, indent: int | None) -> None:
    text = json.dumps(OBJECT, indent=indent)
    alone, inside = read(text), read(f"{before}{text}\nthanks\n")
    assert {name: reading.value for name, reading in inside.readings.items()} == {
        name: reading.value for name, reading in alone.readings.items()
    }
    assert not inside.warnings


@pytest.mark.parametrize(
    "text",
    [
        'here it is\n{"GUEST_CR0": "0x80000031", "GUEST_RFLAGS": "0x0"}\n',
        'log: {"GUEST_CR0": 2147483697, "GUEST_RFLAGS": 0}\n',
        'one\n{"GUEST_CR0": 2147483697}\ntwo {no json} {\n{"GUEST_RFLAGS": 0}\n',
    ],
)
def test_on_one_line(text: str) -> None:
    assert values(text) == {"guest_cr0": 0x80000031, "guest_rflags": 0}


def test_lines_keep_their_numbers() -> None:
    text = 'see\n{\n  "guest": {\n    "cr0": 5,\n    "cr3": 4096\n  }\n}\nGUEST_RIP = 0x1000\n'
    assert {name: reading.line for name, reading in read(text).readings.items()} == {"guest_cr0": 4, "guest_cr3": 5, "guest_rip": 8}


def test_of_what_is_cut_nothing_is_read_whose_owner_is_not_told() -> None:
    assert values('cut:\n "host": { "regs": {"cr0": 5, "cr3": 4096},\n  "tr": {"sel') == {}


def test_a_heading_names_whose_it_is() -> None:
    assert values('host state:\n{"cr0": 5}\n') == {"host_cr0": 5}


def test_braces_of_programs_are_left_alone() -> None:
    assert values('int a[] = {"cr0", "cr4"};\nstruct x { int cr0; };\nGUEST_CR0 = 0x31\n') == {"guest_cr0": 0x31}


@pytest.mark.parametrize(
    "text_of",
    [
        lambda size: '{"' * size,
        lambda size: '{"a":' * size + "1" + "}" * size,
        lambda size: '{"a": 1}' * size,
        lambda size: '{"a": [' + "1," * size + "x]}",
    ],
    ids=["never closed", "nested", "side by side", "a long array"],
)
def test_the_time_for_braces_grows_with_their_number(text_of: Callable[[int], str]) -> None:
    assert grows_with_its_input(lambda text: read_text(f"see\n{text}\n"), text_of, 20_000)
