"""Reads the register lines of two monitors that write numbers in a form of their own: Jailhouse's crash dump and FreeBSD's bhyvectl.

Jailhouse prints some numbers in hexadecimal without a mark (`CS: 10 BASE: 0x0 AR-BYTES: a09b`), bhyvectl puts the number of the virtual
processor behind each name (`exit_ctls[0]`) and the parts of a segment register into one cell (`cs desc[0]  BASE/LIMIT/RIGHTS`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Final

from vmfuzz.explain.evidence import Found
from vmfuzz.explain.text.lines import Line

_FLAGS: Final = re.compile(r"RIP: (?P<rip>0x[0-9a-fA-F]+) RSP: (?P<rsp>0x[0-9a-fA-F]+) FLAGS: (?P<rflags>[0-9a-fA-F]+)$")
_CS: Final = re.compile(
    r"CS: (?P<selector>[0-9a-fA-F]+) BASE: (?P<base>0x[0-9a-fA-F]+) AR-BYTES: (?P<rights>[0-9a-fA-F]+)(?: EFER\.LMA (?P<lma>[01]))?$"
)
_NUMBERED: Final = re.compile(r"(?P<name>[a-z]\w*)(?P<desc> desc)?\[\d+\]\s+(?P<value>0x[0-9a-fA-F]+(?:/0x[0-9a-fA-F]+)*)$")
_SELECTORS: Final = ("cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr")
_IA32E: Final = 9


def read_monitors(lines: Iterable[Line], found: Found) -> list[Line]:
    """Record what lines of these monitors give; returns the other lines, names of bhyvectl without their number among them."""
    rest = []
    for line in lines:
        flags, code, numbered = _forms(line.text)
        if flags:
            for name in ("rip", "rsp", "rflags"):
                found.put(f"guest_{name}", int(flags[name], 16), name, line.number)
        elif code:
            for name, part in (("selector", "selector"), ("base", "base"), ("rights", "access_rights")):
                found.put(f"guest_cs_{part}", int(code[name], 16), f"CS {name}", line.number)
            if code["lma"]:
                # Jailhouse prints the VM-entry control under this name
                found.put("vm_entry_controls", int(code["lma"]) << _IA32E, "EFER.LMA", line.number, known=1 << _IA32E)
        elif numbered and not _bhyve(numbered, line, found):
            rest.append(replace(line, text=f"{numbered['name']} = {numbered['value']}"))
        elif not numbered:
            rest.append(line)
    return rest


@lru_cache(maxsize=1 << 13)
def _forms(text: str) -> tuple[re.Match[str] | None, ...]:
    return _FLAGS.match(text), _CS.match(text), _NUMBERED.match(text)


def _bhyve(match: re.Match[str], line: Line, found: Found) -> bool:
    """Record a segment register; returns whether it is one."""
    name, values = match["name"], [int(value, 16) for value in match["value"].split("/")]
    parts: tuple[str, ...] = ()
    if match["desc"] and len(values) == 3:
        parts = ("base", "limit", "access_rights")
    elif name in ("gdtr", "idtr") and len(values) == 2:
        parts = ("base", "limit")
    elif name in _SELECTORS and len(values) == 1:
        parts = ("selector",)
    for part, value in zip(parts, values, strict=False):
        found.put(f"guest_{name}_{part}", value, f"{name} {part}", line.number)
    return bool(parts)
