"""Sequences: candidates that run before a case in the same machine, after which its outcome is another than otherwise.

A hypervisor's nested state outlives a VM entry. Where an outcome depends on it, the finding is a sequence and not a case: rows of one base that
run in order in one new machine, the case last.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from vmfuzz.comparison.case import Case, Mutation, format_key, key_in_words

#: The kind of these findings.
DEPENDS: Final = "depends on what ran before"


@dataclass(frozen=True)
class Behind:
    """What runs before a case, as mutations of the case's base (`before`), and its outcome (`actual`) after other rows (`otherwise`)."""

    before: tuple[Mutation, ...] = field(hash=False)
    otherwise: tuple[Mutation, ...] = field(hash=False)
    actual: str

    def id_with(self, case: Case) -> str:
        """A short permanent name made of the case and of what runs before it."""
        rows = [[_as_text(row) for row in rows] for rows in (self.before, self.otherwise)]
        text = json.dumps([case.base, _as_text(case.mutation), *rows])
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def to_json(self) -> dict[str, Any]:
        """The parts of an entry that say it."""
        before, otherwise = ([_as_text(row) for row in rows] for rows in (self.before, self.otherwise))
        return {"before": before, "otherwise": {"before": otherwise, "actual": self.actual}}

    @property
    def words(self) -> str:
        """Where it shows and what happens elsewhere, in a few words."""
        return f"{rows_in_words(self.before)}; {rows_in_words(self.otherwise)}, the outcome is {self.actual}"

    @property
    def shape(self) -> tuple[frozenset[str], ...]:
        """The operands of each row before the case."""
        return tuple(frozenset(row) for row in self.before)


def _as_text(row: Mutation) -> dict[str, str]:
    return {key: f"{row[key]:#x}" for key in sorted(row)}


def rows_in_words(rows: Sequence[Mutation]) -> str:
    """Rows for a sentence: "alone", "after an entry of the base", "after 3 candidates"."""
    if not rows:
        return "alone"
    if len(rows) == 1:
        return "after a candidate" if rows[0] else "after an entry of the base"
    return f"after {len(rows)} candidates"


def row_in_words(row: Mutation) -> str:
    """One row: what it changes against the base."""
    return ", ".join(f"{key_in_words(key)} = {format_key(key, value)}" for key, value in row.items()) or "the base as it is"
