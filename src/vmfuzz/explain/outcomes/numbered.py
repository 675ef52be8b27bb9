"""Outcomes that a text gives as a number in a phrase: what the number is, and which of several counts."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from vmfuzz.explain.outcomes.context import Place, has_happened, is_counted, is_outcome, place_of
from vmfuzz.explain.outcomes.phrases import Meaning, spots
from vmfuzz.explain.reported import FAILED_ENTRY, FAILURE_REASONS, Reported, possible
from vmfuzz.explain.text.numbers import to_unsigned
from vmfuzz.patterns import deferred

#: What KVM reports to the program that calls it in place of a failed entry's own number.
KVM_FAIL_ENTRY: Final = 9
NO_BIT_31: Final = "bit 31 is not shown; exit reasons 33, 34 and 41 occur only with it"
QUALIFICATION: Final = deferred(r"qual(?:ification)?\b(?: field| is| was| as|[ =:(])*(?P<value>(?:0x)?[0-9a-fA-F]+)\b", re.IGNORECASE)
_NO_NUMBER_NAME: Final = "FAIL_ENTRY"
#: What stands before an exit reason that KVM reports to its user (or that a test wants): those numbers are not the processor's.
_OF_KVM: Final = deferred(
    r"(?:\bKVM[ _-]+|\bKVM_RUN\b[^\n]*|(?:\b|_)run(?:->|\.)|\b(?:wanted|expected|expects)\b(?:(?!\b(?:got|but|not)\b)[^\n])*)$",
    re.IGNORECASE,
)
#: An exit reason whose upper half a program has printed wrongly.
_ODD: Final = deferred(r"(?:0x)?f{8}000000(21|22|29)", re.IGNORECASE)
_XEN_DETAIL: Final = deferred(r"Invalid guest state \((\d+)\)|MSR loading \(entry (\d+)\)|MSR entry (\d+) loading", re.IGNORECASE)
#: The numbers of exit reasons and VM-instruction errors are smaller than these.
_REASONS, _ERRORS = 256, 64
#: So many numbers that stand alone are looked at: one that is in a text a thousand times is a value in a log.
_MOST_ALONE: Final = 1000
#: So far behind a number its qualification is looked for.
_NEAR: Final = 120
#: So far above a number its label is.
_ABOVE: Final = 200


@dataclass(frozen=True)
class Numbered:
    """What the phrases of a text say: the first failure; the VM-instruction error field; an exit of a guest that ran.

    `alone` is the exit reason of a failure that stands in no phrase: anything that says more goes before it.
    """

    failed: Reported | None = None
    error: Reported | None = None
    ran: Reported | None = None
    alone: Reported | None = None
    #: whether a person tells of `ran`, no program
    in_a_sentence: bool = False


def numbered(text: str) -> Numbered:
    """The outcomes that a text gives as numbers: the first failure counts, and the first exit of a guest that ran (a log has many of those)."""
    found, looked = Numbered(), 0
    for pattern, meaning, begin, end in spots(text):
        for match in pattern.finditer(text, begin, end):
            looked += meaning is Meaning.ALONE
            if meaning is Meaning.ALONE and (found.alone is not None or looked > _MOST_ALONE):
                break
            place = place_of(text, match.start(), match.end())
            one = _outcome(match, meaning, place, text)
            if one is None:
                continue
            if meaning is Meaning.FIELD or one.of_another_instruction:
                found = replace(found, error=found.error or one)
            elif meaning is Meaning.ALONE:
                found = replace(found, alone=one)
            elif not one.entered:
                return replace(found, failed=one)
            elif found.ran is None or found.in_a_sentence:
                found = replace(found, ran=one, in_a_sentence=place.is_sentence)
    return found


def _outcome(match: re.Match[str], meaning: Meaning, place: Place, text: str) -> Reported | None:
    """The outcome that one phrase says, None where its number is of another kind."""
    if not has_happened(place) or (meaning is Meaning.ALONE and not _is_outcome_below(text, match.start(), place)):
        return None
    meaning = Meaning.REASON if meaning is Meaning.ALONE else meaning
    words = " ".join(match.group(0).split())
    odd = _ODD.fullmatch(match["value"])
    if odd and meaning is Meaning.REASON:
        return Reported(words, FAILED_ENTRY | int(odd[1], 16), remark="the program printed its bits 63:31 wrongly")
    value = int(match["value"], 16) if meaning is Meaning.RAW else to_unsigned(match["value"])
    if value is None or _is_of_another(value, meaning, words, place):
        return None
    said = _said(words, meaning, value)
    return said if said is None or said.exit_reason is None else _detailed(said, text[match.end() : match.end() + _NEAR])


def _is_outcome_below(text: str, begin: int, place: Place) -> bool:
    """Whether a number that stands alone is an outcome, below the label that may stand on the line above."""
    label = "" if place.head.strip() else _label_above(text, begin)
    return is_outcome(Place(label + place.line, len(label) + place.begin, len(label) + place.end))


def _is_of_another(value: int, meaning: Meaning, words: str, place: Place) -> bool:
    """Whether the number is the one that KVM gives its user for a failed entry, or an exit reason of KVM's own, or one that is counted."""
    if value == KVM_FAIL_ENTRY and _NO_NUMBER_NAME in words.upper():
        return True
    of_reason = meaning in (Meaning.REASON, Meaning.BASIC) and value < _REASONS
    return of_reason and (_OF_KVM.search(place.head) is not None or is_counted(place))


def _label_above(text: str, begin: int) -> str:
    """The end of the line above, where that is a label whose value stands on a line of its own."""
    above = text[max(0, begin - _ABOVE) : begin].rstrip().rpartition("\n")[2]
    return f"{above} " if above.endswith((":", "=")) else ""


def _said(words: str, meaning: Meaning, value: int) -> Reported | None:
    """The outcome that a number of this meaning is; None for 0 in the place of a number, and for what is none."""
    if meaning is Meaning.HARDWARE:
        meaning = Meaning.REASON if value >> 31 else Meaning.ERROR
    if value >> 31:
        return Reported(words, value) if possible(value) else None
    if meaning in (Meaning.ERROR, Meaning.FIELD) and value not in FAILURE_REASONS:
        return Reported(words, error=value) if 0 < value < _ERRORS else None
    if value in FAILURE_REASONS:  # (no VM-instruction error has such a number)
        return Reported(words, FAILED_ENTRY | value, remark="" if meaning is Meaning.BASIC else NO_BIT_31)
    return Reported(words, value) if value < _REASONS else None


def _detailed(said: Reported, near: str) -> Reported:
    """With the qualification, or the entry of the MSR-load area, that stands behind the number."""
    found, detail = QUALIFICATION.search(near), _XEN_DETAIL.search(near)
    qualification = to_unsigned(found["value"]) if found else None
    if detail is None:
        return replace(said, qualification=qualification)
    guest, *entries = detail.groups()
    entry = next((int(one) + 1 for one in entries if one), None)
    return replace(said, qualification=int(guest) if guest else qualification, msr_entry=entry)
