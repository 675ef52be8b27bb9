"""Damaged dumps: whatever is cut, shuffled or changed, there is an answer, and lines out of order put no value under another field."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmfuzz.errors import UsageError
from vmfuzz.explain.answer import answer
from vmfuzz.explain.reading import decode, read_text
from vmfuzz.explain.render import render

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.txt"))
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in SAMPLES}


def everything(text):
    for dump in read_text(text):
        found = answer(dump)
        assert render(found, explain=True)
        assert found.exit_code in (0, 1, 2)


@given(name=st.sampled_from(sorted(TEXTS)), cuts=st.tuples(st.floats(0, 1), st.floats(0, 1)))
@settings(max_examples=60)
def test_cut(name, cuts):
    text = TEXTS[name]
    first, last = sorted(int(cut * len(text)) for cut in cuts)
    everything(text[first:last])


@given(name=st.sampled_from(sorted(TEXTS)), data=st.data())
@settings(max_examples=60)
def test_bytes_changed(name, data):
    damaged = bytearray(TEXTS[name].encode())
    for position, value in data.draw(st.lists(st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255)), min_size=1, max_size=20)):
        damaged[position] = value
    everything(decode(bytes(damaged), name))


@given(data=st.binary(max_size=400))
@settings(max_examples=60)
def test_arbitrary_bytes(data):
    try:
        text = decode(data, "bytes")
    except UsageError:
        return  # empty, or binary data
    everything(text)


@given(text=st.text(alphabet="GUESTCR0_ARlimbase:=x/|(),\n 0123fF", max_size=200))
@settings(max_examples=80)
def test_arbitrary_text_of_the_formats_letters(text):
    everything(text)


@pytest.mark.parametrize("name", ["kvm", "xen", "printk"])
@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=25)
def test_lines_out_of_order_give_no_wrong_field(name, seed):
    lines = TEXTS[name].splitlines()
    whole = read_text(TEXTS[name])[0].readings
    random.Random(seed).shuffle(lines)  # far from the original order: exchanging two like lines cannot be seen by anybody
    text = "\n".join(lines) + "\n"
    everything(text)
    for dump in read_text(text):
        wrong = {
            field: (hex(reading.value), reading.label)
            for field, reading in dump.readings.items()
            if field not in whole or (whole[field].value ^ reading.value) & reading.known & whole[field].known
        }
        assert wrong == {}


@given(data=st.data())
@settings(max_examples=25)
def test_lines_left_out_give_no_wrong_field(data):
    lines = TEXTS["kvm"].splitlines()
    whole = read_text(TEXTS["kvm"])[0].readings
    keep = data.draw(st.lists(st.booleans(), min_size=len(lines), max_size=len(lines)))
    text = "\n".join(line for line, kept in zip(lines, keep, strict=True) if kept) + "\n"
    for dump in read_text(text):
        assert {field for field, reading in dump.readings.items() if whole[field].value != reading.value} == set()
