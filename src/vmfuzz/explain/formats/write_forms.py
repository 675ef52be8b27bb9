"""Rewrites lines that write a field, or tell that one was written, into forms that plain.py reads: assembly becomes a call, a log line a pair.

`VMWRITE 0x4012 <- 0x13ff` becomes `0x4012 = 0x13ff`; `mov rax, 6820h`, `mov rbx, 200h`, `vmwrite rax, rbx` become `vmwrite(0x6820, 0x200);`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING
from vmfuzz.explain.names.labels import match_label
from vmfuzz.explain.text.lines import Line
from vmfuzz.explain.text.numbers import NUMBER
from vmfuzz.patterns import deferred

_CALLED: Final = r"(?:vm_?write|wr_?vmcs|vmcs_?write)"
_FIELD: Final = r"(?:0[xX][0-9a-fA-F]{1,8}|[0-9a-fA-F]{4,5}[hH]|[A-Za-z_][\w.:]{1,60})"
_SURE: Final = r"(?:0[xX][0-9a-fA-F]+|[0-9][0-9a-fA-F]*[hH]|\d{1,20})"
#: `VMWRITE 0x4012 <- 0x13ff`, `0x6820 <- 0x0`, `vmwrite(0x6820) = 0x0`, `vmwrite GUEST_RIP, 0x1000`
_LOGGED: Final = (
    deferred(
        rf"(?:{_CALLED}[: ]\s{{0,20}})?[(\[]?(?P<field>{_FIELD})[)\]]?\s{{0,20}}(?:<-{{1,2}}|\u2190)\s{{0,20}}(?P<value>{NUMBER})$",
        re.IGNORECASE,
    ),
    deferred(rf"{_CALLED}\s?[(\[]\s?(?P<field>{_FIELD})\s?[)\]]\s{{0,20}}(?:<-|[:=])\s{{0,20}}(?P<value>{NUMBER})$", re.IGNORECASE),
    deferred(rf"{_CALLED}:?\s{{1,20}}(?P<field>{_FIELD})\s{{0,20}}(?:,|=|:|\s)\s{{0,20}}(?P<value>{_SURE})$", re.IGNORECASE),
)
#: Lines of assembly: `mov rax, 6820h`, `movq $0x6820, %rax`, `xor ebx, ebx`, `vmwrite rax, rbx`
_REGISTER: Final = r"%?(?:[er]?(?:[abcd]x|[sd]i|[sb]p)|r(?:[89]|1[0-5])d?)"
_INSTRUCTION: Final = deferred(
    r"(?:[\w.]{1,40}:\s{0,20})?(?P<name>[a-z]{2,12})(?:\s(?P<first>[^,;#/]{1,80})(?:,(?P<second>[^,;#/]{1,80}))?)?(?:[;#]|//|$)",
    re.IGNORECASE,
)
_LABEL: Final = deferred(r"[\w.@$]{1,60}:")
_CONSTANT: Final = deferred(r"\$?(?P<sign>-?)(?P<number>0[xX][0-9a-fA-F]{1,16}|[0-9][0-9a-fA-F]{0,15}[hH]|\d{1,20})$")
_NAME: Final = deferred(r"\$?(?P<name>[A-Za-z_][\w.]{2,60})$")
_COMMENT: Final = deferred(r";|#|//|/\*")
_WHOLE: Final = deferred(rf"{_REGISTER}$", re.IGNORECASE)
#: A line of assembly, or of such a log, is no longer than this.
_LONGEST: Final = 200


def written(lines: Sequence[Line]) -> list[Line]:
    """The lines, those that write fields in the forms that plain.py reads."""
    pairs = [replace(line, text=text) if (text := _logged(line.text)) != line.text else line for line in lines]
    return _assembled(pairs) if any(_writes_registers(line.text) for line in pairs) else pairs


@lru_cache(maxsize=1 << 13)
def _logged(text: str) -> str:
    """A line that tells of a write as a pair of name or encoding, and value."""
    if len(text) <= _LONGEST and ("<-" in text or "\u2190" in text or "wr" in text.lower()):
        for form in _LOGGED:
            match = form.match(text)
            if match and _field(match["field"]):
                return f"{_field(match['field'])} = {match['value']}"
    return text


@lru_cache(maxsize=1 << 13)
def _field(text: str) -> str:
    """The field as plain.py reads it; "" if it is none."""
    number = re.fullmatch(r"0[xX]([0-9a-fA-F]{1,8})|([0-9a-fA-F]{4,5})[hH]", text)
    if number:
        encoding = int(number[1] or number[2], 16)
        return f"0x{encoding:04x}" if encoding & ~1 in BY_ENCODING else ""
    return text if len(match_label(text).fields) == 1 else ""


@lru_cache(maxsize=1 << 13)
def _instruction(text: str) -> tuple[str, str, str]:
    """(name in small letters, first operand, second operand) of a line of assembly."""
    match = _INSTRUCTION.match(text) if len(text) <= _LONGEST else None
    return (match["name"].lower(), (match["first"] or "").strip(), (match["second"] or "").strip()) if match else ("", "", "")


def _writes_registers(text: str) -> bool:
    name, first, second = _instruction(text) if "vmwrite" in text.lower() else ("", "", "")
    return name.startswith("vmwrite") and bool(_WHOLE.match(first) or _WHOLE.match(second))


def _assembled(lines: Sequence[Line]) -> list[Line]:
    """The lines, each VMWRITE of registers as a call with what was moved to them; whatever else is done to a register leaves it unknown."""
    result, holds = list[Line](), dict[str, str]()
    for line in lines:
        name, first, second = _instruction(line.text)
        if name.startswith("vmwrite") and second:
            # AT&T's order is the source first: `vmwrite %rbx, %rax`
            field, value = (second, first) if "%" in line.text else (first, second)
            known = _field(_operand(field, holds))
            text = f"vmwrite({known}, {_operand(value, holds) or 'computed'});" if known else line.text
            result.append(replace(line, text=text))
            continue
        result.append(line)
        if _COMMENT.match(line.text):
            continue
        if not name or _LABEL.match(line.text):
            holds.clear()
        elif name in ("mov", "movq", "movl", "movabs", "movabsq"):
            target, source = (second, first) if "%" in line.text else (first, second)
            holds[_whole(target)] = _operand(source, holds)
        elif name in ("xor", "xorl", "xorq", "sub") and _whole(first) == _whole(second):
            holds[_whole(first)] = "0x0"
        elif name[0] == "j" or name in ("call", "ret"):
            if name in ("call", "callq"):
                holds.clear()
        else:
            for operand in (first, second):
                holds.pop(_whole(operand), None)
    return result


def _whole(operand: str) -> str:
    """The register that an operand is, whatever its width."""
    text = operand.strip().lstrip("%").lower()
    return re.sub(r"d$", "", text) if text[:2] in ("r8", "r9", "r1") else text[1:] if len(text) == 3 and text[0] in "er" else text


def _operand(text: str, holds: dict[str, str]) -> str:
    """A constant as C writes it, or a name; what is known to be in a register; "" for anything else."""
    text = text.strip()
    if _WHOLE.match(text):
        return holds.get(_whole(text), "")
    constant = _CONSTANT.match(text)
    if constant:
        number = constant["number"]
        value = int(number[:-1], 16) if number[-1] in "hH" else int(number, 16 if number[:2] in ("0x", "0X") else 10)
        return hex(value if not constant["sign"] else (1 << 64) - value)
    name = _NAME.match(text)
    return name["name"] if name else ""
