"""What a person gives to be explained: a stream with a text of any size, or the words of an outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import BinaryIO

from vmfuzz.errors import UsageError
from vmfuzz.explain.dump import Dump, Format, Warned
from vmfuzz.explain.outcomes.words import meant
from vmfuzz.explain.reading import read_text
from vmfuzz.explain.reported import Reported
from vmfuzz.explain.text.large import read_all


def dumps_of(stream: BinaryIO, name: str) -> list[Dump]:
    """The dumps in a text that answers call `name`; at least one. Raises UsageError for what is no text."""
    text, left_out = read_all(stream, name)
    dumps = read_text(text, name)
    return [dump.warning(Warned(0, left_out)) for dump in dumps] if left_out else dumps


def from_words(words: str) -> Reported | None:
    """The outcome that a person means by a bare number, a log line or a name; None where it is none of these."""
    return read_text(words)[0].reported or meant(words.strip())


def dump_of_words(text: str, name: str) -> Dump:
    """A bare number, or a log line, such as 0x80000021. Raises UsageError for what vmfuzz knows to be AMD's."""
    dump, found = read_text(f"{text}\n", name)[0], from_words(text)
    if found is not None:
        dump = replace(dump, reported=found, format=Format.ARGUMENT)
    elif dump.foreign:
        raise UsageError(dump.foreign)
    return dump
