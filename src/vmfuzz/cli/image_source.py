"""`vmfuzz image-source`: the sources of the bootable image, for whoever has installed the wheel."""

from __future__ import annotations

from pathlib import Path

import click

from vmfuzz.cli.shipped import image_sources
from vmfuzz.cli.write_sources import write_sources


@click.command("image-source")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def image_source(directory: Path) -> None:
    """Write the bootable image's sources into the directory DIR.

    DIR is created; if it exists already, it must be empty. Build the image with `make -C DIR/image`; docs/hypervisors.md says what comes next.
    """
    sources = image_sources()
    write_sources(directory, sources)
    click.echo(
        f"{len(sources)} files in {directory}; next: make -C {directory}/image, then boot image/build/vmfuzz.iso (docs/hypervisors.md)"
    )
