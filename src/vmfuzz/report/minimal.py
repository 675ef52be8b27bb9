"""A finding as a report shows it: the smallest case that is known, next to the nearest one that agrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vmfuzz.report.data import Processor


@dataclass(frozen=True)
class Change:
    """One operand in which the case differs from its base: the value there, in the nearest agreeing case, and here."""

    operand: str
    base: str | None
    agreeing: str | None
    here: str

    @property
    def decides(self) -> bool:
        """Whether the agreeing case differs from this one here."""
        return self.agreeing is not None and self.agreeing != self.here


@dataclass(frozen=True)
class Minimal:
    """One finding; `agreeing` says in words what the nearest agreeing case is and does."""

    id: str
    kind: str
    checks: tuple[str, ...]
    predicted: tuple[str, ...]
    actual: str
    message: str | None
    base: str
    count: int
    minimized: bool
    agreeing: str
    changes: tuple[Change, ...]


def minimal_cases(processor: Processor) -> list[Minimal]:
    """The findings of a processor: minimized where they were, else the example with the fewest differences from its base."""
    findings = processor.listed("findings")
    bases: dict[tuple[str, str], str] = {
        (str(item.get("base")), operand): str(pair[0])
        for item in findings
        for operand, pair in item.get("differences", {}).items()
        if pair[0]
    }
    counts = {_cause(item): int(item.get("count", 0)) for item in findings}
    cases = [_minimized(item, counts.get(_cause(item), 0), bases) for item in processor.listed("minimized")]
    done = {(case.kind, case.checks) for case in cases}
    # a finding of another kind with the same checks was reduced to the same cause
    causes = {case.checks for case in cases if case.checks}
    return cases + [_as_found(item) for item in findings if _cause(item) not in done and tuple(item["checks"]) not in causes]


def _cause(item: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    return str(item.get("kind")), tuple(item["checks"])


def _minimized(entry: Mapping[str, Any], count: int, bases: Mapping[tuple[str, str], str]) -> Minimal:
    """A corpus entry; its first neighbour is the nearest case that agrees."""
    result = next((each for each in entry["results"] if each["comparison"] not in ("agrees", "not modelled")), entry["results"][0])
    near = next(iter(entry.get("neighbours", ())), None)
    values = {**entry["mutation"], **entry.get("memory", {})}
    changes = []
    for operand, here in values.items():
        agreeing = (near["value"] if operand == near["operand"] else here) if near else None
        changes.append(Change(operand, bases.get((entry["base"], operand)), agreeing, here))
    if near and near["operand"] not in values:
        changes.append(Change(near["operand"], None, near["value"], "as in the base"))
    words = f"one value apart: {near['actual']}" if near else "none is recorded; the base agrees"
    return Minimal(
        str(entry["id"]),
        str(entry.get("kind")),
        tuple(entry["checks"]),
        tuple(result["predicted"]),
        str(result["actual"]),
        result.get("message"),
        str(entry["base"]),
        count or sum(int(each.get("seen", 1)) for each in result["processors"]),
        bool(entry.get("minimized")),
        words,
        tuple(changes),
    )


def _as_found(finding: Mapping[str, Any]) -> Minimal:
    """A finding that was not minimized; its base, which is known to be good, is the agreeing case."""
    pairs = {**finding.get("differences", {}), **finding.get("memory_differences", {})}
    return Minimal(
        str(finding["id"]),
        str(finding.get("kind")),
        tuple(finding["checks"]),
        tuple(finding.get("predicted", ())),
        str(finding.get("actual", "")),
        finding.get("message"),
        str(finding.get("base", "")),
        int(finding.get("count", 0)),
        False,
        "the base, which enters",
        tuple(Change(name, base, base, str(here)) for name, (base, here) in pairs.items()),
    )
