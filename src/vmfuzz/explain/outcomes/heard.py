"""All that a text says of how a VM entry ended: claims, of which choose.py believes one. Nothing here looks at the fields."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from vmfuzz.arch.outcomes import INSTRUCTION_ERRORS
from vmfuzz.explain.dump import NamedChecks
from vmfuzz.explain.outcomes.context import Place, first_told, has_happened, is_code, is_outcome, place_of
from vmfuzz.explain.outcomes.others import failed_instruction
from vmfuzz.explain.outcomes.phrases import PHRASES, Meaning
from vmfuzz.explain.outcomes.programs import outcome_of
from vmfuzz.explain.outcomes.words import identified, in_languages
from vmfuzz.explain.reported import ENTRY_ERRORS, ERRORS, FAILED_ENTRY, FAILURE_REASONS, Reported
from vmfuzz.explain.text.numbers import to_unsigned
from vmfuzz.patterns import deferred

#: A qualification, or what Xen says in its place: an entry of the MSR-load area counts from 0 there.
_DETAIL: Final = deferred(
    r"(?:qual(?:ification)?\b(?: field| is| was| as|[ =:(])*|Invalid guest state \(|\A[ ,/:;]+(?=\w{1,3}\s*\Z))(?P<value>(?:0x)?[0-9a-fA-F]+)\b|"
    r"(?:MSR loading \(entry|MSR entry) (?P<entry>\d+)",
    re.IGNORECASE,
)
#: What stands before an exit reason that KVM reports to its user (or that a test wants): those numbers are not the processor's.
_OF_KVM: Final = deferred(
    r"(?:\bKVM[ _-]+|\bKVM_RUN\b[^\n]*|(?:\b|_)run(?:->|\.)|\b(?:wanted|expected|expects)\b(?:(?!\b(?:got|but|not)\b)[^\n])*)$",
    re.IGNORECASE,
)
#: What an exit reason of a failed entry is printed as, less the basic exit reason, and what to say of it.
_READ_AS: Final = (
    (FAILED_ENTRY, ""),
    (0, "bit 31 is not shown; exit reasons 33, 34 and 41 occur only with it"),
    (0x800_0000, "read as 0x800000{:x}: a zero seems to be missing"),
)
#: Exit reasons are smaller.
_REASONS: Final = 128
#: So far behind a number its qualification is looked for, and so far above it its label.
_NEAR, _ABOVE = 120, 200


class Source(enum.IntEnum):
    """Where an outcome is told, the most reliable first."""

    FAILED = enum.auto()  # a number that is none but of a failed entry
    REASON = enum.auto()  # the exit-reason field
    ERROR = enum.auto()  # the VM-instruction error field, or a phrase that may be about it
    WORDS = enum.auto()  # words or an identifier of a program, or, where no phrase has a number, a person's words
    CHECK = enum.auto()  # a program names the check by which it refused the entry
    UNNUMBERED = enum.auto()  # a program says that an entry failed, and not with which number
    INSTRUCTION = enum.auto()  # another VMX instruction failed
    OTHER_ERROR = enum.auto()  # a VM-instruction error of another instruction
    TRACE = enum.auto()  # KVM failed, or a trace event names an exit: the guest ran
    RAN = enum.auto()  # the first exit of a guest that ran, in a phrase: a log has many of those
    ATTEMPTED = enum.auto()  # nothing but the head of KVM's dump says that something went wrong: the end is cut off


def heard(text: str, checks: Sequence[NamedChecks], alone: bool) -> dict[Source, Reported]:
    """What a text says of outcomes, the first of each source; `checks`: those that programs name in it; `alone`: no values stand beside it."""
    small = text.lower()
    claims, named = _in_phrases(text, small, alone)
    named += identified(text)
    in_words = first_told([one for one in named if one[1].error != 0])
    if in_words is None and not checks and Source.FAILED not in claims:
        in_words = in_languages(text)  # what programs say goes before a person's words
    others = {
        Source.WORDS: in_words,
        Source.CHECK: outcome_of(checks[0]) if checks else None,
        Source.UNNUMBERED: next((one for _, one in named if one.error == 0), None),
        Source.INSTRUCTION: failed_instruction(text) if "fail" in small or "err" in small else None,
    }
    return claims | {source: one for source, one in others.items() if one is not None}


def _in_phrases(text: str, small: str, alone: bool) -> tuple[dict[Source, Reported], list[tuple[int, Reported]]]:
    """(the first outcome of each source, those of words without a number with their lines) that phrases tell; `small`: the text in small letters."""
    claims, named = dict[Source, Reported](), list[tuple[int, Reported]]()
    for needs, pattern, means in PHRASES:
        possible = any(part in small for part in needs) and (alone or means is not Meaning.BARE)
        for match in pattern.finditer(text) if possible else ():
            place = place_of(text, *match.span())
            one = _told(match, means, place)
            source = _source(one, means) if one is not None else None
            if one is None or source in claims or not has_happened(place):
                continue
            if source is None:
                named.append((text.count("\n", 0, match.start()), one))
            else:
                claims[source] = one
    return claims, named


def _source(one: Reported, means: Meaning | Reported) -> Source | None:
    """Which source a phrase is, None for words without a number."""
    if isinstance(means, Reported) or one.error == 0:
        return Source.TRACE if one.entered else None
    if one.error and one.error not in ENTRY_ERRORS:
        return Source.OTHER_ERROR
    if means is Meaning.FIELD and one.error:
        return Source.ERROR
    return Source.RAN if one.entered else Source.FAILED


def _told(match: re.Match[str], means: Meaning | Reported, place: Place) -> Reported | None:
    """The outcome that a phrase tells, None where it tells of no entry, or its number is of another kind."""
    words = " ".join(match.group(0).split())
    if isinstance(means, Reported):
        return None if is_code(place) else replace(means, text=words)
    value = to_unsigned(match["value"])
    said = numbered(words, means, value) if value is not None else None
    if said is None or said.exit_reason is None:
        return said
    if means is Meaning.ALONE and not _is_outcome_below(match.string, match.start(), place):
        return None
    if means is Meaning.REASON and value == said.exit_reason & 0xFF and _OF_KVM.search(place.head):
        return None
    return _detailed(said, match.string[match.end() : match.end() + _NEAR])


def _is_outcome_below(text: str, begin: int, place: Place) -> bool:
    """Whether a number that stands alone is an outcome, below the label that may stand on the line above."""
    above = text[max(0, begin - _ABOVE) : begin].rstrip().rpartition("\n")[2]
    label = f"{above} " if above.endswith((":", "=")) else ""
    return is_outcome(place._replace(head=label + place.head))


def numbered(words: str, means: Meaning, value: int) -> Reported | None:
    """The outcome that a number of this meaning is; None for what is none."""
    for high, remark in _READ_AS:
        if value - high in FAILURE_REASONS:  # (no VM-instruction error has such a number)
            return Reported(words, FAILED_ENTRY | value - high, remark=remark.format(value - high))
    if means is Meaning.BARE and value in INSTRUCTION_ERRORS:
        remark = "read as a VM-instruction error (as an exit reason it would mean that the entry succeeded)"
        return Reported(words, error=value, remark=remark)
    if means in (Meaning.REASON, Meaning.BARE):
        return Reported(words, value) if value < _REASONS else None
    return Reported(words, error=value) if value in ERRORS or (value == 0 and means is Meaning.HARDWARE) else None


def _detailed(said: Reported, near: str) -> Reported:
    """With the qualification, or the entry of the MSR-load area, that stands behind the number."""
    found = _DETAIL.search(near)
    if found is None:
        return said
    if found["entry"]:
        return replace(said, msr_entry=int(found["entry"]) + 1)
    return replace(said, qualification=to_unsigned(found["value"]))
