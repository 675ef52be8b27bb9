"""Reads what a person gives, however large: a log of hundreds of megabytes is searched for the lines that matter, an endless file is refused."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, Final

from vmfuzz.errors import UsageError
from vmfuzz.explain.text.decode import decode

#: Texts up to this size are read as they are; of larger ones, so much is kept at most.
_WHOLE: Final = 1 << 20
_MOST_READ: Final = 1 << 30
#: Lines kept before and after one that matters.
_AROUND: Final = 60
_LONGEST_LINE: Final = 4000
#: What stands in the lines that matter, in small letters: plain strings are found ten times as fast as patterns.
_MATTERS: Final = (
    *(b"guest", b"host state", b"host_", b"control state", b"gh_mask", b" sel=", b"attr=", b"vmcs", b"_ctls", b"pinbased"),
    *(b"vmentry", b"vm-entry", b"vm entry", b"vmlaunch", b"vmresume", b"entry fail", b"hardware_entry", b"hm error", b"haxm_", b"(xen) "),
    *(b"80000021", b"80000022", b"80000029", b"8000_002", b"21474836"),
)


def read_all(stream: BinaryIO, name: str) -> tuple[str, str]:
    """(text, what was left out of it: "" where nothing was). Raises UsageError for what has no end, or holds nothing but binary data."""
    data = stream.read(_WHOLE + 1)
    if len(data) <= _WHOLE:
        return decode(data, name), ""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UsageError(
            f"{name} has more than {_WHOLE} bytes of UTF-16: expected UTF-8 for so large a text; convert it, or cut out the part that matters"
        )
    lines, kept = _searched(_batches(data, stream, name))
    text = b"\n".join(lines)
    count = text.count(b"\n")
    if not kept:
        if data.strip():
            decode(data, name)  # which refuses what is no text
        return "", f"{name} has {count:,} lines, and none that looks like a dump or the outcome of a VM entry"
    full = "; there are more" if kept >= _WHOLE else ""
    note = f"{name} has {count:,} lines: only the {kept:,} bytes around those that look like a dump or an outcome were read{full}"
    return decode(text, name), note


def _batches(data: bytes, stream: BinaryIO, name: str) -> Iterator[list[bytes]]:
    """The lines of the data and of what follows it in the stream, each as far as it may be read. Raises UsageError where there is no end."""
    total, rest = 0, b""
    while data:
        total += len(data)
        if total > _MOST_READ:
            raise UsageError(f"{name} has more than {_MOST_READ} bytes: expected a log or a dump; cut out the part around the failure")
        *lines, rest = (rest + data).split(b"\n")
        yield [line[:_LONGEST_LINE] for line in lines]
        rest = rest[:_LONGEST_LINE]
        data = stream.read(_WHOLE)
    yield [rest]


def _searched(batches: Iterator[list[bytes]]) -> tuple[list[bytes], int]:
    """(the lines that matter and those around them, the others as empty lines, so that line numbers stay; how many bytes are kept)."""
    lines: list[bytes] = []
    recent = deque[bytes](maxlen=_AROUND)
    kept = keep = 0
    for batch in batches:
        searched = kept < _WHOLE and _matters(b"\n".join(batch))
        for line in batch:
            if searched and kept < _WHOLE and _matters(line):
                lines[len(lines) - len(recent) :] = recent
                kept += sum(map(len, recent))
                recent.clear()
                keep = _AROUND + 1
            if keep and kept < _WHOLE:
                lines.append(line)
                kept += len(line)
                keep -= 1
            else:
                lines.append(b"")
                recent.append(line)
    return lines, kept


def _matters(text: bytes) -> bool:
    small = text.lower()
    return any(needle in small for needle in _MATTERS)
