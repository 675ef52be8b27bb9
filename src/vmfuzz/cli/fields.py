"""`vmfuzz fields`: browse the VMCS field catalogue."""

from __future__ import annotations

import json
from typing import Final

import click
from rich.markup import escape

from vmfuzz.arch.fields import FIELDS, Area, Field
from vmfuzz.arch.registers import FIELD_BITS
from vmfuzz.cli.console import Output
from vmfuzz.cli.names import fields_named
from vmfuzz.counted import counted
from vmfuzz.errors import UsageError
from vmfuzz.hexadecimal import encoded
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.wording import bit_name

#: Columns before the name in the list.
_BEFORE_NAME: Final = 10


@click.command()
@click.argument("name", required=False)
@click.option("--area", type=click.Choice(["control", "read-only", "guest", "host"]), help="Only this area.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def fields(name: str | None, area: str | None, as_json: bool) -> None:
    """List the VMCS fields, or show one with its bits and the checks that read it.

    NAME is a field's name in upper or lower case, the beginning of several names (gs finds guest_gs and host_gs too), an encoding such as 481EH,
    or the name that Linux, Xen, Bochs or VirtualBox uses (GUEST_GS_AR_BYTES).
    """
    named = list(FIELDS.values()) if name is None else fields_named(name)
    chosen = [field for field in named if area is None or field.area is Area[area.upper().replace("-", "_")]]
    if not chosen:
        areas = ", ".join(dict.fromkeys(str(_as_json(field)["area"]) for field in named))
        raise UsageError(f"{name!r} is not in the {area} area; it is in the {areas} area")
    if as_json:
        click.echo(json.dumps({"schema": "vmfuzz-fields-1", "fields": [_as_json(field) for field in chosen]}, indent=1))
    elif len(chosen) > 1:
        _print_list(chosen)
    else:
        _print_one(chosen[0])


def _exists_if(field: Field) -> str:
    if not field.gates:
        return "always"
    return " or ".join(f"{gate} may be 1" if "." in gate else gate for gate in field.gates)


def _as_json(field: Field) -> dict[str, object]:
    return {
        "name": field.name,
        "encoding": f"{field.encoding:#06x}",
        "width": "natural" if field.width_kind.name == "NATURAL" else field.width,
        "area": field.area.name.lower().replace("_", "-"),
        "exists_if": _exists_if(field),
        "checks": [check.id for check in CHECKS if field.name in check.fields],
    }


def _print_list(chosen: list[Field]) -> None:
    console, width = Output(), max(len(field.name) for field in chosen)
    console.print(f"encoding  {'name':{width}}  width    area       exists if")
    for field in chosen:
        facts = _as_json(field)
        line = f"{encoded(field.encoding):8}  {field.name:{width}}  {facts['width']!s:7}  {facts['area']:9}  {_exists_if(field)}"
        console.print(line, hang=_BEFORE_NAME, markup=False)


def _print_one(field: Field) -> None:
    console = Output()
    facts = _as_json(field)
    width = "natural width" if facts["width"] == "natural" else f"{facts['width']}-bit"
    console.print(f"[bold]{field.name}[/]  encoding {encoded(field.encoding)}, {width}, {facts['area']} area")
    console.print(f"exists: {_exists_if(field)}")
    names = [(index, bit_name(field.name, index)) for index in range(field.width)]
    bits = ", ".join(f"{index} {label}" for index, label in names if label)
    if bits or field.name in FIELD_BITS:
        console.print(f"bits: {bits}", hang=6, markup=False)
    checks = [check for check in CHECKS if field.name in check.fields]
    console.print(f"read by {counted(len(checks), 'check')}" + (":" if checks else ""))
    column = max((len(check.id) for check in checks), default=0) if console.for_people else 0
    for check in checks:
        console.print(f"  [bold]{check.id:{column}}[/]  {escape(check.text)}", hang=column + 2)
