"""`vmfuzz minimize`: reduce findings to the smallest difference that shows them; also what `vmfuzz run` does with its findings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.campaign.as_data import finding_from
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.store import TRIAGE, Store
from vmfuzz.campaign.stored import has_campaign, stored_findings
from vmfuzz.cli.ci import again, is_quiet, quiet_option
from vmfuzz.cli.console import Output, Seconds
from vmfuzz.cli.places import FINDINGS, find_entry, open_stored, option_of, place_option, resolved
from vmfuzz.comparison.behind import row_in_words
from vmfuzz.comparison.case import format_key, key_in_words
from vmfuzz.comparison.errata import errata_from
from vmfuzz.comparison.processor import Processor, processor_of
from vmfuzz.comparison.signature import CRASH
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import Entry, load, load_readable, save
from vmfuzz.corpus.replay import keep_capabilities
from vmfuzz.counted import counted
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_FOUND, UsageError
from vmfuzz.execute.kinds import cpu_option, open_executor
from vmfuzz.findings.minimize import Minimizer, Step, same_finding
from vmfuzz.findings.triage import Keep, Triage, entry_of, repeats, settled
from vmfuzz.state.vmcs import Vmcs

_SHOWN = 20


@click.command()
@click.argument("id", required=False)
@place_option
@click.option("--seconds", type=Seconds(min=0.1), default=60.0, show_default=True, help="The longest time to spend.")
@click.option(
    "--executor",
    default="auto",
    show_default=True,
    help="With ID: what executes VMLAUNCH. A campaign's findings run where they were found.",
)
@quiet_option
def minimize(id: str | None, place: Path | None, seconds: float, executor: str) -> None:
    """Minimize the finding ID, or all findings of a campaign, to the smallest difference that still shows it.

    Every step runs on the executor. Exit code 0: minimized; 1: the finding no longer shows, or does not repeat.
    """
    if id is not None:
        sys.exit(_one(id, place, seconds, executor))
    directory = resolved(place)
    if not has_campaign(directory):
        raise UsageError(f"{directory} is not the directory of a campaign; name the entry to minimize: vmfuzz minimize ID")
    with Store(directory) as store:
        facts, triaged = store.facts, Triage()
        if not facts:
            raise UsageError(f"{directory}: its campaign has not begun; `vmfuzz run --directory {directory}` begins it")
        try:
            with open_stored(facts) as opened:
                campaign = Campaign(opened, facts["seed"], errata=errata_from(facts.get("errata", [])))
                store.attach(campaign, facts["wanted"], facts.get("jobs", 1))
                for data in stored_findings(directory):
                    # the jobs of a campaign that was cut short have findings that were never put together
                    campaign.progress.findings.by_id[data["id"]] = finding_from(data, campaign.generator.bases)
                settle(campaign, seconds, triaged, store, is_quiet())
        finally:
            print_minimized(triaged, directory)
    sys.exit(EXIT_FOUND if triaged.unstable or triaged.not_kept else EXIT_AGREEMENT)


def _one(id: str, place: Path | None, seconds: float, name: str) -> int:
    path, entry = find_entry(place, id)
    if entry.behind is not None:
        raise UsageError(f"{entry.id} is a sequence, which the campaign that met it made as short as it can; `vmfuzz replay` runs it again")
    first = entry.main_result.processors[0]
    option, cpu = option_of(first) if name == "auto" else (name, first.name)
    with open_executor(option, cpu=cpu_option(option, cpu)) as executor, _step_line(is_quiet()) as on_step:
        trial = Trial(executor)
        base = _base_of(trial, entry)
        comparison = trial.compare(base, [entry.case.mutation])
        if not repeats(trial, entry.case):
            click.echo(f"{entry.id} does not repeat on {executor.name}")
            return EXIT_FOUND
        found = Minimizer(trial, same_finding(comparison, 0), seconds, costly=entry.kind == CRASH, on_step=on_step).run(entry.case)
        if not found:
            click.echo(f"{entry.id} no longer shows on {executor.name}")
            return EXIT_FOUND
        best = found[0]
        if best.case.id == entry.id:
            click.echo(
                f"{entry.id} is minimal"
                if best.complete
                else f"{entry.id}: found nothing smaller in {seconds:g} s; --seconds gives it more time"
            )
            return EXIT_AGREEMENT
        seen = sum(each.seen for result in entry.results for each in result.processors if each.executor == executor.name) or 1
        minimized = entry_of(best, trial.observe(best.case), processor_of(executor, seen), seen, entry.verdict, entry.reason)
    others = {each.executor: each for result in entry.results for each in result.processors if each.executor != executor.name}
    minimized = _recorded_on(minimized, others.values())
    # the new entry is on disk before the old one goes
    save(path.parent, minimized, path.with_name(f"{minimized.id}.json"))
    path.unlink()
    click.echo(f"{entry.id} -> {minimized.id}")
    _print_entry(Output(), minimized)
    return EXIT_AGREEMENT


def _base_of(trial: Trial, entry: Entry) -> Vmcs:
    """The base of the entry's case; UsageError where the processor lacks it, or what the case changes."""
    base, name = trial.base(entry.case.base), trial.executor.name
    if fields := trial.lacking(entry.case):
        raise UsageError(f"{entry.id}: not run: {name} lacks {', '.join(fields)}; name an executor that has it with --executor")
    if base is None or not trial.applies(entry.case):
        raise UsageError(f"{entry.id}: {name} lacks the base {entry.case.base} or an operand")
    return base


