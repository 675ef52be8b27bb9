"""`vmfuzz export`: a finding as a test that the hypervisors' own people can run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vmfuzz.cli.places import find_entry, place_option, stand_in
from vmfuzz.corpus.export import FORMS, export_entry
from vmfuzz.errors import UsageError
from vmfuzz.files import require_writable, write_text


@click.command()
@click.argument("id")
@click.option("--c", "form", flag_value="c", help="Plain C: the VMWRITEs as functions.")
@click.option("--kvm-unit-test", "form", flag_value="kvm-unit-test", help="A test function in the style of kvm-unit-tests.")
@click.option(
    "--kvm-selftest", "form", flag_value="kvm-selftest", help="A whole program in C that runs the case in a virtual machine of KVM."
)
@click.option("--syz", "form", flag_value="syz", help="A syzkaller program with its VMWRITE masks.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write here instead of standard output.")
@place_option
def export(id: str, form: str | None, output: Path | None, place: Path | None) -> None:
    """Print the finding ID as a test in one of the forms."""
    if form is None:
        raise UsageError(f"name the form: {', '.join('--' + name for name in FORMS)}")
    if output is not None:
        require_writable(output)
    path, entry = find_entry(place, id, to_read=True)
    text = export_entry(entry, stand_in(path, entry), form)
    if output is None:
        sys.stdout.write(text)
    else:
        write_text(output, text)
