"""`vmfuzz kmod-source`: the sources of the kernel module and of the agent, for whoever has installed the wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from vmfuzz.cli.shipped import module_sources
from vmfuzz.errors import EnvironmentUnusable, UsageError


@click.command("kmod-source")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def kmod_source(directory: Path) -> None:
    """Write the kernel module's sources into the directory DIR.

    DIR is created; if it exists already, it must be empty. Build module and agent with `make -C DIR`; docs/bare-metal.md says what comes next.
    """
    if directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory} is not empty; name an empty directory, or a new one")
    sources = module_sources()
    for name, source in sources.items():
        target = directory / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        except OSError as error:  # which names the source, whatever could not be done
            raise EnvironmentUnusable(f"cannot write {target}: {error.strerror}") from None
    click.echo(f"{len(sources)} files in {directory}; next: make -C {directory}, then insmod {directory}/vmfuzz.ko (docs/bare-metal.md)")
