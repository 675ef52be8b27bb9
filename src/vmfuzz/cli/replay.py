"""`vmfuzz replay`: predict and run every entry of a corpus again, and fail where something is not as recorded."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import click
from rich.markup import escape

from vmfuzz.cli.console import Output
from vmfuzz.cli.places import entries_place, find_entry, readable_entries, resolved
from vmfuzz.corpus.replay import PREDICT_ONLY, Report
from vmfuzz.corpus.replay import replay as replay_entries
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_FOUND, UnknownNameError
from vmfuzz.execute.base import ELSEWHERE, EXECUTORS, KINDS, REMOTE
from vmfuzz.files import require_writable, write_text
from vmfuzz.report.ci import annotation


@click.command()
@click.argument("place", required=False, type=click.Path(path_type=Path))
@click.option("--corpus", type=click.Path(path_type=Path), help="Where the id PLACE is looked up, as for `vmfuzz show`.")
@click.option(
    "--executor",
    default="auto",
    show_default=True,
    help=f"What executes: {', '.join(KINDS)}, or {PREDICT_ONLY} (predict only).",
)
@click.option("--junit", type=click.Path(dir_okay=False, path_type=Path), help="Also write a JUnit XML report here.")
@click.option("--format", "annotate", type=click.Choice(["github"]), help="Also print each change as an annotation of GitHub's workflows.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON on standard output.")
def replay(place: Path | None, corpus: Path | None, executor: str, junit: Path | None, annotate: str | None, as_json: bool) -> None:
    """Predict and run every entry of PLACE again: a corpus, a campaign's directory, a file, or the beginning of an entry's id.

    By default ./corpus, else the corpus that comes with vmfuzz. Records of processors that no executor here has are only predicted, and counted
    so. Cases that set a field which the executor lacks do not run; they are counted too. A file that is no entry does not stop the others. Exit
    code 0: all as recorded; 1: something changed; 2: bad input.
    """
    if executor not in (*EXECUTORS, PREDICT_ONLY) and not executor.startswith((REMOTE, ELSEWHERE)):
        raise UnknownNameError("executor", executor, (*KINDS, PREDICT_ONLY))
    if place is not None and not place.exists() and len(place.parts) == 1:
        place = find_entry(corpus, str(place), to_read=True)[0]
    place = entries_place(resolved(place or corpus, to_read=True))
    if junit is not None:
        require_writable(junit)
    entries, unreadable = readable_entries(place)
    report = replay_entries(entries, executor, place)
    if junit is not None:
        write_text(junit, ElementTree.tostring(_junit(report, unreadable), encoding="unicode", xml_declaration=True) + "\n")
    if as_json:
        json.dump({**_as_data(report), "unreadable": list(unreadable.values())}, sys.stdout, indent=1)
        click.echo()
    else:
        _print(report)
        for replayed in report.changed if annotate else ():
            click.echo(annotation(f"vmfuzz entry {replayed.entry.id}", "\n".join(map(str, replayed.changes)), str(replayed.path)))
    sys.exit(EXIT_FOUND if report.changed else EXIT_AGREEMENT)


def _print(report: Report) -> None:
    console = Output()
    for replayed in report.changed:
        console.print(f"[bold red]changed[/] {escape(str(replayed.path))}", soft_wrap=True)
        for change in replayed.changes:
            console.print(f"  {escape(str(change))}", soft_wrap=True)
    rate = (report.executed + report.predicted_only) / report.seconds if report.seconds else 0.0
    console.print(
        f"{len(report.entries):,} entries: {report.executed:,} records executed, {report.predicted_only:,} predicted only, "
        f"in {report.seconds:.1f} s ({rate:,.0f}/s)"
    )
    for sentence, count in report.lacking.most_common():
        console.print(f"{count:,} record{'s' if count > 1 else ''} not run: {escape(sentence)}", soft_wrap=True)
    same = "all as recorded" if report.executed else "all predicted as recorded; nothing was executed here"
    console.print(f"{len(report.changed)} entries changed" if report.changed else same)


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
            message = f"not run: {replayed.lacking[0]}" if replayed.lacking else "predicted only: no executor here has these capabilities"
            ElementTree.SubElement(case, "skipped", message=message)
    for path, reason in unreadable.items():
        case = ElementTree.SubElement(suite, "testcase", classname=path.parent.name, name=path.stem)
        ElementTree.SubElement(case, "error", message=reason)
    return suite
