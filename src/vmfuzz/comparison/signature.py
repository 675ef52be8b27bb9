"""The signature of a mismatch: its kind, the checks that decide, the outcome, and the executor's own word."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Final

from vmfuzz.comparison.compare import Comparison, Verdict
from vmfuzz.model.outcome_codes import ENTERED

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]+")

#: The kinds of findings.
CRASH: Final = "executor-crash"

INTERRUPTION_INFORMATION: Final = "interruption information not as the SDM leaves it"

ACCEPTS: Final = "accepts what the model refuses"

REFUSES: Final = "refuses what the model accepts"

OTHER_EXIT: Final = "other exit than predicted"

OTHER_FAILURE: Final = "other failure than predicted"


@dataclass(frozen=True)
class Signature:
    """The cause of a mismatch as far as it shows: its class, the checks that decide, the outcome, and the executor's own word."""

    kind: str
    checks: tuple[str, ...]
    actual: str
    message: str | None

    @property
    def id(self) -> str:
        """A short permanent name made of the content."""
        text = json.dumps([self.kind, self.checks, self.actual, self.message])
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def _kind(comparison: Comparison, row: int) -> str:
    if comparison.verdict[row] == Verdict.EXECUTOR_CRASHED:
        return CRASH
    if bool(int(comparison.prediction.allowed[row]) >> int(comparison.bits[row]) & 1):
        return INTERRUPTION_INFORMATION
    entered = bool(ENTERED >> int(comparison.bits[row]) & 1)
    may_enter = bool(int(comparison.prediction.allowed[row]) & ENTERED)
    if entered and not may_enter:
        return ACCEPTS
    if may_enter and not entered:
        return REFUSES
    return OTHER_EXIT if entered else OTHER_FAILURE


def signature_of(comparison: Comparison, row: int) -> Signature:
    """The signature of a mismatching row."""
    violations = comparison.prediction.violations_of(row)
    first = min((compiled.step for compiled in violations if compiled.certain), default=None)
    checks = tuple(compiled.check.id for compiled in violations if compiled.step == first)
    kind, message = _kind(comparison, row), comparison.outcomes.message_of(row)
    return Signature(kind, checks, comparison.outcomes[row].short(), cause_of_crash(message) if kind == CRASH else message)


def cause_of_crash(message: str | None) -> str | None:
    """What an executor said when it ended, without the addresses, which differ from candidate to candidate."""
    return None if message is None else _ADDRESS.sub("...", message)
