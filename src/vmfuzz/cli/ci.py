"""Options for machines that build, and the line that says how to see a finding again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import click

from vmfuzz import __version__
from vmfuzz.cli.places import FINDINGS
from vmfuzz.files import require_writable, write_text
from vmfuzz.report.ci import Found, annotation_lines, found_in, junit, sarif

_KEY: Final = "vmfuzz.cli.ci"


def _kept(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Keep an option with the command's context; a file has to be one that can be written."""
    if isinstance(value, Path):
        require_writable(value)
    context.meta.setdefault(_KEY, {})[parameter.name] = value
    return value


def quiet_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """The option --quiet, which is kept with the command's context."""
    return click.option("--quiet", "-q", is_flag=True, expose_value=False, callback=_kept, help="Print no progress on standard error.")(
        function
    )


def ci_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options --junit, --sarif, --format and --quiet, which are kept with the command's context."""
    options = (
        quiet_option,
        click.option(
            "--format",
            "annotate",
            type=click.Choice(["github"]),
            expose_value=False,
            callback=_kept,
            help="Also print each finding as an annotation for GitHub workflows.",
        ),
        click.option(
            "--sarif",
            type=click.Path(dir_okay=False, path_type=Path),
            expose_value=False,
            callback=_kept,
            help="Also write the findings as SARIF 2.1.0 here.",
        ),
        click.option(
            "--junit",
            type=click.Path(dir_okay=False, path_type=Path),
            expose_value=False,
            callback=_kept,
            help="Also write a JUnit XML report here.",
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
    """Write what --junit, --sarif and --format ask for of a campaign; raises EnvironmentUnusable where a file cannot be written."""
    found = found_in(data, str(directory / FINDINGS) if directory is not None else None)
    facts = {"executor": data["executor"], "executorVersion": data["version"], "seed": data["seed"], "command": data["command"]}
    put_out_found(junit(data, found), found, facts)


def put_out_found(tests: ElementTree.Element, found: Sequence[Found], facts: Mapping[str, Any]) -> None:
    """Write what was found as --junit (`tests`), --sarif (`facts`: of the run) and --format ask for it."""
    if (path := _chosen("junit")) is not None:
        write_text(path, ElementTree.tostring(tests, encoding="unicode", xml_declaration=True) + "\n")
    if (path := _chosen("sarif")) is not None:
        write_text(path, json.dumps(sarif(found, facts, __version__), indent=1) + "\n")
    if _chosen("annotate"):
        for line in annotation_lines(found):
            click.echo(line)


def command_of(
    iterations: int,
    seed: int,
    jobs: int,
    executor: str,
    cpu: str | None,
    risk: str = "safe",
    poison: bool = False,
    virtual: bool | None = None,
) -> str:
    """The command that runs a campaign's candidates again."""
    words = ["vmfuzz", "run", "--iterations", str(iterations), "--seed", str(seed)]
    words += ["--executor", executor] if executor != "auto" else []
    words += ["--cpu", cpu] if cpu is not None else []
    words += ["--jobs", str(jobs)] if jobs != 1 else []
    words += ["--risk", risk] if risk != "safe" else []
    words += ["--poison"] if poison else []
    words += [] if virtual is None else ["--virtual" if virtual else "--not-virtual"]
    return shlex.join(words)


def again(data: Mapping[str, Any], id: str, directory: Path | None, executor: str = "auto") -> str:
    """How to see a finding of a campaign on `executor` again: the file that it is kept in, or the campaign, with seed and versions."""
    file = None if directory is None else directory / FINDINGS / f"{id}.json"
    named = ["--executor", executor] if executor != "auto" else []
    how = data["command"] if file is None or not file.exists() else shlex.join(["vmfuzz", "replay", str(file), *named])
    return f"{how} (seed {data['seed']} on {data['executor']}; vmfuzz {__version__}, {data['version']})"
