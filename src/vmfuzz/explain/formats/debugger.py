"""Rewrites what gdb prints of an expression, whose name stands in the command above its value: `(gdb) p/x vmcs12->guest_cr0` and `$5 = 0x31`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

_COMMAND: Final = deferred(r"\(gdb\)\s*(?:p|print|inspect|output|call)(?:\s*/\w+)?\s+(?P<expression>\S.*?)\s*$")
_VALUE: Final = deferred(r"\$\d+ = (?P<value>.+)$")


def printed(lines: Sequence[Line]) -> list[Line]:
    """The lines without gdb's commands, a value that gdb numbers with the expression of the command above it as its name."""
    found, expression = [], ""
    for line in lines:
        command, value = _COMMAND.match(line.text), _VALUE.match(line.text)
        named = f"{expression.replace('->', '.')} = {value['value']}" if value and expression else line.text
        if command is None:
            found.append(replace(line, text=named) if named != line.text else line)
        expression = command["expression"] if command else ""
    return found
