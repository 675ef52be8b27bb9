"""Outcomes as bits of a 64-bit mask, so that a set of allowed outcomes of many candidates is one uint64 column."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.outcomes import ANY_ENTRY, ANY_EXIT, Kind, Outcome, Outcomes

#: First exits that the model can predict by name.
PREDICTED_EXITS: Final = (0, 2, 7, 8, 9, 12, 37, 43, 44, 48, 49, 52, 56)

#: MSR-load entries that have an outcome of their own; a failure at a later one is Outcome(ENTRY_FAILURE, 34, ANY_ENTRY).
_MSR_ENTRIES: Final = 4

_FAILURES: Final = (
    Outcome(Kind.VMFAIL_INVALID),
    *(Outcome(Kind.VMFAIL_VALID, number) for number in (4, 5, 7, 8, 26)),
    *(Outcome(Kind.ENTRY_FAILURE, 33, qualification) for qualification in (0, 2, 3, 4)),
    *(Outcome(Kind.ENTRY_FAILURE, 34, number) for number in range(1, _MSR_ENTRIES + 1)),
    Outcome(Kind.ENTRY_FAILURE, 34, ANY_ENTRY),
)
_EXITS: Final = (*(Outcome(Kind.EXIT, reason) for reason in PREDICTED_EXITS), Outcome(Kind.EXIT, ANY_EXIT))

#: The outcome of each bit.
OUTCOME_OF_BIT: Final = (*_FAILURES, *_EXITS)
_BIT_OF_OUTCOME: Final = {outcome: bit for bit, outcome in enumerate(OUTCOME_OF_BIT)}
#: The bit of outcomes that no set contains: the candidate met something outside of the model's world.
UNEXPECTED_BIT: Final = 63
#: All outcomes in which the VM entry succeeds.
ENTERED: Final = sum(1 << _BIT_OF_OUTCOME[outcome] for outcome in _EXITS)


def mask_of(outcomes: tuple[Outcome, ...]) -> int:
    """The set of these outcomes as a mask; an EXIT whose reason is ANY_EXIT stands for every exit."""
    mask = 0
    for outcome in outcomes:
        if outcome.kind is Kind.EXIT and outcome.number == ANY_EXIT:
            mask |= ENTERED
        else:
            mask |= 1 << _BIT_OF_OUTCOME[Outcome(outcome.kind, outcome.number, _qualification(outcome))]
    return mask


def _qualification(outcome: Outcome) -> int | None:
    return outcome.qualification if outcome.kind is Kind.ENTRY_FAILURE else None


def outcomes_of(mask: int) -> frozenset[Outcome]:
    """The outcomes of a mask; if every exit is allowed, that is one outcome (EXIT, ANY_EXIT)."""
    if mask & ENTERED == ENTERED:
        return frozenset({Outcome(Kind.EXIT, ANY_EXIT)}) | outcomes_of(mask & ~ENTERED)
    return frozenset(outcome for bit, outcome in enumerate(OUTCOME_OF_BIT) if mask >> bit & 1)


def _valid_table() -> npt.NDArray[np.uint8]:
    table = np.full(64, UNEXPECTED_BIT, np.uint8)
    for outcome, bit in _BIT_OF_OUTCOME.items():
        if outcome.kind is Kind.VMFAIL_VALID:
            table[outcome.number] = bit
    return table


def _exit_table() -> npt.NDArray[np.uint8]:
    table = np.full(256, _BIT_OF_OUTCOME[Outcome(Kind.EXIT, ANY_EXIT)], np.uint8)
    for reason in PREDICTED_EXITS:
        table[reason] = _BIT_OF_OUTCOME[Outcome(Kind.EXIT, reason)]
    return table


_VALID: Final = _valid_table()
_EXIT: Final = _exit_table()


def masks_of(outcomes: Outcomes, bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Each outcome as the set of outcomes that it may be, uint64 of shape (n,): every exit where an executor says only that it entered."""
    return np.where(exit_unknown(outcomes), np.uint64(ENTERED), np.uint64(1) << bits.astype(np.uint64))


def exit_unknown(outcomes: Outcomes) -> npt.NDArray[np.bool_]:
    """Rows that entered, and whose executor does not say with which exit it ended: bool (n,)."""
    unknown: npt.NDArray[np.bool_] = (outcomes.kind == Kind.EXIT) & (outcomes.number == ANY_EXIT)
    return unknown


def bits_of(outcomes: Outcomes) -> npt.NDArray[np.uint8]:
    """The bit of each outcome of a batch, uint8 of shape (n,); UNEXPECTED_BIT for what the model has no name for."""
    bits = np.full(len(outcomes), UNEXPECTED_BIT, np.uint8)
    kind, number = outcomes.kind, outcomes.number
    bits[kind == Kind.VMFAIL_INVALID] = _BIT_OF_OUTCOME[Outcome(Kind.VMFAIL_INVALID)]
    valid = kind == Kind.VMFAIL_VALID
    bits[valid] = _VALID[np.minimum(number[valid], 63)]
    entered = kind == Kind.EXIT
    bits[entered] = _EXIT[np.minimum(number[entered], 255)]
    failure = np.flatnonzero(kind == Kind.ENTRY_FAILURE)
    for outcome in _FAILURES:
        if outcome.kind is Kind.ENTRY_FAILURE:
            same = (number[failure] == outcome.number) & (outcomes.qualification[failure] == outcome.qualification)
            bits[failure[same]] = _BIT_OF_OUTCOME[outcome]
    later = (number[failure] == 34) & (outcomes.qualification[failure] > _MSR_ENTRIES)
    bits[failure[later]] = _BIT_OF_OUTCOME[Outcome(Kind.ENTRY_FAILURE, 34, ANY_ENTRY)]
    return bits
