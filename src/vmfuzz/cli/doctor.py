"""`vmfuzz doctor`: which executors can be used here and, for each that cannot, why and what to do."""

from __future__ import annotations

import json
import sys
from typing import Final

import click
from rich.markup import escape

from vmfuzz.cli.console import Output
from vmfuzz.errors import EXIT_ENVIRONMENT
from vmfuzz.execute.availability import availability

#: Columns of the mark and the blank behind it.
_MARK: Final = 11


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def doctor(as_json: bool) -> None:
    """Say which executors work on this machine, and what to do about those that do not. Exit code 3 if none does."""
    found = availability()
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
