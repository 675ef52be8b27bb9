"""`vmfuzz run`: a campaign, with live progress and a summary."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import ClassVar

import click

from vmfuzz.campaign.loop import Campaign, Summary
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
def run(iterations: int, executor: str, cpu: str | None, seed: int, as_json: bool, summary_file: Path | None) -> None:
    """Fuzz: mutate known-good VMCSs, run them, compare with the model.

    Ctrl-C ends the campaign with the summary of what has run. Exit code 0: processor and model agree on every candidate (known deviations of an
    emulator apart); 1: there are findings; 5: nothing was tested.
    """
    with open_executor(executor, cpu=cpu) as opened:
        campaign = Campaign(opened, seed)
        with progress_display(opened.name, iterations, quiet=as_json) as on_progress:
            summary = campaign.run(iterations, on_progress)
    if summary_file is not None:
        _write(summary_file, summary)
    if as_json:
        json.dump(summary.to_json(), sys.stdout, indent=1)
        click.echo()
    else:
        print_summary(summary)
    sys.exit(_exit_code(summary))


def _write(path: Path, summary: Summary) -> None:
    try:
        path.write_text(json.dumps(summary.to_json(), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write the summary to {path}: {error.strerror}") from None


def _exit_code(summary: Summary) -> int:
    if summary.progress.findings.by_id:
        return EXIT_FOUND
    return EXIT_AGREEMENT if summary.progress.tally.executed else EXIT_NOTHING_TESTED
