"""Markdown for a terminal of 80 columns: paragraphs and list items wrapped, tables, headings and code as they are."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Final

COLUMNS: Final = 80
_ITEM: Final = re.compile(r"( *)([-*] |\d+\. )(.*)")
#: Lines that stand for themselves: table, heading, quotation, comment, picture, indented code.
_ALONE: Final = re.compile(r"\||#|>|<!--|!\[|    ")
_CODE: Final = re.compile(r"`[^`]*`")
#: What begins a list, a heading or a quotation where it begins a line.
_MARKER: Final = re.compile(r" (?=(?:[-+*>]|#+|\d+[.)])(?: |$))")
#: Stands for a blank that no line ends at.
_GLUE: Final = "\0"
_LONGEST_CODE: Final = 60


def wrapped(markdown: str) -> str:
    """The same page with its prose in lines of at most 80 columns, but for single words and short pieces of code, which stay whole."""
    return "\n".join(_lines(markdown.split("\n")))


def _lines(lines: list[str]) -> Iterator[str]:
    paragraph: list[str] = []
    in_code = False
    for line in lines:
        fence = line.lstrip().startswith("```")
        if fence or in_code or not line.strip() or (_ALONE.match(line) and not (paragraph and line.startswith("    "))):
            yield from _filled(paragraph)
            paragraph = []
            in_code ^= fence
            yield line
            continue
        if _ITEM.match(line):
            yield from _filled(paragraph)
            paragraph = []
        paragraph.append(line)
    yield from _filled(paragraph)


def _filled(paragraph: list[str]) -> list[str]:
    """A paragraph, or a list item with what belongs to it, in lines of 80 columns."""
    if not paragraph:
        return []
    item = _ITEM.match(paragraph[0])
    first = item[1] + item[2] if item else re.match(" *", paragraph[0])[0]  # type: ignore[index]  # matches anything
    text = " ".join([paragraph[0][len(first) :], *paragraph[1:]])
    text = " ".join(text.split())
    text = _CODE.sub(lambda code: code[0].replace(" ", _GLUE) if len(code[0]) <= _LONGEST_CODE else code[0], text)
    text = _MARKER.sub(_GLUE, text)
    broken = textwrap.wrap(
        text, COLUMNS, initial_indent=first, subsequent_indent=" " * len(first), break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(_GLUE, " ") for line in broken]
