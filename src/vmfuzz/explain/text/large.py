"""The text in what a person gives, however large: a log of hundreds of megabytes is searched for the lines that matter, an endless file is refused."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, Final

from vmfuzz.errors import UsageError

#: Texts up to this size are read as they are; of larger ones, about so much is kept at most.
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
#: The marks of UTF-16.
_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def read_all(stream: BinaryIO, name: str) -> tuple[str, str]:
    """(text, what was left out of it: "" where nothing was). Raises UsageError for what has no end, or holds nothing but binary data."""
    data = stream.read(_WHOLE + 1)
    if len(data) <= _WHOLE:
        return decode(data, name), ""
    text, kept = _searched(_lines(data, stream, name))
    count = text.count(b"\n")
    if not kept:
        decode(data, name)  # which refuses what is no text
        return "", f"{name} has {count:,} lines, and none that looks like a dump or the outcome of a VM entry"
    more, first = ("more than ", "first ") if kept >= _WHOLE else ("", "")
    note = f"{name} has {more}{count:,} lines: only the {first}{kept:,} bytes around those that look like a dump or an outcome were read"
    return decode(text, name), note


def _lines(data: bytes, stream: BinaryIO, name: str) -> Iterator[tuple[bytes, bool]]:
    """Each line of the data and of what follows in the stream, as far as it may be read, and whether it matters. Raises UsageError for an endless one."""
    total, rest = 0, b""
    utf_16 = codecs.getincrementaldecoder("utf-16")("replace") if data.startswith(_MARKS) else None
    while data:
        total += len(data)
        if total > _MOST_READ:
            raise UsageError(f"{name} has more than {_MOST_READ} bytes: expected a log or a dump; cut out the part around the failure")
        data = rest + (utf_16.decode(data).encode() if utf_16 else data)
        searched = _matters(data)
        *lines, rest = data.split(b"\n")
        yield from ((line[:_LONGEST_LINE] + b"\n", searched and _matters(line[:_LONGEST_LINE])) for line in lines)
        rest = rest[:_LONGEST_LINE]
        data = stream.read(_WHOLE)
    if rest:
        yield rest, _matters(rest)


def _matters(text: bytes) -> bool:
    small = text.lower()
    return any(needle in small for needle in _MATTERS)


def _searched(lines: Iterator[tuple[bytes, bool]]) -> tuple[bytes, int]:
    """(the lines that matter and those around them, the others as empty lines, so that line numbers stay; how many bytes are kept: about enough)."""
    result = bytearray()
    before: deque[bytes] = deque()  # the last lines, as long as nothing says whether they are kept
    kept, left = 0, -1  # so many bytes are kept, so many lines are still to be
    for line, matters in lines:
        before.append(line)
        left = _AROUND if matters else left - 1
        if left >= 0:
            result += b"".join(before)
            kept += sum(map(len, before))
            before.clear()
        elif len(before) > _AROUND:
            before.popleft()
            result += b"\n"
        if kept >= _WHOLE:
            break
    return bytes(result) + b"\n" * len(before), kept


def decode(data: bytes, name: str) -> str:
    """Bytes as text; what is no UTF-8, or UTF-16, is kept as replacement characters. Raises UsageError, naming `name`, for what is no text at all."""
    if not data.strip():
        raise UsageError(f"{name} is empty: expected a VMCS dump, a log, or vmfuzz's JSON")
    head = data[:4096]
    # UTF-16 that lost its mark, as PowerShell's redirection writes it
    lost_mark = head[1::2].count(0) * 10 >= len(head) * 4 and any(32 <= byte < 127 for byte in head)
    if data.startswith(_MARKS) or lost_mark:
        return data.decode("utf-16", "replace")
    odd = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head)
    if odd * 10 > len(head):
        raise UsageError(
            f"{name} is binary data: expected text. (The VMCS region in memory has a layout that Intel does not publish; read the fields with VMREAD, "
            "`vmfuzz dump-code` prints a function for that.)"
        )
    return data.decode("utf-8", "replace")
