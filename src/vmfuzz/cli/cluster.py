"""`vmfuzz run --scheduler`: a campaign on a Dask cluster, with live progress and a summary for each processor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource
from rich.console import Console
from rich.live import Live
from rich.table import Table

from vmfuzz.campaign.loop import Summary
from vmfuzz.campaign.store import Store
from vmfuzz.campaign.stored import has_campaign
from vmfuzz.cli.ci import command_of, is_quiet
from vmfuzz.cli.minimize import keeper, print_minimized
from vmfuzz.cli.places import FINDINGS
from vmfuzz.cli.results import as_data, exit_code, put_out
from vmfuzz.cli.summary import print_summary
from vmfuzz.cluster.members import connect
from vmfuzz.cluster.run import ClusterRun, Part
from vmfuzz.cluster.store import ClusterStore, cluster_facts, is_cluster_directory, part_directories, write_facts
from vmfuzz.comparison.errata import errata_data, errata_from, load_errata
from vmfuzz.counted import counted
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_ENVIRONMENT, EXIT_FOUND, EXIT_NOTHING_TESTED, UsageError
from vmfuzz.findings.triage import Triage
from vmfuzz.interrupts import SIGTERM
from vmfuzz.report.source import SEVERAL

#: Seconds between two lines where there is no terminal, and between two pictures where there is one.
_LINE_EVERY: Final = 5.0


@dataclass(frozen=True)
class _Result:
    """What came of one processor; `place` is its directory."""

    part: Part
    summary: Summary
    triaged: Triage
    place: Path | None

    def to_json(self) -> dict[str, Any]:
        """The summary of one processor, as `vmfuzz run` writes it, with what is missing from it."""
        missing = [{"piece": job, "candidates": self.part.shares[job].iterations, "reason": why} for job, why in self._lost]
        shares = self.part.shares
        command = command_of(self.part.wanted, self.summary.seed, len(shares), shares[0].executor, shares[0].cpu)
        data = as_data(self.summary, self.triaged, [], command)
        return {**data, "version": self.part.processor.version, "jobs": len(self.part.shares), "missing": missing}

    @property
    def _lost(self) -> list[tuple[int, str]]:
        return sorted(self.part.lost.items())

    def keep(self) -> None:
        """Write the minimized findings into the part's directory, if it has one."""
        if self.place is None:
            return
        keep = keeper(self.place / FINDINGS, self.part.campaign.model.capabilities)
        for entry in self.triaged.entries.values():
            keep(entry, None)
        with Store(self.place) as kept:
            kept.keep_triage(self.triaged)

    def missing(self) -> list[str]:
        """A sentence for each piece that is missing."""
        pieces, name = self.part.shares, self.part.processor.name
        return [
            f"piece {job + 1} of {len(pieces)} on {name} ({pieces[job].iterations:,} candidates) did not finish: {why}"
            for job, why in self._lost
        ]


def run_on_cluster(context: click.Context) -> int:
    """Run the campaign that the options of `vmfuzz run` describe on the cluster of --scheduler; returns the exit code."""
    options = _options(context)
    directory: Path | None = options["directory"]
    with connect(options["scheduler"]) as client, ExitStack() as stack:
        cluster = ClusterRun(client, options["executor"], options["cpu"])
        store = ClusterStore(directory, cluster, stack) if directory is not None else None
        _divide(cluster, store, options)
        with _display(cluster, quiet=options["as_json"] or is_quiet()) as on_progress:
            cluster.run(on_progress)
        summaries = [part.merged(stopped=cluster.stopping and bool(part.waiting)) for part in cluster.parts]
        for summary in summaries:
            summary.stopped_by = cluster.stopped_by
        if store is not None:
            for part in cluster.parts:
                store.ends(part)
        triages = _minimized(cluster, options)
        places = [None if store is None else store.places[part.processor.key] for part in cluster.parts]
    results = [_Result(*each) for each in zip(cluster.parts, summaries, triages, places, strict=True)]
    for result in results:
        result.keep()
    _put_out(results, cluster.notes, options["as_json"], options["summary_file"])
    return _exit_code(results)


def _divide(cluster: ClusterRun, store: ClusterStore | None, options: Mapping[str, Any]) -> None:
    """Give each processor its pieces, and keep in the directory what a resumed campaign has to know."""
    for key in cluster.processors:
        pieces = options["jobs"] or (store.pieces(key) if store is not None else None)
        part = cluster.add(key, options["seed"], options["iterations"], pieces, options["errata"])
        if store is not None:
            store.attach(part)
    if store is None:
        return
    for place in part_directories(store.directory):
        if place not in store.places.values():
            cluster.notes.append(f"{place}: no worker has this processor now, so its campaign stays as it was")
    facts = {name: options[name] for name in ("iterations", "seed", "jobs", "executor", "cpu")}
    write_facts(store.directory, {**facts, "errata": errata_data(options["errata"])})


