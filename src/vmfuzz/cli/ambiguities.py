"""`vmfuzz ambiguities`: where the manual can be read in two ways, and which way each processor takes, tried now."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.markup import escape

from vmfuzz.cli.console import Output
from vmfuzz.cli.places import readable_entries
from vmfuzz.comparison.processor import executor_version
from vmfuzz.counted import counted
from vmfuzz.differences.ambiguity_report import Place, gather, markdown
from vmfuzz.errors import UnknownNameError
from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.model.public_readings import PUBLIC_READINGS
from vmfuzz.model.wording import format_operand


@click.command()
@click.argument("cpu", nargs=-1)
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the report as a page (this is how docs/ambiguities.md is made).")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def ambiguities(cpu: tuple[str, ...], as_markdown: bool, as_json: bool) -> None:
    """Show where the SDM can be read in two ways or says nothing, and find out which reading each processor takes.

    For each place: the text in our words, both readings, the two nearest VMCSs that tell them apart (made by the model), what each emulated
    CPU model CPU (default: all) does with them, how public hypervisors read it, and a wording that would settle it.

    \b
    vmfuzz ambiguities                        all, in the terminal
    vmfuzz ambiguities tigerlake --json       one CPU model, as JSON
    vmfuzz ambiguities --markdown > page.md   the page for the manual's authors
    """
    for name in cpu:
        if name not in CPU_MODELS:
            raise UnknownNameError("CPU model", name, CPU_MODELS)
    cpus = tuple(dict.fromkeys(cpu)) or tuple(CPU_MODELS)
    places = gather(cpus)
    if as_json:
        json.dump({"schema": "vmfuzz-ambiguities-1", "cpus": cpus, "places": [place.to_json() for place in places]}, sys.stdout, indent=1)
        click.echo()
    elif as_markdown:
        corpus = Path("corpus")
        entries = [entry for _, entry in readable_entries(corpus)[0]] if corpus.is_dir() else []
        click.echo(markdown(places, cpus, executor_version("bochs"), entries), nl=False)
    else:
        _print(places)


def _print(places: list[Place]) -> None:
    console = Output()
    for place in places:
        ambiguity = place.ambiguity
        console.print(f"[bold]{ambiguity.title}[/] [dim]{ambiguity.id}[/]")
        for label, text in (("", ambiguity.text), ("strict: ", ambiguity.strict), ("lenient: ", ambiguity.lenient)):
            console.print(f"  {label}{escape(text)}")
        for witness in place.witnesses:
            values = ", ".join(f"{key} = {format_operand(key, value)}" for key, value in sorted(witness.case.mutation.items()))
            console.print(f"  try {witness.case.base} with {escape(values)}")
            results = place.taken.get(witness.check, [])
            for reading in dict.fromkeys(each.reading for each in results):
                names = [each.processor.split()[-1] for each in results if each.reading == reading]
                console.print(f"    {reading or 'not shown'}: {', '.join(names)}")
            if not results:
                console.print("    none of these CPU models has the feature")
        public = ", ".join(f"{each.implementation} {each.reading}" for each in PUBLIC_READINGS[ambiguity.id])
        console.print(f"  public implementations: {escape(public)}")
        console.print(f"  would settle it: {escape(ambiguity.wording)}\n")
    console.print(counted(len(places), "place"))
