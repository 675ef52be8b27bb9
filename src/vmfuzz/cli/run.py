"""`vmfuzz run`: a campaign, with live progress and a summary."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import click
from click.core import ParameterSource

from vmfuzz.campaign.bisect import bisect_lost as narrow
from vmfuzz.campaign.jobs import Share, run_jobs, shares_of
from vmfuzz.campaign.loop import Campaign, Progress, Summary
from vmfuzz.campaign.lost import LostBatch
from vmfuzz.campaign.store import Store
from vmfuzz.campaign.stored import has_campaign, stored_candidates, stored_lost
from vmfuzz.cli.ci import ci_options, command_of, is_quiet
from vmfuzz.cli.console import Seconds
from vmfuzz.cli.findings import print_lost
from vmfuzz.cli.line import line_options, options_of_line
from vmfuzz.cli.minimize import print_minimized, settle
from vmfuzz.cli.places import FINDINGS, errata_option, executor_options
from vmfuzz.cli.progress import progress_display, say_start
from vmfuzz.cli.results import as_data, exit_code, failure_of, put_out
from vmfuzz.cli.risk import risk_options, telling
from vmfuzz.cli.summary import print_summary
from vmfuzz.cluster.store import is_cluster_directory
from vmfuzz.comparison.errata import Erratum, errata_from, load_errata
from vmfuzz.counted import counted
from vmfuzz.errors import EXIT_FOUND, UsageError, VmfuzzError
from vmfuzz.execute.base import Executor
from vmfuzz.execute.kinds import cpu_option, open_executor
from vmfuzz.files import require_writable
from vmfuzz.findings.triage import Triage
from vmfuzz.interrupts import SIGTERM


class Count(click.ParamType[int]):
    """A number of candidates: 1000000, 1_000_000, 1e6, 20M."""

    name = "number"
    _SUFFIXES: ClassVar = {"k": 10**3, "m": 10**6, "g": 10**9}

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; fails with what was expected."""
        text = str(value).strip().lower().replace("_", "")
        factor = self._SUFFIXES.get(text[-1:], 1)
        try:
            number = float(text[:-1] if factor != 1 else text) * factor
        except ValueError:
            number = 0
        if not math.isfinite(number) or number < 1 or number != int(number):
            self.fail(f"{value!r}: expected a whole number of candidates from 1 on, such as 1000000, 1e6 or 20M", param, ctx)
        return int(number)


@click.command()
@click.option("-n", "--iterations", type=Count(), default="1M", show_default=True, help="How many candidates to run.")
@executor_options
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="How many processes to use; each has a seed of its own.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Run on the Dask cluster of this scheduler (docs/cluster.md). -n then applies to each processor in it, and --jobs is the number "
    "of pieces for each [default: its workers]. Only times and the amount of minimizing depend on the workers. --directory then keeps whole pieces.",
)
@click.option(
    "--risk",
    type=click.Choice(["safe", "bold"]),
    default="safe",
    show_default=True,
    help="For kmod, remote and serial: how much risk to take (docs/bare-metal.md). bold asks you first.",
)
@click.option(
    "--poison",
    is_flag=True,
    help="For kmod, remote and serial: run some of the refused candidates with bit 1 of guest RFLAGS clear (docs/bare-metal.md). Asks you first.",
)
@click.option(
    "--yes", is_flag=True, help="Answer yes to the question of --risk bold or --poison, or of KVM if a warning would stop the kernel."
)
@line_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same candidates.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@click.option("--summary", "summary_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the JSON summary here.")
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="Keep the campaign's state and its findings here.")
@click.option("--resume", is_flag=True, help="Continue the campaign in --directory.")
@click.option(
    "--bisect-lost",
    is_flag=True,
    help="With --resume: first narrow down the batches that took the machine down. It may go down again.",
)
@click.option(
    "--minimize-seconds",
    type=Seconds(min=0),
    default=60.0,
    show_default=True,
    help="The longest time to spend on minimizing findings after the run; 0 leaves them as they are.",
)
@errata_option
@ci_options
def run(
    iterations: int,
    executor: str,
    cpu: str | None,
    jobs: int,
    scheduler: str | None,
    risk: str,
    poison: bool,
    yes: bool,
    seed: int,
    as_json: bool,
    summary_file: Path | None,
    directory: Path | None,
    resume: bool,
    bisect_lost: bool,
    minimize_seconds: float,
    errata: Path | None,
    **line: Any,
) -> None:
    """Fuzz: mutate known-good VMCSs, run them, compare with the model.

    Ctrl-C ends the campaign with a summary of what has run. Findings are run again and minimized. With --directory, everything is on disk
    after each batch, and --resume continues after any interruption. The same seed and number of jobs give the same candidates, in processes
    here and on a cluster, whichever worker runs them. Exit code 0: processor and model agree on every candidate, except for known deviations
    of an emulator; 1: there are findings; 5: nothing was tested.
    """
    if scheduler is not None:
        from vmfuzz.cli.cluster import run_on_cluster  # it needs what is here

        sys.exit(run_on_cluster(click.get_current_context()))
    options = {} if resume else risk_options(executor, risk, yes, jobs, poison)
    quiet = as_json or is_quiet()
    if summary_file is not None:
        require_writable(summary_file)
    with _store(directory, resume, bisect_lost) as store:
        if resume and store is not None:
            iterations, executor, cpu, seed, jobs = _as_stored(click.get_current_context(), store.facts)
            options = risk_options(executor, risk, yes, jobs, poison)
        with open_executor(executor, cpu=cpu, **options, **options_of_line(executor, risk, **line)) as opened, telling(executor, opened):
            campaign = _begun(opened, iterations, seed, _known(errata, store), quiet=resume or quiet)
            if store is not None:
                quiet = _begin_store(store, campaign, executor, iterations, jobs) or quiet
            if bisect_lost:
                _bisect(campaign, store, jobs)
            with progress_display(opened.name, iterations, quiet) as on_progress:
                shares = shares_of(executor, cpu, seed, iterations, jobs, directory, campaign.errata) if jobs > 1 else []
                summary, failure = _ran(campaign, lambda: _go(campaign, iterations, shares, on_progress, store))
            triaged = Triage()
            if failure is None:
                failure = failure_of(lambda: settle(campaign, _time_left(summary, minimize_seconds), triaged, store, quiet))
    lost = stored_lost(directory) if directory is not None else []
    data = as_data(summary, triaged, lost, command_of(iterations, seed, jobs, executor, cpu, risk, poison, line["virtual"]))
    failure = failure_of(lambda: put_out(data, as_json, summary_file, directory)) or failure
    if not as_json:
        print_summary(summary, data)
        print_minimized(triaged, directory, data, executor)
        print_lost(lost, directory)
    raise failure or SystemExit(EXIT_FOUND if lost else exit_code(summary))


