"""A finding as a report shows it: the smallest case that is known, next to the nearest one that agrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from vmfuzz.comparison.behind import row_in_words
from vmfuzz.comparison.case import format_key, key_in_words
from vmfuzz.counted import counted
from vmfuzz.model.wording import bit_name, without_formats
from vmfuzz.report.data import Processor
from vmfuzz.state.vmcs import parse_number

#: Of the bits in which two values differ, so many are named.
_BITS_NAMED: Final = 4


@dataclass(frozen=True)
class Change:
    """One operand in which the case differs from its base: the value there, in the nearest agreeing case, and here. None: as in the base."""

    operand: str
    base: int | None
    agreeing: int | None
    here: int | None

    @property
    def name(self) -> str:
        """The operand for people."""
        return key_in_words(self.operand)

    @property
    def shown(self) -> tuple[str, str]:
        """The value here and in the nearest agreeing case, for people."""
        here, agreeing = ("as in the base" if value is None else format_key(self.operand, value) for value in (self.here, self.agreeing))
        return here, agreeing

    @property
    def decides(self) -> bool:
        """Whether the agreeing case differs from this one here."""
        return self.agreeing is not None and self.agreeing != self.here

    @property
    def bits(self) -> str:
        """The bits in which the two differ, with their names where the SDM has some; "" where they are many or a value is not known."""
        if self.here is None or self.agreeing is None:
            return ""
        apart = self.here ^ self.agreeing
        numbers = [number for number in range(64) if apart >> number & 1]
        if not 0 < len(numbers) <= _BITS_NAMED:
            return ""
        named = [f"{number} ({name})" if (name := bit_name(self.operand, number)) else str(number) for number in reversed(numbers)]
        return f"bit{'s' if len(named) > 1 else ''} {', '.join(named)}"


@dataclass(frozen=True)
class Minimal:
    """One finding; `agreeing` says in words what the nearest agreeing case is, `near` what happens there. `entry`: it as a corpus entry.

    `count`: candidates that are counted with it. `notes`: sentences on what has to run before it, and what the kernel warned of.
    """

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
    near: str
    changes: tuple[Change, ...]
    entry: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shared:
    """A finding and the processors that have it: (processor, times seen), the one whose case is shown first."""

    case: Minimal
    seen: tuple[tuple[Processor, int], ...]

    @property
    def count(self) -> int:
        """How often it was seen on all of them."""
        return sum(count for _, count in self.seen)


def shared_findings(processors: Sequence[Processor]) -> list[Shared]:
    """The findings of all processors; those with the same checks, outcomes and operands are one. The most widely met first."""
    found: dict[tuple[object, ...], list[tuple[Processor, Minimal]]] = {}
    for processor in processors:
        for case in minimal_cases(processor):
            operands = tuple(change.operand for change in case.changes)
            found.setdefault((case.kind, case.checks, case.predicted, case.actual, case.message, operands), []).append((processor, case))
    several = [Shared(same[0][1], _seen(same)) for same in found.values()]
    # where checks are named the cause is too
    return sorted(several, key=lambda each: (-len(each.seen), not each.case.checks, -each.count, each.case.checks))


def _seen(same: Sequence[tuple[Processor, Minimal]]) -> tuple[tuple[Processor, int], ...]:
    counts: dict[str, tuple[Processor, int]] = {}
    for processor, case in same:
        key = f"{processor.executor} {processor.version}"
        counts[key] = (processor, case.count + counts.get(key, (processor, 0))[1])
    return tuple(counts.values())


def minimal_cases(processor: Processor) -> list[Minimal]:
    """The findings of a processor: minimized where they were, else the example with the fewest differences from its base."""
    findings = [found for source in processor.campaigns for found in source.data["findings"]]
    bases: dict[tuple[str, str], int] = {
        (str(item.get("base")), operand): parse_number(operand, pair[0])
        for item in findings
        for operand, pair in item.get("differences", {}).items()
        if pair[0]
    }
    minimized = [_minimized(entry, count, bases) for entry, count in processor.minimized()]
    return minimized + [_as_found(found, count) for found, count in processor.not_minimized()]


def _spoken(result: Mapping[str, Any]) -> str | None:
    """What the executor said, for people."""
    message = result.get("message")
    return None if message is None else without_formats(str(message))


def _minimized(entry: Mapping[str, Any], count: int, bases: Mapping[tuple[str, str], int]) -> Minimal:
    """A corpus entry; its first neighbour is the nearest case that agrees."""
    result = next((each for each in entry["results"] if each["comparison"] not in ("agrees", "not modelled")), entry["results"][0])
    near = next(iter(entry.get("neighbours", ())), None)
    values = _numbers({**entry["mutation"], **entry.get("memory", {})})
    edge = parse_number(near["operand"], near["value"]) if near else None
    changes = []
    for operand, here in values.items():
        agreeing = (edge if operand == near["operand"] else here) if near else None
        changes.append(Change(operand, bases.get((entry["base"], operand)), agreeing, here))
    if near and near["operand"] not in values:
        changes.append(Change(near["operand"], None, edge, None))
    words = "one value apart" if near else "none is recorded"
    return Minimal(
        str(entry["id"]),
        str(entry.get("kind")),
        tuple(entry["checks"]),
        tuple(result["predicted"]),
        str(result["actual"]),
        _spoken(result),
        str(entry["base"]),
        count,
        bool(entry.get("minimized")),
        words,
        str(near["actual"]) if near else "",
        tuple(changes),
        entry,
        (*_before(entry), *_warnings(entry)),
    )


def _before(entry: Mapping[str, Any]) -> list[str]:
    """What runs before the case of a sequence, as sentences."""
    if "otherwise" not in entry:
        return []
    rows = [row_in_words(_numbers(row)) for row in entry["before"]]
    otherwise = entry["otherwise"]
    other = f"after {counted(len(otherwise['before']), 'other')}" if otherwise["before"] else "alone"
    first = (
        f"Before it, in the same new machine and in this order, run: {'; '.join(rows)}."
        if rows
        else "It is the first that runs in a new machine."
    )
    return [first, f"The same case {other}: {otherwise['actual']}."]


def _numbers(values: Mapping[str, Any]) -> dict[str, int]:
    return {key: parse_number(key, value) for key, value in values.items()}


def _warnings(finding: Mapping[str, Any]) -> list[str]:
    return [f"The kernel of the machine warned: {warning}." for warning in finding.get("warnings", ())]


def _as_found(finding: Mapping[str, Any], count: int) -> Minimal:
    """A finding that was not minimized; its base, which is known to be good, is the agreeing case."""
    pairs = {**finding.get("differences", {}), **finding.get("memory_differences", {})}
    return Minimal(
        str(finding["id"]),
        str(finding.get("kind")),
        tuple(finding["checks"]),
        tuple(finding.get("predicted", ())),
        str(finding.get("actual", "")),
        _spoken(finding),
        str(finding.get("base", "")),
        count,
        False,
        "the base",
        "enters",
        tuple(
            Change(name, before, before, parse_number(name, here))
            for name, (base, here) in pairs.items()
            for before in (None if base is None else parse_number(name, base),)
        ),
        notes=tuple(_warnings(finding)),
    )
