"""Counts and findings as JSON data: for the store, and for what jobs say to one another."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np

from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.campaign.coverage import Coverage
from vmfuzz.campaign.lost import plan_from
from vmfuzz.campaign.mismatches import Example, Finding, Origin
from vmfuzz.campaign.tally import Tally
from vmfuzz.comparison.case import batch_of, mutation_between
from vmfuzz.comparison.compare import Verdict
from vmfuzz.comparison.signature import Signature
from vmfuzz.errors import ModelError, UsageError
from vmfuzz.generate.bases import Bases


def tally_data(tally: Tally) -> dict[str, Any]:
    """All counts; `restore_tally` takes them back."""
    return {name: _encoded(name, value) for name, value in vars(tally).items() if name not in ("model", "deviations")}


def _encoded(name: str, value: object) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Counter):
        return [[key.name if isinstance(key, Verdict) else key, number] for key, number in value.items()]
    if isinstance(value, int | float | str):
        return value
    if isinstance(value, Coverage):
        return value.to_json()
    raise ModelError(f"Tally.{name} is a {type(value).__name__}, which the store cannot keep: teach campaign/store.py")


def restore_tally(tally: Tally, data: dict[str, Any]) -> None:
    """Give an empty tally of the same processor the counts; raises KeyError, TypeError or ValueError where they are no counts of it."""
    for name, current in vars(tally).items():
        if name in ("model", "deviations"):
            continue
        value = data[name]
        if isinstance(current, np.ndarray):
            current[...] = np.asarray(value, current.dtype).reshape(current.shape)
        elif isinstance(current, Coverage):
            current.restore(value)
        elif isinstance(current, Counter):
            current.update({Verdict[key] if name == "verdicts" else key: int(number) for key, number in value})
        else:
            setattr(tally, name, type(current)(value))


def finding_data(finding: Finding) -> dict[str, Any]:
    """A finding with its examples as differences from their bases."""
    examples = [Example(finding.example, finding.base, finding.base_name), *finding.others.values()]
    return {
        "kind": finding.signature.kind,
        "checks": finding.signature.checks,
        "outcome": finding.signature.actual,
        "message": finding.signature.message,
        "count": finding.count,
        "actual": _outcome_data(finding.actual),
        "predicted": [_outcome_data(outcome) for outcome in sorted(finding.predicted, key=str)],
        "examples": [[example.base_name, mutation_between(example.base, example.vmcs)] for example in examples],
        "origin": None if finding.origin is None else asdict(finding.origin),
        "warnings": finding.warnings,
    }


def finding_from(data: dict[str, Any], bases: Bases) -> Finding:
    """The finding again; raises UsageError where the processor lacks a base."""
    examples = []
    for name, mutation in data["examples"]:
        base = bases.get(name)
        if base is None:
            raise UsageError(f"a stored finding is of base {name!r}, which this processor no longer has; use another directory")
        examples.append(Example(batch_of(base, [mutation]).row(0), base, name))
    first, *others = examples
    signature = Signature(data["kind"], tuple(data["checks"]), data["outcome"], data["message"])
    predicted = frozenset(_outcome(outcome) for outcome in data["predicted"])
    finding = Finding(signature, first.vmcs, first.base, first.base_name, predicted, _outcome(data["actual"]), int(data["count"]))
    if (origin := data.get("origin")) is not None:
        finding.origin = Origin(plan_from(origin["plan"]), int(origin["count"]), int(origin["row"]))
    finding.warnings = list(data.get("warnings", ()))
    finding.others.update({frozenset(example.base.differences(example.vmcs)): example for example in others})
    return finding


def _outcome_data(outcome: Outcome) -> list[int | None]:
    return [int(outcome.kind), outcome.number, outcome.qualification]


def _outcome(data: list[Any]) -> Outcome:
    return Outcome(Kind(data[0]), data[1], data[2])