def _minimized(cluster: ClusterRun, options: Mapping[str, Any]) -> list[Triage]:
    """What became of the findings of each part, minimized on the workers for as long as the options say."""
    found = sum(len(part.campaign.progress.findings.by_id) for part in cluster.parts)
    if found and options["minimize_seconds"] and not options["as_json"] and not is_quiet():
        click.echo(f"minimizing {counted(found, 'finding')} on the workers, for {options['minimize_seconds']:g} s at most", err=True)
    return cluster.minimize(0.0 if cluster.stopped_by == SIGTERM else options["minimize_seconds"])


def _refuse_meaningless(options: Mapping[str, Any]) -> None:
    """Raise UsageError where options were given that mean nothing on a cluster."""
    if options["risk"] != "safe" or options["poison"]:
        asked = "--poison" if options["poison"] else f"--risk {options['risk']}"
        raise UsageError(f"{asked} with --scheduler: the risk to a machine is decided on that machine; run vmfuzz there")
    if options["yes"]:
        raise UsageError("--yes with --scheduler: a cluster asks no questions; leave it out")
    if options["bisect_lost"]:
        raise UsageError(
            "--bisect-lost with --scheduler: a batch that took a machine down is narrowed down on that machine; run vmfuzz there"
        )
    if options["resume"] and options["directory"] is None:
        raise UsageError("--resume needs --directory DIR, the directory of the campaign to go on with")


def _options(context: click.Context) -> dict[str, Any]:
    """The options, those of a resumed campaign as they were unless given now; raises UsageError where they mean nothing on a cluster."""
    options = dict(context.params)
    given = {name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    _refuse_meaningless(options)
    if "jobs" not in given:
        options["jobs"] = None
    options["errata"] = load_errata(options["errata"])
    directory = options["directory"]
    if options["resume"]:
        facts = cluster_facts(directory)
        facts["errata"] = errata_from(facts["errata"])
        options.update({name: value for name, value in facts.items() if name in options and name not in given})
    elif directory is not None and is_cluster_directory(directory):
        raise UsageError(f"{directory}: there is a campaign already; add --resume to go on with it, or use another directory")
    if directory is not None and has_campaign(directory):
        raise UsageError(f"{directory}: there is a campaign without --scheduler; use another directory")
    return options


def _put_out(results: list[_Result], notes: list[str], as_json: bool, summary_file: Path | None) -> None:
    put_out({"schema": SEVERAL, "summaries": [result.to_json() for result in results], "notes": notes}, as_json, summary_file)
    if not as_json:
        for number, result in enumerate(results):
            if number:
                click.echo()
            print_summary(result.summary, result.to_json())
            print_minimized(result.triaged, result.place, result.to_json(), result.part.processor.option)
    for text in [*notes, *(text for result in results for text in result.missing())]:
        click.echo(f"vmfuzz: {text}", err=True)


def _exit_code(results: list[_Result]) -> int:
    codes = {exit_code(result.summary) for result in results}
    if EXIT_FOUND in codes:
        return EXIT_FOUND
    if any(result.part.lost for result in results):
        return EXIT_ENVIRONMENT
    return EXIT_AGREEMENT if EXIT_AGREEMENT in codes else EXIT_NOTHING_TESTED


# Progress


@contextmanager
def _display(cluster: ClusterRun, quiet: bool) -> Iterator[Callable[[Sequence[Part]], None] | None]:
    """A function to call now and then; shows what runs where on standard error: a table in a terminal, lines elsewhere."""
    console = Console(stderr=True)
    if quiet:
        yield None
    elif console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield lambda parts: live.update(_table(parts))
    else:
        for part in cluster.parts:
            pieces = len(part.shares)
            console.print(
                f"running {part.wanted:,} candidates on {part.processor.name} in {counted(pieces, 'piece')}, workers: {len(part.workers)}",
                highlight=False,
                soft_wrap=True,
            )
        yield _lines(console)


def _lines(console: Console) -> Callable[[Sequence[Part]], None]:
    last = time.monotonic()

    def show(parts: Sequence[Part]) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY:
            last = time.monotonic()
            for part in parts:
                console.print("  ".join(_cells(part)), highlight=False, soft_wrap=True)

    return show


def _table(parts: Sequence[Part]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("processor", "candidates", "/s", "decided", "found", "pieces", "workers"):
        table.add_column(heading, justify="left" if heading == "processor" else "right", no_wrap=True)
    for part in parts:
        table.add_row(*(text.split(": ")[-1] for text in _cells(part)))
    return table


def _cells(part: Part) -> tuple[str, ...]:
    progress = part.merged().progress
    decided = int((progress.tally.decided > 0).sum())
    return (
        part.processor.name,
        f"candidates: {progress.tally.candidates:,}",
        f"per second: {progress.rate:,.0f}",
        f"checks decided: {decided}/{len(progress.tally.decided)}",
        f"findings: {len(progress.findings.by_id)}",
        f"pieces: {len(part.results)}/{len(part.shares)}",
        f"workers: {len(part.workers)}",
    )