def _recorded_on(entry: Entry, processors: Iterable[Processor]) -> Entry:
    """The entry with what the other processors do with its case; says which of them cannot be asked here."""
    for processor in processors:
        try:
            option, cpu = option_of(processor)
            with open_executor(option, cpu=cpu) as executor:
                trial = Trial(executor)
                if fields := trial.lacking(entry.case):
                    click.echo(f"left out: {executor.name} lacks {', '.join(fields)}", err=True)
                elif trial.applies(entry.case):
                    entry = entry.with_observation(trial.observe(entry.case), processor_of(executor, processor.seen))
        except UsageError as error:
            click.echo(f"left out: {error}", err=True)
    return entry


def settle(campaign: Campaign, seconds: float, result: Triage, store: Store | None = None, quiet: bool = False) -> None:
    """Minimize a campaign's findings into `result`; in a campaign's directory, that of `store`, each is written as soon as it is known.

    Ctrl-C leaves the rest as it is. Raises EnvironmentUnusable where one cannot be written.
    """
    findings = campaign.progress.findings.by_id
    if findings and seconds:
        keep = None if store is None else keeper(store.directory / FINDINGS, campaign.model.capabilities)
        with _step_line(quiet) as on_step:
            settled(campaign, seconds, on_step, result, keep)
        if store is not None:
            store.keep_triage(result)
    else:
        result.left = list(findings)
    if store is not None:
        _add_what_was_known(result, store)


def _add_what_was_known(result: Triage, store: Store) -> None:
    """Add to the result what was made before of findings for which there was no time now, so that all who show them count alike."""
    before, left = store.facts.get("triage", {}), set(result.left)
    for name in TRIAGE:
        now, known = getattr(result, name), before.get(name, {})
        if isinstance(now, dict):
            now.update({id: known[id] for id in known if id in left})
        else:
            now.extend(id for id in known if id in left)
    result.left = [id for id in result.left if not any(id in before.get(name, ()) for name in TRIAGE)]
    for _, entry in load_readable(sorted((store.directory / FINDINGS).glob("*.json")))[0]:
        result.entries.setdefault(entry.id, entry)


def keeper(directory: Path, capabilities: Capabilities) -> Keep:
    """Writes entries; one that is replaced goes unless a person has judged it. The store's lock makes this the only writer."""
    for left in directory.glob(".*.tmp"):
        left.unlink(missing_ok=True)  # of a process that was killed while it wrote

    def keep(entry: Entry, replaces: str | None) -> None:
        keep_capabilities(directory, capabilities)
        path = directory / f"{entry.id}.json"
        if path.exists():
            before = load(path)
            entry = replace(entry, verdict=before.verdict, reason=before.reason)
        save(directory, entry, path)
        old = directory / f"{replaces}.json"
        if replaces is not None and old.exists() and load(old).verdict == "open":
            old.unlink()

    return keep


@contextmanager
def _step_line(quiet: bool = False) -> Iterator[Callable[[Step], None] | None]:
    """A line on standard error that says what is being reduced, in a terminal; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return

    def show(step: Step) -> None:
        text = f"minimizing: {step.doing}; {counted(len(step.case.mutation), 'difference')} from {step.case.base}; {counted(step.executed, 'candidate')}"
        sys.stderr.write(f"\r\x1b[K{text[:79]}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write("\r\x1b[K")


def print_minimized(triaged: Triage, directory: Path | None, data: Mapping[str, Any] | None = None, executor: str = "auto") -> None:
    """What became of the findings of a campaign on `executor`, for people; `data`, the summary for machines, says how each can be seen again."""
    console = Output()
    if triaged.entries:
        console.print(f"\nminimized to {len(triaged.entries)}:")
    for entry in list(triaged.entries.values())[:_SHOWN]:
        _print_entry(console, entry)
        if data is not None:
            console.print(f"  again: {escape(again(data, entry.id, directory, executor))}", soft_wrap=True)
    if len(triaged.entries) > _SHOWN:
        console.print(f"... and {len(triaged.entries) - _SHOWN} more")
    if triaged.unstable:
        console.print(f"\nunstable, so not findings (a second run gave another outcome): {', '.join(triaged.unstable)}")
    for id, fields in triaged.not_kept.items():
        console.print(f"\nnot a finding: {id}: VMREAD gives {', '.join(fields)} with another value than VMWRITE wrote")
    if triaged.explained:
        console.print(f"\nno longer a mismatch (now a known deviation, or allowed): {', '.join(triaged.explained)}")
    if triaged.left:
        console.print(f"\nnot minimized: {len(triaged.left)}; more time: --minimize-seconds, or vmfuzz minimize --seconds")
    if triaged.entries and directory is not None:
        console.print(f"\nlook at one: vmfuzz show {next(iter(triaged.entries))} --corpus {escape(str(directory))}", soft_wrap=True)


def _print_entry(console: Output, entry: Entry) -> None:
    result = entry.main_result
    console.print(f"\n[bold]{entry.id}[/] {entry.kind}{f', {entry.seen:,} times' if entry.seen > 1 else ''}")
    if entry.behind is not None:
        console.print(f"  {entry.behind.words}")
    for row in entry.behind.before if entry.behind is not None else ():
        console.print(f"  before: {row_in_words(row)}")
    for warning in entry.warnings:
        console.print(f"  the kernel warned: {escape(warning)}")
    console.print(f"  base {entry.case.base}; predicted {', '.join(result.predicted)}; got {result.actual}")
    if entry.checks:
        console.print(f"  checks violated: {', '.join(entry.checks[:6])}")
    for key, value in entry.case.mutation.items():
        agreeing = [format_key(key, near.value) for near in entry.neighbours if near.operand == key]
        console.print(
            f"  {key_in_words(key)} = {format_key(key, value)}"
            + (f"; {' and '.join(agreeing[:2])} agree{'' if len(agreeing) > 1 else 's'}" if agreeing else "")
        )
