"""What a person means by a bare number or a log line on the command line: a number may be mistyped, or have lost digits."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.arch.outcomes import INSTRUCTION_ERRORS
from vmfuzz.explain.outcomes import others
from vmfuzz.explain.outcomes.choose import newer
from vmfuzz.explain.outcomes.heard import Heard
from vmfuzz.explain.outcomes.numbered import QUALIFICATION
from vmfuzz.explain.reported import FAILED_ENTRY, FAILURE_REASONS, Reported, possible
from vmfuzz.explain.text.numbers import to_unsigned
from vmfuzz.patterns import deferred

#: Names of the exit reason in programs; in a whole text they may be a list of constants, given alone they are meant.
_NAMED: Final = deferred(r"INVALID_?(?:GUEST)?_?STATE|invalid guest state", re.IGNORECASE)
_NUMBER: Final = deferred(r"(?P<value>-?(?:0[xX])?[0-9a-fA-F_]+[hH]?)\b(?P<rest>.*)$", re.DOTALL)
#: What may follow the number: a qualification.
_REST: Final = deferred(r"\W*(?:qual|\(|[0-9]$|0x[0-9a-f]$)")
_SHORT_QUALIFICATION: Final = deferred(r"[ ,/:;]*(?P<value>(?:0x)?[0-9a-f])")
#: 80000021H without its end, or without one of its zeros.
_NO_END: Final = deferred(r"(?:0x)?80{3,6}2")
_NO_ZERO: Final = deferred(r"(?:0x)?8(0+)(21|22|29)")
#: Exit reasons are smaller than this.
_REASONS: Final = 128


def from_words(words: str) -> Reported | None:
    """The outcome that a person means by a bare number or a log line; None where it is neither."""
    text = words.strip()
    number = _NUMBER.match(text)
    if not number or (number["rest"].strip() and not _REST.match(number["rest"].strip())):
        return _from_line(text)
    value = to_unsigned(number["value"])
    if value is None:
        return None
    found = QUALIFICATION.search(number["rest"]) or _SHORT_QUALIFICATION.fullmatch(number["rest"])
    return _from_number(text, number["value"].lower(), value, to_unsigned(found["value"]) if found else None)


def _from_line(text: str) -> Reported | None:
    heard = Heard(text)
    words = heard.in_words
    by_error = heard.numbered.error or (words if words is not None and words.error else None)
    reported = heard.numbered.failed or newer(heard.numbered.alone or heard.numbered.ran, by_error, heard) or words
    if reported is None or reported.of_another_instruction:
        reported = heard.refused or heard.failed_instruction or others.internal_error(text) or reported
    return reported or (Reported(text, FAILED_ENTRY | 33) if _NAMED.search(text) else None)


def _from_number(text: str, written: str, value: int, qualification: int | None) -> Reported | None:
    """The outcome that a number is, which may lack digits; `written`: as it stands there."""
    if value >> 31:
        return Reported(text, value, qualification=qualification) if possible(value) else None
    if _NO_END.fullmatch(written):
        remark = "read as 0x80000021: the end seems to be missing (0x80000022 and 0x80000029 begin alike)"
        return Reported(text, FAILED_ENTRY | 33, remark=remark)
    cut = _NO_ZERO.fullmatch(written)
    if cut:
        remark = f"read as 0x800000{cut[2]}: a zero seems to be missing"
        return Reported(text, FAILED_ENTRY | int(cut[2], 16), qualification=qualification, remark=remark)
    if value in FAILURE_REASONS:
        remark = f"read as basic exit reason {value}, which occurs only with bit 31"
        return Reported(text, FAILED_ENTRY | value, qualification=qualification, remark=remark)
    if value in INSTRUCTION_ERRORS:
        remark = "read as a VM-instruction error (as an exit reason it would mean that the entry succeeded)"
        return Reported(text, error=value, remark=remark)
    return Reported(text, value, qualification=qualification) if value < _REASONS else None
