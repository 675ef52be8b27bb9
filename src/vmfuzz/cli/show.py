"""`vmfuzz show`: one finding, with the manual's requirement, the actual values, and the nearest case that agrees side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from vmfuzz.campaign.case import base_value, batch_of
from vmfuzz.campaign.corpus import Entry, to_json
from vmfuzz.campaign.trial import Trial
from vmfuzz.cli.console import Output
from vmfuzz.cli.places import find_entry, format_key, place_option, stand_in
from vmfuzz.model.checks import BY_ID
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.wording import sentence_with_values


@click.command()
@click.argument("id")
@place_option
@click.option("--json", "as_json", is_flag=True, help="Print the entry as JSON.")
def show(id: str, place: Path | None, as_json: bool) -> None:
    """Show the finding ID (or the beginning of its id): what differs, what the manual requires, what each processor did, and the edge."""
    path, entry = find_entry(place, id)
    if as_json:
        json.dump(to_json(entry), sys.stdout, indent=1)
        click.echo()
        return
    console = Output()
    console.print(f"[bold]{entry.id}[/] {entry.kind}{f', seen {entry.seen:,} times' if entry.seen > 1 else ''}")
    console.print(f"verdict {entry.verdict}: {escape(entry.reason)}")
    trial = stand_in(entry)
    console.print(f"base {entry.case.base} of {trial.model.capabilities.name}\n")
    console.print(_side_by_side(entry, trial))
    _print_results(console, entry)
    _print_checks(console, entry, trial)
    console.print(f"\nfile {escape(str(path))}", soft_wrap=True)


def _side_by_side(entry: Entry, trial: Trial) -> Table:
    """Operand by operand: the base, this case, and the nearest case that agrees, with its outcome."""
    base = trial.base(entry.case.base)
    assert base is not None
    table = Table(box=None, pad_edge=False)
    table.add_column("operand", overflow="fold")
    for title in ("base", "this case", "nearest that agrees"):
        table.add_column(title, justify="right", overflow="fold")
    for key, value in entry.case.mutation.items():
        near = next((each for each in entry.neighbours if each.operand == key), None)
        agreeing = f"{format_key(key, near.value)} ({near.actual})" if near else "none near"
        table.add_row(key, format_key(key, base_value(base, key)), f"[bold]{format_key(key, value)}[/]", agreeing)
    return table


def _print_results(console: Output, entry: Entry) -> None:
    for result in entry.results:
        console.print(f"\nthe model allows {', '.join(result.predicted)}")
        console.print(f"processors did   {result.actual} ({result.comparison})")
        if result.message:
            console.print(f"the executor says: {escape(result.message)}")
        console.print(f"on {', '.join(processor.name for processor in result.processors)}")


def _print_checks(console: Output, entry: Entry, trial: Trial) -> None:
    base = trial.base(entry.case.base)
    assert base is not None
    values = OperandValues(batch_of(base, [entry.case.mutation]))
    violated = [id for id in dict.fromkeys((*entry.checks, *(id for result in entry.results for id in result.violated))) if id in BY_ID]
    for id in violated:
        check = BY_ID[id]
        console.print(f"\n[bold]{id}[/] ({check.section})")
        console.print(f"  {escape(sentence_with_values(check, trial.model, values))}")
