"""Reads calls of a program that write a field: `vmwrite(GUEST_CS_AR, 0xa09b)`, `wvmcs(vcpu, F, v);`, Rust's `vmwrite(F, v)?`.

What stands in a comment is not read; what is more than a number the program computes, so that the text does not give it.
"""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING, FIELDS
from vmfuzz.explain.dump import half
from vmfuzz.explain.evidence import Found, Standing
from vmfuzz.explain.names.labels import NOTHING, Match, cut_label, match_label
from vmfuzz.patterns import deferred

#: What names of functions that write have in them, and a call of one. (Bounds: a line may be one long word.)
_WRITES: Final = r"(?:vm_?write|vm_?w\d|vmcs(?:\.|->|::)?_?write|vmx_?(?:vm)?write|write_?vmcs|wvmcs)"
_WRITER: Final = deferred(rf"{_WRITES}\w{{0,40}}!?(?:::<\w+>)?\s*\(", re.IGNORECASE)
#: An argument of a call; the brackets in it are closed again.
_ARGUMENT: Final = r"(?>(?:[^(),]|\((?>(?:[^()]|\([^()]*\))*)\))*)"
_CALL: Final = deferred(rf"{_WRITER.pattern}(?:{_ARGUMENT},)?({_ARGUMENT}),({_ARGUMENT})\)", re.IGNORECASE)
#: What no compiler reads, and directives of C ("#define"), which write nothing either.
_COMMENT: Final = deferred(r"/\*(?:[^*]|\*(?!/))*(?:\*/|$)|//.*|^\s*(?:#|;|--\s).*")
_ENCODING: Final = deferred(r"0[xX]0*([0-9a-fA-F]{3,4})")
_PATH: Final = deferred(r"[A-Za-z_]\w*(?:(?:::|\.|->)\w+)*")
_NUMBER: Final = deferred(r"(?:\([\w ]+\)\s*)?(0[xX][0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|0|[1-9]\d*)(?:_?[ui](?:8|16|32|64)|[uUlL]{1,3})?")
#: All ones of 64 bits.
_ONES: Final = deferred(r"(?:\((?:u64|uint64_t)\)\s*)?(?:(?:[~!]0|-1)(?:[uU]?[lL]{1,2}|u64)?|u64::MAX)")
#: What a log says behind the call that it names.
_FAILED: Final = deferred(r"[^;{]*\b(?:fail(?:ed|s|ure)|error)\b[^;{]*$", re.IGNORECASE)


class ProgramReader:
    """Reads the calls in the lines of a text."""

    def __init__(self, found: Found) -> None:
        self.found = found
        self.in_comment = False  # a comment of C goes on

    def call(self, text: str, line: int, area: str) -> bool:
        """Read the calls in a line that write fields; returns whether there are any."""
        begins, ends = text.rfind("/*"), text.rfind("*/")
        text = text.partition("*/")[2] if self.in_comment else text
        self.in_comment = begins > ends or (self.in_comment and ends < 0)
        code = _COMMENT.sub(" ", text) if "(" in text and _WRITER.search(text) else ""
        read = [self._write(call, line, area) for call in _CALL.finditer(code)]
        return any(read)

    def _write(self, call: re.Match[str], line: int, area: str) -> bool:
        """Note what a call writes, if one of its arguments names a field: the surer one, since `vmwrite(0x6c00, cr0)` writes a variable."""
        ways = [(_meant(argument.strip(), area), argument.strip()) for argument in call.groups()]
        (meant, label), (_, written) = sorted(ways, key=lambda way: (len(way[0].fields) != 1, way[0].assumed_guest, way[1][:1].isdigit()))
        if len(meant.fields) != 1:
            return False
        field, number = meant.fields[0], _NUMBER.fullmatch(written)
        value = FIELDS[field].mask if _ONES.fullmatch(written) else int(number[1], 0) if number else None
        if _FAILED.match(call.string, call.end()):
            self.found.warn(f"the write of {label} failed, so that its value is not used", line)
        elif value is None:
            self.found.computed.append((field, line))
        else:
            value = (value & 0xFFFFFFFF) << 32 if meant.high else value
            self.found.put(field, value, label, line, known=half(meant.high), standing=Standing.CALL)
        return True


def _meant(argument: str, area: str) -> Match:
    """The field that an argument is the encoding of, or that a name or the end of a path means."""
    if encoding := _ENCODING.fullmatch(argument):
        field = BY_ENCODING.get(int(encoding[1], 16) & ~1)
        return Match((field.name,), high=bool(int(encoding[1], 16) & 1)) if field else NOTHING
    return match_label(cut_label(argument)[0], area=area) if _PATH.fullmatch(argument) else NOTHING


def handed_over(text: str) -> set[str]:
    """The words behind the name of a function that writes fields."""
    writer = _WRITER.search(text) if "(" in text else None
    return set(re.findall(r"[A-Za-z_]\w*", text[writer.end() :])) if writer else set()
