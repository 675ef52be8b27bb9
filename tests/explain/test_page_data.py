"""What the page in the browser is given: the answers of `check`, and each value with its field, its bits, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.markdown import markdown
from vmfuzz.explain.answer.sections import sections
from vmfuzz.explain.page_data import answered, processors
from vmfuzz.explain.reading import read_text
from vmfuzz.state.profiles import profile_names

SAMPLES = Path(__file__).parent / "samples"


def shown(name: str) -> dict[str, Any]:
    return answered((SAMPLES / f"{name}.txt").read_bytes())


def marks(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [mark for line in data["lines"] for mark in line.get("marks", ())]


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.txt")), ids=lambda path: path.stem)
def test_it_says_what_check_says(path: Path) -> None:
    data = answered(path.read_bytes())
    assert json.loads(json.dumps(data))["answers"]
    for found, dump in zip(data["answers"], read_text(path.read_text(encoding="utf-8"), "your text"), strict=True):
        said = {paragraph["text"] for section in found["sections"] for group in section["groups"] for paragraph in group}
        wanted = {paragraph.text for section in sections(answer(dump), True) for group in section.groups for paragraph in group}
        assert said == wanted - {""}
        assert found["exit_code"] == answer(dump).exit_code
        assert found["markdown"] == markdown(answer(dump))


def test_a_value_has_its_field_and_its_bits_by_name() -> None:
    (rights,) = [mark for mark in marks(shown("kvm")) if mark["name"] == "guest_gs_access_rights"]
    assert (rights["title"], rights["encoding"], rights["value"], rights["bad"]) == ("guest GS access rights", "481EH", "00000000H", True)
    assert {"bits": "6:5", "name": "DPL", "value": 0} in rights["bits"]
    assert {"bits": "16", "name": "UNUSABLE", "value": 0} in rights["bits"]
    assert any("guest.gs.s" in sentence for sentence in rights["wrong"])
    entry = next(mark for mark in marks(shown("kvm")) if mark["name"] == "vm_entry_controls")
    assert {"bits": "9", "name": "IA-32e mode guest", "value": 1} in entry["bits"]
    mask = next(mark for mark in marks(shown("kvm")) if mark["name"] == "cr0_guest_host_mask")
    assert {"bits": "31", "name": "PG", "value": 1} in mask["bits"]
    assert not any(mark["bits"] for mark in marks(shown("kvm")) if mark["name"].endswith("_base"))


def test_of_two_states_the_failing_one_is_answered_and_each_value_has_its_own() -> None:
    data = answered(b"-host_CR4 = 0x2020\n+host_CR4 = 0x20\n")
    assert [one["exit_code"] for one in data["answers"]] == [1]
    assert [(mark["dump"], mark["bad"]) for mark in marks(data)] == [(1, False), (2, True)]
    assert "**Compared: the - side works, the + side fails." in data["answers"][0]["markdown"]


def test_of_a_value_known_in_part_only_the_known_bits_are_named() -> None:
    (mark,) = marks(answered(b"GUEST_CR0 = 0x80000031\nGUEST_CR0 = 0x80000030\n"))
    assert (mark["name"], mark["value"], mark["part"]) == ("guest_cr0", "0000000080000030H", "FFFFFFFFFFFFFFFEH")
    assert "0" not in {bit["bits"] for bit in mark["bits"]}
    assert {"bits": "31", "name": "PG", "value": 1} in mark["bits"]


def test_the_wrong_line_of_a_list_of_encodings_is_marked() -> None:
    bad = [mark for mark in marks(shown("wrong-encoding")) if mark["bad"]]
    assert bad
    assert {mark["kind"] for mark in bad} == {"encoding"}


def test_a_single_line_is_what_a_person_asks_about() -> None:
    (found,) = answered(b"  0x80000021\n")["answers"]
    assert found["exit_code"] == 1
    assert "invalid guest state" in found["sections"][0]["groups"][0][0]["text"]
    (nothing,) = answered(b"a number of words")["answers"]
    assert nothing["exit_code"] == 2


def test_what_is_no_text_and_who_is_no_processor_is_an_error() -> None:
    assert "binary" in answered(bytes(range(256)) * 8)["error"]
    assert "unknown CPU model 'z80'" in answered(b"0x80000021", "z80")["error"]
    assert "VMRUN" in answered(b"SVM: VMEXIT_INVALID")["error"]


def test_the_processor_decides_what_the_text_leaves_open() -> None:
    text = b"guest_cr4 = 0x400000\nguest_cr0 = 0x80000031\nexit reason 0x80000021\n"
    free, bound = (answered(text, cpu)["answers"][0] for cpu in ("", "core2_penryn_t9600"))
    assert free["sections"] != bound["sections"]


def test_every_stored_profile_can_be_chosen() -> None:
    offered = processors()
    assert sorted(name for name, _ in [*offered["processors"], *offered["emulated"]]) == sorted(profile_names())


def test_markdown_has_each_paragraph_and_keeps_its_signs() -> None:
    (dump,) = read_text("guest_gs_access_rights = 0\nguest_rflags = 2\nthe <b> kernel: exit reason 0x80000021\n", "text")
    text = markdown(answer(dump))
    assert text.startswith("**The VM entry failed: ")
    assert "- `guest.gs.s`  \n  guest GS access rights bit 4 (S) is 0, but must be 1.  \n" in text
    assert "nothing was run" in text
    assert "guest.gs.p" in text
    assert "<b>" not in text
