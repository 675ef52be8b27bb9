"""Options of `vmfuzz run` for machines that build, and the line that says how to see a finding again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import click

from vmfuzz import __version__
from vmfuzz.cli.places import FINDINGS
from vmfuzz.files import require_writable, write_text
from vmfuzz.report.ci import annotation_lines, found_in, junit, sarif

_KEY: Final = "vmfuzz.cli.ci"


def ci_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options --junit, --sarif, --format and --quiet, which are kept with the command's context."""

    def kept(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if isinstance(value, Path):
            require_writable(value)
        context.meta.setdefault(_KEY, {})[parameter.name] = value
        return value

    options = (
        click.option(
            "--quiet", "-q", is_flag=True, expose_value=False, callback=kept, help="Say nothing of the progress on standard error."
        ),
        click.option(
            "--format",
            "annotate",
            type=click.Choice(["github"]),
            expose_value=False,
            callback=kept,
            help="Also print each finding as an annotation of GitHub's workflows.",
        ),
        click.option(
            "--sarif",
            type=click.Path(dir_okay=False, path_type=Path),
            expose_value=False,
            callback=kept,
            help="Also write the findings as SARIF 2.1.0 here.",
        ),
        click.option(
            "--junit",
            type=click.Path(dir_okay=False, path_type=Path),
            expose_value=False,
            callback=kept,
            help="Also write a JUnit XML report here, one test a check.",
        ),
    )
    for option in options:
        function = option(function)
    return function


def _chosen(name: str) -> Any:
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_KEY, {}).get(name)


def is_quiet() -> bool:
    """Whether nothing is to be said of the progress."""
    return bool(_chosen("quiet"))


def put_out_for_ci(data: Mapping[str, Any], directory: Path | None) -> None:
    """Write what --junit, --sarif and --format ask for; raises EnvironmentUnusable where a file cannot be written."""
    found = found_in(data, str(directory / FINDINGS) if directory is not None else None)
    if (path := _chosen("junit")) is not None:
        write_text(path, ElementTree.tostring(junit(data, found), encoding="unicode", xml_declaration=True) + "\n")
    if (path := _chosen("sarif")) is not None:
        write_text(path, json.dumps(sarif(data, found, __version__), indent=1) + "\n")
    if _chosen("annotate"):
        for line in annotation_lines(found):
            click.echo(line)


def again(data: Mapping[str, Any], id: str, directory: Path | None) -> str:
    """How to see a finding of a campaign again: the file that it is kept in, or the campaign, with seed and versions."""
    kept = directory is not None and (directory / FINDINGS / f"{id}.json").exists()
    how = f"vmfuzz replay {directory}/{FINDINGS}/{id}.json" if kept else f"vmfuzz run -n {data['wanted']} --seed {data['seed']}"
    return f"{how} (seed {data['seed']} on {data['executor']}; vmfuzz {__version__}, {data['version']})"
