"""`vmfuzz report`: what one or several campaigns have shown, as a page, as Markdown or as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vmfuzz.errors import EXIT_AGREEMENT, UsageError
from vmfuzz.files import require_writable, write_text
from vmfuzz.report.data import gather
from vmfuzz.report.markdown import markdown
from vmfuzz.report.page import page
from vmfuzz.report.source import load_all_of


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--html", type=click.Path(path_type=Path), help="Write a page that opens offline to this file.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown, for an issue (the default).")
@click.option("--json", "as_json", is_flag=True, help="Print the report's data as JSON.")
def report(sources: tuple[Path, ...], html: Path | None, as_markdown: bool, as_json: bool) -> None:
    """Show the results of the campaigns SOURCE... together.

    A SOURCE is a file that vmfuzz run --summary (or --json) wrote, or a directory of vmfuzz run --directory in which no campaign is running.
    Campaigns on the same processor are summed; others stand side by side. For each processor the report says which checks agree, deviate or were
    never seen deciding, which reading of the manual it takes, what was found with the minimal case, the outcomes, and coverage over time.

    \b
    vmfuzz run -n 1M --cpu tigerlake --summary a.json
    vmfuzz run -n 1M --cpu arrow_lake --summary b.json
    vmfuzz report a.json b.json --html page.html
    vmfuzz report a.json --markdown

    The page needs the extra `report`: pip install 'vmfuzz[report]'.
    """
    if as_markdown and as_json:
        raise UsageError("--markdown and --json are two forms of one output; give one of them")
    if html is not None:
        require_writable(html)
    data = gather([source for place in dict.fromkeys(sources) for source in load_all_of(place)])
    if html is not None:
        text = page(data)
        write_text(html, text)
        click.echo(f"wrote {html} ({len(text.encode()) / 1000:,.0f} kB)", err=True)
    if as_json:
        click.echo(json.dumps(data.to_json(), indent=1))
    elif as_markdown or html is None:
        click.echo(markdown(data), nl=False)
    raise SystemExit(EXIT_AGREEMENT)
