"""Opens a program of somebody else's by its command."""

from __future__ import annotations

import shlex
from typing import Any

from vmfuzz.errors import UsageError
from vmfuzz.execute.program.executor import ProgramExecutor


def open_by_name(command: str, cpu: str | None, options: dict[str, Any]) -> ProgramExecutor:
    """The processor that the program is; it says itself which one."""
    if cpu is not None:
        raise UsageError(
            f"CPU model {cpu!r}: the program itself says which processor it is; leave out --cpu, or put it into the program's command"
        )
    return ProgramExecutor(words_of(command), **options)


def words_of(command: str) -> list[str]:
    """The program and its arguments, as a shell splits them; raises UsageError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"'program:{command}': {error}; quote the command as for a shell") from None
    if not words:
        raise UsageError("'program:': expected the command of a program that answers VM entries, such as program:python3 my_emulator.py")
    return words
