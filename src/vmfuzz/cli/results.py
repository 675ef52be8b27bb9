"""What a campaign came to: its summary as data, put out for machines, and the exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from vmfuzz.campaign.loop import Summary
from vmfuzz.campaign.lost import LostBatch
from vmfuzz.cli.ci import put_out_for_ci
from vmfuzz.corpus.entries import to_json
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_FOUND, EXIT_NOTHING_TESTED, VmfuzzError
from vmfuzz.files import write_text
from vmfuzz.findings.triage import Triage
from vmfuzz.report.source import SCHEMA


def failure_of(step: Callable[[], None]) -> VmfuzzError | None:
    """The error of a step, or None; it is raised at the end, since what ran has to be told first."""
    try:
        step()
    except VmfuzzError as error:
        return error
    return None


def put_out(data: dict[str, Any], as_json: bool, summary_file: Path | None, directory: Path | None = None) -> None:
    """Give a summary to machines where that is wanted; raises UsageError where the file cannot be written, when the rest is done."""
    failure = None if summary_file is None else failure_of(lambda: write_text(summary_file, json.dumps(data, indent=1) + "\n"))
    if as_json:
        json.dump(data, sys.stdout, indent=1)
        click.echo()
    if data.get("schema") == SCHEMA:
        put_out_for_ci(data, directory)
    if failure is not None:
        raise failure


def as_data(summary: Summary, triaged: Triage, lost: list[LostBatch], command: str) -> dict[str, Any]:
    """The summary for machines, with what became of the findings, and the command that runs the candidates again."""
    return {
        **summary.to_json(),
        "command": command,
        "lost": [batch.to_json() for batch in lost],
        "minimized": [to_json(entry) for entry in triaged.entries.values()],
        "counted": triaged.counted,
        "unstable": triaged.unstable,
        "depends_on_what_ran_before": triaged.depends,
        "explained": triaged.explained,
        "not_kept": triaged.not_kept,
        "not_minimized": triaged.left,
    }


def exit_code(summary: Summary) -> int:
    """The exit code that says how a campaign came out."""
    if summary.progress.findings.by_id or summary.progress.warned:
        return EXIT_FOUND
    return EXIT_AGREEMENT if summary.progress.tally.executed else EXIT_NOTHING_TESTED
