"""Text as people paste it: mail and HTML damage mended, log prefixes taken off, so that a line begins with what the program printed."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vmfuzz.explain.text.decoration import undecorated, without_heads
from vmfuzz.patterns import deferred

#: Prefixes that loggers and posters put before a line; taken off again and again until none fits.
_PREFIXES: Final = tuple(
    deferred(pattern)
    for pattern in (
        r"\s*>+ ?(?!>)",  # mail quotation
        r"\s*\[\s*(?:[+<]\s*)?\d+[.,]\d+>?\] ?",  # dmesg time
        r"\s*\S[^\[\]]{0,24}-\d+ +(?:\( *[\d-]+\) +)?\[\d{3}\] +(?:\S{4,5} +)?\d+\.\d+: (?:(?:b?print|bputs): +[\w.]+: )?",  # ftrace
        r"\s*\[\s*[TC]\d+\] ?",  # dmesg caller
        r"\s*\[\s*(?:\.\.\.|…|\?+|x+|-+)?\s*\] ?",  # time blanked by the poster
        r"\s*[^\s\d=]\S{1,5}\s+\d{1,2} \d\d:\d\d:\d\d(?:\.\d+)? \S+ [^\s:]+(?:\[\d+\])?: ?",  # syslog, months in any language
        r"\s*(?:/(?:[\w.+-]+/)*[\w.+-]+|[\w-]+\.(?:log|txt|out)):(?:\d+:)?",  # grep's name of the file
        r"\s*\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*: \d+: \w+ :(?: \w+:\d+ :)? ?",  # libvirt
        r"\s*\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*(?: [\w.-]+ (?:kernel|[\w./@-]+\[\d+\]|[a-z][\w-]*-[\w-]+):)? ?",  # journal, ISO time
        r"\s*\((?:XEN|d\d+)\) ?(?:d\d+v\d+ )?",
        r"\s*(?:(?:kernel|kvm_intel|kvm|kvm-intel):|\(intelhaxm\):?) ?",
        r"\s*\[[*+\-!#i]+\]",  # [**], [+]
        # [VMX], [NoirVisor], but not [GUEST_CR0] 0x... and what names an area
        r"\s*\[(?!0x)(?![^\]]*\b(?:[Gg]uest|GUEST|[Hh]ost|HOST)\b)[A-Za-z][\w .:@/-]*\](?!\s*[=:]?\s*(?:0[xX])?[0-9a-fA-F]+[hH]?\s*$)",
        r"\s*(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR)\s+(?:[\w:]+: )?",
        r"\s*(?:[A-Za-z]\w{0,15}\(\w{1,10}\): )?@?[A-Za-z][\w.+-]{0,40}@(?=[A-Za-z_]\w*\s*[=:])",  # the dump's tag
        r"\s*(?:\[\+0x[0-9a-fA-F]+\]|\+0x[0-9a-fA-F]{3,4}) +",  # WinDbg's dx and dt
    )
)
_LONGEST: Final = 4000
#: So many ends of lines, spelt as in a string literal, are no accident.
_ENDS: Final = 3
#: Fewer lines than this show no habit.
_ENOUGH: Final = 2
#: Control characters, and what stands for bytes that are no UTF-8.
_NO_TEXT: Final = deferred(r"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
_CALLER: Final = deferred(r"^[^A-Za-z]*\[\s*\d+\.\d+\]\s*\[\s*([TC]\d+)\]")
#: text/plain as mail transports it: "=3D" and soft line breaks; a letter beyond ASCII is a run of such bytes, which a break may divide.
_QUOTED: Final = deferred(r"=(3D|20|09|\n)")
_QUOTED_LETTER: Final = deferred(r"=[C-F][0-9A-F](?:(?:=\n)?=[89AB][0-9A-F])+")
#: Colours and other terminal sequences, also as loggers and pagers spell the escape character.
_TERMINAL: Final = deferred(r"(?:\x1b|\^\[|#033|\\x1b|\\033|\\u001b)(?:\[[0-9;?]*[A-Za-z]|\][^\x07\n]*\x07|\([0AB])")
#: Colours whose escape character was lost when they were pasted; so many are no accident.
_COLOUR: Final = deferred(r"\[(?:0|\d{1,2}(?:;\d{1,3}){0,4})m")
_COLOURED: Final = 3
#: A structure on one line, as debuggers and Rust's "{:?}" print it: `$1 = {guest_cr0 = 0x80050033, ...}`, `State { cr0: 5, cs: Segment { ... } }`.
_STRUCTURE: Final = deferred(r"(?:^|[\s=>])(?:[A-Za-z_]\w* ?)?\{ ?[A-Za-z_]\w*\s*[:=](?!=)[^;()]*\}[,.\s]*$")
#: What is mended: a sign of it, pattern, what takes its place.
_BEFORE_UNESCAPING: Final = (
    # `0x` and blanks up to the width of the number, as "0x%16x" prints it
    ("0x ", deferred(r"\b0x( {1,15})(?=[0-9a-fA-F]{1,15}\b(?!\s*[:=]))"), lambda match: "0x" + "0" * len(match[1])),
    # pages and tables in them: a cell, where a block or a row ends and another begins on the same line, other tags
    ("<", deferred(r"<br ?/?>\n?", re.IGNORECASE), "\n"),
    ("<", deferred(r"</t[dh]>\s*<t[dh][^>]*>", re.IGNORECASE), " | "),
    ("<", deferred(r"</(?:p|div|li|tr|h\d|pre|table|ul|ol|blockquote)>(?=[ \t]*[^ \t\n])", re.IGNORECASE), "\n"),
    (
        "<",
        deferred(
            r"</?(?:pre|p|div|span|code|b|i|u|tt|font|a|li|ul|ol|table|tbody|thead|tr|td|th|em|strong|samp|kbd|blockquote|h\d|html|body|wbr)\b[^<>]*>",
            re.IGNORECASE,
        ),
        "",
    ),
)
_OF_WINDBG: Final = (
    ("`", deferred(r"\b([0-9a-fA-F]{8})`([0-9a-fA-F]{8})\b"), r"\1\2"),
    ("[Type:", deferred(r"\s*\[Type: [^\]]*\]$", re.MULTILINE), ""),
)
_SPACES: Final = {"\u00a0": " ", "\u202f": " ", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
#: Characters without width, with which pages say where a long word may be broken.
_NOTHING: Final = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
_SPACE: Final = deferred(f"[{''.join(_SPACES)}{_NOTHING}]")


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
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    text = _plain_spaces(text)
    if text.count("\\n") >= _ENDS and text.count("\\n") > 2 * text.count("\n"):
        text = text.strip().strip("\"'").replace("\\r", "").replace("\\n", "\n").replace("\\t", "\t")  # a string literal
    if "=3D" in text or _QUOTED_LETTER.search(text):
        text = _plain_spaces(_QUOTED_LETTER.sub(_letters, text))
        text = _QUOTED.sub(lambda match: {"3D": "=", "20": " ", "09": "\t"}.get(match[1], ""), text)
    text = _replaced(text, _BEFORE_UNESCAPING)
    if "&" in text:
        text = _plain_spaces(html.unescape(text))
    if "[" in text or "]" in text or "\x1b" in text:
        text = _TERMINAL.sub("", text)
        if len(_COLOUR.findall(text)) >= _COLOURED:
            text = _COLOUR.sub("", text)
    text = _replaced(text, _OF_WINDBG)
    if "{" in text:
        text = "\n".join(_unfolded(line) if "{" in line and "}" in line else line for line in text.split("\n"))
    return text


def _replaced(text: str, table: Iterable[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]]]) -> str:
    for sign, pattern, new in table:
        if sign in text:
            text = pattern.sub(new, text)
    return text


def _letters(match: re.Match[str]) -> str:
    """What a run of quoted bytes stands for."""
    return bytes(int(byte, 16) for byte in re.findall(r"=([0-9A-F]{2})", match[0])).decode("utf-8", "replace")


def _plain_spaces(text: str) -> str:
    """The text with the blanks and quotation marks of ASCII (`str.translate` takes ten times as long)."""
    return text if text.isascii() else _SPACE.sub(lambda match: _SPACES.get(match[0], ""), text)


def _unfolded(line: str) -> str:
    """A structure on one line, spread over lines."""
    if not _STRUCTURE.search(line):
        return line
    return re.sub(r"\s*(\}+),?\s*", r"\n\1\n", re.sub(r",\s+", ",\n", re.sub(r"\{\s*", "{\n", line)))


@lru_cache(maxsize=1 << 13)
def _logged(bare: str) -> str:
    """A line without the prefixes of loggers."""
    return strip_prefixes(bare[:_LONGEST])


@lru_cache(maxsize=1 << 13)
def _indent(body: str) -> int:
    expanded = body.expandtabs(8)
    return len(expanded) - len(expanded.lstrip())


def lines_of(text: str) -> list[Line]:
    """The lines of a mended text without prefixes; empty lines are left out."""
    result = []
    raws = text.split("\n")
    logged = [_logged(bare) for bare in undecorated(raws)]
    bodies = [_logged(body) for body in without_heads(logged)]
    for number, (raw, body) in enumerate(zip(raws, bodies, strict=True), 1):
        if body and not body.isspace():
            caller = _CALLER.match(raw)
            result.append(Line(number, body.strip(), _indent(body), caller[1] if caller else "", raw))
    return result


#: First lines that are the end of a line: of one with "LDTR:" or "IDTR Limit:", and of one with several numbers.
_END_OF_NAME: Final = deferred(r"TR\b", re.IGNORECASE)
_PAIR: Final = deferred(r"[A-Za-z][\w .]{0,40}[:=] *(?:0x)?[0-9a-fA-F]+$")
_NUMBERS: Final = deferred(r"[0-9a-fA-F]+(?:[ :]+[0-9a-fA-F]+)+$")


def garbled(lines: list[Line]) -> frozenset[int]:
    """The numbers of lines with characters that no program prints; none where nearly all lines have some, as logs of terminals do."""
    found = frozenset(line.number for line in lines if not line.raw.isascii() or not line.raw.isprintable() if _NO_TEXT.search(line.raw))
    return found if len(found) * 4 <= len(lines) * 3 else frozenset()


@dataclass(frozen=True)
class Ends:
    """The lines of a text that may not be whole: the first, if the text seems to begin within it, and the last, if it has no line end."""

    torn: Line | None = None
    unfinished: Line | None = None


def begins_within(lines: list[Line]) -> Line | None:
    """The first line of a text if it seems to have lost its beginning: the prefix that most others have, or most of its name."""
    if not lines:
        return None
    first, *others = lines
    if not others:
        return first if _END_OF_NAME.match(first.raw) else None
    logged = sum(line.raw.strip() != line.text for line in others)
    below = [line for line in others[:_ENOUGH] if line.raw.strip() != line.text and _PAIR.match(line.text)]
    habit = logged * 5 >= len(others) * 4 or (len(below) == _ENOUGH and _PAIR.match(first.text))
    lost = first.raw.strip() == first.text and len(others) >= _ENOUGH and habit
    numbers = _NUMBERS.match(first.text) and not any(_NUMBERS.match(line.text) for line in others)
    return first if lost or numbers or _END_OF_NAME.match(first.text) else None


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


def ranges(numbers: Iterable[int]) -> str:
    """Line numbers as a person writes them: "lines 3 to 40, 42"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    shown = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in runs)
    return f"line {shown}" if shown.isdecimal() else f"lines {shown}"
