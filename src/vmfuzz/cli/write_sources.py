"""Sources that come with vmfuzz, written into a directory of the user's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from vmfuzz.errors import EnvironmentUnusable, UsageError


def write_sources(directory: Path, sources: Mapping[str, Path]) -> None:
    """Copy files into a directory under the names that they are to have there.

    Raises UsageError where it is not empty, and EnvironmentUnusable where it cannot be written.
    """
    if directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory} is not empty; name an empty directory, or a new one")
    for name, source in sources.items():
        target = directory / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        except OSError as error:  # which names the source, whatever could not be done
            raise EnvironmentUnusable(f"cannot write {target}: {error.strerror}") from None
