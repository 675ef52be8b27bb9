"""What a logger, an editor, a pager, a patch or a string literal put around lines: times, names, numbers, marks, quotation marks.

What can be nothing else is taken off every line. Any other sign is taken off where most lines of a text have it, or a long stretch of them: a single
"+" may mean something.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from typing import Final

from vmfuzz.explain.text.numbers import runs
from vmfuzz.patterns import deferred

#: What loggers and posters put before a single line, as many of them as there are.
_PREFIXES: Final = deferred(
    r"(?:\s*(?:"
    r">+ ?(?!>)|"  # mail quotation
    r"\d{8,}[a-z]\[[^\]]{1,12}\] ?|"  # Bochs: its clock, how bad it is, who says it
    # a time, a caller, a program, a mark, a time blanked by the poster: [ 12.345], [T123], [VMX], [**], [...]; not what a value stands behind
    # ([GUEST_CR0] 0x...), an encoding, or what names an area
    r"\[(?!0x|[0-9a-fA-F]{4}[hH]?\]|[^\]]*\b(?i:guest|host)\b)[^\[\]={}\"']{0,40}\](?!\s*[=:]?\s*(?:0[xX])?[0-9a-fA-F]+[hH]?\s*$):? ?|"
    # a clock, a date before it, and who logged: syslog with months in any language, the journal, libvirt
    r"(?:[^\s\d=]\S{1,5}\s+\d{1,2} |\d[\d./-]+[T ])?\d\d:\d\d:\d\d\S*"
    r"(?: \d+: \w+ :(?: \w+:\d+ :)?| [\w.-]+ (?:kernel|[\w./@-]+\[\d+\]|[a-z][\w-]*-[\w-]+):)? ?|"
    r"\S[^\[\]]{0,24}-\d+ +(?:\( *[\d-]+\) +)?\[\d{3}\] +(?:\S{4,5} +)?\d+\.\d+: (?:(?:b?print|bputs): +[\w.]+: )?|"  # ftrace
    r"(?:/(?:[\w.+-]+/)*[\w.+-]+|[\w-]+\.(?:log|txt|out)):(?:\d+:)?|"  # grep's name of the file
    r"(?:\((?:XEN|d\d+|intelhaxm)\):?(?: d\d+v\d+)?|(?:kernel|kvm[_-]intel|kvm):) ?|"
    r"(?:TRACE|DEBUG|INFO|WARN|WARNING|ERROR)\s+(?:[\w:]+: )?|"
    r"(?:[A-Za-z]\w{0,15}\(\w{1,10}\): )?@?[A-Za-z][\w.+-]{0,40}@(?=[A-Za-z_]\w*\s*[=:])|"  # the dump's tag
    r"\+0x[0-9a-fA-F]{3,4} +"  # WinDbg's dt
    r"))*"
)
#: So many lines one after the other have a sign by no accident, wherever they stand.
_STRETCH: Final = 8
#: So many are the least of which it can be told that most have it.
_LEAST: Final = 3
#: `12: `, `  12  `, `12 | `, `L12 `, `(12) `; but not where nothing but a number follows ("480: 0xda0400..."), or an MSR's ("0: msr=0x600").
_NUMBERED: Final = deferred(
    r"\s*[L(\[]?(?P<number>\d{1,6})(?:\s*[:.)|\]](?!\d)\s?|\t| {1,2}|\s*$)(?!\s*(?:msr=|(?:0[xX])?[0-9a-fA-F]+\s*$))"
)
#: A list mark only before a blank; "#" is also where instructions to C's preprocessor begin; "|" at both ends is a table's.
_MARKED: Final = deferred(
    r"\s*(?P<mark>//|[+;%>│┃¦»]|[-*•!~](?=\s)|#(?!\s*(?:define|undef|if\w*|el\w+|endif|include|pragma|error)\b)|\|(?!.*(?:\s\|\s|\|\s*$))|"
    r"(?P<quote>[\"'`])(?=.*(?P=quote)[,;)]*\s*$)) ?"
)
#: A time, a date, a version: it may differ from line to line. A number alone may be an encoding.
_COUNTS: Final = deferred(r"\d+(?:[:.,/+-]+\d+)+")
_WORD: Final = deferred(r"\S+\s*")
#: Words that tell what follows them: no line may lose one.
_TELLS: Final = deferred(
    r"\b(?:guest|host|ctrl|ctls?|controls?|entry|exit|sysenter|state|reason|error|qual\w*|[c-gs]s|ldtr?|tr|[gi]dtr?|e?[re]?(?:flags|[is]p)|cr\d|dr\d|"
    r"lim\w*|base|sel\w*|rights|attr\w*|ar|access|type|dpl|present|unusable|msrs?|encoding|field|value|name|index|offset|efer|pat|vm(?:read|write)|def\w*|const\w*|equ|set|case|return|enum|0x\w*)\b",
    re.IGNORECASE,
)
#: The name of a function that prints tells nothing of what follows.
_FUNCTION: Final = deferred(r"\b(?:dump|print|show|log)_\w+")
#: So many words a logger puts before a line at most.
_MOST_WORDS: Final = 9
#: Signs may stand before signs ("12 | + ...").
_DEEPEST: Final = 5
#: So many characters of a line are read at most; reading.py warns of the rest.
MOST_CHARACTERS: Final = 1 << 14


def undecorated(lines: list[str]) -> list[str]:
    """The lines, as many as before, without what loggers and posters put before each, and without signs that most of them, or many, have."""
    for _ in range(_DEEPEST):
        bare = list(map(_without_prefixes, lines))
        lines = _without_habits(bare)
        if lines == bare:
            break
    return lines


@lru_cache(maxsize=1 << 13)
def _without_prefixes(line: str) -> str:
    """The line after everything that loggers and posters put before it; its own indentation stays."""
    line = line if len(line) <= MOST_CHARACTERS else line[:MOST_CHARACTERS].rpartition(" ")[0]  # (no number is cut)
    found = _PREFIXES.match(line)
    return line[found.end() :] if found else line


def _without_habits(lines: list[str]) -> list[str]:
    """The lines without those of their signs that nearly all have that are not empty, and at least a fifth of all, or long stretches of them."""
    having: dict[str, dict[int, str]] = {}
    numbered = 0
    for index, line in enumerate(lines):
        if match := _NUMBERED.match(line):  # by the distance from how many numbers stand above, the same for all lines that count on
            numbered += 1
            having.setdefault(str(int(match["number"]) - numbered), {})[index] = line[match.end() :]
        for sign, rest in _signs(line):
            having.setdefault(sign, {})[index] = rest
    result = list(lines)
    nearly_all = max(len(lines), 4 * sum(not line.isspace() for line in lines if line))
    for rests in (each for each in having.values() if len(each) >= _LEAST):
        for run in runs(rests):
            if len(rests) * 5 >= nearly_all or len(run) >= _STRETCH:
                for index in run:
                    result[index] = min(result[index], rests[index], key=len)
    return result


@lru_cache(maxsize=1 << 13)
def _signs(line: str) -> tuple[tuple[str, str], ...]:
    """(a sign, the line without it): a mark before or behind it, or else what a logger may have put there, shortest first: words, times as "#"."""
    if match := _MARKED.match(line):
        mark, rest = match["mark"], line[match.end() :]
        return ((mark, rest.rstrip(" \t,;)").removesuffix(mark) if match["quote"] else rest),)
    found: list[tuple[str, str]] = []
    words = ""
    for word in islice(_WORD.finditer(line), _MOST_WORDS):
        words += _COUNTS.sub("#", word[0].rstrip()) + " "
        if not word[0][-1].isspace() or _TELLS.search(_FUNCTION.sub("", word[0]).replace("_", " ")):
            break
        no_call = all(words.count(opens) <= words.count(closes) for opens, closes in (("[", "]"), ("(", ")"), ("<", ">")))
        if no_call and not words.replace(" ", "").isalnum() and any(sign.isalnum() or sign == "#" for sign in words):
            found.append((words, line[word.start() + len(word[0].rstrip()) + 1 :]))  # what blanks follow are indentation
    return tuple(found)
