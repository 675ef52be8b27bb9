"""What an answer is made of: sections of groups of paragraphs, each with its role. As text it is filled to a width, or a paragraph a line.

The terminal (render.py), Markdown (markdown.py) and the page in the browser (page_data.py) show the same paragraphs.
"""

from __future__ import annotations

import enum
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

#: Columns that a terminal has, less one.
WIDTH: Final = 79


class Role(enum.Enum):
    """What a paragraph is for; the value is its name in the page's data."""

    OUTCOME = "outcome"  # what happened
    PROVED = "proved"  # what that proves
    CAUSE = "cause"
    FOLLOWS = "follows"  # what comes of the paragraph before
    CHANGE = "change"  # what to do about a cause
    REPAIR = "repair"  # the smallest change
    OTHER_REPAIR = "other repair"
    HEADING = "heading"
    CHECK = "check"  # the id of a check
    FAULT = "fault"  # what is wrong by that check
    VALUE = "value"  # one of the values that it reads
    RULE = "rule"
    SECTION = "section"  # of the SDM
    WHY = "why"
    PASSED = "passed"  # a check that was passed all the same
    MISTAKE = "mistake"
    MISTAKE_FOLLOWS = "mistake follows"
    MISTAKE_CHANGE = "mistake change"
    MISSING = "missing"  # what is not shown
    MISSING_FACTS = "missing facts"
    STATEMENT = "statement"
    PROGRAM = "program"  # that prints or reads what is wanted
    COMMAND = "command"
    NOTE = "note"


#: Columns before the first line of a paragraph, and before the others.
_INDENTS: Final = {
    Role.OUTCOME: (0, 0),
    Role.PROVED: (0, 0),
    Role.CAUSE: (0, 2),
    Role.FOLLOWS: (2, 2),
    Role.CHANGE: (2, 10),
    Role.REPAIR: (0, 4),
    Role.OTHER_REPAIR: (2, 4),
    Role.HEADING: (0, 2),
    Role.CHECK: (2, 2),
    Role.FAULT: (4, 4),
    Role.VALUE: (4, 8),
    Role.RULE: (4, 10),
    Role.SECTION: (10, 10),
    Role.WHY: (4, 9),
    Role.PASSED: (2, 6),
    Role.MISTAKE: (2, 4),
    Role.MISTAKE_FOLLOWS: (4, 4),
    Role.MISTAKE_CHANGE: (4, 12),
    Role.MISSING: (2, 10),
    Role.MISSING_FACTS: (2, 13),
    Role.STATEMENT: (0, 2),
    Role.PROGRAM: (2, 4),
    Role.COMMAND: (4, 4),
    Role.NOTE: (2, 4),
}


@dataclass(frozen=True)
class Paragraph:
    """One paragraph. `label` stands before the text ("Cause"); `hint` says what to do on the command line, and is shown only there; `line` is the
    line of the text that it is about, 0 for none.
    """

    role: Role
    text: str
    label: str = ""
    hint: str = ""
    line: int = 0

    def filled(self, width: int | None) -> str:
        """The lines of the paragraph in at most `width` columns; None: one line. A command's lines stay as they are."""
        first, others = (" " * columns for columns in _INDENTS[self.role])
        if self.role is Role.COMMAND:
            return textwrap.indent(self.text, first)
        text = f"{self.label}: {self.text}" if self.label else self.text
        text = " ".join(filter(None, (text, self.hint)))
        return textwrap.fill(
            text, width or sys.maxsize, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
        )


Group = list[Paragraph]


@dataclass
class Section:
    """One part of an answer: groups of paragraphs, with an empty line between two groups. `name` tells what it is about."""

    name: str
    groups: list[Group] = field(default_factory=list)

    def filled(self, width: int | None) -> str:
        """The section as text, without groups that are empty."""
        return "\n\n".join("\n".join(paragraph.filled(width) for paragraph in group) for group in self.groups if group)


def filled(sections: Iterable[Section], width: int | None) -> str:
    """Sections as text, without those that are empty."""
    return "\n\n".join(text for text in (section.filled(width) for section in sections) if text) + "\n"
