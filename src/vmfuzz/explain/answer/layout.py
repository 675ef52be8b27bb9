"""How the answer is laid out: lines of one width, and the faults of a finding in words."""

from __future__ import annotations

import textwrap
from typing import Final

from vmfuzz.explain.answer.answer import Answer
from vmfuzz.explain.answer.open_controls import faults
from vmfuzz.explain.judgement.judge import Finding
from vmfuzz.model.partial import Evaluator

_WIDTH: Final = 79


def wrapped(text: str, indent: int = 0, first: int | None = None) -> str:
    """Text filled to the width; `indent` for all lines, `first` for the first if it differs."""
    lead = " " * (indent if first is None else first)
    return textwrap.fill(text, _WIDTH, initial_indent=lead, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def counted(number: int, thing: str) -> str:
    """A number of things: 1 field, 2 fields."""
    return f"{number} {thing}" + ("" if number == 1 else "s")


def evaluator(answer: Answer) -> Evaluator:
    """Evaluates conditions on the values that the list of violated checks shows, with the usual processor's capabilities."""
    facts = answer.knowledge.lookup(answer.knowledge.widths[0], typical=True)
    return Evaluator(answer.state.values.get, facts.get)


def faults_of(answer: Answer, finding: Finding) -> list[str]:
    """What keeps a violated check from holding, in words."""
    return faults(finding, answer.state.values, answer.knowledge)
