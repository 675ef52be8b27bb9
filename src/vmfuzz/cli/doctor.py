"""`vmfuzz doctor`: which executors can be used here and, for each that cannot, why and what to do; what is wrong with a program of somebody's own."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Final

import click
from rich.markup import escape

from vmfuzz.cli.console import Output
from vmfuzz.errors import EXIT_ENVIRONMENT, EXIT_FOUND, UsageError
from vmfuzz.execute.availability import availability, entering
from vmfuzz.execute.kinds import PROGRAM, SERIAL
from vmfuzz.execute.program.conformance import examine
from vmfuzz.execute.program.opening import words_of

#: Columns of the mark and the blank behind it.
_MARK: Final = 11


@click.command()
@click.option(
    "--executor",
    metavar=f"{PROGRAM}COMMAND|{SERIAL}WHERE",
    help="Test this program that answers VM entries (docs/program.md), or this line to a machine (docs/hypervisors.md).",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(executor: str | None, as_json: bool) -> None:
    """Say which executors work on this machine, and what to do about those that do not. Exit code 3 if none does.

    With --executor program:COMMAND, say whether your program follows the protocol, step by step until something is wrong; the exit code is then
    1. With --executor serial:WHERE, say whether a machine at the other end of a serial line executes VM entries.
    """
    if executor is not None and not executor.startswith(SERIAL):
        _examine(executor, as_json)
        return
    found = availability() if executor is None else [entering(executor, "there is")]
    if as_json:
        executors = [{"executor": item.executor, "usable": item.usable, "text": item.text} for item in found]
        click.echo(json.dumps({"schema": "vmfuzz-doctor-1", "executors": executors}, indent=1))
    else:
        console = Output()
        for item in found:
            mark = "[green]works[/]     " if item.usable else "[yellow]not usable[/]"
            console.print(f"{mark} [bold]{item.executor}[/]: {escape(item.text)}", hang=_MARK)
    if not any(item.usable for item in found):
        sys.exit(EXIT_ENVIRONMENT)


def _examine(executor: str, as_json: bool) -> None:
    """Try a program step by step, saying each; ends with exit code 1 where something is wrong."""
    if not executor.startswith(PROGRAM):
        raise UsageError(
            f"--executor {executor}: doctor tests {PROGRAM}COMMAND and {SERIAL}WHERE; without --executor it tests the executors that come with vmfuzz"
        )
    console, steps = Output(), []
    for step in examine(words_of(executor.removeprefix(PROGRAM))):
        steps.append(step)
        if not as_json:
            mark = "[green]right[/]" if step.right else "[bold red]wrong[/]"
            console.print(f"{mark} [bold]{step.name}[/]: {escape(step.text)}", soft_wrap=True)
    if as_json:
        click.echo(
            json.dumps({"schema": "vmfuzz-doctor-program-1", "executor": executor, "steps": [vars(step) for step in steps]}, indent=1)
        )
    elif steps[-1].right:
        console.print(f"the program follows the protocol; next: vmfuzz run --executor {escape(shlex.quote(executor))}", soft_wrap=True)
    if not steps[-1].right:
        sys.exit(EXIT_FOUND)
