"""`vmfuzz dump-code`: source text that prints a VMCS in the form that `vmfuzz check` reads."""

from __future__ import annotations

from pathlib import Path

import click

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.errors import UsageError
from vmfuzz.report.dump_code import c_code, rust_code


@click.command(name="dump-code", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--c", "language", flag_value="c", default=True, help="C for a Linux kernel module (the default).")
@click.option("--rust", "language", flag_value="rust", help="Rust without the standard library.")
@click.option("--cpu", metavar="PROFILE", help="Only the fields that this stored processor profile has.")
@click.option(
    "--capabilities", "capabilities_file", type=click.Path(path_type=Path), help="Only the fields of this capabilities file's processor."
)
def dump_code(language: str, cpu: str | None, capabilities_file: Path | None) -> None:
    """Print a function that reads and prints every VMCS field, to paste into your hypervisor.

    `vmfuzz check` reads its output. Fields that the processor does not have are skipped at run time.
    """
    if cpu is not None and capabilities_file is not None:
        raise UsageError("--cpu and --capabilities both name the processor; give one of them")
    known: Capabilities | None = Capabilities.load(capabilities_file) if capabilities_file is not None else None
    if cpu is not None:
        from vmfuzz.state.profiles import capabilities

        known = capabilities(cpu)
    click.echo(c_code(known) if language == "c" else rust_code(known), nl=False)