def _known(errata: Path | None, store: Store | None) -> tuple[Erratum, ...]:
    """The errata of the file, else those of the campaign that goes on."""
    if errata is not None:
        return load_errata(errata)
    return errata_from(store.facts.get("errata", [])) if store is not None else ()


def _begun(opened: Executor, iterations: int, seed: int, known: tuple[Erratum, ...], quiet: bool) -> Campaign:
    """The campaign, whose preparation takes a while; a resumed one may be refused, so that nothing is said of it before."""
    say_start(opened.name, iterations, seed, quiet)
    return Campaign(opened, seed, errata=known)


def _begin_store(store: Store, campaign: Campaign, option: str, iterations: int, jobs: int) -> bool:
    """Keep what the campaign is: what the store refuses is refused before anything is said to run. Whether nothing is left to run, which it says."""
    store.option = option
    store.begin(campaign, iterations, jobs)
    done = stored_candidates(store.directory)
    if done >= iterations:
        ran = f"the campaign has already run {counted(done, 'candidate')}, and --iterations asks for {iterations:,}"
        click.echo(f"nothing is left to run: {ran}; for more, raise --iterations", err=True)
    return done >= iterations


def _go(campaign: Campaign, iterations: int, shares: list[Share], on_progress: Callable[[Progress], None], store: Store | None) -> Summary:
    """Run the campaign, in this process or its shares in one each."""
    return run_jobs(campaign, shares, on_progress, store) if shares else campaign.run(iterations, on_progress, store)


def _ran(campaign: Campaign, step: Callable[[], Summary]) -> tuple[Summary, VmfuzzError | None]:
    """What a campaign gives, also where an error ended it: what ran has to be told. Raises the error where nothing ran."""
    try:
        return step(), None
    except VmfuzzError as error:
        if not campaign.progress.tally.candidates:
            raise
        return campaign.summary(stopped=True, error=str(error)), error


def _time_left(summary: Summary, minimize_seconds: float) -> float:
    """Seconds to minimize in: none after SIGTERM, since whoever sends it does not wait for long, and kills then."""
    return 0.0 if summary.stopped_by == SIGTERM else minimize_seconds


def _as_stored(context: click.Context, facts: dict[str, Any]) -> tuple[int, str, str | None, int, int]:
    """(iterations, executor, cpu, seed, jobs) of a resumed campaign: as they were, unless given now."""

    def option(name: str, before: Any) -> Any:
        given = not facts or context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        return context.params[name] if given else before

    executor = option("executor", facts.get("option", "auto"))
    cpu = option("cpu", facts and cpu_option(executor, facts["cpu"]))
    return option("iterations", facts.get("wanted")), executor, cpu, option("seed", facts.get("seed")), option("jobs", facts.get("jobs", 1))


def _bisect(campaign: Campaign, store: Store | None, jobs: int) -> None:
    """Narrow lost batches down, saying so."""
    assert store is not None, "--bisect-lost is refused without --resume, and that without a directory"
    if jobs > 1:
        raise UsageError(f"--bisect-lost with --jobs {jobs}: a processor runs one job at a time; leave out --jobs")

    def say(batch: LostBatch) -> None:
        first, last = batch.trying or (batch.first, batch.last)
        click.echo(f"lost batch {batch.id}: {batch.suspects:,} suspects; running {last - first:,} of them", err=True)

    narrow(campaign, store, say)


@contextmanager
def _store(directory: Path | None, resume: bool, bisect_lost: bool) -> Iterator[Store | None]:
    """The store of the directory, if one is named; raises UsageError where --resume or --bisect-lost and what is there do not fit."""
    if bisect_lost and not resume:
        raise UsageError("--bisect-lost needs --resume: it narrows down what a campaign lost before")
    if directory is None:
        if resume:
            raise UsageError("--resume needs --directory DIR, the directory of the campaign to go on with")
        yield None
        return
    if is_cluster_directory(directory):
        raise UsageError(f"{directory}: its campaign runs on a cluster; add --scheduler ADDRESS, or use another directory")
    if resume and not has_campaign(directory):
        raise UsageError(f"{directory}: there is no campaign to go on with; leave out --resume to start one")
    with Store(directory) as store:
        if resume and not store.facts:
            raise UsageError(f"{directory}: its campaign has not begun, so there is nothing to go on with; leave out --resume to begin it")
        if store.facts and not resume:
            raise UsageError(f"{directory}: there is a campaign already; add --resume to go on with it, or use another directory")
        require_writable(directory / FINDINGS / "*.json")
        yield store
