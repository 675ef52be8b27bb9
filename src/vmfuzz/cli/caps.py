"""`vmfuzz caps`: what a processor allows, for people."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from vmfuzz.arch.capabilities import FACT_MSRS, OTHER_MSRS, Capabilities
from vmfuzz.arch.completions import completions, unknown_features
from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.cpuid_features import FEATURES
from vmfuzz.arch.fields import FIELDS
from vmfuzz.cli.console import Output
from vmfuzz.hexadecimal import as_wide, hexadecimal
from vmfuzz.state.profiles import capabilities, description, emulated_names, processor_names

DEFAULT = "corei7_skylake_x"


@click.command()
@click.option("--cpu", default=DEFAULT, show_default=True, help="A stored profile; --list names them.")
@click.option(
    "--capabilities",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read a capabilities file instead.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the raw facts as JSON, which --capabilities reads.")
@click.option("--list", "list_profiles", is_flag=True, help="List the stored profiles.")
def caps(cpu: str, file: Path | None, as_json: bool, list_profiles: bool) -> None:
    """Show what a processor allows: capability MSRs, and each control that may or must be 1."""
    if list_profiles:
        _list()
        return
    known = Capabilities.load(file) if file else capabilities(cpu)
    if as_json:
        json.dump(known.to_json(), sys.stdout, indent=1)
        click.echo()
        return
    _print(Output(), known)


def _span(least: int, most: int) -> str:
    return str(most) if least == most else f"{least} to {most}"


def _list() -> None:
    """The emulated CPU models and the profiles of processors apart, since not everything executes on both."""
    console = Output()
    console.print("emulated CPU models (--executor bochs, model):")
    for name in emulated_names():
        console.print(f"  {name}")
    console.print("profiles of processors (--executor model):")
    width = max(map(len, processor_names()), default=0)
    for name in processor_names():
        console.print(f"  {name:{width}}  {description(name)}", hang=width + 2, markup=False)


def _print(console: Console, known: Capabilities) -> None:
    console.print(f"[bold]{known.name}[/]")
    least = completions(known)[1]
    console.print(
        f"VMCS revision {hexadecimal(known.revision)}; physical addresses {_span(least.physical_address_width, known.physical_address_width)} bits, "
        f"linear {_span(least.linear_address_width, completions(known)[0].linear_address_width)} bits; "
        f"{len(known.fields)} of {len(FIELDS)} VMCS fields exist; {known.cr3_target_limit} CR3-target values"
    )
    unknown = unknown_features(known)
    console.print("features: " + ", ".join(name for name in FEATURES if completions(known)[0].has(name) and name not in unknown))
    if unknown:
        console.print("features not known, since CPUID's leaves are not: " + ", ".join(unknown))
    unread = [f"{hexadecimal(number)} ({name})" for number, name in OTHER_MSRS.items() if not known.knows_msr(number)]
    if unread:
        console.print("MSRs not known: " + ", ".join(unread))
    table = Table("MSR", "name", "value", box=None, pad_edge=False)
    for number, value in known.msrs.items():
        table.add_row(hexadecimal(number), FACT_MSRS.get(number, ""), as_wide(value, 64))
    console.print(table)
    _print_controls(console, known)


def _print_controls(console: Console, known: Capabilities) -> None:
    for key, word in CONTROL_WORDS.items():
        must, may = known.allowed_settings(key)
        if not may:
            console.print(f"[bold]{word.title}[/]: none on this processor")
            continue
        console.print(f"[bold]{word.title}[/] (field {word.field}): must be 1 {hexadecimal(must)}, may be 1 {hexadecimal(may)}")
        named = [bit for bit in word.bits if may >> bit & 1]
        required = [bit.name.lower() for bit in named if must >> bit & 1]
        console.print("  may be 1: " + ", ".join(bit.name.lower() for bit in named if not must >> bit & 1))
        if required:
            console.print("  must be 1: " + ", ".join(required))
