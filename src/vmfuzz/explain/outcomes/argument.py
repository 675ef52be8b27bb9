"""What a person means by a bare number or a log line on the command line: a number may be mistyped, or have lost digits."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.arch.outcomes import INSTRUCTION_ERRORS
from vmfuzz.explain.outcomes.choose import choose
from vmfuzz.explain.outcomes.heard import QUALIFICATION, Heard
from vmfuzz.explain.outcomes.words import meant
from vmfuzz.explain.reported import FAILED_ENTRY, FAILURE_REASONS, Reported, possible
from vmfuzz.explain.text.numbers import to_unsigned
from vmfuzz.patterns import deferred

#: A number, and behind it perhaps a qualification.
_NUMBER: Final = deferred(
    r"(?P<value>-?(?:0x)?[0-9a-f_]+h?)\b[ ,/:;]*(?P<rest>(?:\(|qual).*)?(?P<short>(?:0x)?[0-9a-f])?", re.DOTALL | re.IGNORECASE
)
#: 80000021H without one of its zeros.
_NO_ZERO: Final = deferred(r"(?:0x)?8(0+)(21|22|29)", re.IGNORECASE)
#: Exit reasons are smaller than this.
_REASONS: Final = 128


def from_words(words: str) -> Reported | None:
    """The outcome that a person means by a bare number or a log line; None where it is neither."""
    text = words.strip()
    number = _NUMBER.fullmatch(text)
    if not number:
        return choose(Heard(text), {}).reported or meant(text)
    value = to_unsigned(number["value"])
    found = QUALIFICATION.search(number["rest"] or "")
    qualification = to_unsigned(found["value"] if found else number["short"] or "")
    return None if value is None else _from_number(text, number["value"], value, qualification)


def _from_number(text: str, written: str, value: int, qualification: int | None) -> Reported | None:
    """The outcome that a number is, which may lack digits; `written`: as it stands there."""
    cut = _NO_ZERO.fullmatch(written)
    if cut and not value >> 31:
        remark = f"read as 0x800000{cut[2]}: a zero seems to be missing"
        return Reported(text, FAILED_ENTRY | int(cut[2], 16), None, qualification, remark=remark)
    if value in FAILURE_REASONS:
        remark = f"read as basic exit reason {value}, which occurs only with bit 31"
        return Reported(text, FAILED_ENTRY | value, None, qualification, remark=remark)
    if value in INSTRUCTION_ERRORS:
        return Reported(
            text, error=value, remark="read as a VM-instruction error (as an exit reason it would mean that the entry succeeded)"
        )
    return Reported(text, value, None, qualification) if value < _REASONS or (value >> 31 and possible(value)) else None
