"""How the answer is laid out: paragraphs filled to a width, or left whole; and the faults of a finding in words."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from vmfuzz.explain.answer.answer import Answer
from vmfuzz.explain.answer.open_controls import faults
from vmfuzz.explain.judgement.judge import Finding
from vmfuzz.model.partial import Evaluator

#: Columns that a terminal has, less one.
WIDTH: Final = 79
_WIDTH: Final[ContextVar[int | None]] = ContextVar("width", default=WIDTH)


@contextmanager
def lines_of(width: int | None) -> Iterator[None]:
    """Within the block paragraphs are filled to `width` columns; None: each is one line, for programs that read lines."""
    before = _WIDTH.set(width)
    try:
        yield
    finally:
        _WIDTH.reset(before)


def wrapped(text: str, indent: int = 0, first: int | None = None) -> str:
    """Text filled to the width (see `lines_of`); `indent` for all lines, `first` for the first if it differs."""
    lead = " " * (indent if first is None else first)
    width = _WIDTH.get() or sys.maxsize
    return textwrap.fill(text, width, initial_indent=lead, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def evaluator(answer: Answer) -> Evaluator:
    """Evaluates conditions on the values that the list of violated checks shows, with the usual processor's capabilities."""
    facts = answer.knowledge.lookup(answer.knowledge.widths[0], typical=True)
    return Evaluator(answer.state.values.get, facts.get)


def faults_of(answer: Answer, finding: Finding) -> list[str]:
    """What keeps a violated check from holding, in words."""
    return faults(finding, answer.state.values, answer.knowledge)
