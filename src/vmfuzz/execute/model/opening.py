"""Opens the model in a processor's place by name."""

from __future__ import annotations

from typing import Any

from vmfuzz.execute.bochs.executor import DEFAULT_CPU
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.state.profiles import capabilities_named, known_good


def open_by_name(argument: str, cpu: str | None, options: dict[str, Any]) -> ModelExecutor:  # noqa: ARG001
    """The model as the processor of the stored profile or capabilities file `cpu`."""
    capabilities = capabilities_named(cpu or DEFAULT_CPU)
    return ModelExecutor(capabilities, known_good(capabilities), **options)
