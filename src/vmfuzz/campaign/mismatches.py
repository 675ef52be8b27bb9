"""Mismatches with one cause, gathered under one signature with one example, and counted: what a campaign calls its findings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.outcomes import Outcome
from vmfuzz.comparison.compare import Comparison, Verdict
from vmfuzz.comparison.signature import ACCEPTS, Signature, signature_of
from vmfuzz.model.outcome_codes import outcomes_of
from vmfuzz.state.vmcs import Vmcs

#: Of one batch, at most this many mismatches of one kind are looked at one by one; the others are only counted with them.
EXAMPLES_PER_BATCH = 8
#: Of a finding whose signature does not name the cause, at most so many examples with different operands are kept: they may have several.
EXAMPLES_KEPT = 24


@dataclass(frozen=True)
class Example:
    """A candidate that shows a finding, and the known-good state that it was made of."""

    vmcs: Vmcs
    base: Vmcs
    base_name: str


@dataclass
class Finding:
    """One finding: how often it was seen and an example with the fewest differences from its base.

    `others`: further examples by the operands in which they differ, where the signature does not name the cause.
    """

    signature: Signature
    example: Vmcs
    base: Vmcs
    base_name: str
    predicted: frozenset[Outcome]
    actual: Outcome
    count: int = 0
    others: dict[frozenset[str], Example] = field(default_factory=dict)

    @property
    def differences(self) -> dict[str, tuple[int | None, int | None]]:
        """Operands in which the example differs from the base: name -> (base's value, example's value)."""
        return self.base.differences(self.example)

    @property
    def memory_differences(self) -> dict[int, tuple[int, int]]:
        """Words of memory in which the example differs from the base: address -> (base's word, example's word)."""
        addresses = {**self.base.memory, **self.example.memory}
        pairs = {address: (self.base.memory.get(address, 0), self.example.memory.get(address, 0)) for address in addresses}
        return {address: pair for address, pair in sorted(pairs.items()) if pair[0] != pair[1]}

    def to_json(self) -> dict[str, Any]:
        """A JSON object for reports."""
        return {
            "id": self.signature.id,
            "kind": self.signature.kind,
            "checks": list(self.signature.checks),
            "predicted": sorted(outcome.short() for outcome in self.predicted),
            "actual": self.actual.short(),
            "message": self.signature.message,
            "count": self.count,
            "base": self.base_name,
            "differences": {name: [None if value is None else f"{value:#x}" for value in pair] for name, pair in self.differences.items()},
            "memory_differences": {f"{at:#x}": [f"{word:#x}" for word in pair] for at, pair in self.memory_differences.items()},
        }


class Findings:
    """All findings of a campaign by id; `touched` are those that changed since their keeper last looked."""

    def __init__(self) -> None:
        self.by_id: dict[str, Finding] = {}
        self.touched: set[str] = set()

    def add(self, comparison: Comparison, base_name: str) -> int:
        """Gather the mismatches of a batch; returns how many findings are new."""
        rows = np.flatnonzero((comparison.verdict == Verdict.MISMATCH) | (comparison.verdict == Verdict.EXECUTOR_CRASHED))
        new = 0
        for group in _alike(comparison, rows):
            examples = group[:EXAMPLES_PER_BATCH]
            for position, row in enumerate(examples):
                weight = len(group) - len(examples) + 1 if position == len(examples) - 1 else 1
                new += self._add_row(comparison, int(row), base_name, weight)
        return new

    def _add_row(self, comparison: Comparison, row: int, base_name: str, weight: int) -> bool:
        signature = signature_of(comparison, row)
        batch = comparison.prediction.batch
        found = self.by_id.get(signature.id)
        is_new = found is None
        example = batch.row(row)
        if found is None:
            predicted = outcomes_of(int(comparison.prediction.allowed[row]))
            found = Finding(signature, example, batch.base, base_name, predicted, comparison.outcomes[row])
            self.by_id[signature.id] = found
        elif len(batch.base.differences(example)) < len(found.differences):
            found.example, found.base, found.base_name = example, batch.base, base_name
            found.predicted = outcomes_of(int(comparison.prediction.allowed[row]))
        found.count += weight
        self.touched.add(signature.id)
        if signature.kind != ACCEPTS and len(found.others) < EXAMPLES_KEPT:
            found.others.setdefault(frozenset(batch.base.differences(example)), Example(example, batch.base, base_name))
        return is_new


def _alike(comparison: Comparison, rows: npt.NDArray[np.intp]) -> list[npt.NDArray[np.intp]]:
    """Group rows by what is cheap to compare: allowed outcomes, actual outcome, the executor's word."""
    if not len(rows):
        return []
    keys = np.stack(
        [
            comparison.prediction.allowed[rows],
            comparison.bits[rows].astype(np.uint64),
            comparison.outcomes.message[rows].astype(np.int64).astype(np.uint64),
        ],
        axis=1,
    )
    _, inverse = np.unique(keys, axis=0, return_inverse=True)
    return [rows[inverse.ravel() == number] for number in range(int(inverse.max()) + 1)]
