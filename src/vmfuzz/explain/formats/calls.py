"""Calls that write a field, in whatever program: `vmwrite(F, v)`, `wvmcs(vcpu, F, v);`, `vmcs.write(F, v)`, Rust's `F.write(v)?`."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.explain.dump import half
from vmfuzz.explain.formats.constants import given_to, value_of
from vmfuzz.explain.names.labels import NOTHING, Match, match_label, split_words
from vmfuzz.patterns import deferred

#: Names of functions that write, with VM, VMX or VMCS in them; and methods of something called VMCS. (Bounds: a line may be one long word.)
_NAME: Final = (
    r"(?:\w{0,40}(?:vm_?write|vm_?w\d|vmcs_?w|vmx_?(?:vm)?write|write_?vmcs|wvmcs|vmcs_?set|set_?vmcs)\w{0,40}|"
    r"\w{0,40}vmcs\w{0,40}(?:\.|->|::)(?:write|set)\w{0,20})"
)
_GENERIC: Final = r"(?:(?:::|\.)?<[^<>()]{0,40}>)?"
CALL: Final = deferred(rf"\b(?P<call>{_NAME})!?{_GENERIC}\s*\(", re.IGNORECASE)
#: `VmcsGuestNW::CR0.write(0x21)?`
METHOD: Final = deferred(rf"\b(?P<field>[A-Za-z_][\w:.]{{1,80}})\.(?:write|set)(?:_\w{{1,20}})?{_GENERIC}\s*\(")
#: Functions that change some bits of a field.
_IN_PART: Final = deferred(r"(?<!\d)bits?(?:_|\b)|mask|clear", re.IGNORECASE)
#: What begins a comment: not the "//" of an address; a directive of C ("#define") writes nothing either.
_COMMENT: Final = deferred(r"(?<!:)//|/\*|^\s*(?:#|;|--\s)")
_BLOCK: Final = deferred(r"/\*(?:[^*]|\*(?!/))*\*/")
_LONGEST_CALL: Final = 400
_ENCODING: Final = deferred(r"0[xX]0*([0-9a-fA-F]{3,4})")
_WORD: Final = deferred(r"[&*]?\s*([A-Za-z_]\w*(?:(?:::|\.|->)\w+)*)(?:\s+as\s+\w+)?(?:\.into\(\))?$")
_CASTED: Final = deferred(r"\(\s*\w+(?:\s+\w+)?\s*\)\s*(?=[A-Za-z_0])")
_FAILED: Final = deferred(r"\bfail(?:ed|s|ure)\b|\berror\b", re.IGNORECASE)


class Write(NamedTuple):
    """One call: what names the field, the field, the value (None: no constant), and which bits of the field it gives."""

    label: str
    field: str
    value: int | None
    known: int


class Writes(NamedTuple):
    """What a line of program text writes; `commented`: how many calls a comment hides; `rest`: the beginning of a call that goes on below."""

    calls: tuple[Write, ...] = ()
    commented: int = 0
    failed: bool = False
    rest: str = ""


NO_WRITES: Final = Writes()


def without_comments(text: str) -> tuple[str, str]:
    """(the code of a line, what stands in a comment that ends the line)."""
    code = _BLOCK.sub(" ", text) if "/*" in text else text
    comment = _COMMENT.search(code)
    return (code[: comment.start()], code[comment.start() :]) if comment else (code, "")


@lru_cache(maxsize=1 << 13)
def writes_in(text: str, area: str) -> Writes:
    """The calls in a line that write a field; `area` is the area in force."""
    if "(" not in text:
        return NO_WRITES
    code, comment = without_comments(text)
    commented = len(_found(comment)) + sum(len(_found(block)) for block in _BLOCK.findall(text))
    calls, rest, end = list[Write](), "", 0
    for match in _found(code):
        if match.start() < end:
            continue
        arguments, end = _arguments(code, match.end())
        if not end:
            rest = code[match.start() :].strip() if code.rstrip().endswith((",", "(", "|", "+")) else ""
            break
        write = (
            _of_method(match["field"], arguments, area) if match.re.pattern == METHOD.pattern else _of_call(match["call"], arguments, area)
        )
        calls += [write] if write else []
    return Writes(tuple(calls), commented, bool(calls) and bool(_FAILED.search(code, end)) and not code.rstrip().endswith((";", "{")), rest)


@lru_cache(maxsize=1 << 13)
def handed_over(text: str) -> tuple[str, ...]:
    """The words in the arguments of calls that write fields, and what such a method belongs to."""
    words = list[str]()
    for match in _found(text):
        arguments = _arguments(text, match.end())[0] or [text[match.end() :]]
        words += re.findall(r"[A-Za-z_]\w*", " ".join([match["field"] if match.re.pattern == METHOD.pattern else "", *arguments]))
    return tuple(words)


def _found(code: str) -> list[re.Match[str]]:
    return sorted([*CALL.finditer(code), *METHOD.finditer(code)], key=lambda match: match.start()) if "(" in code else []


def _arguments(code: str, start: int) -> tuple[list[str], int]:
    """The arguments of the call whose bracket opens before `start`, and where it ends; 0 if it does not end here."""
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
                return found, index + 1
    return [], 0


def _of_method(receiver: str, arguments: list[str], area: str) -> Write | None:
    match, label = _field_of(receiver, area)
    clear = not match.assumed_guest or any(word.startswith(("vmcs", "vmx")) for word in split_words(receiver))
    if len(match.fields) != 1 or len(arguments) != 1 or not clear:
        return None
    return _write(match, label, arguments[0])


def _of_call(name: str, arguments: list[str], area: str) -> Write | None:
    """The field and the value may stand in either order; before them, or behind them, there may be what the call works on."""
    pairs = [(-2, -1), (-1, -2), (0, 1), (1, 0)] if len(arguments) in (2, 3, 4) else []
    found = []
    for first, second in pairs:
        match, label = _field_of(arguments[first], area)
        if len(match.fields) == 1:
            # a name that says whose the register is, an encoding, any other name: `vmwrite(0x6c00, cr0)` writes a variable to a field
            sure = 1 if _ENCODING.fullmatch(label) else 2 * match.assumed_guest
            found.append((sure, value_of(arguments[second]) is None, not label.isupper(), match, label, arguments[second]))
    if not found:
        return None
    *_, match, label, value = min(found, key=lambda one: one[:3])
    return _write(match, label, "" if _IN_PART.search(name) else value)


def _field_of(argument: str, area: str) -> tuple[Match, str]:
    """What an argument means as a field: its encoding, or its name, of which a path says more."""
    argument = _CASTED.sub("", argument)
    encoded = _ENCODING.fullmatch(argument)
    if encoded:
        field = BY_ENCODING.get(int(encoded[1], 16) & ~1)
        return (Match((field.name,), high=bool(int(encoded[1], 16) & 1)), argument) if field else (NOTHING, "")
    word = _WORD.match(argument)
    parts = re.split(r"::|\.|->", word[1]) if word else []
    for start in range(len(parts)):
        match = match_label(".".join(parts[start:]), area=area)
        if match.fields:
            return match, ".".join(parts)
    return NOTHING, ""


def _write(match: Match, label: str, text: str) -> Write:
    field = FIELDS[match.fields[0]]
    given = given_to(field, text)
    if given is None:
        return Write(label, field.name, None, 0)
    value, known = given
    if match.high:
        return Write(label, field.name, (value & 0xFFFFFFFF if value >> 63 else value) << 32, half(1))
    return Write(label, field.name, value, known)
