"""What the phrases of a text say of outcomes, and what their numbers mean."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from vmfuzz.explain.dump import Reported
from vmfuzz.explain.outcomes.bare_numbers import is_outcome
from vmfuzz.explain.outcomes.negation import is_negated
from vmfuzz.explain.outcomes.outcome_words import FAILED_ENTRY, OF_A_COUNT, around, is_listed, of_another_instruction
from vmfuzz.explain.outcomes.phrases import spots
from vmfuzz.explain.text.numbers import to_unsigned
from vmfuzz.patterns import deferred

#: Basic exit reasons with which an entry can fail.
FAILURE_REASONS: Final = (33, 34, 41)
#: What KVM reports to the program that calls it in place of a failed entry's own number.
KVM_FAIL_ENTRY: Final = 9
_NO_BIT_31: Final = "bit 31 is not shown; exit reasons 33, 34 and 41 occur only with it"
QUALIFICATION: Final = deferred(r"qual(?:ification)?\b(?: field| is| was| as|[ =:(])*(?P<value>(?:0x)?[0-9a-fA-F]+)\b", re.IGNORECASE)
_NO_NUMBER_NAME: Final = "FAIL_ENTRY"
#: What stands before an exit reason that KVM reports to its user (or that a test wants): those numbers are not the processor's.
_OF_KVM: Final = deferred(
    r"(?:\bKVM[ _-]+|\bKVM_RUN\b[^\n]*|(?:\b|_)run(?:->|\.)|\b(?:wanted|expected|expects)\b(?:(?!\b(?:got|but|not)\b)[^\n])*)$",
    re.IGNORECASE,
)
_XEN_DETAIL: Final = deferred(r"Invalid guest state \((\d+)\)|MSR loading \(entry (\d+)\)|MSR entry (\d+) loading", re.IGNORECASE)
#: So many numbers that stand alone are looked at: one that is in a text a thousand times is a value in a log.
_MOST_BARE: Final = 1000
#: So many words in small letters make a sentence.
_WORD: Final = deferred(r"(?<!\S)[a-z]+[,.]?(?!\S)")
_SENTENCE: Final = 6
OTHER_ENTRY: Final = (
    "The text also says '{}'. That was another entry, or this dump was made before it: make one right after the failed entry, before "
    "another VM exit writes these fields"
)


def possible(reason: int) -> bool:
    """Whether a processor can report this exit reason: bit 31 comes only with the basic exit reasons of a failed entry."""
    return not reason >> 31 & 1 or (reason & 0xFFFF in FAILURE_REASONS and not reason >> 16 & 0x7FFF)


@dataclass(frozen=True)
class Said:
    """What the phrases of a text say: the first failure; the VM-instruction error field; an exit of a guest that ran.

    `bare` is the exit reason of a failure that stands in no phrase: anything that says more goes before it.
    """

    failed: Reported | None = None
    error: Reported | None = None
    ran: Reported | None = None
    bare: Reported | None = None
    #: whether a person tells of `ran`, no program
    in_a_sentence: bool = False


def said(text: str) -> Said:
    """The outcomes that a text names: the first failure counts, and the first exit of a guest that ran (a log has many of those)."""
    error: Reported | None = None
    ran: Reported | None = None
    bare: Reported | None = None
    told, looked = False, 0
    for pattern, meaning, begin, end in spots(text):
        for match in pattern.finditer(text, begin, end):
            looked += meaning == "bare"
            if meaning == "bare" and (bare is not None or looked > _MOST_BARE):
                break
            found = _found(match, meaning, text)
            if found is None:
                continue
            if meaning == "field" or of_another_instruction(found):
                error = error or found
            elif meaning == "bare":
                bare = bare or found
            elif not found.entered:
                return Said(found, error, ran, bare, told)
            elif ran is None or told:
                ran, told = found, _is_sentence(text, match)
    return Said(None, error, ran, bare, told)


def _is_sentence(text: str, match: re.Match[str]) -> bool:
    """Whether a phrase stands among many words, as no program prints them."""
    return len(_WORD.findall(around(text, match.start(), match.end())[0])) >= _SENTENCE


def _found(match: re.Match[str], meaning: str, text: str) -> Reported | None:
    """The outcome that one phrase says, None where its number is of another kind."""
    line, begin = around(text, match.start(), match.end())
    value = int(match["value"], 16) if meaning == "raw" else to_unsigned(match["value"])
    stop = begin + match.end() - match.start()
    if is_listed(line, begin, stop) or is_negated(line, begin, stop):
        return None
    if meaning == "bare":
        label = "" if line[:begin].strip() else _label_above(text, match.start())
        if not is_outcome(label + line, len(label) + begin, len(label) + begin + match.end() - match.start()):
            return None
        meaning = "reason"
    odd = re.fullmatch(r"(?:0x)?f{8}000000(21|22|29)", match["value"], re.IGNORECASE)
    if odd and meaning == "reason":
        words = " ".join(match.group(0).split())
        return Reported(words, FAILED_ENTRY | int(odd[1], 16), remark="the program printed its bits 63:31 wrongly")
    before = line[:begin]
    if value is None or (meaning in ("reason", "basic") and value < 256 and (_OF_KVM.search(before) or OF_A_COUNT.search(before))):
        return None
    return _interpret(match, meaning, value, text)


def _label_above(text: str, begin: int) -> str:
    """The end of the line above, where that is a label whose value stands on a line of its own."""
    above = text[max(0, begin - 200) : begin].rstrip().rpartition("\n")[2]
    return f"{above} " if above.endswith((":", "=")) else ""


def _interpret(match: re.Match[str], meaning: str, value: int, text: str) -> Reported | None:
    said = " ".join(match.group(0).split())
    near = text[match.end() : match.end() + 120]
    found = QUALIFICATION.search(near)
    qualification = to_unsigned(found["value"]) if found else None
    detail = _XEN_DETAIL.search(near)
    entry = None
    if detail:
        qualification = int(detail[1]) if detail[1] else qualification
        entry = int(detail[2] or detail[3]) + 1 if detail[2] or detail[3] else None
    if meaning == "hardware" and value == 0:
        return None  # VMfail without a number, or nothing known: the exit reason decides
    if value == KVM_FAIL_ENTRY and _NO_NUMBER_NAME in said.upper():
        return None  # the number that this name has for KVM
    if meaning in ("hardware", "field"):
        meaning = "reason" if value >> 31 and meaning == "hardware" else "error"
    if meaning == "error" and value in FAILURE_REASONS:
        meaning = "reason"  # no VM-instruction error has this number
    if meaning == "error":
        if value >> 31:
            return Reported(said, value, qualification=qualification, msr_entry=entry) if possible(value) else None
        return Reported(said, error=value) if 0 < value < 64 else None
    if meaning == "basic" and value in FAILURE_REASONS:
        return Reported(said, FAILED_ENTRY | value, qualification=qualification, msr_entry=entry)
    if meaning == "reason" and not value >> 31 and value in FAILURE_REASONS:
        return Reported(said, FAILED_ENTRY | value, qualification=qualification, remark=_NO_BIT_31)
    if (value >> 31 and possible(value)) or value < 256:
        return Reported(said, value, qualification=qualification, msr_entry=entry)
    return None


def from_field(value: int, also: Reported | None, failed: Reported | None) -> Reported:
    """The outcome that the exit-reason field holds; many monitors print its low 16 bits only. `also`: what phrases say, `failed`: of a failure."""
    qualification, entry = (also.qualification, also.msr_entry) if also is not None else (None, None)
    text = f"exit reason {value:#x} in the dump"
    if value in FAILURE_REASONS:
        return Reported(text, FAILED_ENTRY | value, qualification=qualification, msr_entry=entry, remark=_NO_BIT_31)
    if failed is not None and not value >> 31:
        return Reported(text, value, remark=OTHER_ENTRY.format(failed.text))
    return Reported(text, value, qualification=qualification, msr_entry=entry)
