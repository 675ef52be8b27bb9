"""From mismatches to entries: each is run again, minimized, and laid together with those that come down to the same.

What does not repeat is kept apart as unstable. What comes down to the same operands, checks and outcome is one entry, counted once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from vmfuzz.arch.live import LIVE
from vmfuzz.arch.outcomes import Kind
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.mismatches import Example, Finding, Origin
from vmfuzz.comparison.behind import DEPENDS
from vmfuzz.comparison.case import Case, base_value, batch_of, mutation_between
from vmfuzz.comparison.compare import Comparison, Verdict
from vmfuzz.comparison.processor import Processor, processor_of
from vmfuzz.comparison.signature import ACCEPTS, CRASH
from vmfuzz.comparison.trial import Observation, Trial
from vmfuzz.corpus.entries import Entry, Near
from vmfuzz.execute.base import ReadsBack
from vmfuzz.findings.minimize import Minimized, Minimizer, Step, cost_of, same_finding
from vmfuzz.findings.sequence import REPEATS, shortest
from vmfuzz.generate.families import FamilyPlan
from vmfuzz.state.batch import VmcsBatch

#: Seconds for one minimization, at most, unless there is more for each.
_SECONDS_EACH: Final = 20.0


#: Kind, checks, and outcome with the executor's word.
Cause = tuple[str, tuple[str, ...], tuple[str | None, ...]]
#: Takes an entry as soon as it is known, with the id of the one that it replaces, if it does.
Keep = Callable[[Entry, str | None], None]
#: The first so many candidates of a plan.
Expand = Callable[[FamilyPlan, int], VmcsBatch]


@dataclass
class Triage:
    """What became of the findings.

    `entries` by id; `counted` says how many candidates of which finding are counted with them. Ids of findings: `unstable` did not do the same
    again, `explained` did, but it is no mismatch (any more), for `left` the time did not suffice; `not_kept` are those whose fields, named here,
    VMREAD gives otherwise than VMWRITE wrote them. `depends`: those whose entries, named here, are sequences: they depend on what ran before.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    unstable: list[str] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    not_kept: dict[str, list[str]] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)
    depends: dict[str, str] = field(default_factory=dict)


def settled(
    campaign: Campaign,
    seconds: float,
    on_step: Callable[[Step], None] | None = None,
    result: Triage | None = None,
    keep: Keep | None = None,
) -> Triage:
    """What becomes of a campaign's findings on its executor within `seconds`; `result` is filled and returned.

    KeyboardInterrupt (from `on_step` too) leaves the rest as it is. Raises what `keep` raises.
    """
    findings = campaign.progress.findings.by_id
    result = Triage() if result is None else result
    trial = Trial(campaign.executor, campaign.model, campaign.generator, campaign.altered)
    try:
        triage(trial, findings.values(), seconds, on_step, result, keep, campaign.candidates)
    except KeyboardInterrupt:
        result.left = sorted(set(findings) - {*result.counted, *result.unstable, *result.explained, *result.not_kept})
    return result


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
    # in a batch an executor may have no word of its own
    return all(replace(observation, message=observation.message or first.message) == first for observation in again)


def not_kept(trial: Trial, case: Case) -> list[str]:
    """Fields of the case that do not hold what VMWRITE wrote, where the executor can tell: what happened is not what the case would do."""
    base, executor = trial.base(case.base), trial.executor
    assert base is not None
    candidate = batch_of(base, [case.mutation]).row(0)
    if not isinstance(executor, ReadsBack) or any(candidate.get(name) for name in LIVE if LIVE[name].settable):
        return []
    return executor.not_kept(candidate)


def triage(
    trial: Trial,
    findings: Collection[Finding],
    seconds: float = 60.0,
    on_step: Callable[[Step], None] | None = None,
    result: Triage | None = None,
    keep: Keep | None = None,
    expand: Expand | None = None,
) -> Triage:
    """Confirm and minimize findings within `seconds`, the most telling first: those whose checks are named, then those seen most often.

    Each candidate of a finding is counted with one entry: that of the finding's example, those of further examples apart. `result` is filled
    and returned, so that an interruption loses nothing; `keep` gets each entry as soon as it is known. `expand`: the candidates of a plan, to
    find out what ran before one that does not repeat.
    """
    result = Triage() if result is None else result
    deadline = time.monotonic() + seconds
    each = max(_SECONDS_EACH, seconds / max(len(findings), 1))
    settling = _Settling(trial, on_step, processor_of(trial.executor), result, keep, expand)
    order = sorted(findings, key=lambda one: (one.signature.kind != ACCEPTS, len(one.signature.checks), -one.count, one.signature.id))
    for finding in order:
        first, *others = dict.fromkeys([Example(finding.example, finding.base, finding.base_name), *finding.others.values()])
        for example in (first, *others):
            left = deadline - time.monotonic()
            if left <= 0:
                if example is first:
                    result.left.append(finding.signature.id)
                break
            count = max(1, finding.count - len(others)) if example is first else 1
            case = Case(example.base_name, mutation_between(example.base, example.vmcs))
            if (
                not settling.settle(finding, case, count, min(left, each), finding.origin if example is first else None)
                and example is first
            ):
                break
    return result


