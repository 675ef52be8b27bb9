"""`vmfuzz run`: a campaign, with live progress and a summary."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import click
from click.core import ParameterSource

from vmfuzz.campaign.corpus import to_json
from vmfuzz.campaign.loop import Campaign, Summary
from vmfuzz.campaign.store import Store, has_campaign
from vmfuzz.cli.minimize import print_minimized, save_finding, settle
from vmfuzz.cli.places import FINDINGS
from vmfuzz.cli.progress import progress_display
from vmfuzz.cli.summary import print_summary
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_FOUND, EXIT_NOTHING_TESTED, UsageError
from vmfuzz.execute.base import EXECUTORS, open_executor


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
@click.option("--executor", default="auto", show_default=True, help=f"What executes VMLAUNCH: {', '.join(EXECUTORS)}.")
@click.option("--cpu", help="CPU model of the emulated executor (`vmfuzz caps --list`). [default: corei7_skylake_x]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same candidates.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@click.option("--summary", "summary_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write the JSON summary here.")
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="Keep the campaign's state and its findings here.")
@click.option("--resume", is_flag=True, help="Go on with the campaign in --directory.")
@click.option(
    "--minimize-seconds",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Time for reducing findings after the run, at most; 0 leaves them as they are.",
)
@click.pass_context
def run(
    context: click.Context,
    iterations: int,
    executor: str,
    cpu: str | None,
    seed: int,
    as_json: bool,
    summary_file: Path | None,
    directory: Path | None,
    resume: bool,
    minimize_seconds: float,
) -> None:
    """Fuzz: mutate known-good VMCSs, run them, compare with the model.

    Ctrl-C ends the campaign with the summary of what has run. Findings are run again and minimized. With --directory everything is on disk
    after each batch, and --resume goes on after an interruption of any kind. Exit code 0: processor and model agree on every candidate (known
    deviations of an emulator apart); 1: there are findings; 5: nothing was tested.
    """
    with _store(directory, resume) as store:
        if store is not None and store.facts:
            facts = store.facts
            given = {name for name in ("iterations", "cpu", "seed") if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
            iterations = iterations if "iterations" in given else facts["wanted"]
            cpu, seed = cpu if "cpu" in given else facts["cpu"], seed if "seed" in given else facts["seed"]
        with open_executor(executor, cpu=cpu) as opened:
            campaign = Campaign(opened, seed)
            with progress_display(opened.name, iterations, quiet=as_json) as on_progress:
                summary = campaign.run(iterations, on_progress, store)
            triaged = settle(campaign, minimize_seconds, quiet=as_json)
        if directory is not None:
            for entry in triaged.entries.values():
                save_finding(directory / FINDINGS, entry)
    data = {**summary.to_json(), "minimized": [to_json(entry) for entry in triaged.entries.values()], "unstable": triaged.unstable}
    if summary_file is not None:
        _write(summary_file, data)
    if as_json:
        json.dump(data, sys.stdout, indent=1)
        click.echo()
    else:
        print_summary(summary)
        print_minimized(triaged, directory)
    sys.exit(_exit_code(summary))


@contextmanager
def _store(directory: Path | None, resume: bool) -> Iterator[Store | None]:
    """The store of the directory, if one is named; raises UsageError where --resume and what is there do not fit."""
    if directory is None:
        if resume:
            raise UsageError("--resume needs --directory DIR, the directory of the campaign to go on with")
        yield None
        return
    if resume and not has_campaign(directory):
        raise UsageError(f"{directory}: there is no campaign to go on with; leave out --resume to start one")
    with Store(directory) as store:
        if store.facts and not resume:
            raise UsageError(f"{directory}: there is a campaign already; add --resume to go on with it, or use another directory")
        yield store


def _write(path: Path, data: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write the summary to {path}: {error.strerror}") from None


def _exit_code(summary: Summary) -> int:
    if summary.progress.findings.by_id:
        return EXIT_FOUND
    return EXIT_AGREEMENT if summary.progress.tally.executed else EXIT_NOTHING_TESTED
