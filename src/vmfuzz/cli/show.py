"""`vmfuzz show`: one finding, with the manual's requirement, the actual values, and the nearest case that agrees side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.markup import escape

from vmfuzz.cli.console import Output
from vmfuzz.cli.places import find_entry, place_option, stand_in
from vmfuzz.comparison.behind import row_in_words, rows_in_words
from vmfuzz.comparison.explanation import required, side_by_side
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import Entry, to_json
from vmfuzz.model.wording import without_formats


@click.command()
@click.argument("id")
@place_option
@click.option("--json", "as_json", is_flag=True, help="Print the entry as JSON.")
def show(id: str, place: Path | None, as_json: bool) -> None:
    """Show the finding ID (or the beginning of its id).

    It prints what differs, what the manual requires, what each processor did, and the nearest case that agrees.
    """
    path, entry = find_entry(place, id, to_read=True)
    if as_json:
        json.dump(to_json(entry), sys.stdout, indent=1)
        click.echo()
        return
    console = Output()
    console.print(f"[bold]{entry.id}[/] {entry.kind}{f', seen {entry.seen:,} times' if entry.seen > 1 else ''}")
    console.print(f"verdict {entry.verdict}: {escape(entry.reason)}")
    trial = stand_in(path, entry)
    console.print(f"base {entry.case.base} of {trial.model.capabilities.name}\n")
    _print_before(console, entry)
    _print_side_by_side(console, entry, trial)
    _print_results(console, entry)
    _print_checks(console, entry, trial)
    console.print(f"\nfile {escape(str(path))}", soft_wrap=True)


def _print_before(console: Output, entry: Entry) -> None:
    """What runs before the case of a sequence, in order, and what happens without it."""
    if entry.behind is None:
        return
    console.print("these run in order in one new machine:")
    rows = (*entry.behind.before, entry.case.mutation)
    for number, row in enumerate(rows, 1):
        last = " [bold](this case)[/]" if number == len(rows) else ""
        console.print(f"  {number}. {escape(row_in_words(row))}{last}", soft_wrap=True)
    console.print(f"{rows_in_words(entry.behind.otherwise)} the outcome is {entry.behind.actual}\n")


def _print_side_by_side(console: Output, entry: Entry, trial: Trial) -> None:
    """Operand by operand: the base, this case, and the nearest case that agrees, with its outcome."""
    base = trial.base(entry.case.base)
    assert base is not None
    if not entry.case.mutation:
        console.print("nothing differs from the base")
        return
    near = {each.operand: (each.value, each.actual) for each in reversed(entry.neighbours)}
    titles = ("base", "this case", "nearest that agrees", "its outcome")
    for line in side_by_side(base, entry.case.mutation, near, titles, _bold):
        console.print(line, soft_wrap=True)


def _bold(text: str) -> str:
    return f"[bold]{text}[/]"


def _print_results(console: Output, entry: Entry) -> None:
    for result in entry.results:
        told = "" if result.comparison == result.actual else f" ({result.comparison})"
        console.print(f"\nthe model allows {'; '.join(result.predicted)}")
        console.print(f"the outcome was  {result.actual}{told}")
        if result.message:
            console.print(f"the executor says: {escape(without_formats(result.message))}")
        console.print(f"on {', '.join(processor.name for processor in result.processors)}")
    for warning in entry.warnings:
        console.print(f"the kernel of the machine warned: {escape(warning)} (its log has more)")


def _print_checks(console: Output, entry: Entry, trial: Trial) -> None:
    base = trial.base(entry.case.base)
    assert base is not None
    violated = (*entry.checks, *(id for result in entry.results for id in result.violated))
    for line in required(trial.model, base, entry.case.mutation, violated, _bold, escape):
        console.print(line)
