"""Patterns that are compiled when they are first used."""

from __future__ import annotations

import re

import pytest

from vmfuzz.patterns import deferred


def test_a_deferred_pattern_is_what_the_compiled_one_is() -> None:
    late, now = deferred(r"(?P<name>[a-z]+)=(\d+)", re.IGNORECASE), re.compile(r"(?P<name>[a-z]+)=(\d+)", re.IGNORECASE)
    text = "CR0=1, cr4=2"
    assert [found.groupdict() for found in late.finditer(text)] == [found.groupdict() for found in now.finditer(text)]
    assert late.sub("x", text) == now.sub("x", text)
    assert (late.pattern, late.flags, late.groups) == (now.pattern, now.flags, now.groups)
    assert late.fullmatch("no") is None


def test_nothing_is_compiled_before_it_is_used() -> None:
    wrong = deferred("(")
    assert wrong.pattern == "("
    with pytest.raises(re.error):
        wrong.search("")
