"""Declared formats: every declared line is in the sample and the other way round, what is given is read, and a stranger adds one in one file."""

from __future__ import annotations

from pathlib import Path

import pytest
from one_dump import values

from vmfuzz.explain.formats import programs
from vmfuzz.explain.formats.declared import Declared
from vmfuzz.explain.reading import read_text

FORMATS = {one.program: one for one in programs.formats()}
each_format = pytest.mark.parametrize("one", FORMATS.values(), ids=FORMATS)


def place_of(one: Declared, text: str) -> int:
    """The place of the declared line that a text is, -1 if it is none."""
    return next((index for index, shape in enumerate(one.shapes) if shape.pattern.fullmatch(text)), -1)


@each_format
def test_each_line_of_the_sample_is_declared_and_each_declared_line_is_in_it(one: Declared) -> None:
    places = [place_of(one, line.strip()) for line in one.sample.splitlines()]
    assert -1 not in places, one.sample.splitlines()[places.index(-1)]
    assert set(places) == set(range(len(one.lines)))


@each_format
def test_what_the_sample_gives_is_read(one: Declared) -> None:
    assert one.gives
    assert values(one.sample) == one.gives
    assert any(word in one.sample for word in one.words)


@each_format
def test_the_sample_is_read_in_the_middle_of_a_log_too(one: Declared) -> None:
    log = "".join(f"[   12.{number:06}] {line}\n" for number, line in enumerate(["started", *one.sample.splitlines(), "stopped"]))
    assert values(log) == one.gives


def test_what_is_shown_of_registers_that_a_program_keeps_is_no_vmcs() -> None:
    (dump,) = read_text(FORMATS["ACRN"].sample)
    assert all("not the VMCS" in reading.assumed for reading in dump.readings.values())
    assert dump.beside["ACRN CR0"].value == 0x30


STRANGERS = '''
"""What a hypervisor of one's own prints when its guest cannot be entered."""

from vmfuzz.explain.formats.declared import Declared

FORMAT = Declared(
    program="Tiny",
    source="tiny/panic.c",
    words=("tiny: no entry",),
    lines=(
        "tiny: no entry",
        "pc/sp {guest_rip}/{guest_rsp} fl {guest_rflags}",
        "@> {guest_@_selector} {guest_@_access_rights} lim {guest_@_limit}",
        "@> {guest_@_selector} {guest_@_access_rights}",
    ),
    registers=("cs", "ss"),
    sample="tiny: no entry\\npc/sp fff0/7c00 fl 2\\ncs> 8 9b lim ffff\\nss> 10 93\\n",
    gives={"guest_rip": 0xFFF0, "guest_rsp": 0x7C00, "guest_rflags": 2, "guest_cs_selector": 8, "guest_cs_access_rights": 0x9B,
           "guest_cs_limit": 0xFFFF, "guest_ss_selector": 0x10, "guest_ss_access_rights": 0x93},
)
'''


def test_a_strangers_format_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.py").write_text(STRANGERS, encoding="utf-8")
    monkeypatch.setattr(programs, "__path__", [*programs.__path__, str(tmp_path)])
    programs.formats.cache_clear()
    try:
        tiny = next(one for one in programs.formats() if one.program == "Tiny")
        assert values(tiny.sample) == tiny.gives
        assert len(programs.formats()) == len(FORMATS) + 1
    finally:
        programs.formats.cache_clear()


PREFIXED = """
from vmfuzz.explain.formats.declared import Declared

FORMAT = Declared(
    program="Wren",
    source="",
    words=("wren: ",),
    prefix="wren: ",
    lines=("cr0 {guest_cr0} cr4 {guest_cr4}", "rip {guest_rip} rsp {guest_rsp}"),
    sample="wren: cr0 31 cr4 2000\\nwren: rip fff0 rsp 7c00\\n",
    gives={"guest_cr0": 0x31, "guest_cr4": 0x2000, "guest_rip": 0xFFF0, "guest_rsp": 0x7C00},
)
"""


@pytest.mark.parametrize("around", [0, 40], ids=["alone", "in-a-long-log"])
def test_what_a_program_prints_before_each_line_may_be_taken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, around: int) -> None:
    (tmp_path / "wren.py").write_text(PREFIXED, encoding="utf-8")
    monkeypatch.setattr(programs, "__path__", [*programs.__path__, str(tmp_path)])
    programs.formats.cache_clear()
    try:
        wren = next(one for one in programs.formats() if one.program == "Wren")
        (dump,) = read_text("usb: new device\n" * around + wren.sample + "usb: gone\n" * around)
        assert {name: reading.value for name, reading in dump.readings.items()} == wren.gives
        assert f"lines {around + 1} to {around + 2}: what Wren prints" in dump.trace
    finally:
        programs.formats.cache_clear()
