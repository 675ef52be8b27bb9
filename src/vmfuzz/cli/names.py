"""Fields and checks as a person writes them: any case, blanks or hyphens, the beginning of a name, an encoding, a monitor's own name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING, FIELDS, Field, field_named
from vmfuzz.arch.live import LIVE
from vmfuzz.errors import UnknownNameError
from vmfuzz.explain.names.labels import match_label
from vmfuzz.hexadecimal import encoded
from vmfuzz.model.check import Check
from vmfuzz.model.checks import BY_ID, CHECKS, check_named
from vmfuzz.model.operands import MEMORY_OPERANDS

#: An encoding beyond doubt: with 0x, with an H, or with a digit first. Names end in h too, such as "length".
_ENCODING: Final = re.compile(r"0x\w*|\d\w*|[0-9a-f]{1,4}h")


def fields_named(text: str) -> list[Field]:
    """The field of this name or encoding, else those whose names begin so, "guest_" and "host_" apart, else what monitors call so.

    Raises UnknownNameError with the nearest where there are none.
    """
    return [FIELDS[name] for name in _named(text, FIELDS)]


def operands_named(text: str) -> list[str]:
    """As `fields_named`, but what checks read beside fields too (live_smm, memory_vtpr)."""
    return _named(text, [*FIELDS, *LIVE, *MEMORY_OPERANDS])


def checks_named(text: str) -> list[Check]:
    """The check of this id, else those whose ids begin so, else those that read the field of this name or encoding.

    Raises UnknownNameError with the nearest ids where there are none.
    """
    id = text.strip().lower()
    if id in BY_ID:
        return [BY_ID[id]]
    if found := [check for check in CHECKS if check.id.startswith(id)]:
        return found
    try:
        read = set(operands_named(text))
    except UnknownNameError:
        return [check_named(id)]  # which says what ids are near
    return [check for check in CHECKS if read & set(check.fields)]


def _named(text: str, known: Iterable[str]) -> list[str]:
    names = list(known)
    name = text.strip().lower().replace(" ", "_").replace("-", "_")
    if name in names:
        return [name]
    if _ENCODING.fullmatch(name):
        return [_encoded(text, name.removeprefix("0x").removesuffix("h"))]
    if found := [each for each in names if each.startswith(name) or each.removeprefix("guest_").removeprefix("host_").startswith(name)]:
        return found
    try:
        return [_encoded(text, name)]  # C00
    except UnknownNameError:
        return list(match_label(text).fields) or [field_named(name).name]  # which says what names are near


def _encoded(text: str, digits: str) -> str:
    try:
        return BY_ENCODING[int(digits, 16)].name
    except (KeyError, ValueError):
        raise UnknownNameError("VMCS field encoding", text, [encoded(known) for known in BY_ENCODING]) from None
