"""`vmfuzz replay`: predict and run every entry of a corpus again, and fail where something is not as recorded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import click
from rich.console import Console
from rich.markup import escape

from vmfuzz.cli.ci import ci_options, is_quiet, put_out_found
from vmfuzz.cli.console import Output
from vmfuzz.cli.line import line_options, options_of_line
from vmfuzz.cli.places import entries_place, errata_option, find_entry, readable_entries, resolved
from vmfuzz.cli.risk import risk_options
from vmfuzz.comparison.errata import load_errata
from vmfuzz.corpus.replay import PREDICT_ONLY, Report
from vmfuzz.corpus.replay import replay as replay_entries
from vmfuzz.counted import counted
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_FOUND, EXIT_NOTHING_TESTED, UnknownNameError
from vmfuzz.execute.kinds import all_names, kind_named
from vmfuzz.report.ci import Found


@click.command()
@click.argument("place", required=False, type=click.Path(path_type=Path))
@click.option("--corpus", type=click.Path(path_type=Path), help="Where to look up the id PLACE, as for `vmfuzz show`.")
@click.option(
    "--executor",
    default="auto",
    show_default=True,
    help=f"What executes: {', '.join(all_names())}, or {PREDICT_ONLY} (predict only).",
)
@click.option(
    "--risk",
    type=click.Choice(["safe", "bold"]),
    default="safe",
    show_default=True,
    help="For kvm, kmod, remote and serial, as for `vmfuzz run`.",
)
@click.option("--yes", is_flag=True, help="Answer yes to the question of --risk bold.")
@line_options
@errata_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on standard output.")
@ci_options
def replay(
    place: Path | None,
    corpus: Path | None,
    executor: str,
    risk: str,
    yes: bool,
    reset: str | None,
    answer_seconds: float | None,
    virtual: bool | None,
    errata: Path | None,
    as_json: bool,
) -> None:
    """Predict and run every entry of PLACE again: a corpus, a campaign's directory, a file, or the beginning of an entry's id.

    The default is ./corpus, or else the corpus that comes with vmfuzz. Records of processors that no executor here has are only predicted, and
    counted as such. Cases that set a field which the executor lacks do not run; they are counted too. A sequence runs in order in one new
    machine. A file that is not an entry does not stop the others. A mismatch that --errata now explains counts as recorded. Exit code 0:
    everything is as recorded; 1: something changed; 2: bad input; 5: nothing was executed, although --executor was not none.
    """
    if executor != PREDICT_ONLY and kind_named(executor) is None:
        raise UnknownNameError("executor", executor, (*all_names(), PREDICT_ONLY))
    if place is not None and not place.exists() and len(place.parts) == 1:
        place = find_entry(corpus, str(place), to_read=True)[0]
    place = entries_place(resolved(place or corpus, to_read=True))
    options = risk_options(executor, risk, yes, 1) | options_of_line(executor, risk, reset, answer_seconds, virtual)
    entries, unreadable = readable_entries(place)
    with _progress(quiet=as_json or is_quiet()) as on_processor:
        report = replay_entries(entries, executor, place, on_processor, options, load_errata(errata))
    if as_json:
        json.dump({**_as_data(report), "unreadable": list(unreadable.values())}, sys.stdout, indent=1)
        click.echo()
    else:
        _print(report)
    put_out_found(_junit(report, unreadable), list(_found(report, unreadable)), {"executor": executor})
    nothing = not report.executed and executor != PREDICT_ONLY
    sys.exit(EXIT_FOUND if report.changed else EXIT_NOTHING_TESTED if nothing else EXIT_AGREEMENT)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], None] | None]:
    """A callback that says on which processor entries run, on one line of a terminal's standard error; nothing elsewhere."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    with console.status("predicting") as status:
        yield lambda name: status.update(f"the records of {escape(name)}")


def _found(report: Report, unreadable: Mapping[Path, str]) -> Iterator[Found]:
    """What is not as recorded and what is no entry, for machines that build."""
    for replayed in report.changed:
        entry = replayed.entry
        text = "\n".join(map(str, replayed.changes))
        yield Found(f"vmfuzz entry {entry.id}", entry.id, entry.checks, entry.kind, text, str(replayed.path))
    for path, reason in unreadable.items():
        yield Found(f"not a vmfuzz entry: {path.stem}", path.stem, (), "not an entry", reason, str(path))


def _print(report: Report) -> None:
    console = Output()
    for replayed in report.changed:
        console.print(f"[bold red]changed[/] {escape(str(replayed.path))}", soft_wrap=True)
        for change in replayed.changes:
            console.print(f"  {escape(str(change))}", soft_wrap=True)
    rate = (report.executed + report.predicted_only) / report.seconds if report.seconds else 0.0
    console.print(
        f"{counted(len(report.entries), 'entry')}: {counted(report.executed, 'record')} executed, {report.predicted_only:,} predicted only, "
        f"in {report.seconds:.1f} s ({rate:,.0f}/s)"
    )
    for sentence, count in report.lacking.most_common():
        console.print(f"{counted(count, 'record')} not run: {escape(sentence)}", soft_wrap=True)
    if report.changed:
        console.print(f"{counted(len(report.changed), 'entry')} changed")
    elif report.executed:
        console.print("all as recorded")
    elif report.predicted_only:
        console.print("all predictions are as recorded; nothing was executed here")
    else:
        console.print("nothing was predicted or executed")


def _as_data(report: Report) -> dict[str, object]:
    return {
        "schema": "vmfuzz-replay-1",
        "entries": len(report.entries),
        "executed": report.executed,
        "predicted_only": report.predicted_only,
        "not_run": dict(report.lacking),
        "seconds": round(report.seconds, 3),
        "changed": [
            {"id": replayed.entry.id, "path": str(replayed.path), "changes": [vars(change) for change in replayed.changes]}
            for replayed in report.changed
        ],
    }


def _junit(report: Report, unreadable: Mapping[Path, str]) -> ElementTree.Element:
    suite = ElementTree.Element(
        "testsuite",
        name="vmfuzz replay",
        tests=str(len(report.entries) + len(unreadable)),
        failures=str(len(report.changed)),
        errors=str(len(unreadable)),
        time=f"{report.seconds:.3f}",
    )
    for replayed in report.entries:
        case = ElementTree.SubElement(suite, "testcase", classname=replayed.path.parent.name, name=replayed.entry.id)
        if replayed.changes:
            failure = ElementTree.SubElement(case, "failure", message=str(replayed.changes[0]))
            failure.text = "\n".join(str(change) for change in replayed.changes)
        elif not replayed.executed:
            message = (
                f"not run: {replayed.lacking[0]}"
                if replayed.lacking
                else "predicted only: no executor here is a processor that was recorded"
            )
            ElementTree.SubElement(case, "skipped", message=message)
    for path, reason in unreadable.items():
        case = ElementTree.SubElement(suite, "testcase", classname=path.parent.name, name=path.stem)
        ElementTree.SubElement(case, "error", message=reason)
    return suite
