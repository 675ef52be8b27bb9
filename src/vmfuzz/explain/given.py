"""What a person gives to be explained: a stream with a text of any size, or the words of an outcome."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import BinaryIO, Final

from vmfuzz.errors import UsageError
from vmfuzz.explain.dump import Dump, Format, Warned
from vmfuzz.explain.outcomes.choose import with_outcome
from vmfuzz.explain.outcomes.words import meant
from vmfuzz.explain.reading import read_text
from vmfuzz.explain.reported import Reported
from vmfuzz.explain.text.large import read_all
from vmfuzz.patterns import deferred

#: What AMD's VMRUN reports for a VMCB that it refuses.
_AMD: Final = deferred(r"VMEXIT_INVALID|\bVMRUN\b|(?:hardware error|exit code|^)\W*(?:0xf{8}(?:f{8})?|-1)\s*$", re.IGNORECASE)


def dumps_of(stream: BinaryIO, name: str) -> list[Dump]:
    """The dumps in a text that answers call `name`; at least one. Raises UsageError for what is no text."""
    text, left_out = read_all(stream, name)
    dumps = read_text(text, name)
    return [dump.warning(Warned(0, left_out)) for dump in dumps] if left_out else dumps


def from_words(words: str) -> Reported | None:
    """The outcome that a person means by a bare number or a log line; None where it is neither."""
    return with_outcome(Dump(), words).reported or meant(words.strip())


def dump_of_words(text: str, name: str) -> Dump:
    """A bare number, or a log line, such as 0x80000021. Raises UsageError for what vmfuzz knows to be AMD's."""
    found = from_words(text)
    dump = read_text(f"{text}\n", name)[0]
    if found is not None:
        dump = replace(dump, reported=found, format=Format.ARGUMENT)
    if dump.empty and _AMD.search(text):
        raise UsageError(
            f"{text!r} is what AMD's VMRUN reports for a VMCB that it refuses; vmfuzz knows VM entries of Intel processors only"
        )
    return dump
