"""Mismatches with one cause, gathered under one signature with one example, and counted: what a campaign calls its findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.outcomes import Outcome
from vmfuzz.comparison.compare import Comparison, Verdict
from vmfuzz.comparison.signature import ACCEPTS, Signature, signature_of
from vmfuzz.generate.families import FamilyPlan
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


@dataclass(frozen=True)
class Origin:
    """Where a candidate ran: the plan of its family, how many of the plan's candidates ran with it, and its row among them."""

    plan: FamilyPlan
    count: int
    row: int


@dataclass
class Finding:
    """One finding: how often it was seen and an example with the fewest differences from its base.

    `origin`: where the example ran, if that is known. `others`: further examples by the operands in which they differ, where the signature
    does not name the cause. `warnings`: what the kernel's log warned of after families with it, where that can be read.
    """

    signature: Signature
    example: Vmcs
    base: Vmcs
    base_name: str
    predicted: frozenset[Outcome]
    actual: Outcome
    count: int = 0
    others: dict[frozenset[str], Example] = field(default_factory=dict)
    origin: Origin | None = None
    warnings: list[str] = field(default_factory=list)

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
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Warned:
    """New warnings of the kernel's log after a family: its base and seed, how many candidates it had, and the ids of its findings."""

    warnings: tuple[str, ...]
    base: str
    seed: int
    candidates: int
    findings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object for reports and the store; `from_json` takes it back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The same again."""
        return cls(tuple(data["warnings"]), str(data["base"]), int(data["seed"]), int(data["candidates"]), tuple(data["findings"]))


class Findings:
    """All findings of a campaign by id; `touched` are those that changed since their keeper last looked."""

    def __init__(self) -> None:
        self.by_id: dict[str, Finding] = {}
        self.touched: set[str] = set()

    def add(self, comparison: Comparison, base_name: str, plan: FamilyPlan | None = None, warnings: Sequence[str] = ()) -> list[str]:
        """Gather the mismatches of a batch; returns the ids of the findings that it has.

        `plan`: the family's, if its candidates ran in the plan's order. `warnings`: new ones of the kernel's log after it.
        """
        rows = np.flatnonzero((comparison.verdict == Verdict.MISMATCH) | (comparison.verdict == Verdict.EXECUTOR_CRASHED))
        met: dict[str, Finding] = {}
        for group in _alike(comparison, rows):
            examples = group[:EXAMPLES_PER_BATCH]
            for position, row in enumerate(examples):
                weight = len(group) - len(examples) + 1 if position == len(examples) - 1 else 1
                found = self._add_row(comparison, int(row), base_name, weight, plan)
                met[found.signature.id] = found
        for found in met.values():
            found.warnings = list(dict.fromkeys([*found.warnings, *warnings]))
        return list(met)

    def _add_row(self, comparison: Comparison, row: int, base_name: str, weight: int, plan: FamilyPlan | None) -> Finding:
        signature = signature_of(comparison, row)
        batch = comparison.prediction.batch
        found = self.by_id.get(signature.id)
        example = batch.row(row)
        origin = None if plan is None else Origin(plan, len(batch), row)
        if found is None:
            predicted = outcomes_of(int(comparison.prediction.allowed[row]))
            found = Finding(signature, example, batch.base, base_name, predicted, comparison.outcomes[row], origin=origin)
            self.by_id[signature.id] = found
        elif len(batch.base.differences(example)) < len(found.differences):
            found.example, found.base, found.base_name, found.origin = example, batch.base, base_name, origin
            found.predicted = outcomes_of(int(comparison.prediction.allowed[row]))
        found.count += weight
        self.touched.add(signature.id)
        if signature.kind != ACCEPTS and len(found.others) < EXAMPLES_KEPT:
            found.others.setdefault(frozenset(batch.base.differences(example)), Example(example, batch.base, base_name))
        return found


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
