"""The processor that a text names: /proc/cpuinfo, the line that Linux logs of its first processor, CPUID.1 in EAX."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.model.processor_errata import Signature
from vmfuzz.patterns import deferred

_NUMBER: Final = r"(0x[0-9a-f]{1,4}|\d{1,4})"
_FORMS: Final = (
    # /proc/cpuinfo
    deferred(
        rf"^\W*cpu family\s*:\s*{_NUMBER}\s*$(?:\n.*){{0,2}}?\n\W*model\s*:\s*{_NUMBER}\s*$"
        rf"(?:\n(?:.*\n){{0,3}}?\W*stepping\s*:\s*{_NUMBER})?",
        re.MULTILINE | re.IGNORECASE,
    ),
    # Linux: "(family: 0x6, model: 0x17, stepping: 0x6)"
    deferred(rf"\bfam(?:ily)?: {_NUMBER}, model: {_NUMBER}, stepping: {_NUMBER}", re.IGNORECASE),
)
_SIGNATURE: Final = deferred(r"\b(?:cpuid(?:\.1)?|signature|sig)\b(?:[ :=]|eax){1,8}0x([0-9a-f]{5,6})\b", re.IGNORECASE)
_INTEL: Final = 6


def processor_of(text: str) -> Signature | None:
    """The processor of family 6 that the text names first, None if it names none."""
    for form in _FORMS:
        if match := form.search(text):
            family, model, stepping = (None if part is None else int(part, 0) for part in match.groups())
            return Signature(family, model or 0, stepping) if family == _INTEL else None
    match = _SIGNATURE.search(text)
    found = Signature.of(int(match[1], 16)) if match else None
    return found if found is not None and found.family == _INTEL else None
