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
from vmfuzz.explain.names.labels import NOTHING, Match, match_label
from vmfuzz.patterns import deferred

#: Names of functions that write, with VM, VMX or VMCS in them. (Bounds: a line may be one long word.)
_CALL: Final = deferred(
    r"\b\w{0,40}(?:vm_?write|vm_?w\d|vmcs(?:\.|->|::)?_?write|vmx_?(?:vm)?write|write_?vmcs|wvmcs)\w{0,40}!?(?:::<\w+>)?\s*\(",
    re.IGNORECASE,
)
#: What no compiler reads, and directives of C ("#define"), which write nothing either.
_COMMENT: Final = deferred(r"/\*(?:[^*]|\*(?!/))*(?:\*/|$)|//.*|^\s*(?:#|;|--\s).*")
_LONGEST_CALL: Final = 400
_ENCODING: Final = deferred(r"0[xX]0*([0-9a-fA-F]{3,4})")
_WORD: Final = deferred(r"[A-Za-z_]\w*(?:(?:::|\.|->)\w+)*$")
_NUMBER: Final = deferred(r"(?:\([\w ]+\)\s*)?(0[xX][0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|0|[1-9]\d*)(?:_?[ui](?:8|16|32|64)|[uUlL]{1,3})?$")
#: All ones of 64 bits.
_ONES: Final = deferred(r"(?:\((?:u64|uint64_t)\)\s*)?(?:[~!]0(?:[uU]?[lL]{1,2}|u64)?|-1(?:[uU]?[lL]{1,2})?|u64::MAX)$")
_FAILED: Final = deferred(r"\bfail(?:ed|s|ure)\b|\berror\b[^;{]*$", re.IGNORECASE)


class _Write(NamedTuple):
    """What a call writes: its field, what names it, the value (None: it is computed), and whether the line says that it failed."""

    field: str
    label: str
    value: int | None
    high: bool
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
                value, known = (write.value & 0xFFFFFFFF) << 32 if write.high else write.value, half(int(write.high))
                self.found.put(write.field, value, write.label, number, known=known, standing=Standing.CALL)
        return bool(writes)


@lru_cache(maxsize=1 << 13)
def _writes_in(text: str, area: str) -> tuple[_Write, ...]:
    code, found = _COMMENT.sub(" ", text), list[_Write]()
    for match in _CALL.finditer(code):
        arguments, end = _arguments(code, match.end())
        *_, first, second = arguments if len(arguments) in (2, 3) else ("", "")
        ways = (_written(first, second, area), _written(second, first, area))
        # a name that says whose the register is, an encoding, any other name: `vmwrite(0x6c00, cr0)` writes a variable to a field
        sure = sorted((way for way in ways if way is not None), key=lambda way: way[:2])
        if sure:
            _, _, field, label, value, high = sure[0]
            found.append(
                _Write(field, label, value, high, _FAILED.search(code, end) is not None and not code.rstrip().endswith((";", "{")))
            )
    return tuple(found)


def _written(field: str, value: str, area: str) -> tuple[int, bool, str, str, int | None, bool] | None:
    """(how unsure the field is, whether the value is computed, field, label, value, whether its high half) of two arguments."""
    encoded = _ENCODING.fullmatch(field)
    match = _of_encoding(int(encoded[1], 16)) if encoded else _of_path(field, area)
    if len(match.fields) != 1:
        return None
    number = _value(value, FIELDS[match.fields[0]].mask)
    return 1 if encoded else 2 * match.assumed_guest, number is None, match.fields[0], field, number, match.high


def _of_encoding(encoding: int) -> Match:
    field = BY_ENCODING.get(encoding & ~1)
    return Match((field.name,), high=bool(encoding & 1)) if field else NOTHING


def _of_path(argument: str, area: str) -> Match:
    """The field that a name means: the longest end of a path that names one."""
    parts = re.split(r"::|\.|->", argument) if _WORD.match(argument) else []
    ends = (match_label(".".join(parts[start:]), area=area) for start in range(len(parts)))
    return next((match for match in ends if match.fields), NOTHING)


def _value(text: str, ones: int) -> int | None:
    """The number that an argument is; None where it is more than that."""
    if _ONES.match(text):
        return ones
    number = _NUMBER.match(text)
    return int(number[1], 0) if number else None


@lru_cache(maxsize=1 << 13)
def handed_over(text: str) -> frozenset[str]:
    """The words in the arguments of calls that write fields."""
    calls = _CALL.finditer(text) if "(" in text else ()
    arguments = (_arguments(text, match.end())[0] or [text[match.end() :]] for match in calls)
    return frozenset(word for found in arguments for argument in found for word in re.findall(r"[A-Za-z_]\w*", argument))


def _arguments(code: str, start: int) -> tuple[list[str], int]:
    """The arguments of the call whose bracket opens before `start`, and where it ends; none if it does not end here."""
    depth, begin, found = 0, start, list[str]()
    for index in range(start, min(len(code), start + _LONGEST_CALL)):
        character = code[index]
        if character in "([{":
            depth += 1
        elif character in ")]}" and depth:
            depth -= 1
        elif character in ",)" and not depth:
            found.append(code[begin:index].strip())
            begin = index + 1
            if character == ")":
                return found, begin
    return [], 0
