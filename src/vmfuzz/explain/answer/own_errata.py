"""Deviations of a person's own file (docs/errata.md) that fit a text: it has the values that a case has, and the case's outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.explain.dump import Dump, Reported

if TYPE_CHECKING:  # reading a file of errata needs the generation of states; naming one needs none of it
    from vmfuzz.comparison.errata import Erratum, KnownCase


def fitting_own(dump: Dump, errata: Sequence[Erratum]) -> list[tuple[str, str]]:
    """(id, text) of the errata of which a case fits."""
    return [(erratum.id, erratum.text) for erratum in errata if any(_fits(known, dump) for known in erratum.cases)]


def _fits(known: KnownCase, dump: Dump) -> bool:
    """Whether the text gives each field that the case changes the value that it has there, and reports its outcome."""
    for name, value in known.case.mutation.items():
        reading = dump.readings.get(name)
        if reading is None or reading.value != value:
            return False
    return dump.reported is not None and known.actual in _short(dump.reported)


def _short(reported: Reported) -> tuple[str, ...]:
    """The outcome as entries of a corpus name it; of a failed entry without its qualification, all that it may be."""
    if reported.entered:
        return ("entered", Outcome(Kind.EXIT, (reported.exit_reason or 0) & 0xFFFF).short())
    if reported.exit_reason is not None:
        qualifications = range(5) if reported.qualification is None else (reported.qualification,)
        return tuple(Outcome(Kind.ENTRY_FAILURE, reported.exit_reason & 0xFFFF, number).short() for number in qualifications)
    if reported.error is None:
        return (Outcome(Kind.VMFAIL_INVALID).short(),)
    return (Outcome(Kind.VMFAIL_VALID, reported.error).short(),)
