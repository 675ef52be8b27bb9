"""`vmfuzz findings`: what a campaign found, or what a corpus holds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import click
from rich.markup import escape
from rich.padding import Padding

from vmfuzz.campaign.lost import KIND, LostBatch
from vmfuzz.campaign.stored import has_campaign, stored_findings, stored_lost, stored_triage
from vmfuzz.cli.console import Output
from vmfuzz.cli.places import entries_place, readable_entries, resolved
from vmfuzz.comparison.case import format_key, key_in_words
from vmfuzz.corpus.entries import Entry, to_json
from vmfuzz.counted import counted
from vmfuzz.findings.account import in_words, not_minimized


@click.command()
@click.argument("place", required=False, type=click.Path(path_type=Path))
@click.option("--verdict", help="Only entries with this verdict, or whose verdict begins with it (open, deviation, ...).")
@click.option("--json", "as_json", is_flag=True, help="Print whole entries as JSON.")
def findings(place: Path | None, verdict: str | None, as_json: bool) -> None:
    """List the findings of the campaign in the directory PLACE, or the entries of the corpus PLACE (default: what is here).

    A file that is not an entry does not stop the others, but makes the exit code 2.
    """
    place = resolved(place, to_read=True)
    known: list[Entry] = []
    if not has_campaign(place) or entries_place(place).is_dir():
        known = [entry for _, entry in readable_entries(entries_place(place))[0]]
    raw, lost = (stored_findings(place), stored_lost(place)) if has_campaign(place) else ([], [])
    entries = [entry for entry in known if entry.verdict.startswith(verdict or "")]
    if as_json:
        json.dump(
            {"entries": [to_json(entry) for entry in entries], "campaign": raw, "lost": [batch.to_json() for batch in lost]},
            sys.stdout,
            indent=1,
        )
        click.echo()
        return
    console = Output()
    if entries:
        _print_entries(console, entries)
    console.print(f"{counted(len(entries), 'entry')} in {escape(str(entries_place(place)))}", soft_wrap=True)
    if raw:
        data = {"findings": raw, "minimized": [to_json(entry) for entry in known], **stored_triage(place)}
        left = len(not_minimized(data))
        console.print(
            f"the campaign has {in_words(data)}" + (f"; `vmfuzz minimize --corpus {place}` minimizes them" if left else ""), soft_wrap=True
        )
    print_lost(lost, place)


def print_lost(lost: list[LostBatch], directory: Path | None) -> None:
    """Batches after which the machine did not come back, with what is known and what to do next."""
    if not lost:
        return
    console = Output()
    console.print(f"\n[bold red]the machine went down during {counted(len(lost), 'batch')}[/]")
    for batch in lost:
        console.print(f"[bold]{batch.id}[/] {KIND}, {counted(batch.resets, 'time')}")
        for line in _lost_lines(batch, directory):
            console.print(
                Padding(escape(line), (0, 0, 0, 2)) if console.is_terminal else f"  {escape(line)}", soft_wrap=not console.is_terminal
            )


def _lost_lines(batch: LostBatch, directory: Path | None) -> Iterator[str]:
    yield f"base {batch.plan.base}"
    if batch.checks:
        yield f"checks aimed at: {', '.join(batch.checks[:6])}{f' and {len(batch.checks) - 6} more' if len(batch.checks) > 6 else ''}"
    if batch.plan.operands:
        yield f"operands varied: {', '.join(batch.plan.operands)}"
    yield f"suspects: {batch.suspects:,} of {counted(batch.count, 'candidate')}"
    yield from (f"  {key_in_words(key)} = {format_key(key, value)}" for key, value in (batch.mutation or {}).items())
    if not batch.restarted:
        yield (
            "This machine has not been restarted since. If it is the one that executed the batch, something ended the process, and the batch "
            "may not be the cause."
        )
    if batch.alone == "came back":
        yield "The last suspect ran alone and the machine stayed up: either several candidates in a row are needed, or chance is involved."
    elif batch.alone:
        yield "It ran alone and the machine went down. Report it to the maker. Do not put it into a corpus, because replay would run it."
    else:
        where = f" --directory {directory}" if directory is not None else ""
        yield (
            f"next: `vmfuzz run{where} --resume --bisect-lost` runs half of the suspects at a time. The machine may go down "
            f"again, at most {counted(batch.most_resets, 'time')}. Without this option, the campaign skips the batch."
        )


def _print_entries(console: Output, entries: list[Entry]) -> None:
    """Two lines an entry for a terminal, where ids must not be cut; one line an entry for other programs."""
    for entry in sorted(entries, key=lambda each: (each.verdict, each.checks, each.id)):
        checks = f"{', '.join(entry.checks[:3])}{', ...' if len(entry.checks) > 3 else ''}: " if entry.checks else ""
        behind = f" {entry.behind.words}" if entry.behind is not None else ""
        warned = f"; the kernel warned: {', '.join(entry.warnings)}" if entry.warnings else ""
        what = escape(f"{checks}{entry.kind}; {entry.main_result.actual}{behind}{warned}")
        head = f"{entry.id}  {escape(entry.verdict)}, seen {entry.seen:,}"
        if console.is_terminal:
            console.print(f"[bold]{head}[/]")
            console.print(Padding(what, (0, 0, 0, 12)))
        else:
            console.print(f"{head}  {what}", soft_wrap=True)
