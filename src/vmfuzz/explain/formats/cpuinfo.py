"""The processor that a text names: /proc/cpuinfo, the line that Linux logs of its first processor, CPUID.1 in EAX."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.model.processor_errata import Signature
from vmfuzz.patterns import deferred

_NUMBER: Final = r"(0x[0-9a-f]{1,4}|\d{1,4})\b"
#: Each on a line of its own, with the model's name between, or "(family: 0x6, model: 0x17, stepping: 0x6)".
_NAMED: Final = deferred(
    rf"\b(?:cpu family|fam(?:ily)?(?=[^\n]*stepping))\s*:\s*{_NUMBER}\W+model\s*:\s*{_NUMBER}(?:\W+(?:.*\n\W*){{0,4}}?stepping\s*:\s*{_NUMBER})?",
    re.IGNORECASE,
)
_SIGNATURE: Final = deferred(r"\b(?:cpuid(?:\.1)?|signature|sig)\b(?:[ :=]|eax){1,8}0x([0-9a-f]{5,6})\b", re.IGNORECASE)
_INTEL: Final = 6


def processor_of(text: str) -> Signature | None:
    """The processor of family 6 that the text names first, None if it names none."""
    found: Signature | None = None
    if match := _NAMED.search(text):
        family, model, stepping = (None if part is None else int(part, 16 if part[1:2] in "xX" else 10) for part in match.groups())
        found = Signature(family or 0, model or 0, stepping)
    elif match := _SIGNATURE.search(text):
        found = Signature.of(int(match[1], 16))
    return found if found is not None and found.family == _INTEL else None
