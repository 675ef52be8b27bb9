"""`vmfuzz coverage`: what a campaign has seen and what never, by section of the SDM."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from vmfuzz.campaign.coverage import Coverage
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.stored import restore_stored, stored_facts
from vmfuzz.campaign.tally import Tally
from vmfuzz.cli.ci import is_quiet, quiet_option
from vmfuzz.cli.console import Output
from vmfuzz.cli.places import executor_options, open_stored
from vmfuzz.cli.progress import progress_display
from vmfuzz.cli.run import Count
from vmfuzz.counted import counted
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_NOTHING_TESTED
from vmfuzz.execute.kinds import open_executor
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.model.operands import operand_width
from vmfuzz.model.sections import SHORT_NAMES


@dataclass
class _Row:
    """What was seen of one section."""

    checks: int = 0
    decided: int = 0
    atoms: int = 0
    atoms_seen: int = 0
    values: int = 0
    values_seen: int = 0


@click.command()
@click.argument("directory", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("-n", "--iterations", type=Count(), default="1M", show_default=True, help="Without DIRECTORY: how many candidates to run.")
@executor_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Without DIRECTORY: seed of the campaign.")
@click.option(
    "--list", "listed", is_flag=True, help="Also list each atom that was never seen deciding and each boundary value that was never tried."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
@quiet_option
def coverage(directory: Path | None, iterations: int, executor: str, cpu: str | None, seed: int, listed: bool, as_json: bool) -> None:
    """Say what a campaign covers, and what it misses.

    Looks at the campaign in DIRECTORY (vmfuzz run --directory DIRECTORY), or runs one. It counts:

    \b
    checks           deciding: only this one is violated, and the entry fails
    atoms            deciding: the other value would reverse check and outcome
    boundary values  tried: values at the edges of a check
    small errors     shown: such a processor would do what is forbidden

    An atom is a comparison or a bit of a check's condition; it can decide in two ways, violated and satisfied. A small error is a part of a
    condition that is forgotten, or a constant or the position of a bit that is off by one. Many can never show, because other checks fail the
    entry too. Exit code 0, or 5 if nothing was executed.
    """
    tally = _stored(directory) if directory is not None else _run(iterations, executor, cpu, seed, as_json or is_quiet())
    if as_json:
        click.echo(json.dumps(_as_json(tally), indent=1))
    else:
        _print(tally, listed, directory)
    raise SystemExit(EXIT_AGREEMENT if tally.executed else EXIT_NOTHING_TESTED)


def _run(iterations: int, executor: str, cpu: str | None, seed: int, quiet: bool) -> Tally:
    with open_executor(executor, cpu=cpu) as opened:
        campaign = Campaign(opened, seed)
        with progress_display(opened.name, iterations, quiet=quiet) as on_progress:
            campaign.run(iterations, on_progress)
    return campaign.progress.tally


def _stored(directory: Path) -> Tally:
    facts = stored_facts(directory)
    with open_stored(facts) as executor:
        campaign = Campaign(executor, facts["seed"])
        restore_stored(directory, campaign, facts["jobs"])
    return campaign.progress.tally


def _never_decided(seen: Coverage) -> list[tuple[str, str, str]]:
    """(check, atom, which way) of atoms never seen deciding."""
    compiled = seen.model.compiled
    return [(compiled[atom.check].check.id, str(atom), "violated" if way else "satisfied") for atom, way in seen.unseen()]


def _never_tried(seen: Coverage) -> list[tuple[str, str, str]]:
    """(check, field, value) of boundary values never tried: the bits that the check looks at, the others written x."""
    rows = []
    for (check, name, (keep, to)), tried in zip(seen.boundary_list, seen.boundaries, strict=True):
        if not tried:
            rows.append((seen.model.compiled[check].check.id, name, _value(name, keep, to)))
    return rows


def _never_shown(seen: Coverage) -> list[tuple[str, str]]:
    """(check, error) of small errors that no candidate would have shown."""
    compiled = seen.model.compiled
    rows = zip(seen.goals.errors, seen.errors, strict=True)
    return [(compiled[error.check].check.id, f"{error.kind}: {error.what}") for error, shown in rows if not shown]


def _value(name: str, keep: int, to: int) -> str:
    full = (1 << operand_width(name)) - 1
    changed = full & ~keep
    return hexadecimal(to) if changed == full else f"{hexadecimal(to)} in the bits {hexadecimal(changed)}"


def _sections(tally: Tally) -> dict[str, _Row]:
    seen, rows = tally.coverage, dict[str, _Row]()
    sections = [compiled.check.section.title for compiled in tally.model.compiled]
    for number, title in enumerate(sections):
        row = rows.setdefault(title, _Row())
        row.checks += 1
        row.decided += int(tally.decided[number] > 0 or tally.readings[number].any())
    for atom, flags in zip(seen.atom_list, seen.atoms, strict=True):
        rows[sections[atom.check]].atoms += 2
        rows[sections[atom.check]].atoms_seen += int(flags.sum())
    for (check, _, _), tried in zip(seen.boundary_list, seen.boundaries, strict=True):
        rows[sections[check]].values += 1
        rows[sections[check]].values_seen += int(tried)
    return rows


def _as_json(tally: Tally) -> dict[str, Any]:
    return {
        "schema": "vmfuzz-coverage-1",
        "processor": tally.model.capabilities.name,
        "candidates": tally.candidates,
        "sections": {title: vars(row) for title, row in _sections(tally).items()},
        "pairs_of_checks": int(tally.coverage.pairs.sum() - tally.coverage.pairs.trace()) // 2,
        "small_errors": len(tally.coverage.errors),
        "never_shown": [list(row) for row in _never_shown(tally.coverage)],
        "never_decided": [list(row) for row in _never_decided(tally.coverage)],
        "never_tried": [list(row) for row in _never_tried(tally.coverage)],
    }


def _print(tally: Tally, listed: bool, directory: Path | None) -> None:
    console, seen = Output(), tally.coverage
    if not tally.candidates:
        again = f"; to go on: vmfuzz run --directory {directory} --resume" if directory is not None else ""
        console.print(f"{tally.model.capabilities.name}: 0 candidates have run, so nothing was seen{again}", markup=False, soft_wrap=True)
        return
    console.print(f"{tally.model.capabilities.name}: {counted(tally.candidates, 'candidate')}")
    table = Table(box=None, pad_edge=False)
    table.add_column("section")
    for heading in ("checks decided", "atoms", "boundary values"):
        table.add_column(heading, justify="right")
    rows = _sections(tally)
    for title, row in rows.items():
        table.add_row(SHORT_NAMES[title], *_cells(row))
    total = _Row(*(sum(getattr(row, name) for row in rows.values()) for name in _Row.__dataclass_fields__))
    table.add_row("all", *_cells(total), style="bold")
    console.print(table)
    pairs = int(seen.pairs.sum() - seen.pairs.trace()) // 2
    console.print(f"pairs of checks that a candidate violated together (in a sample): {pairs:,}")
    console.print(f"small errors in a processor that this run would have found: {int(seen.errors.sum()):,} of {len(seen.errors):,}")
    decided, tried = _never_decided(seen), _never_tried(seen)
    if listed:
        for id, atom, way in decided:
            console.print(f"never decided that {id} is {way}: {escape(atom)}", highlight=False)
        for id, error in _never_shown(seen):
            console.print(f"would not have been found in {id}: {escape(error)}", highlight=False)
        for id, name, value in tried:
            console.print(f"never tried for {id}: {name} = {value}", highlight=False)
    elif decided or tried:
        worst = Counter(id for id, _, _ in decided).most_common(5)
        console.print(
            f"atoms never seen deciding as true, or as false: {len(decided):,}, most of them in {', '.join(id for id, _ in worst)}; "
            f"boundary values never tried: {len(tried):,}"
        )
        console.print("--list names them")


def _cells(row: _Row) -> tuple[str, str, str]:
    return f"{row.decided} of {row.checks}", f"{row.atoms_seen:,} of {row.atoms:,}", f"{row.values_seen:,} of {row.values:,}"
