"""The answer as text for people: what happened and what to do in the first ten lines, everything else after that. Plain."""

from __future__ import annotations

from vmfuzz.explain.answer.answer import Answer
from vmfuzz.explain.answer.layout import WIDTH, filled
from vmfuzz.explain.answer.sections import sections


def render(answer: Answer, explain: bool = False, verified: str = "", width: int | None = WIDTH) -> str:
    """The whole answer. `explain` adds a paragraph on each violated check; `verified` says what a real entry on an emulated CPU gave.

    Lines have `width` columns at most; None: each paragraph is one line.
    """
    return filled(sections(answer, explain, verified), width)