@dataclass
class _Settling:
    """Takes examples to their entries, one after the other; `causes` says by id what each entry of the result is there for."""

    trial: Trial
    on_step: Callable[[Step], None] | None
    processor: Processor
    result: Triage
    keep: Keep | None
    expand: Expand | None = None
    causes: dict[str, Cause] = field(default_factory=dict)

    def settle(self, found: Finding, case: Case, count: int, seconds: float, origin: Origin | None) -> bool:
        """Take one example of a finding to its entries; False where it comes to none, and the result says why unless another one did.

        `origin`: where the example ran, if that is known.
        """
        trial, base, finding = self.trial, self.trial.base(case.base), found.signature
        result = self.result if finding.id not in self.result.counted else Triage()
        if base is None or not trial.applies(case):
            result.unstable.append(finding.id)
            return False
        repeating = repeats(trial, case)
        comparison = trial.compare(base, [case.mutation])
        verdict = comparison.verdict[0]
        if repeating and verdict in (Verdict.MISMATCH, Verdict.EXECUTOR_CRASHED):
            may_lose_values = verdict == Verdict.MISMATCH and comparison.outcomes.kind[0] != Kind.VMWRITE_FAILED
            if may_lose_values and (fields := not_kept(trial, case)):
                result.not_kept[finding.id] = fields
                return False
            self._minimize(found, case, count, seconds, comparison)
            return True
        if repeating and comparison.outcomes[0].short() == finding.actual:
            result.explained.append(finding.id)
            return False
        if self._counted_with_sequence(finding.id, count) or self._settle_sequence(found, case, count, seconds, origin):
            return True
        result.unstable.append(finding.id)
        return False

    def _minimize(self, found: Finding, case: Case, count: int, seconds: float, comparison: Comparison) -> None:
        costly = bool(comparison.verdict[0] == Verdict.EXECUTOR_CRASHED)
        minimizer = Minimizer(self.trial, same_finding(comparison, 0), seconds, costly=costly, on_step=self.on_step)
        for number, minimized in enumerate(minimizer.run(case)):
            self._add(minimized, count if number == 0 else 0, found.warnings)
            if number == 0:
                self._count(found.signature.id, count)

    def _counted_with_sequence(self, finding: str, count: int) -> bool:
        """Count a further example that does not repeat with the sequence that another one of its finding came down to, if one did."""
        known = self.result.entries.get(self.result.depends.get(finding, ""))
        if known is None:
            return False
        shown, processor = known.results[0], known.results[0].processors[0]
        counted = replace(processor, seen=processor.seen + count)
        self.result.entries[known.id] = replace(known, results=(replace(shown, processors=(counted,)),))
        self._count(finding, count)
        if self.keep is not None:
            self.keep(self.result.entries[known.id], None)
        return True

    def _settle_sequence(self, found: Finding, case: Case, count: int, seconds: float, origin: Origin | None) -> bool:
        """Take an example that does not repeat to its entry, the shortest sequence that shows it; False where none does each time."""
        deadline = time.monotonic() + seconds
        rows = None
        if origin is not None and self.expand is not None:
            rows = self.expand(origin.plan, origin.count).take(np.arange(origin.row + 1))
        sequence = shortest(self.trial, case, found.signature.actual, rows, lambda: time.monotonic() < deadline)
        if sequence is None:
            return False
        behind = sequence.behind
        shown, _ = self.trial.observe_sequence(case.base, [*behind.before, sequence.case.mutation])
        minimized = Minimized(sequence.case, (), complete=time.monotonic() < deadline)
        entry = entry_of(minimized, replace(shown, kind=DEPENDS), self.processor, count)
        entry = replace(entry, behind=behind, warnings=tuple(found.warnings))
        self._keep(entry, (DEPENDS, shown.checks, (shown.actual, shown.message)))
        self.result.depends[found.signature.id] = entry.id
        self._count(found.signature.id, count)
        return True

    def _count(self, finding: str, count: int) -> None:
        self.result.counted[finding] = self.result.counted.get(finding, 0) + count

    def _add(self, minimized: Minimized, count: int, warnings: Sequence[str]) -> None:
        shown = self.trial.observe(minimized.case)
        entry = replace(entry_of(minimized, shown, self.processor, count), warnings=tuple(warnings))
        self._keep(entry, (shown.kind, shown.checks, () if shown.kind == ACCEPTS else (shown.actual, shown.message)))

    def _keep(self, entry: Entry, cause: Cause) -> None:
        """Lay the entry together with those that are there for the same cause, and hand it on."""
        entries = self.result.entries
        same = [known for known in entries if self._is_same(cause, entry, known)]
        for known in same:
            entry = _simpler(self.trial, entries[known], entry, entry.seen)
        if same and entry == entries.get(entry.id):
            return
        replaced = [known for known in same if known != entry.id]
        for known in replaced:
            del entries[known], self.causes[known]
        entries[entry.id], self.causes[entry.id] = entry, cause
        if self.keep is not None:
            self.keep(entry, None)
            for old in replaced:
                self.keep(entry, old)

    def _is_same(self, cause: Cause, entry: Entry, known: str) -> bool:
        """Whether an entry that is known is there for the same cause.

        The same operands; or some of them, where the violated checks are the same and the entry succeeds all the same: one known-good state has
        by itself what another one needs to be given.
        """
        other = self.result.entries[known]
        if (entry.behind and entry.behind.shape) != (other.behind and other.behind.shape):
            return False
        operands, others = set(entry.case.mutation), set(other.case.mutation)
        alike = operands == others or (entry.kind == ACCEPTS and (operands < others or others < operands))
        return self.causes[known] == cause and alike


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
    warnings = tuple(dict.fromkeys((*one.warnings, *other.warnings)))
    return replace(chosen, warnings=warnings).with_observation(_as_observation(chosen, shown.comparison), counted)


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
