"""What stands before the first heading of a KVM or Xen dump in a log, and whether it belongs to it."""

from __future__ import annotations

import re

from vmfuzz.explain.text.lines import Line


def without_head(lines: list[Line]) -> list[list[Line]]:
    """A dump, and apart from it what stands before its first heading if that comes again behind it: it is of another dump, or of none."""
    first = next((index for index, line in enumerate(lines) if re.match(r"\*\*\* ?Guest State", line.text)), 0)
    keys = [_key(line) for line in lines]
    again = set(keys[first:])
    texts = {line.text for line in lines[first:]}
    if all(line.text in texts or line.text.startswith("VMCS ") for line in lines[:first]):
        lines = [line for line in lines[:first] if line.text not in texts] + lines[first:]  # quoted above the dump
        return [lines]
    if first and all(key in again or key.startswith("VMCS ") for key in keys[:first]) and any(key in again for key in keys[:first]):
        return [lines[:first], lines[first:]]
    return [lines]


def _key(line: Line) -> str:
    """What a line begins with, up to its first sign: "CR0:" is the guest's, "CR0=" the host's."""
    return "".join(re.split(r"(?<=[=:(])", line.text, maxsplit=1)[0].split())
