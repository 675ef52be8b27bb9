"""A text that holds one dump, as the tests of forms of lines look at it."""

from __future__ import annotations

from vmfuzz.explain.dump import Dump
from vmfuzz.explain.reading import read_text


def read(text: str) -> Dump:
    """The only dump of a text."""
    (dump,) = read_text(text)
    return dump


def values(text: str) -> dict[str, int]:
    """The fields that it gives, with their values."""
    return {name: reading.value for name, reading in read(text).readings.items()}
