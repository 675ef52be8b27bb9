"""The options of `--executor serial:WHERE`: how long a machine may be silent, and what resets it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from vmfuzz.cli.console import Seconds
from vmfuzz.errors import UsageError
from vmfuzz.execute.kinds import SERIAL
from vmfuzz.execute.serial.device import ANSWER_SECONDS


def line_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options --reset, --answer-seconds and --virtual of commands that run candidates on a machine which they may cost."""
    reset = click.option(
        "--reset",
        metavar="COMMAND",
        help=f"For {SERIAL}WHERE: a shell command that resets the machine when it hangs (docs/hypervisors.md). Without it a hang ends the run.",
    )
    seconds = click.option(
        "--answer-seconds",
        type=Seconds(min=1),
        help=f"For {SERIAL}WHERE: how long a request may take; a machine that is silent for longer counts as hung. [default: {ANSWER_SECONDS:g}]",
    )
    virtual = click.option(
        "--virtual/--not-virtual",
        default=None,
        help=f"For {SERIAL}WHERE at --risk bold: the machine is a virtual one that nobody else uses, so run what costs it a reset at worst: MSR "
        "lists, host state (docs/hypervisors.md). [default: whether CPUID names a hypervisor]",
    )
    return reset(seconds(virtual(function)))


def options_of_line(executor: str, risk: str, reset: str | None, answer_seconds: float | None, virtual: bool | None) -> dict[str, Any]:
    """The same as options of the executor. Raises UsageError where they mean nothing."""
    given = {"reset": reset, "answer_seconds": answer_seconds, "virtual": virtual}
    given = {name: value for name, value in given.items() if value is not None}
    if given and not executor.startswith(SERIAL):
        names = " and ".join(f"--{'not-' if value is False else ''}{name.replace('_', '-')}" for name, value in given.items())
        raise UsageError(f"{names} works only with --executor {SERIAL}WHERE, and this run uses {executor}; leave it out")
    if virtual and risk != "bold":
        raise UsageError(
            "--virtual works only with --risk bold, because candidates may then cost the machine a reset; add that, or leave it out"
        )
    return given
