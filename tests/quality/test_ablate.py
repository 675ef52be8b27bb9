"""benchmarks/ablate.py: a rule acts in the texts that need it, and what fails while it watches is not hidden."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import ablate  # noqa: E402

TEXT = "guest state:\n  cs: sel 0x10 base 0x0 limit 0xffffffff\nGUEST_CR0 = 0x80000031\nexit reason: 0x80000021\n"


@pytest.fixture
def watch():
    watch = ablate.Watch()
    yield watch
    watch.end()
    ablate.forget()


def test_rules_act_where_they_are_needed(watch):
    acting = watch.read(TEXT)
    assert {"formats.notes.Notes.heading()", "names.labels.names_one()", "formats.pairs.read_pairs()"} <= acting
    assert "formats.program.handed_over()" not in acting


def test_every_rule_that_changes_a_text_acts_in_it(watch):
    acting = watch.read(TEXT)
    watch.end()
    ablate.forget()
    whole = ablate.result(TEXT)
    changing = set()
    for name, switch_off in ablate.rules():
        undo = switch_off()
        ablate.forget()
        if ablate.result(TEXT) != whole:
            changing.add(name)
        for owner, key, value in undo:
            setattr(owner, key, value)
    assert len(changing) > 10
    assert changing <= acting


def test_a_rule_is_a_function_or_a_pattern_of_the_reader():
    names = [name for name, _ in ablate.rules()]
    assert not [name for name in names if "_replace" in name or "_generate_next_value_" in name or "_asdict" in name]


def test_what_fails_while_rules_are_watched_is_seen(watch, monkeypatch):
    def broken(text):
        raise ZeroDivisionError

    monkeypatch.setattr(ablate.MODULES["reading"], "read_text", broken)
    with pytest.raises(ZeroDivisionError):
        watch.read(TEXT)
