"""What a logger, an editor, a pager, a patch or a string literal put around every line of a text: times, names, numbers, marks, quotation marks.

Such a sign says nothing of one line. It is taken off where most lines of a text have it, or a long stretch of them: a single "+" may mean something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import Final

from vmfuzz.patterns import deferred

#: So many lines one after the other have a sign by no accident, wherever they stand.
_STRETCH: Final = 8
#: So many are the least of which it can be told that most have it.
_LEAST: Final = 3
#: `12: `, `  12  `, `12 | `, `L12 `, `(12) `; the numbers of an MSR list ("0: msr=0x600") are its own.
_NUMBERED: Final = deferred(r"\s*[L(\[]?(?P<number>\d{1,6})(?:\s*[:.)|\]](?!\d)\s?|\t| {1,2}|\s*$)(?!\s*msr=)")
#: Numbers that count capability MSRs, in hexadecimal or decimal, are no lines' numbers.
_MSRS: Final = (range(0x480, 0x49C), range(480, 500))
#: A list mark only before a blank; "#" is also where instructions to C's preprocessor begin; "|" at both ends is a table's.
_MARKED: Final = deferred(
    r"\s*(?P<mark>//|[+;!~%>│┃¦»]|[-*•](?=\s)|#(?!\s*(?:define|undef|if\w*|el\w+|endif|include|pragma|error)\b)|\|(?!.*(?:\s\|\s|\|\s*$))"
    r"|\[(?![^\]]*\b(?:guest|host)\b)[A-Za-z][\w :.@/-]*\]"
    r"|\"(?=.*\"[,;)]*\s*$)|'(?=.*'[,;)]*\s*$)|`(?=.*`[,;)]*\s*$)) ?",
    re.IGNORECASE,
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
_QUOTES: Final = frozenset("\"'`")
#: No logger puts more than so many characters before a line.
_LONGEST: Final = 120
#: Signs may stand before signs ("12 | + ...").
_DEEPEST: Final = 3


def undecorated(lines: list[str]) -> list[str]:
    """The lines, as many as before, without signs that most of them have."""
    for _ in range(_DEEPEST):
        before = lines
        for step in (_without_numbers, _without_marks, _without_backslashes):
            lines = step(lines)
        if lines is before:
            break
    return lines


def _without_numbers(lines: list[str]) -> list[str]:
    found = [_number_of(line) for line in lines]
    counted = [index for index, (number, _) in enumerate(found) if number >= 0 and _counts_on(found, index)]
    if not _is_habit(lines, counted) or any(all(found[index][0] in msrs for index in counted) for msrs in _MSRS):
        return lines
    return [line[end:] for line, (_, end) in zip(lines, found, strict=True)]


@lru_cache(maxsize=1 << 13)
def _number_of(line: str) -> tuple[int, int]:
    """(the number that a line begins with, where it ends); -1 and 0 where there is none."""
    match = _NUMBERED.match(line)
    return (int(match["number"]), match.end()) if match else (-1, 0)


def _counts_on(found: list[tuple[int, int]], index: int) -> bool:
    """Whether the number of the line before or behind is one less or one more."""
    number = found[index][0]
    return (index > 0 and found[index - 1][0] == number - 1) or (index + 1 < len(found) and found[index + 1][0] == number + 1)


def _is_habit(lines: list[str], having: list[int]) -> bool:
    """Whether these are nearly all lines that are not empty; less than a fifth of all lines is no habit, however many are empty."""
    if len(having) < _LEAST or len(having) * 5 < len(lines):
        return False
    return len(having) * 5 >= sum(not line.isspace() and line != "" for line in lines) * 4


def _without_marks(lines: list[str]) -> list[str]:
    found = [_mark_of(line) for line in lines]
    having: dict[str, list[int]] = {}
    for index, (mark, _) in enumerate(found):
        if mark:
            having.setdefault(mark, []).append(index)
    strip: set[int] = set()
    for indices in having.values():
        strip.update(indices if _is_habit(lines, indices) else _stretches(indices))
    return [_unmarked(line, *found[index]) if index in strip else line for index, line in enumerate(lines)] if strip else lines


@lru_cache(maxsize=1 << 13)
def _mark_of(line: str) -> tuple[str, int]:
    """(the mark that a line begins with, where it ends); "" and 0 where there is none."""
    match = _MARKED.match(line)
    return (match["mark"], match.end()) if match else ("", 0)


def _unmarked(line: str, mark: str, end: int) -> str:
    return _without_end(line[end:].rstrip().rstrip(",;) ").removesuffix(mark)) if mark in _QUOTES else line[end:]


def _stretches(indices: list[int]) -> Iterator[int]:
    """Those of the indices that follow one another in long stretches."""
    start = 0
    for end in range(1, len(indices) + 1):
        if end == len(indices) or indices[end] != indices[end - 1] + 1:
            if end - start >= _STRETCH:
                yield from indices[start:end]
            start = end


def _without_backslashes(lines: list[str]) -> list[str]:
    having = [index for index, line in enumerate(lines) if line.rstrip().endswith("\\")]
    return [_without_end(line.rstrip().rstrip("\\")) for line in lines] if _is_habit(lines, having) else lines


def _without_end(line: str) -> str:
    """A line of a string literal without the end of line that it spells."""
    return line.removesuffix("\\n").removesuffix("\\r").rstrip()


def without_heads(lines: list[str]) -> list[str]:
    """The lines without what most of them, or many, begin with but for the time: words of a logger, none of which tells what follows."""
    heads = [_heads(line) for line in lines]
    having: dict[str, list[int]] = {}
    for index, found in enumerate(heads):
        for head, _ in found:
            having.setdefault(head, []).append(index)
    ends = [0] * len(lines)
    for head, indices in having.items():
        habit = _is_habit(lines, indices)
        for index in indices if habit else _stretches(indices):
            ends[index] = max(ends[index], next(end for words, end in heads[index] if words == head))
    return [line[end:] for line, end in zip(lines, ends, strict=True)] if any(ends) else lines


@lru_cache(maxsize=1 << 13)
def _heads(line: str) -> tuple[tuple[str, int], ...]:
    """What a logger may have put before a line, shortest first: (the words, times as "#", where they end)."""
    found: list[tuple[str, int]] = []
    words, last = "", 0
    for word in islice(_WORD.finditer(line[:_LONGEST]), _MOST_WORDS):
        words += _COUNTS.sub("#", word[0].rstrip()) + " "
        if _TELLS.search(_FUNCTION.sub("", word[0]).replace("_", " ")) or not word[0][-1].isspace():
            break
        last = word.start() + len(word[0].rstrip()) + 1  # what blanks follow are indentation
        whole = all(words.count(opens) <= words.count(closes) for opens, closes in (("[", "]"), ("(", ")"), ("<", ">")))
        if whole and not words.replace(" ", "").isalnum() and any(sign.isalnum() or sign == "#" for sign in words):
            found.append((words, last))
    return tuple(found)
