"""What the kernel says beside an outcome: lines of KVM's tracepoint."""

from __future__ import annotations

import re
from typing import Final

_TRACED: Final = re.compile(r"kvm_nested_vmenter_failed:\s*(?P<text>.*?)\s*$")


def text_of(line: str) -> str | None:
    """The text in a line of the trace ("task-pid [cpu] flags time: kvm_nested_vmenter_failed: text"), None for a line of anything else."""
    match = _TRACED.search(line)
    return None if match is None else match["text"]
