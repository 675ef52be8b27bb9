"""Options that contradict each other or mean nothing together: they are refused, since one of them would be ignored."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import click

from vmfuzz.errors import UsageError

#: Command -> (a parameter, others that mean nothing beside it, why).
ALONE: Final[Mapping[str, tuple[tuple[str, tuple[str, ...], str], ...]]] = {
    "ambiguities": (("as_json", ("as_markdown",), "they are two forms of one output"),),
    "caps": (
        ("list_profiles", ("cpu", "file", "as_json"), "the list is that of all profiles"),
        ("file", ("cpu",), "both say what the processor is"),
    ),
    "check": (
        ("as_json", ("explain",), "explanations are for people"),
        ("as_json", ("verify",), "nothing is tried on an emulated CPU for JSON"),
    ),
    "coverage": (
        ("directory", ("iterations", "executor", "cpu", "seed"), "the campaign there has run"),
        ("as_json", ("listed",), "JSON lists all that was never seen"),
    ),
    "diff": (("corpus", ("iterations", "seed"), "the corpus says what runs"),),
    "replay": (("as_json", ("annotate",), "standard output is the report alone"),),
    "run": (
        ("as_json", ("annotate",), "standard output is the summary alone"),
        (
            "scheduler",
            ("junit", "sarif", "annotate"),
            "a cluster's campaign has a summary for each processor: `vmfuzz report` takes it",
        ),
    ),
    "report": (("as_json", ("as_markdown",), "they are two forms of one output"),),
}
#: Command -> parameters that name files to be written: each has to be another file.
WRITTEN: Final[Mapping[str, tuple[str, ...]]] = {"run": ("summary_file", "junit", "sarif"), "replay": ("junit", "sarif")}
#: Command -> (a parameter, another that it needs, why).
NEEDS: Final[Mapping[str, tuple[tuple[str, str, str], ...]]] = {
    "minimize": (("executor", "id", "a campaign's findings run where they were found"),),
}
#: Command -> (what may be a path or an id, where an id is looked up).
LOOKED_UP: Final[Mapping[str, tuple[str, str]]] = {
    "export": ("id", "place"),
    "minimize": ("id", "place"),
    "replay": ("place", "corpus"),
    "show": ("id", "place"),
    "verdict": ("id", "place"),
}


def require_sense(command: click.Command, name: str, arguments: list[str], parent: click.Context) -> None:
    """Raise UsageError where the arguments of a command have an empty value, or parameters of which one would be ignored.

    What click refuses by itself is left to it.
    """
    context = click.Context(command, info_name=name, parent=parent)
    try:
        given, _, order = command.make_parser(context).parse_args(list(arguments))
    except click.UsageError:
        return
    if given.get("help"):
        return
    parameters = {str(parameter.name): parameter for parameter in command.params}
    _require_values(given, parameters)
    _require_one_of_each(order, arguments)
    present = {key for key, value in given.items() if value is True or (isinstance(value, str | list | tuple) and value)}
    labels = {key: _label(parameter) for key, parameter in parameters.items()}
    _require_company(name, present, labels)
    _require_other_files(name, given, present, labels)
    if name in LOOKED_UP:
        what, where = LOOKED_UP[name]
        if where in present and what in present and _exists(str(given[what])):
            raise UsageError(f"{given[what]} is a path, and {labels[where]} says where to look up an id; leave out {labels[where]}")


def _require_values(given: Mapping[str, object], parameters: Mapping[str, click.Parameter]) -> None:
    """No value is empty."""
    for key, value in given.items():
        if value == "" or (isinstance(value, list | tuple) and "" in value):
            otherwise = "" if parameters[key].required else ", or leave it out"
            raise UsageError(f"{_label(parameters[key])} is empty; expected a value{otherwise}")


def _require_one_of_each(order: Sequence[click.Parameter], arguments: Sequence[str]) -> None:
    """Of options that are written to one parameter, and of both ways of a flag, one is given."""
    chosen: dict[str, click.Parameter] = {}
    for parameter in order:
        before = chosen.setdefault(str(parameter.name), parameter)
        labels = _label(before), _label(parameter)
        if before is parameter:  # where it came twice, both ways of a flag may be among the arguments
            labels = next(iter(parameter.opts)), next(iter(parameter.secondary_opts), "")
        if before is not parameter or (order.count(parameter) > 1 and {*labels} <= {*arguments}):
            raise UsageError(f"{labels[0]} with {labels[1]}: they exclude each other; give one of them")


def _require_company(name: str, present: Set[str], labels: Mapping[str, str]) -> None:
    """Nothing stands beside what it excludes, or without what it needs."""
    for key, others, why in ALONE.get(name, ()):
        for other in others:
            if {key, other} <= present:
                raise UsageError(f"{labels[key]} with {labels[other]}: {why}; leave out one of them")
    for key, needed, why in NEEDS.get(name, ()):
        if key in present and needed not in present:
            raise UsageError(f"{labels[key]} without {labels[needed]}: {why}; leave it out")


def _require_other_files(name: str, given: Mapping[str, object], present: Set[str], labels: Mapping[str, str]) -> None:
    """No file is written twice."""
    for key, other in combinations([key for key in WRITTEN.get(name, ()) if key in present], 2):
        if _is_one_file(given[key], given[other]):
            raise UsageError(f"{labels[key]} and {labels[other]} name one file, {given[key]}; give each its own")


def _is_one_file(one: object, other: object) -> bool:
    """Whether both would be written to the same place; what is given to /dev/null is lost anyway."""
    try:
        paths = {os.path.realpath(str(path)) for path in (one, other)}
    except (OSError, ValueError):
        return False
    return len(paths) == 1 and paths != {os.devnull}


def _exists(path: str) -> bool:
    """Whether something is there; no file has a name that the system refuses."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def _label(parameter: Any) -> str:
    """What a person calls a parameter."""
    return str(max(parameter.opts, key=len)) if isinstance(parameter, click.Option) else str(parameter.human_readable_name)
