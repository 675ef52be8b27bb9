"""Text as people paste it: mail and HTML damage mended, log prefixes taken off, so that a line begins with what the program printed."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Final

_MONTH: Final = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"

#: Prefixes that loggers and posters put before a line; taken off again and again until none fits.
_PREFIXES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"\s*>+ ?(?!>)",  # mail quotation
        r"\s*\[\s*\d+[.,]\d+\] ?",  # dmesg time
        r"\s*\[\s*[TC]\d+\] ?",  # dmesg caller
        r"\s*\[\s*(?:\.\.\.|…|\?+|x+|-+)?\s*\] ?",  # time blanked by the poster
        r"\s*<\d{1,2}>",  # kernel log level
        r"\s*(?:kern|user|daemon)\s*:(?:emerg|alert|crit|err|warn|notice|info|debug)\s*: ?",  # dmesg -x
        rf"\s*{_MONTH}\s+\d+ \d\d:\d\d:\d\d(?:\.\d+)? \S+ [^\s:]+(?:\[\d+\])?: ?",  # syslog
        r"\s*\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*(?: \S+ [^\s:]+(?:\[\d+\])?:)? ?",  # journal, ISO time
        r"\s*\[\d{4}-\d\d-\d\d[^\]]*\] ?",
        rf"\s*\[(?:[A-Z][a-z]{{2}} )?{_MONTH} [^\]]*\] ?",  # dmesg -T
        r"\s*\d\d:\d\d:\d\d\.\d+ ",  # VBox.log
        r"\s*\d+\t\d+\.\d+\t",  # DebugView
        r"\s*\(XEN\) ?",
        r"\s*\S+ kernel(?:\[\d+\])?: ?",
        r"\s*(?:(?:kernel|kvm_intel|kvm|kvm-intel):|\(intelhaxm\):?) ?",
        r"\s*haxm_\w+: ?",
        r"\s*\[[*+\-!#i]+\]",  # [**], [+]
        r"\s*\[(?!0x)[A-Za-z][\w .:@/-]*\]",  # [VMX], [NoirVisor]
        r"\s*(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR)\s+(?:[\w:]+: )?",
        r"\s*[-*•] (?=\S)",  # list item
    )
)
_CALLER: Final = re.compile(r"^[^A-Za-z]*\[\s*\d+\.\d+\]\s*\[\s*([TC]\d+)\]")
#: text/plain as mail transports it: "=3D" and soft line breaks
_QUOTED: Final = re.compile(r"=(3D|20|C2=A0|09|\n)")
_SPACES: Final = {ord("\u00a0"): " ", ord("\u202f"): " ", ord("\u2018"): "'", ord("\u2019"): "'", ord("\u201c"): '"', ord("\u201d"): '"'}


@dataclass(frozen=True)
class Line:
    """A line without its prefixes: its number in the text, its indentation, and who logged it (dmesg caller id, "" if not shown)."""

    number: int
    text: str
    indent: int
    caller: str
    raw: str


def mend(text: str) -> str:
    """The text with line ends, no-break spaces, quoted-printable and HTML escapes mended."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "").translate(_SPACES)
    if "=3D" in text:
        text = _QUOTED.sub(lambda match: {"3D": "=", "20": " ", "09": "\t", "C2=A0": " "}.get(match[1], ""), text)
    if "&" in text:
        text = html.unescape(text).translate(_SPACES)
    return text


def lines_of(text: str) -> list[Line]:
    """The lines of a mended text without prefixes; empty lines are left out."""
    result = []
    for number, raw in enumerate(text.split("\n"), 1):
        body = strip_prefixes(raw[:4000])
        if body.strip():
            expanded = body.expandtabs(8)
            caller = _CALLER.match(raw)
            indent = len(expanded) - len(expanded.lstrip())
            result.append(Line(number, body.strip(), indent, caller[1] if caller else "", raw))
    return result


def strip_prefixes(line: str) -> str:
    """The line after everything that loggers and posters put before it; its own indentation stays."""
    for _ in range(8):
        for prefix in _PREFIXES:
            match = prefix.match(line)
            if match and match.end():
                line = line[match.end() :]
                break
        else:
            break
    return line
