"""Every exception that vmfuzz raises on purpose, and the exit code that each becomes on the command line.

    VmfuzzError                 something that a person can act on; its text is one clear statement
    ├── UsageError (2)          wrong option, unknown name, unreadable or malformed input
    │   ├── UnknownNameError    a field, CPU model, check or executor that does not exist; lists what is near
    │   └── FieldValueError     a value that does not fit its field
    ├── EnvironmentUnusable (3) this machine lacks something: a wheel, a compiler, a permission, VMX
    │   └── ExecutorError       an executor was opened but cannot go on
    ├── SafetyStop (4)          stopped so that the machine is not put at risk
    └── ModelError (2)          a check or expression is declared wrongly (found when the model is imported)

Exit codes of all commands: 0 agreement, 1 something found, 2 wrong usage or input, 3 environment unusable,
4 stopped for the machine's safety, 5 nothing was tested, 130 stopped by Ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_AGREEMENT = 0
EXIT_FOUND = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3
EXIT_SAFETY = 4
EXIT_NOTHING_TESTED = 5
#: after Ctrl-C; 143 after SIGTERM (vmfuzz/interrupts.py)
EXIT_INTERRUPTED = 130


class VmfuzzError(Exception):
    """Root of all errors that vmfuzz raises on purpose."""

    exit_code = EXIT_USAGE


class UsageError(VmfuzzError):
    """Wrong option or input; the message names the thing, the value and what was expected."""


class UnknownNameError(UsageError):
    """A name that is not in the catalogue it was looked up in."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        choices = sorted(known)
        near = difflib.get_close_matches(name, choices, n=3, cutoff=0.6)
        if near:
            hint = f"did you mean {' or '.join(near)}?"
        elif len(choices) <= 40:
            hint = f"known: {('; ' if any(',' in choice for choice in choices) else ', ').join(choices)}"
        else:
            hint = f"{len(choices)} are known, for example {', '.join(choices[:3])}"
        super().__init__(f"unknown {what} {name!r}; {hint}")
        self._made_of = (what, name, tuple(choices))

    def __reduce__(self) -> tuple[type[UnknownNameError], tuple[str, str, tuple[str, ...]]]:
        """How to make it again in another process (`vmfuzz run --jobs`): from what it was made of, not from its sentence."""
        return type(self), self._made_of


class FieldValueError(UsageError):
    """A value that does not fit the field it is for."""


class EnvironmentUnusable(VmfuzzError):
    """Something on this machine is missing; the message says what to install or to do."""

    exit_code = EXIT_ENVIRONMENT


class ExecutorError(EnvironmentUnusable):
    """An executor cannot go on (its worker does not start, a request failed)."""


class SafetyStop(VmfuzzError):
    """vmfuzz stopped rather than put the machine at risk."""

    exit_code = EXIT_SAFETY


class ModelError(VmfuzzError):
    """A check, expression, ambiguity or deviation is declared wrongly."""
