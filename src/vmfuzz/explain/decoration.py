"""What an editor, a pager, a patch or a string literal put around every line of a text: line numbers, marks, quotation marks, a backslash.

Such a sign says nothing of one line. It is taken off where most lines of a text have it, or a long stretch of them: a single "+" may mean something.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

#: So many lines one after the other have a sign by no accident, wherever they stand.
_STRETCH: Final = 8
#: So many are the least of which it can be told that most have it.
_LEAST: Final = 3
#: `12: `, `  12  `, `12 | `, `L12 `; the numbers of an MSR list ("0: msr=0x600") are its own.
_NUMBERED: Final = re.compile(r"\s*L?(?P<number>\d{1,6})(?:\s*[:.)|\]](?!\d)\s?|\t| {1,2}|\s*$)(?!\s*msr=)")
#: Numbers that count capability MSRs, in hexadecimal or decimal, are no lines' numbers.
_MSRS: Final = (range(0x480, 0x49C), range(480, 500))
#: A list mark only before a blank; "#" is also where instructions to C's preprocessor begin; "|" at both ends is a table's.
_MARKED: Final = re.compile(
    r"\s*(?P<mark>//|[+;!~%>│┃¦»]|[-*•](?=\s)|#(?!\s*(?:define|undef|if\w*|el\w+|endif|include|pragma|error)\b)|\|(?!.*(?:\s\|\s|\|\s*$))"
    r"|\[(?![^\]]*\b(?:guest|host)\b)[A-Za-z][\w :.@/-]*\]"
    r"|\"(?=.*\"[,;)]*\s*$)|'(?=.*'[,;)]*\s*$)|`(?=.*`[,;)]*\s*$)) ?",
    re.IGNORECASE,
)
_QUOTES: Final = frozenset("\"'`")
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
    found = [_NUMBERED.match(line) for line in lines]
    numbers = [int(match["number"]) if match else None for match in found]
    counted = [
        index
        for index, number in enumerate(numbers)
        if number is not None
        and any(0 <= other < len(lines) and numbers[other] == number + other - index for other in (index - 1, index + 1))
    ]
    if any(all(numbers[index] in msrs for index in counted) for msrs in _MSRS) or not _is_habit(lines, counted):
        return lines
    return [line[match.end() :] if match else line for line, match in zip(lines, found, strict=True)]


def _is_habit(lines: list[str], having: list[int]) -> bool:
    return len(having) >= _LEAST and len(having) * 5 >= sum(not line.isspace() and line != "" for line in lines) * 4


def _without_marks(lines: list[str]) -> list[str]:
    found = [_MARKED.match(line) for line in lines]
    marks = [match["mark"] if match else "" for match in found]
    having: dict[str, list[int]] = {}
    for index, mark in enumerate(marks):
        having.setdefault(mark, []).append(index)
    having.pop("", None)
    strip: set[int] = set()
    for indices in having.values():
        strip.update(indices if _is_habit(lines, indices) else _stretches(indices))
    if not strip:
        return lines
    result = list(lines)
    for index in strip:
        match = found[index]
        if match is not None:
            rest = result[index][match.end() :]
            result[index] = _without_end(rest.rstrip().rstrip(",;) ").removesuffix(match["mark"])) if match["mark"] in _QUOTES else rest
    return result


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
