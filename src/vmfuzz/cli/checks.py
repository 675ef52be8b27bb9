"""`vmfuzz checks`: browse the specification, one check at a time or by section or field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

import click
from rich.markup import escape

from vmfuzz.cli.console import Output
from vmfuzz.cli.names import checks_named, operands_named
from vmfuzz.counted import counted
from vmfuzz.errors import UnknownNameError, UsageError
from vmfuzz.generate.boundary import edits_of
from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.check import Check
from vmfuzz.model.checks import CHECKS, SECTIONS
from vmfuzz.model.expr import TRUE
from vmfuzz.model.sections import Citation
from vmfuzz.model.wording import describe, format_operand

#: Columns of the labels of what `vmfuzz checks ID` says.
_LABEL: Final = 10


@click.command()
@click.argument("id", required=False)
@click.option("--section", help="Only this section (part of its title, or its number such as 29.3.1.2).")
@click.option("--field", help="Only checks that read this field.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def checks(id: str | None, section: str | None, field: str | None, as_json: bool) -> None:
    """List the VM-entry checks in the SDM's order, or show one with its condition, gate, fields, outcome and boundary values.

    ID is a check's id in upper or lower case, the beginning of several ids, or the name or encoding of a field that checks read.
    """
    if id is not None and (section is not None or field is not None):
        raise UsageError(f"{id!r} with --section or --field: each of them selects checks; give one of them")
    chosen = checks_named(id) if id is not None else _select(section, field)
    if as_json:
        click.echo(json.dumps({"schema": "vmfuzz-checks-1", "checks": [as_data(check) for check in chosen]}, indent=1))
    elif id is not None and len(chosen) == 1:
        _print_one(chosen[0])
    else:
        _print_list(chosen)


def _select(section: str | None, field: str | None) -> list[Check]:
    read = None if field is None else set(operands_named(field))
    titles = {listed.title for listed in SECTIONS}
    if section is not None:
        wanted = section.lower()
        titles = {title for title in titles if wanted in title.lower() or wanted in _numbers(title)}
        if not titles:
            raise UnknownNameError("section", section, [listed.title for listed in SECTIONS])
    return [check for check in CHECKS if check.section.title in titles and (read is None or read & set(check.fields))]


def _numbers(title: str) -> tuple[str, ...]:
    from vmfuzz.model.sections import NUMBERS

    return NUMBERS[title]


def as_data(check: Check) -> dict[str, Any]:
    """A check as JSON data."""
    return {
        "id": check.id,
        "section": check.section.title,
        "text": check.text,
        "requires": describe(check.requires),
        "when": describe(check.when),
        "must": describe(check.must),
        "fields": list(check.fields),
        "outcomes": [outcome.short() for outcome in check.fails.outcomes],
        "ambiguity": check.ambiguity,
    }


def _print_list(chosen: list[Check]) -> None:
    console = Output()
    title = None
    width = max((len(check.id) for check in chosen), default=0) if console.for_people else 0
    for check in chosen:
        if check.section.title != title:
            title = check.section.title
            console.print(f"\n[bold]{title}[/] ({check.section.number})")
        console.print(f"  [cyan]{check.id:{width}}[/]  {escape(check.text)}", hang=width + 2)
    console.print(f"\n{counted(len(chosen), 'check')}")


def _print_one(check: Check) -> None:
    console = Output()
    console.print(f"[bold]{check.id}[/]")
    console.print(check.text, hang=0, markup=False)
    for line in _facts(check):
        console.print(line, hang=_LABEL, markup=False)


def _facts(check: Check) -> Iterator[str]:
    """What there is to say of a check, each with its label."""
    yield f"  section   {Citation(check.section.title)}"
    if check.requires is not TRUE:
        yield f"  exists if {describe(check.requires)}"
    if check.when is not TRUE:
        yield f"  when      {describe(check.when)}"
    yield f"  must      {describe(check.must)}"
    yield f"  outcome   {' or '.join(str(outcome) for outcome in check.fails.outcomes)}"
    yield f"  reads     {', '.join(check.fields)}"
    if check.ambiguity:
        ambiguity = AMBIGUITIES[check.ambiguity]
        yield f"  ambiguity {ambiguity.id}: {ambiguity.text}"
        yield f"            strict: {ambiguity.strict}; lenient: {ambiguity.lenient}"
    for name in sorted(check.must.reads):
        edits = edits_of(check.must, name)
        values = sorted({set_bits for keep, set_bits in edits})[:8]
        if values:
            shown = ", ".join(format_operand(name, value) for value in values)
            yield f"  boundary  {name}: {shown}{' ...' if len(edits) > 8 else ''}"
