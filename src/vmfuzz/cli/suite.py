"""`vmfuzz suite`: for each atom of each check a pair of cases, as a corpus."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from vmfuzz.cli.ci import is_quiet, quiet_option
from vmfuzz.cli.console import Output
from vmfuzz.cli.places import executor_options
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import Entry, save
from vmfuzz.counted import counted
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_FOUND, UnknownNameError
from vmfuzz.execute.kinds import open_executor
from vmfuzz.files import require_writable, write_text
from vmfuzz.findings.suite import NOT_FOUND, PAIR, UNREACHABLE, Pair, Suite, entries_of
from vmfuzz.model.checks import BY_ID


@click.command()
@click.argument("checks", nargs=-1)
@executor_options
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help="Write the cases here as a corpus, with an index.")
@click.option("--json", "as_json", is_flag=True, help="Print the index as JSON on standard output.")
@quiet_option
def suite(checks: tuple[str, ...], executor: str, cpu: str | None, output: Path | None, as_json: bool) -> None:
    """Make the complete suite: two cases for every atom of every check.

    An atom is a comparison or a bit in a check's condition. Its two cases differ in one field; in one the check is violated because of the atom,
    in the other it is satisfied because of it, and the outcomes differ (MC/DC). A solver (pip install 'vmfuzz[solver]') finds the cases, and
    the executor runs them. If an atom has no cases, the solver proves it. CHECKS limits the suite to these checks. To run it again later:
    vmfuzz replay DIRECTORY. Exit code 0: done; 1: processor and model disagree on a case.
    """
    for id in checks:
        if id not in BY_ID:
            raise UnknownNameError("check", id, BY_ID)
    index_file = None if output is None else output.with_name(f"{output.name}-index.json")
    if index_file is not None:
        require_writable(index_file)
    with open_executor(executor, cpu=cpu) as opened:
        name = opened.name
        pairs, entries = _made(Trial(opened), checks, quiet=as_json or is_quiet())
    index = {"schema": "vmfuzz-suite-1", "executor": name, "atoms": [pair.to_json() for pair in pairs]}
    if output is not None and index_file is not None:
        for entry in entries:
            save(output, entry)
        write_text(index_file, json.dumps(index, indent=1) + "\n")
    disagreements = [entry for entry in entries if entry.verdict == "open"]
    if as_json:
        click.echo(json.dumps(index, indent=1))
    else:
        _print(name, pairs, entries, output)
        for entry in disagreements:
            Output().print(f"disagreement: {entry.id} {entry.kind}: {entry.reason}")
    raise SystemExit(EXIT_FOUND if disagreements else EXIT_AGREEMENT)


def _made(trial: Trial, checks: Sequence[str], quiet: bool) -> tuple[list[Pair], list[Entry]]:
    """The pairs of cases of all atoms of these checks, and their entries."""
    maker = Suite(trial)
    columns = ("[progress.description]{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        pairs = [maker.pair(atom) for atom in progress.track(maker.atoms(checks), description="atoms")]
        return pairs, list(entries_of(trial, pairs).values())


def _print(name: str, pairs: list[Pair], entries: list[Entry], output: Path | None) -> None:
    console = Output()
    console.print(f"{counted(len(pairs), 'atom')} of the checks that exist on {name}")
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    table.add_column()
    for status, count in Counter(pair.status for pair in pairs).most_common():
        table.add_row(f"{count:,}", "pair of cases that differ in one field" if status == PAIR else status)
    console.print(table)
    comparisons = Counter(entry.main_result.comparison.partition(":")[0] for entry in entries)
    console.print("cases: " + ", ".join(f"{count:,} {words}" for words, count in comparisons.most_common()))
    unfound = [pair for pair in pairs if pair.status.startswith(NOT_FOUND)]
    for pair in unfound:
        console.print(f"not found: {pair.check}: {pair.atom}", markup=False)
    if output is not None:
        console.print(
            f"written to {output}; {output.name}-index.json beside it names what is {UNREACHABLE}. Run it with: vmfuzz replay {output}"
        )
