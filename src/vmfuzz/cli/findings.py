"""`vmfuzz findings`: what a campaign found, or what a corpus holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.table import Table

from vmfuzz.campaign.corpus import Entry, entry_files, load_all, to_json
from vmfuzz.campaign.store import has_campaign, stored_findings
from vmfuzz.cli.console import Output
from vmfuzz.cli.places import entries_place, resolved


@click.command()
@click.argument("place", required=False, type=click.Path(path_type=Path))
@click.option("--verdict", help="Only entries with this verdict, or whose verdict begins with it (open, deviation, ...).")
@click.option("--json", "as_json", is_flag=True, help="Print whole entries as JSON.")
def findings(place: Path | None, verdict: str | None, as_json: bool) -> None:
    """List findings: of the campaign in the directory PLACE, or the entries of the corpus PLACE (by default: what is here)."""
    place = resolved(place)
    entries: list[Entry] = []
    if not has_campaign(place) or entries_place(place).is_dir():
        entries = [entry for _, entry in load_all(entry_files(entries_place(place)))]
    raw = stored_findings(place) if has_campaign(place) else []
    if verdict is not None:
        entries = [entry for entry in entries if entry.verdict.startswith(verdict)]
    if as_json:
        json.dump({"entries": [to_json(entry) for entry in entries], "campaign": raw}, sys.stdout, indent=1)
        click.echo()
        return
    console = Output()
    if entries:
        console.print(_table(entries))
    console.print(f"{len(entries)} entries in {entries_place(place)}", soft_wrap=True)
    if raw:
        seen = sum(finding["count"] for finding in raw)
        console.print(
            f"the campaign met {len(raw)} kinds of mismatch, {seen:,} times" + ("" if entries else "; `vmfuzz minimize` reduces them")
        )


def _table(entries: list[Entry]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("id", no_wrap=True)
    table.add_column("verdict", overflow="fold", ratio=2)
    table.add_column("seen", justify="right")
    table.add_column("what", overflow="fold", ratio=4)
    for entry in sorted(entries, key=lambda each: (each.verdict, each.checks, each.id)):
        what = f"{', '.join(entry.checks[:3])}{', ...' if len(entry.checks) > 3 else ''}: " if entry.checks else ""
        table.add_row(entry.id, entry.verdict, f"{entry.seen:,}", f"{what}{entry.kind}; {entry.main_result.actual}")
    return table
