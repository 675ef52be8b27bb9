"""The outcome of a dump: from what its text says, what programs name in it, and the fields that were believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from vmfuzz.explain.dump import Dump, Named
from vmfuzz.explain.outcomes.choose import Choice, choose
from vmfuzz.explain.outcomes.heard import Heard
from vmfuzz.explain.outcomes.programs import words_of_programs
from vmfuzz.explain.reported import Attempted
from vmfuzz.explain.text.lines import Line

#: Above KVM's dump of a VMCS; a dump that is whole tells the exit reason.
_ATTEMPTED: Final = "last attempted VM-entry"


def with_outcome(dump: Dump, told: str | None = "", lines: Sequence[Line] = (), text: str = "") -> Dump:
    """The dump with the outcome that is believed.

    `told`: what may tell it (None: the failure is another dump's); `lines`: those of no known program; `text`: all around the dump.
    """
    choice = choose(Heard(told), dump.readings) if told is not None else Choice()
    words = words_of_programs(lines)
    reported = words.believed(choice.reported)
    if reported is None and _ATTEMPTED in text and "exit_reason" not in dump.readings:
        reported = Attempted(_ATTEMPTED, error=0)  # nothing but the head says that something went wrong: the end is cut off
    named = Named(tuple(words.checks), words.msr, dump.named.hm_error)
    dump = dump.warning(*choice.warned, *words.warned)
    return replace(dump, reported=reported, named=named, beside={**dump.beside, **choice.beside, **words.beside})
