"""Deviations of a person's own file (docs/errata.md) that fit a text: it has the bits that a case changes as the case has them, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.explain.reported import Reported
from vmfuzz.model.partial import Partial

#: A case of an erratum: (operand, mask, value), of which the bits in the mask must be so, and the outcome as entries of a corpus name it.
OwnCase = tuple[Sequence[tuple[str, int, int]], str]


def fits(cases: Sequence[OwnCase], values: Mapping[str, Partial], reported: Reported | None) -> bool:
    """Whether the text shows all bits of one of the cases as they must be, and reports its outcome; `values`: what the text says of fields."""
    return reported is not None and any(
        outcome in _short(reported) and all(_shows(values.get(name), mask, value) for name, mask, value in bits) for bits, outcome in cases
    )


def _shows(have: Partial | None, mask: int, value: int) -> bool:
    """Whether all bits in the mask are known, and as `value` has them."""
    return have is not None and not mask & ~have.known and not (have.value ^ value) & mask


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
