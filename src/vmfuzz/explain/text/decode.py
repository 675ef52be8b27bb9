"""Bytes as text: UTF-8 and UTF-16 with and without a mark; what is no text is refused."""

from __future__ import annotations

from vmfuzz.errors import UsageError


def decode(data: bytes, name: str) -> str:
    """Bytes as text; whatever is not UTF-8 is kept as replacement characters. Raises UsageError, naming `name`, for what is no text at all."""
    if not data.strip():
        raise UsageError(f"{name} is empty: expected a VMCS dump, a log, or vmfuzz's JSON")
    if data[:2] not in (b"\xff\xfe", b"\xfe\xff") and _is_binary(data):
        raise UsageError(
            f"{name} is binary data: expected text. (The VMCS region in memory has a layout that Intel does not publish; read the fields with VMREAD, "
            "`vmfuzz dump-code` prints a function for that.)"
        )
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    if len(data) > 8 and data[1::2][:2048].count(0) * 10 >= len(data[1::2][:2048]) * 9:
        return data.decode("utf-16-le", "replace")  # what PowerShell's redirection writes, the mark lost
    return data.decode("utf-8", "replace")


def _is_binary(data: bytes) -> bool:
    """Whether most of the beginning is neither text nor what UTF-16 without a mark looks like."""
    head = data[:4096]
    if head[1::2].count(0) * 10 >= len(head[1::2]) * 9 or head[::2].count(0) * 10 >= len(head[::2]) * 9:
        return not any(32 <= byte < 127 for byte in head)
    odd = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head)
    return odd * 10 > len(head)
