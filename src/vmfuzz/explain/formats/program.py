"""Reads calls of a program that write a field: `vmwrite(GUEST_CS_AR, 0xa09b)`, `wvmcs(vcpu, F, v);`, Rust's `vmwrite(F, v)?`.

What stands in a comment is not read; what is more than a number the program computes, so that the text does not give it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.explain.dump import half
from vmfuzz.explain.evidence import Found, Standing
from vmfuzz.explain.names.labels import NOTHING, Match, cut_label, match_label
from vmfuzz.patterns import deferred

#: Names of functions that write, with VM, VMX or VMCS in them. (Bounds: a line may be one long word.)
_FUNCTION: Final = (
    r"\b\w{0,40}(?:vm_?write|vm_?w\d|vmcs(?:\.|->|::)?_?write|vmx_?(?:vm)?write|write_?vmcs|wvmcs)\w{0,40}!?(?:::<\w+>)?\s*\("
)
_WRITER: Final = deferred(_FUNCTION, re.IGNORECASE)
#: An argument of a call; the brackets in it are closed again.
_ARGUMENT: Final = r"(?>(?:[^(),]|\((?>(?:[^()]|\([^()]*\))*)\))*)"
_CALL: Final = deferred(rf"{_FUNCTION}(?:{_ARGUMENT},)?({_ARGUMENT}),({_ARGUMENT})\)", re.IGNORECASE)
#: What no compiler reads, and directives of C ("#define"), which write nothing either.
_COMMENT: Final = deferred(r"/\*(?:[^*]|\*(?!/))*(?:\*/|$)|//.*|^\s*(?:#|;|--\s).*")
_ENCODING: Final = deferred(r"0[xX]0*([0-9a-fA-F]{3,4})")
_PATH: Final = deferred(r"[A-Za-z_]\w*(?:(?:::|\.|->)\w+)*")
_NUMBER: Final = deferred(r"(?:\([\w ]+\)\s*)?(0[xX][0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|0|[1-9]\d*)(?:_?[ui](?:8|16|32|64)|[uUlL]{1,3})?")
#: All ones of 64 bits.
_ONES: Final = deferred(r"(?:\((?:u64|uint64_t)\)\s*)?(?:(?:[~!]0|-1)(?:[uU]?[lL]{1,2}|u64)?|u64::MAX)")
#: What a log says behind the call that it names.
_FAILED: Final = deferred(r"[^;{]*\b(?:fail(?:ed|s|ure)|error)\b[^;{]*$", re.IGNORECASE)


class _Write(NamedTuple):
    """What a call writes: its field, what names it, the value (None: it is computed), which of its bits, and whether the line says that it failed."""

    field: str
    label: str
    value: int | None
    known: int
    failed: bool


class ProgramReader:
    """Reads the calls in the lines of a text."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.in_comment = False  # a comment of C goes on

    def call(self, text: str, number: int, area: str) -> bool:
        """Read the calls in a line that write fields; returns whether there are any."""
        begins, ends = text.rfind("/*"), text.rfind("*/")
        text = text.partition("*/")[2] if self.in_comment else text
        self.in_comment = begins > ends or (self.in_comment and ends < 0)
        writes = _writes_in(text, area) if "(" in text else ()
        for write in writes:
            if write.failed:
                self.found.warn(f"the write of {write.label} failed, so that its value is not used", number)
            elif write.value is None:
                self.found.computed.append((write.field, number))
            else:
                self.found.put(write.field, write.value, write.label, number, known=write.known, standing=Standing.CALL)
        return bool(writes)


@lru_cache(maxsize=1 << 13)
def _writes_in(text: str, area: str) -> tuple[_Write, ...]:
    code, found = _COMMENT.sub(" ", text), list[_Write]()
    for call in _CALL.finditer(code):
        first, second = call[1].strip(), call[2].strip()
        label, written = min((first, second), (second, first), key=lambda way: _unsure(way[0], area))
        meant = _meant(label, area)
        if len(meant.fields) == 1:
            value = _value(written, FIELDS[meant.fields[0]].mask)
            value = (value & 0xFFFFFFFF) << 32 if value is not None and meant.high else value
            failed = _FAILED.match(code, call.end()) is not None
            found.append(_Write(meant.fields[0], label, value, half(int(meant.high)), failed))
    return tuple(found)


def _unsure(argument: str, area: str) -> int:
    """How unsure it is that an argument names the field: `vmwrite(0x6c00, cr0)` writes a variable."""
    meant = _meant(argument, area)
    return 3 if len(meant.fields) != 1 else 2 if meant.assumed_guest else 1 if _ENCODING.fullmatch(argument) else 0


def _meant(argument: str, area: str) -> Match:
    """The field that an argument is the encoding of, or that a name or the end of a path means."""
    if encoding := _ENCODING.fullmatch(argument):
        field = BY_ENCODING.get(int(encoding[1], 16) & ~1)
        return Match((field.name,), high=bool(int(encoding[1], 16) & 1)) if field else NOTHING
    return match_label(cut_label(argument)[0], area=area) if _PATH.fullmatch(argument) else NOTHING


def _value(text: str, ones: int) -> int | None:
    """The number that an argument is; None where it is more than that."""
    if _ONES.fullmatch(text):
        return ones
    number = _NUMBER.fullmatch(text)
    return int(number[1], 0) if number else None


@lru_cache(maxsize=1 << 13)
def handed_over(text: str) -> frozenset[str]:
    """The words behind the name of a function that writes fields."""
    writer = _WRITER.search(text) if "(" in text else None
    return frozenset(re.findall(r"[A-Za-z_]\w*", text[writer.end() :])) if writer else frozenset()
