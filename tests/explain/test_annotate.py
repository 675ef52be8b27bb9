"""The text with each value marked by the field that it was read as: every mark stands below its number, and nothing that was read lacks one."""

from __future__ import annotations

from pathlib import Path

import corpus_of_texts
import pytest

from vmfuzz.explain.answer.annotate import Columns, Kind, annotated, marks
from vmfuzz.explain.reading import read_text

SAMPLES = sorted([*Path(__file__).parent.glob("samples/*.txt"), *Path(__file__).parent.glob("bodies/*.txt")])


def test_each_value_is_marked_below_its_number_and_doubts_are_shown() -> None:
    text = "guest_cr0 = 0x80050033, cr3 = 0x1000\nwhat is 0x1234 here\nesp: 0x123456789a\n"
    assert annotated(read_text(text)) == (
        "1   guest_cr0 = 0x80050033, cr3 = 0x1000\n"
        "                ^^^^^^^^^^ guest_cr0\n"
        "                                  ^^^^^^ guest_cr3?\n"
        "2 ? what is 0x1234 here\n"
        "3 ? esp: 0x123456789a\n"
        "  ! esp = 0x123456789a is too wide for a 32-bit register; it may be SYSENTER's, so it is not used\n"
    )


def test_each_of_equal_numbers_on_a_line_is_marked_once() -> None:
    xen = (Path(__file__).parent / "samples" / "xen.txt").read_text(encoding="utf-8")
    (dump,) = read_text(xen)
    of_fields = [mark for mark in marks(dump) if mark.kind is Kind.FIELD]
    assert len({(mark.line, mark.first) for mark in of_fields}) == len(of_fields)
    eip = next(mark for mark in of_fields if mark.name == "guest_ia32_sysenter_eip")
    line = dump.lines[eip.line - 1]
    assert line[: eip.first - 1].endswith("CS:RIP=0000:")


def test_the_words_that_tell_the_outcome_are_marked() -> None:
    shown = annotated(read_text("(XEN) d2v0 vmentry failure (reason 0x80000021): Invalid guest state (0)\nCR3 = 0x1000\n"))
    first, below, *_ = shown.splitlines()
    assert first.startswith("1   (XEN)")
    assert below.strip(" ^") == "(reported outcome)"


def test_long_stretches_without_a_value_are_shortened() -> None:
    text = "guest_cr0 = 0x31\n" + "a line\n" * 40 + "guest_cr4 = 0x2000\n"
    shown = annotated(read_text(text)).splitlines()
    assert " 2   a line" in shown
    assert "     (34 lines of which nothing was read)" in shown
    assert len(shown) == 11


def test_marks_of_two_states_say_whose_they_are() -> None:
    text = "-host_CR4 = 0x2020\n+host_CR4 = 0x20\n"
    shown = annotated(read_text(text))
    assert "^^^^^^ host_cr4 (1)" in shown
    assert "^^^^ host_cr4 (2)" in shown


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_every_reading_has_a_mark_on_its_line(path: Path) -> None:
    for dump in read_text(path.read_text(encoding="utf-8")):
        found = {(mark.line, mark.what.rstrip("?")) for mark in marks(dump)}
        assert {(reading.line, name) for name, reading in dump.readings.items()} <= found
        assert annotated([dump]).count("^ ") >= len(dump.readings)


def test_nearly_every_value_of_the_corpus_is_found_in_its_line() -> None:
    found = lost = 0
    for text in corpus_of_texts.bodies(corpus_of_texts.files()):
        for dump in read_text(text):
            columns = Columns(dump)
            places = [columns.of(reading) for reading in dump.readings.values()]
            lost += places.count(None)
            found += len(places)
            assert all(place is None or 0 < place[0] <= place[1] for place in places)
    assert lost * 20 < found, f"{lost} of {found}"
