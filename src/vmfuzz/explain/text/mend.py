"""Text as people paste it: what mail, pages, terminals, debuggers and string literals did to it is mended."""

from __future__ import annotations

import html
import re
from binascii import a2b_qp
from collections.abc import Callable
from typing import Final

from vmfuzz.patterns import deferred

#: So many ends of lines, spelt as in a string literal, are no accident.
_ENDS: Final = 3
_SPACES: Final = {"\u00a0": " ", "\u202f": " ", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
#: Characters without width, with which pages say where a long word may be broken.
_NOTHING: Final = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
_SPACE: Final = deferred(f"[{''.join(_SPACES)}{_NOTHING}]")


def mend(text: str) -> str:
    """The text as a program would have printed it."""
    text = _plain_spaces(text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", ""))
    if text.count("\\n") >= _ENDS and text.count("\\n") > 2 * text.count("\n"):
        text = text.strip().strip("\"'").replace("\\r", "").replace("\\n", "\n").replace("\\t", "\t")  # a string literal
    for sign, pattern, new in _DAMAGES:
        if sign in text:
            text = pattern.sub(new, text)
    return _plain_spaces(text)


def _plain_spaces(text: str) -> str:
    """The text with the blanks and quotation marks of ASCII (`str.translate` takes ten times as long)."""
    return text if text.isascii() else _SPACE.sub(lambda match: _SPACES.get(match[0], ""), text)


def _unfolded(match: re.Match[str]) -> str:
    """A structure with several members on a line, which may be wrapped and quoted, spread over lines of its own."""
    before = "\n" * (match.string[match.start() - 1 : match.start()] not in ("", "\n"))
    text = " ".join(re.sub(r"(?<=\w)\n(?=\w)", "", match[0].replace("\n> ", "\n")).split())
    return before + re.sub(r"\s*(\}+),?\s*", r"\n\1\n", re.sub(r"(\{) ?|(,) ", r"\1\2\n", text))


#: What is mended, in this order: a sign of it in the text, pattern, what takes its place.
_DAMAGES: Final[tuple[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]], ...]] = (
    # text/plain as mail transports it: "=3D" and soft line breaks; a letter beyond ASCII is a run of such bytes, which a break may divide
    ("=", deferred(r"=[C-F][0-9A-F](?:(?:=\n)?=[89AB][0-9A-F])+"), lambda match: a2b_qp(match[0]).decode("utf-8", "replace")),
    ("=3D", deferred(r"=(3D|20|09|\n)"), lambda match: {"3D": "=", "20": " ", "09": "\t"}.get(match[1], "")),
    # `0x` and blanks up to the width of the number, as "0x%16x" prints it
    ("0x ", deferred(r"\b0x( {1,15})(?=[0-9a-fA-F]{1,15}\b(?!\s*[:=]))"), lambda match: "0x" + "0" * len(match[1])),
    # pages and tables in them: a cell, where a block or a row ends and another begins on the same line, other tags
    ("<", deferred(r"</t[dh]>\s*<t[dh][^>]*>", re.IGNORECASE), " | "),
    ("<", deferred(r"<br ?/?>\n?|</(?:p|div|li|tr|h\d|pre|table|[uo]l|blockquote)>(?=[ \t]*[^ \t\n])", re.IGNORECASE), "\n"),
    (
        "<",
        deferred(r"</?(?:[abpiu]|div|li|t[rdht]|h\d|[uo]l|pre|table|tbody|span|code|font|em|strong|html|body|wbr)\b[^<>]*>", re.IGNORECASE),
        "",
    ),
    ("&", deferred(r"&#?\w{1,31};"), lambda match: html.unescape(match[0])),
    # colours and other terminal sequences, also as loggers and pagers spell the escape character, or colours without it
    ("[", deferred(r"(?:\x1b|\^\[|[#\\]033|\\(?:x|u00)1b)\[[0-9;?]*[A-Za-z]|\[\d\d?(?:;\d{1,3}){0,4}m(?!\])"), ""),
    ("\x1b(", deferred(r"\x1b\([0AB]"), ""),
    # the end of a line as a string literal spells it, and as what says that the line goes on
    ("\\", deferred(r"(?:\\[rn])+(?=[\"']?[,;)]*[ \t]*\\?$)|\\+$", re.MULTILINE), ""),
    # the heading of a section of KVM's and Xen's dumps within a line: whoever pasted it lost the ends of lines
    ("State **", deferred(r"\*\*\*(?<=[ \t]\*{3})(?= ?(?:Guest|Host|Control) State \*\*\*[^\n]{9})"), r"\n***"),
    # numbers and types as WinDbg prints them
    ("`", deferred(r"\b([0-9a-fA-F]{8})`([0-9a-fA-F]{8})\b"), r"\1\2"),
    ("[Type:", deferred(r"\s*\[Type: [^\]]*\]$", re.MULTILINE), ""),
    # a structure of gdb or KVM's of Rust, whatever stands around it, and however its line is wrapped or cut; any other that is a line
    (
        "{",
        deferred(
            r"(?:^\$\d+ = |\bkvm_s?regs )\{ ?(?=\w)(?:[^;(){}]*\{[^;(){}]*(?:\{[^;(){}]*\}[^;(){}]*)?\})*"
            r"(?:[^;(){}]*\}|[^\n;(){}]*(?:\{[^\n;(){}]*)?$)|"
            r"^(?![^\n{]*(?:[Ff]ail|[Ee]rr|ExitReason)\w* ?\{ ?(?:error|basic|code): \w+(?:, entry_failure: \w+)? ?\})"
            r"(?:[^\n{]*[ \t=>])?(?:[A-Za-z_]\w* ?)?\{ ?[A-Za-z_]\w*\s*[:=](?!=)[^;()\n]*\}[,. \t]*$",
            re.MULTILINE,
        ),
        _unfolded,
    ),
)
