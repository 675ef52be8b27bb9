"""The text in what a person gives, however large: a log of hundreds of megabytes is searched for the lines that matter, an endless file is refused."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from itertools import chain, repeat
from typing import BinaryIO, Final

from vmfuzz.errors import UsageError

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
#: The marks of UTF-16.
_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")


def read_all(stream: BinaryIO, name: str) -> tuple[str, str]:
    """(text, what was left out of it: "" where nothing was). Raises UsageError for what has no end, or holds nothing but binary data."""
    data = stream.read(_WHOLE + 1)
    if len(data) <= _WHOLE:
        return decode(data, name), ""
    lines, kept = _searched(_lines(data, stream, name))
    count = len(lines) - 1
    if not kept:
        if data.strip():
            decode(data, name)  # which refuses what is no text
        return "", f"{name} has {count:,} lines, and none that looks like a dump or the outcome of a VM entry"
    more, first = ("more than ", "first ") if kept >= _WHOLE else ("", "")
    note = f"{name} has {more}{count:,} lines: only the {first}{kept:,} bytes around those that look like a dump or an outcome were read"
    return decode(b"\n".join(lines) + b"\n" * bool(more), name), note


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
        yield from ((line[:_LONGEST_LINE], searched and _matters(line[:_LONGEST_LINE])) for line in lines)
        rest = rest[:_LONGEST_LINE]
        data = stream.read(_WHOLE)
    yield rest, _matters(rest)


def _matters(text: bytes) -> bool:
    small = text.lower()
    return any(needle in small for needle in _MATTERS)


def _searched(lines: Iterator[tuple[bytes, bool]]) -> tuple[list[bytes], int]:
    """(the lines that matter and those around them, the others as empty lines, so that line numbers stay; how many bytes: no more than enough)."""
    result: list[bytes] = []
    decided, last, kept = -_AROUND, -2 * _AROUND, 0  # of the line `decided` no line from here on tells anything
    for line, matters in chain(lines, repeat((b"", False), _AROUND)):
        result.append(line)
        last = decided + _AROUND if matters else last
        if decided >= 0 and last >= decided - _AROUND:
            kept += len(result[decided])
        elif decided >= 0:
            result[decided] = b""
        decided += 1
        if kept >= _WHOLE:
            break
    return result[:decided], kept


def decode(data: bytes, name: str) -> str:
    """Bytes as text; what is no UTF-8, or UTF-16, is kept as replacement characters. Raises UsageError, naming `name`, for what is no text at all."""
    if not data.strip():
        raise UsageError(f"{name} is empty: expected a VMCS dump, a log, or vmfuzz's JSON")
    encoding = _encoding(data)
    if not encoding:
        raise UsageError(
            f"{name} is binary data: expected text. (The VMCS region in memory has a layout that Intel does not publish; read the fields with VMREAD, "
            "`vmfuzz dump-code` prints a function for that.)"
        )
    return data.decode(encoding, "replace")


def _encoding(data: bytes) -> str:
    """UTF-16 by its mark, or by its zeros where that is lost, as in what PowerShell's redirection writes; "" for what is no text, else UTF-8."""
    if data.startswith(_MARKS):
        return "utf-16"
    head = data[:4096]
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if head[first::2].count(0) * 10 >= len(head[first::2]) * 9 > 0:
            return encoding if any(32 <= byte < 127 for byte in head) else ""
    odd = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head)
    return "" if odd * 10 > len(head) else "utf-8"
