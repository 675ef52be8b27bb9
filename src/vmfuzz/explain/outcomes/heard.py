"""All that a text says of how a VM entry ended: evidence, of which choose.py believes one. Nothing here looks at the fields."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cached_property
from typing import Final

from vmfuzz.explain.outcomes.context import Place, first_told, has_happened, is_code, is_counted, is_outcome, place_of
from vmfuzz.explain.outcomes.phrases import PHRASES, Meaning
from vmfuzz.explain.outcomes.words import identified, in_languages
from vmfuzz.explain.reported import FAILED_ENTRY, FAILURE_REASONS, Reported, possible
from vmfuzz.explain.text.numbers import to_unsigned
from vmfuzz.patterns import deferred

_NUMBERS: Final = frozenset(Meaning) - {Meaning.NONE}
#: What KVM reports to the program that calls it in place of a failed entry's own number.
KVM_FAIL_ENTRY: Final = 9
NO_BIT_31: Final = "bit 31 is not shown; exit reasons 33, 34 and 41 occur only with it"
QUALIFICATION: Final = deferred(r"qual(?:ification)?\b(?: field| is| was| as|[ =:(])*(?P<value>(?:0x)?[0-9a-fA-F]+)\b", re.IGNORECASE)
#: What stands before an exit reason that KVM reports to its user (or that a test wants): those numbers are not the processor's.
_OF_KVM: Final = deferred(
    r"(?:\bKVM[ _-]+|\bKVM_RUN\b[^\n]*|(?:\b|_)run(?:->|\.)|\b(?:wanted|expected|expects)\b(?:(?!\b(?:got|but|not)\b)[^\n])*)$",
    re.IGNORECASE,
)
_XEN_DETAIL: Final = deferred(r"Invalid guest state \((\d+)\)|MSR loading \(entry (\d+)\)|MSR entry (\d+) loading", re.IGNORECASE)
#: The numbers of exit reasons and VM-instruction errors are smaller than these.
_REASONS, ERRORS = 256, 64
#: So many numbers that stand alone are looked at: one that is in a text a thousand times is a value in a log.
_MOST_ALONE: Final = 1000
#: So far behind a number its qualification is looked for, and so far above it its label.
_NEAR, _ABOVE = 120, 200


class Heard:
    """What a text says of outcomes: the first failure by a number, and the first exit of a guest that ran (a log has many of those)."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.failed: Reported | None = None
        #: what the VM-instruction error field is said to hold
        self.error: Reported | None = None
        self.ran: Reported | None = None
        #: the exit reason of a failure that stands in no phrase: anything that says more goes before it
        self.alone: Reported | None = None
        #: the words by which KVM, or a program of its, says that an entry failed, and not with which number
        self.without_number = ""
        #: outcomes in words, with the numbers of their lines
        self._named: list[tuple[int, Reported]] = []
        self._listen()

    @cached_property
    def words(self) -> Reported | None:
        """In a program's words, by an identifier, or, where no phrase with a number tells of a failure, in a person's language."""
        named = first_told([*self._named, *identified(self.text)])
        return named or (in_languages(self.text) if self.failed is None else None)

    def _listen(self) -> None:
        small = self.text.lower()
        for needs, pattern, means in PHRASES:
            if not all(word in small for word in needs):
                continue
            for looked, match in enumerate(pattern.finditer(self.text)):
                if (self.failed and means in _NUMBERS) or (means is Meaning.ALONE and (self.alone or looked > _MOST_ALONE)):
                    break
                place = place_of(self.text, match.start(), match.end())
                if has_happened(place):
                    self._note(match, means, place)

    def _note(self, match: re.Match[str], means: Meaning | Reported, place: Place) -> None:
        """Note what one phrase says."""
        words = " ".join(match.group(0).split())
        if means is Meaning.NONE:
            self.without_number = self.without_number or ("" if is_code(place) else words)
            return
        one = _numbered(match, means, words, place) if isinstance(means, Meaning) else replace(means, text=words)
        if one is None:
            return
        if isinstance(means, Reported) or one.error == 0:
            if not is_counted(place):
                self._named.append((self.text.count("\n", 0, match.start()), one))
        elif means is Meaning.FIELD or one.of_another_instruction:
            self.error = self.error or one
        elif means is Meaning.ALONE:
            self.alone = one
        elif one.entered:
            self.ran = self.ran or one
        else:
            self.failed = one


def _numbered(match: re.Match[str], meaning: Meaning, words: str, place: Place) -> Reported | None:
    """The outcome that the number of a phrase is, None where it is of another kind."""
    value = to_unsigned(match["value"])
    if value is None or _is_of_another(value, meaning, words, place):
        return None
    if meaning is Meaning.ALONE and not _is_outcome_below(match.string, match.start(), place):
        return None
    said = _said(words, meaning, value)
    return said if said is None or said.exit_reason is None else _detailed(said, match.string[match.end() : match.end() + _NEAR])


def _is_outcome_below(text: str, begin: int, place: Place) -> bool:
    """Whether a number that stands alone is an outcome, below the label that may stand on the line above."""
    above = "" if place.head.strip() else text[max(0, begin - _ABOVE) : begin].rstrip().rpartition("\n")[2]
    label = f"{above} " if above.endswith((":", "=")) else ""
    return is_outcome(place._replace(head=label + place.head))


def _is_of_another(value: int, meaning: Meaning, words: str, place: Place) -> bool:
    """Whether the number is the one that KVM gives its user for a failed entry, or an exit reason of KVM's own, or one that is counted."""
    if value == KVM_FAIL_ENTRY and "FAIL_ENTRY" in words.upper():
        return True
    return meaning is Meaning.REASON and value < _REASONS and (_OF_KVM.search(place.head) is not None or is_counted(place))


def _said(words: str, meaning: Meaning, value: int) -> Reported | None:
    """The outcome that a number of this meaning is; None for what is none."""
    if value >> 31:
        return Reported(words, value) if possible(value) else None
    if value in FAILURE_REASONS:  # (no VM-instruction error has such a number)
        return Reported(words, FAILED_ENTRY | value, remark=NO_BIT_31)
    if meaning is Meaning.REASON:
        return Reported(words, value) if value < _REASONS else None
    return Reported(words, error=value) if (value or meaning is Meaning.HARDWARE) and value < ERRORS else None


def _detailed(said: Reported, near: str) -> Reported:
    """With the qualification, or the entry of the MSR-load area, that stands behind the number."""
    found, detail = QUALIFICATION.search(near), _XEN_DETAIL.search(near)
    qualification = to_unsigned(found["value"]) if found else None
    if detail is None:
        return replace(said, qualification=qualification)
    guest, *entries = detail.groups()
    entry = next((int(one) + 1 for one in entries if one), None)
    return replace(said, qualification=int(guest) if guest else qualification, msr_entry=entry)
