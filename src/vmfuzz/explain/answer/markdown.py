"""The answer as Markdown, to be pasted into the thread in which somebody asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from vmfuzz import __version__
from vmfuzz.explain.answer.answer import Answer
from vmfuzz.explain.answer.layout import Group, Paragraph, Role
from vmfuzz.explain.answer.sections import sections

#: Sections that a thread has no use for: how the text was read is for whoever reads the whole answer.
_LEFT_OUT: Final = frozenset({"read"})
#: What stands before a paragraph of each role; others stand by themselves.
_BEGINS: Final = {
    Role.CAUSE: "- ",
    Role.REPAIR: "- ",
    Role.OTHER_REPAIR: "- ",
    Role.CHANGE: "  ",
    Role.FOLLOWS: "  ",
    Role.CHECK: "- ",
    Role.FAULT: "  ",
    Role.VALUE: "  ",
    Role.RULE: "  ",
    Role.SECTION: "  ",
    Role.WHY: "  ",
    Role.PASSED: "- ",
    Role.MISTAKE: "- ",
    Role.MISTAKE_FOLLOWS: "  ",
    Role.MISTAKE_CHANGE: "  ",
    Role.MISSING: "- ",
    Role.MISSING_FACTS: "- ",
    Role.PROGRAM: "- ",
    Role.NOTE: "- ",
}
#: What Markdown would take for its own, within a line and at its beginning.
_OWN: Final = re.compile(r"[\\*<>`\[\]|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")


def markdown(answer: Answer) -> str:
    """The whole answer but for how the text was read."""
    blocks = ["\n".join(_lines(group)) for one in sections(answer) if one.name not in _LEFT_OUT for group in one.groups if group]
    return "\n\n".join([*blocks, f"(Calculated by vmfuzz check {__version__} from the values in the text; nothing was run.)"]) + "\n"


def _lines(group: Group) -> Iterator[str]:
    for number, paragraph in enumerate(group):
        if paragraph.role is Role.COMMAND:
            yield from ("", *(f"      {line}" for line in paragraph.text.split("\n")), "")
        elif paragraph.text:
            text = _words(paragraph)
            # a paragraph goes on with the next line: two blanks end the line
            breaks = number + 1 < len(group) and group[number + 1].role in _BEGINS and not _BEGINS[group[number + 1].role].strip()
            yield f"{_BEGINS.get(paragraph.role, '')}{text}{'  ' if breaks or paragraph.role not in _BEGINS else ''}".rstrip("\n")


def _words(paragraph: Paragraph) -> str:
    text = _OWN.sub(lambda found: f"\\{found[0]}", paragraph.text)
    if paragraph.role in (Role.OUTCOME, Role.HEADING):
        return f"**{paragraph.label}: {text}**" if paragraph.label else f"**{text}**"
    if paragraph.role is Role.CHECK:
        return f"`{paragraph.text}`"
    return f"**{paragraph.label}:** {text}" if paragraph.label else text
