"""The outcome of a dump: from what its text says, what programs name in it, and the fields that were believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from vmfuzz.explain.dump import Dump
from vmfuzz.explain.outcomes.choose import Choice, choose
from vmfuzz.explain.outcomes.heard import Heard
from vmfuzz.explain.outcomes.programs import words_of_programs
from vmfuzz.explain.reported import Attempted
from vmfuzz.explain.text.lines import Line

#: Above KVM's dump of a VMCS; a dump that is whole tells the exit reason.
_ATTEMPTED: Final = "last attempted VM-entry"


@dataclass(frozen=True)
class Speech:
    """The text around a dump: the lines that may tell its outcome (None: the failure is another dump's), those of no known program, all of it."""

    told: str | None = ""
    lines: Sequence[Line] = ()
    text: str = ""


def with_outcome(dump: Dump, speech: Speech) -> Dump:
    """The dump with the outcome that is believed."""
    choice = choose(Heard(speech.told), dump.readings) if speech.told is not None else Choice()
    words = words_of_programs(speech.lines, dump.named.hm_error)
    reported = words.believed(choice.reported)
    if reported is None and _ATTEMPTED in speech.text and "exit_reason" not in dump.readings:
        reported = Attempted(_ATTEMPTED, error=0)  # nothing but the head says that something went wrong: the end is cut off
    notes = dump.notes.with_warnings((*choice.warned, *words.warned))
    return replace(dump, reported=reported, named=words.named, beside={**dump.beside, **choice.beside}, notes=notes)
