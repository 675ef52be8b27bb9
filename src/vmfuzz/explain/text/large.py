"""Reads what a person gives, however large: a log of hundreds of megabytes is searched for the lines that matter, an endless file is refused."""

from __future__ import annotations

from typing import BinaryIO, Final

from vmfuzz.errors import UsageError
from vmfuzz.explain.text.decode import decode

#: Texts up to this size are read as they are.
_WHOLE: Final = 1 << 20
_BLOCK: Final = 1 << 20
#: Of larger ones, at most so much is kept, and so much looked at.
_MOST_KEPT: Final = 1 << 20
_MOST_READ: Final = 1 << 30
#: Lines kept before and after one that matters.
_AROUND: Final = 60
_LONGEST_LINE: Final = 4000
#: What stands in the lines that matter, in small letters: plain strings are found ten times as fast as patterns.
_MATTERS: Final = (
    *(
        b"guest",
        b"host state",
        b"host_",
        b"control state",
        b"gh_mask",
        b" sel=",
        b"attr=",
        b"vmentry",
        b"vm-entry",
        b"vm entry",
        b"vmlaunch",
        b"vmresume",
    ),
    *(b"entry fail", b"80000021", b"80000022", b"80000029", b"8000_002", b"-21474836", b"21474836", b"vmcs", b"_ctls", b"hardware_entry"),
    *(b"hm error", b"pinbased", b"haxm_", b"(xen) "),
)


def _matters(text: bytes) -> bool:
    small = text.lower()
    return any(needle in small for needle in _MATTERS)


def read_all(stream: BinaryIO, name: str) -> tuple[str, str]:
    """(text, what was left out of it: "" where nothing was). Raises UsageError for what has no end, or holds nothing but binary data."""
    data = stream.read(_WHOLE + 1)
    if len(data) <= _WHOLE:
        return decode(data, name), ""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UsageError(
            f"{name} has more than {_WHOLE} bytes of UTF-16: expected UTF-8 for so large a text; convert it, or cut out the part that matters"
        )
    return _searched(data, stream, name)


def _searched(data: bytes, stream: BinaryIO, name: str) -> tuple[str, str]:
    """The lines that matter and those around them; the others become empty lines, so that line numbers stay."""
    lines: list[bytes] = []
    recent: list[bytes] = []
    kept, keep, total, rest = 0, 0, len(data), data
    while rest:
        head, newline, tail = rest.rpartition(b"\n")
        batch = head.split(b"\n") if newline else []
        if batch and not keep and (kept >= _MOST_KEPT or not _matters(head)):
            recent = [line[:_LONGEST_LINE] for line in batch[1 - _AROUND :]]
            lines += [b""] * len(batch)
            batch = []
        for line in batch:
            line = line[:_LONGEST_LINE]
            if kept < _MOST_KEPT and _matters(line):
                start = len(lines) - len(recent)
                lines[start:] = recent
                kept += sum(map(len, recent))
                recent, keep = [], _AROUND
            if keep and kept < _MOST_KEPT:
                lines.append(line)
                kept += len(line)
                keep -= 1
            else:
                lines.append(b"")
                recent = [*recent[1 - _AROUND :], line]
        rest = tail if len(tail) <= _LONGEST_LINE else tail[:_LONGEST_LINE]
        block = stream.read(_BLOCK)
        total += len(block)
        if total > _MOST_READ:
            raise UsageError(f"{name} has more than {_MOST_READ} bytes: expected a log or a dump; cut out the part around the failure")
        if not block:
            lines.append(rest if _matters(rest) or keep else b"")
            break
        rest += block
    if not kept:
        if data.strip():
            decode(data, name)  # which refuses what is no text
        return "", f"{name} has {total:,} bytes, and no line that looks like a dump or the outcome of a VM entry"
    full = "; there are more" if kept >= _MOST_KEPT else ""
    note = f"{name} has {total:,} bytes: only the {kept:,} bytes of lines around those that look like a dump or an outcome were read{full}"
    return decode(b"\n".join(lines), name), note
