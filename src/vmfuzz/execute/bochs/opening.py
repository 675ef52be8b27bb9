"""Opens the emulated CPU by name, of this environment or of another one; says whether it can be used here."""

from __future__ import annotations

from typing import Any

from vmfuzz.errors import UsageError
from vmfuzz.execute.availability import Availability, entering
from vmfuzz.execute.bochs.executor import DEFAULT_CPU, BochsExecutor
from vmfuzz.state.profiles import processor_names


def open_by_name(python: str, cpu: str | None, options: dict[str, Any]) -> BochsExecutor:
    """The emulated CPU model `cpu`; `python`, where it is not empty, is the interpreter of the environment whose emulator runs."""
    if python:
        options = {**options, "python": python}
    if cpu in processor_names():
        raise UsageError(
            f"--cpu {cpu}: this is a stored profile of a processor, not an emulated CPU model. Only the model can take its place: "
            f"--executor model --cpu {cpu}"
        )
    return BochsExecutor(cpu or DEFAULT_CPU, **options)


def availability() -> Availability:
    """Enter its known-good VMCS."""
    return entering("bochs", "emulated CPU")
