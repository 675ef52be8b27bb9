"""`vmfuzz kmod-source`: the sources of the kernel module and of the agent, for whoever has installed the wheel."""

from __future__ import annotations

from pathlib import Path

import click

from vmfuzz.cli.shipped import module_sources
from vmfuzz.cli.write_sources import write_sources


@click.command("kmod-source")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def kmod_source(directory: Path) -> None:
    """Write the kernel module's sources into the directory DIR.

    DIR is created; if it exists already, it must be empty. Build module and agent with `make -C DIR`; docs/bare-metal.md says what comes next.
    """
    sources = module_sources()
    write_sources(directory, sources)
    click.echo(f"{len(sources)} files in {directory}; next: make -C {directory}, then insmod {directory}/vmfuzz.ko (docs/bare-metal.md)")
