"""`vmfuzz minimize`: reduce findings to the smallest difference that shows them; also what `vmfuzz run` does with its findings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.markup import escape

from vmfuzz.campaign.corpus import Entry, load, save
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.minimize import Minimizer, Step, same_finding
from vmfuzz.campaign.store import Store, has_campaign
from vmfuzz.campaign.triage import Triage, entry_of, processor_of, repeats, settled
from vmfuzz.campaign.trial import Trial
from vmfuzz.cli.console import Output
from vmfuzz.cli.places import FINDINGS, cpu_of, find_entry, format_key, open_stored, place_option, resolved
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_FOUND, UsageError
from vmfuzz.execute.base import open_executor

_SHOWN = 20


@click.command()
@click.argument("id", required=False)
@place_option
@click.option("--seconds", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Time, at most.")
def minimize(id: str | None, place: Path | None, seconds: float) -> None:
    """Reduce the finding ID, or all findings of a campaign, to the smallest difference that shows the same.

    Every step runs on the executor. Exit code 0: minimized; 1: it does not show (any more), or does not repeat.
    """
    if id is not None:
        sys.exit(_one(id, place, seconds))
    directory = resolved(place)
    if not has_campaign(directory):
        raise UsageError(f"{directory} is no campaign's directory; name the entry to minimize: vmfuzz minimize ID")
    with Store(directory) as store:
        facts = store.facts
        with open_stored(facts) as executor:
            campaign = Campaign(executor, facts["seed"])
            store.attach(campaign, facts["wanted"], facts.get("jobs", 1))
            triaged = settle(campaign, seconds)
    for entry in triaged.entries.values():
        save_finding(directory / FINDINGS, entry)
    print_minimized(triaged, directory)
    sys.exit(EXIT_FOUND if triaged.unstable else EXIT_AGREEMENT)


def _one(id: str, place: Path | None, seconds: float) -> int:
    path, entry = find_entry(place, id)
    with open_executor(cpu=cpu_of(entry.main_result.processors[0])) as executor, _step_line() as on_step:
        trial = Trial(executor)
        base = trial.base(entry.case.base)
        if base is None or not trial.applies(entry.case):
            raise UsageError(f"{entry.id}: {executor.name} lacks the base {entry.case.base} or an operand")
        comparison = trial.compare(base, [entry.case.mutation])
        if not repeats(trial, entry.case):
            click.echo(f"{entry.id} does not repeat on {executor.name}")
            return EXIT_FOUND
        found = Minimizer(trial, same_finding(comparison, 0), seconds, on_step=on_step).run(entry.case)
        if not found:
            click.echo(f"{entry.id} does not show a disagreement on {executor.name} (any more)")
            return EXIT_FOUND
        best = found[0]
        minimized = entry_of(best, trial.observe(best.case), processor_of(executor, entry.seen), entry.seen, entry.verdict, entry.reason)
    if minimized.id == entry.id:
        click.echo(f"{entry.id} is minimal")
        return EXIT_AGREEMENT
    # the new entry is on disk before the old one goes
    save(path.parent, minimized, path.with_name(f"{minimized.id}.json"))
    path.unlink()
    click.echo(f"{entry.id} -> {minimized.id}")
    _print_entry(Output(), minimized)
    return EXIT_AGREEMENT


def settle(campaign: Campaign, seconds: float, quiet: bool = False) -> Triage:
    """Minimize a campaign's findings; Ctrl-C leaves the rest as it is."""
    findings = campaign.progress.findings.by_id
    if not findings or not seconds:
        return Triage(left=list(findings))
    with _step_line(quiet) as on_step:
        return settled(campaign, seconds, on_step)


@contextmanager
def _step_line(quiet: bool = False) -> Iterator[Callable[[Step], None] | None]:
    """A line on standard error that says what is being reduced, in a terminal; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return

    def show(step: Step) -> None:
        text = f"minimizing: {step.doing}; {len(step.case.mutation)} operands differ from {step.case.base}; {step.executed:,} candidates"
        sys.stderr.write(f"\r\x1b[K{text[:79]}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")


def save_finding(directory: Path, entry: Entry) -> None:
    """Write a campaign's finding; the verdict of an entry that is there already stays."""
    path = directory / f"{entry.id}.json"
    if path.exists():
        before = load(path)
        entry = entry_with_verdict(entry, before.verdict, before.reason)
    save(directory, entry, path)


def entry_with_verdict(entry: Entry, verdict: str, reason: str) -> Entry:
    """The entry with a person's verdict."""
    return Entry(entry.case, entry.kind, entry.checks, verdict, reason, entry.results, entry.neighbours, entry.minimized)


def print_minimized(triaged: Triage, directory: Path | None) -> None:
    """What became of a campaign's findings, for people."""
    console = Output()
    if triaged.entries:
        console.print(f"\nminimized to {len(triaged.entries)}:")
    for entry in list(triaged.entries.values())[:_SHOWN]:
        _print_entry(console, entry)
    if len(triaged.entries) > _SHOWN:
        console.print(f"... and {len(triaged.entries) - _SHOWN} more")
    if triaged.unstable:
        console.print(f"\nnot repeatable, so no findings: {', '.join(triaged.unstable)}")
    if triaged.left:
        console.print(f"\nnot minimized: {len(triaged.left)} (more time: --minimize-seconds)")
    if triaged.entries and directory is not None:
        console.print(f"\nlook at one: vmfuzz show {next(iter(triaged.entries))} --corpus {escape(str(directory))}")


def _print_entry(console: Output, entry: Entry) -> None:
    result = entry.main_result
    console.print(f"\n[bold]{entry.id}[/] {entry.kind}{f', {entry.seen:,} times' if entry.seen > 1 else ''}")
    console.print(f"  base {entry.case.base}; predicted {', '.join(result.predicted)}; got {result.actual}")
    if entry.checks:
        console.print(f"  checks violated: {', '.join(entry.checks[:6])}")
    for key, value in entry.case.mutation.items():
        agreeing = [format_key(key, near.value) for near in entry.neighbours if near.operand == key]
        console.print(
            f"  {key} = {format_key(key, value)}"
            + (f"; {' and '.join(agreeing[:2])} agree{'' if len(agreeing) > 1 else 's'}" if agreeing else "")
        )
