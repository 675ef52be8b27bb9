"""What the kernel says beside an outcome: lines of KVM's tracepoint, and warnings of its log."""

from __future__ import annotations

import re
from typing import Final

_TRACED: Final = re.compile(r"kvm_nested_vmenter_failed:\s*(?P<text>.*?)\s*$")


_WARNING: Final = re.compile(r"(?P<what>WARNING|BUG)\b.* at (?P<where>\S+:\d+) (?P<function>\w+)")
_NUMBER: Final = re.compile(r"\b(?:0x)?[0-9a-f]{5,16}\b")


def warning_of(line: str) -> str:
    """A line of the kernel's log as what is the same each time: "WARNING at FILE:LINE FUNCTION", or the line without its addresses."""
    match = _WARNING.search(line)
    return f"{match['what']} at {match['where']} {match['function']}" if match else _NUMBER.sub("...", line)


def text_of(line: str) -> str | None:
    """The text in a line of the trace ("task-pid [cpu] flags time: kvm_nested_vmenter_failed: text"), None for a line of anything else."""
    match = _TRACED.search(line)
    return None if match is None else match["text"]
