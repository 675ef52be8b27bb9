"""Reads program text: which lines are of it, and its calls that write a field.

`vmwrite(GUEST_CS_AR, 0xa09b)`, `wvmcs(vcpu, F, v);`, Rust's `vmwrite(F, v)?`: what stands in a comment is not read; what is more than a number the program
computes, so that the text does not give it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.explain.dump import Reading, Standing, half
from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.shapes import opened_by, tidy
from vmfuzz.explain.names.labels import NOTHING, Match, cut_label, match_label
from vmfuzz.explain.text.lines import Line
from vmfuzz.explain.text.numbers import NUMBER
from vmfuzz.patterns import deferred

#: A line of program text. Of those that begin with "#", only directives are: many programs print "# name = value".
_CODE: Final = deferred(
    r"(?!\(gdb\)|[})\]]+,?$)(?:.*(?:[{}\\]\s*$|;\s*(?:/[/*].*)?$|\bprintk?f?\s*\(|\bunsigned\b|\btypedef\b|\bstruct\b|->\w|\bif\s*\(|\bfor\s*\(|\breturn\b)|//|"
    r"#\s*(?:define|include|ifn?def|elif|endif|undef|pragma)\b|#(?:if|else|error|line)\b)"
)
#: One that only gives a value to a name, which a dump may too.
_ASSIGNS: Final = deferred(rf"(?:[A-Z][\w()]*: +)?[A-Za-z_][\w\[\]./>-]*\s*[:=]\s*{NUMBER}(?:/{NUMBER})?\s*(?:;\s*(?:/[/*].*)?)?$")
#: What names of functions that write have in them, and a call of one. (Bounds: a line may be one long word.)
_WRITES: Final = r"(?:vm_?write|vm_?w\d|vmcs(?:\.|->|::)?_?write|vmx_?(?:vm)?write|write_?vmcs|wvmcs)"
_WRITER: Final = deferred(rf"{_WRITES}\w{{0,40}}!?(?:::<\w+>)?\s*\(", re.IGNORECASE)
#: An argument of a call; the brackets in it are closed again.
_ARGUMENT: Final = r"(?>(?:[^(),]|\((?>(?:[^()]|\([^()]*\))*)\))*)"
_CALL: Final = deferred(rf"{_WRITER.pattern}(?:{_ARGUMENT},)?({_ARGUMENT}),({_ARGUMENT})\)", re.IGNORECASE)
#: What no compiler reads, and directives of C ("#define"), which write nothing either.
_COMMENT: Final = deferred(r"/\*(?:[^*]|\*(?!/))*(?:\*/|\Z)|//.*|^(?:#|;|--\s).*", re.MULTILINE)
_ENCODING: Final = deferred(r"0[xX]0*([0-9a-fA-F]{3,4})")
_PATH: Final = deferred(r"[A-Za-z_]\w*(?:(?:::|\.|->)\w+)*")
_NUMBER: Final = deferred(r"(?:\([\w ]+\)\s*)?(0[xX][0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|0|[1-9]\d*)(?:_?[ui](?:8|16|32|64)|[uUlL]{1,3})?")
#: All ones of 64 bits.
_ONES: Final = deferred(r"(?:\((?:u64|uint64_t)\)\s*)?(?:(?:[~!]0|-1)(?:[uU]?[lL]{1,2}|u64)?|u64::MAX)")
#: What a log says behind the call that it names.
_FAILED: Final = deferred(r"[^;{]*\b(?:fail(?:ed|s|ure)|error)\b[^;{]*$", re.IGNORECASE)


@lru_cache(maxsize=1 << 13)
def is_code(text: str) -> bool:
    """Whether a line is of program text, so that its assignments are no values of a dump."""
    return bool(_CODE.match(text)) and not opened_by(text)


def lines_of_program(lines: Sequence[Line]) -> dict[int, bool]:
    """The lines of program text and those between two, and whether one may be a row with such words in it; none where all only give values to names."""
    code = [is_code(tidy(line.text)) for line in lines]
    assigns = [_ASSIGNS.match(line.text) is not None for line in lines]
    if not any(mine and not assigned for mine, assigned in zip(code, assigns, strict=True)):
        return {}
    between = [before and behind for before, behind in zip([False, *code], [*code[1:], False], strict=False)]
    rows = zip(lines, code, assigns, between, strict=True)
    return {line.number: not (assigned or within) for line, mine, assigned, within in rows if mine or within}


def read_calls(lines: Sequence[Line], found: Found) -> set[int]:
    """Note what calls in these lines write to fields; returns the numbers of the lines with such calls."""
    text = "\n".join(line.text for line in lines)
    if not _WRITER.search(text):
        return set()
    code = _COMMENT.sub(lambda comment: "\n" * comment[0].count("\n") or " ", text).split("\n")
    calls = [(call, line.number) for line, part in zip(lines, code, strict=True) for call in _CALL.finditer(tidy(part))]
    return {line for call, line in calls if _write(call, line, found)}


def _write(call: re.Match[str], line: int, found: Found) -> bool:
    """Note what a call writes, if one of its arguments names a field: the surer one, since `vmwrite(0x6c00, cr0)` writes a variable."""
    ways = [(_meant(argument.strip()), argument.strip()) for argument in call.groups()]
    (meant, label), (_, written) = sorted(ways, key=lambda way: (len(way[0].fields) != 1, way[0].assumed_guest, way[1][:1].isdigit()))
    if len(meant.fields) != 1:
        return False
    field, number = meant.fields[0], _NUMBER.fullmatch(written)
    value = FIELDS[field].mask if _ONES.fullmatch(written) else int(number[1], 0) if number else None
    if _FAILED.match(call.string, call.end()):
        found.warn(f"the write of {label} failed, so that its value is not used", line)
    elif value is None:
        found.computed.setdefault(field, line)
    else:
        value = (value & 0xFFFFFFFF) << 32 if meant.high else value
        found.evidence.append(Reading(value, label, line, half(meant.high), name=field, standing=Standing.CALL))
    return True


def _meant(argument: str) -> Match:
    """The field that an argument is the encoding of, or that a name or the end of a path means."""
    if encoding := _ENCODING.fullmatch(argument):
        field = BY_ENCODING.get(int(encoding[1], 16) & ~1)
        return Match((field.name,), high=bool(int(encoding[1], 16) & 1)) if field else NOTHING
    return match_label(cut_label(argument)[0]) if _PATH.fullmatch(argument) else NOTHING


def handed_over(text: str) -> set[str]:
    """The words behind the name of a function that writes fields."""
    writer = _WRITER.search(text) if "(" in text else None
    return set(re.findall(r"[A-Za-z_]\w*", text[writer.end() :])) if writer else set()
