"""From mismatches to entries: each is run again, minimized, and laid together with those that come down to the same.

What does not repeat is kept apart as unstable. What comes down to the same operands, checks and outcome is one entry, counted once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from vmfuzz.campaign.case import Case, base_value, mutation_between
from vmfuzz.campaign.compare import Verdict
from vmfuzz.campaign.corpus import Entry, Near, Processor, executor_version, fingerprint
from vmfuzz.campaign.findings import ACCEPTS, CRASH, Example, Finding
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.minimize import Minimized, Minimizer, Step, cost_of, same_finding
from vmfuzz.campaign.trial import Observation, Trial
from vmfuzz.execute.base import Executor

#: How often a candidate runs again before it is called a finding.
REPEATS: Final = 8
#: Seconds for one minimization, at most.
_SECONDS_EACH: Final = 20.0


@dataclass
class Triage:
    """What became of the findings: entries by id, ids of findings that did not repeat, ids for which the time did not suffice."""

    entries: dict[str, Entry] = field(default_factory=dict)
    unstable: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def settled(campaign: Campaign, seconds: float, on_step: Callable[[Step], None] | None = None) -> Triage:
    """What becomes of a campaign's findings on its executor within `seconds`; KeyboardInterrupt (from `on_step` too) leaves the rest as it is."""
    findings = campaign.progress.findings.by_id
    result = Triage()
    try:
        triage(Trial(campaign.executor, campaign.model, campaign.generator, campaign.altered), findings.values(), seconds, on_step, result)
    except KeyboardInterrupt:
        result.left = sorted(set(findings) - set(result.unstable))
    return result


def processor_of(executor: Executor, seen: int = 1) -> Processor:
    """The executor's processor as entries name it."""
    capabilities = executor.capabilities()
    return Processor(capabilities.name, fingerprint(capabilities), executor.name, executor_version(executor.name), seen)


def repeats(trial: Trial, case: Case, times: int = REPEATS) -> bool:
    """Whether a case does the same every time: alone, and in one batch with the base between its repetitions."""
    base = trial.base(case.base)
    assert base is not None
    first = trial.observe(case)
    if first.kind == CRASH:
        return trial.observe(case) == first
    mixed = trial.compare(base, [case.mutation if number % 2 else {} for number in range(2 * times)])
    again = [trial.observation(mixed, row) for row in range(1, 2 * times, 2)]
    executor: Any = trial.executor
    if hasattr(executor, "paranoid"):
        # all fields are read back and compared after the entry
        before, executor.paranoid = executor.paranoid, True
        try:
            again.append(trial.observe(case))
        finally:
            executor.paranoid = before
    again.append(trial.observe(case))
    return all(observation == first for observation in again)


def triage(
    trial: Trial,
    findings: Iterable[Finding],
    seconds: float = 60.0,
    on_step: Callable[[Step], None] | None = None,
    result: Triage | None = None,
) -> Triage:
    """Confirm and minimize findings within `seconds`, the most telling first: those whose checks are named, then those seen most often.

    `result` is filled and returned, so that an interruption loses nothing.
    """
    result = Triage() if result is None else result
    deadline = time.monotonic() + seconds
    processor = processor_of(trial.executor)
    settled: dict[tuple[object, ...], str] = {}
    order = sorted(findings, key=lambda each: (each.signature.kind != ACCEPTS, len(each.signature.checks), -each.count, each.signature.id))
    for finding in order:
        examples = [Example(finding.example, finding.base, finding.base_name), *finding.others.values()]
        for number, example in enumerate(dict.fromkeys(examples)):
            left = deadline - time.monotonic()
            if left <= 0:
                if number == 0:
                    result.left.append(finding.signature.id)
                break
            count = finding.count if number == 0 else 0
            case = Case(example.base_name, mutation_between(example.base, example.vmcs))
            if not _settle(trial, case, count, min(left, _SECONDS_EACH), on_step, processor, result, settled):
                result.unstable.append(finding.signature.id)
                break
    return result


def _settle(
    trial: Trial,
    case: Case,
    count: int,
    seconds: float,
    on_step: Callable[[Step], None] | None,
    processor: Processor,
    result: Triage,
    settled: dict[tuple[object, ...], str],
) -> bool:
    """Take one example to its entries; False if it did not repeat, or no longer disagrees."""
    base = trial.base(case.base)
    if base is None or not trial.applies(case) or not repeats(trial, case):
        return False
    comparison = trial.compare(base, [case.mutation])
    if comparison.verdict[0] not in (Verdict.MISMATCH, Verdict.EXECUTOR_CRASHED):
        return False  # it repeats, but as what the model allows: what was seen does not
    observation = trial.observation(comparison, 0)
    minimizer = Minimizer(trial, same_finding(comparison, 0), seconds, costly=observation.kind == CRASH, on_step=on_step)
    for number, minimized in enumerate(minimizer.run(case)):
        shown = trial.observe(minimized.case)
        outcome = () if shown.kind == ACCEPTS else (shown.actual, shown.message)
        key = (shown.kind, shown.checks, outcome, tuple(minimized.case.mutation))
        entry = entry_of(minimized, shown, processor, count if number == 0 else 0)
        known = settled.get(key)
        if known is None:
            settled[key] = entry.id
            result.entries[entry.id] = entry
        else:
            result.entries[known] = _simpler(trial, result.entries[known], entry, count if number == 0 else 0)
            if result.entries[known].id != known:
                entry = result.entries.pop(known)
                result.entries[entry.id], settled[key] = entry, entry.id
    return True


def _simpler(trial: Trial, one: Entry, other: Entry, more: int) -> Entry:
    """The entry with the simpler case, counted `more` times more."""

    def cost(entry: Entry) -> tuple[int, int]:
        base = trial.base(entry.case.base)
        assert base is not None
        return len(entry.case.mutation), sum(cost_of(key, base_value(base, key), value) for key, value in entry.case.mutation.items())

    chosen = other if cost(other) < cost(one) else one
    processor = chosen.results[0].processors[0]
    seen = one.seen + more
    shown = chosen.results[0]
    counted = Processor(processor.name, processor.capabilities, processor.executor, processor.version, seen)
    return chosen.with_observation(_as_observation(chosen, shown.comparison), counted)


def _as_observation(entry: Entry, comparison: str) -> Observation:
    shown = entry.results[0]
    return Observation(shown.predicted, shown.violated, shown.actual, shown.message, comparison, entry.kind, entry.checks)


def entry_of(
    minimized: Minimized, shown: Observation, processor: Processor, seen: int = 1, verdict: str = "open", reason: str = "not looked at yet"
) -> Entry:
    """The corpus entry of a minimized case."""
    counted = Processor(processor.name, processor.capabilities, processor.executor, processor.version, seen)
    neighbours = tuple(Near(near.operand, near.value, near.actual) for near in minimized.neighbours)
    entry = Entry(minimized.case, shown.kind, shown.checks, verdict, reason, (), neighbours, minimized.complete)
    return entry.with_observation(shown, counted)
