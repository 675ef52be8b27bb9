"""Opens the processor behind a serial line by name."""

from __future__ import annotations

from typing import Any

from vmfuzz.execute.kmod.opening import require_no_cpu
from vmfuzz.execute.serial.device import SerialDevice
from vmfuzz.execute.serial.executor import SerialExecutor

_OF_THE_LINE = ("reset", "answer_seconds", "boot_seconds")


def open_by_name(where: str, cpu: str | None, options: dict[str, Any]) -> SerialExecutor:
    """The processor of the machine that runs the image at the other end of the line `where`."""
    require_no_cpu(f"serial:{where}", cpu)
    line = {name: options[name] for name in _OF_THE_LINE if options.get(name) is not None}
    return SerialExecutor(SerialDevice(where, **line), **{name: value for name, value in options.items() if name not in _OF_THE_LINE})
