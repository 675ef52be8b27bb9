"""`vmfuzz verdict`: a person says what a finding is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from vmfuzz.cli.places import find_entry, place_option
from vmfuzz.corpus.entries import require_verdict, save


@click.command()
@click.argument("id")
@click.argument("verdict")
@click.option("--reason", help="Why, in a sentence. [default: keep the old reason]")
@place_option
def verdict(id: str, verdict: str, reason: str | None, place: Path | None) -> None:
    """Give the finding ID the VERDICT open, model-fixed, regression-guard, ambiguity:ID, deviation:ID or erratum:NAME.

    An erratum is from the table in docs/errata.md, or from your own file.
    """
    path, entry = find_entry(place, id)
    changed = replace(entry, verdict=require_verdict(verdict), reason=entry.reason if reason is None else reason)
    save(path.parent, changed, path)
    click.echo(f"{entry.id}: {entry.verdict} -> {changed.verdict}: {changed.reason}")
