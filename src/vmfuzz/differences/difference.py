"""Two processors side by side: the candidates on which they differ although the manual allows both the same, grouped and minimized.

Both run the same candidates: the same known-good base by name with the same changes. Where the model's predictions for the two have no outcome
in common, their capabilities explain a difference and it is not counted. What is left is a defect of one of them, or a choice that the
manual leaves open; the prediction says which.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.outcomes import Kind
from vmfuzz.campaign.loop import Campaign
from vmfuzz.comparison.case import Case, mutation_between
from vmfuzz.comparison.compare import AlteredModel, Comparison, compare
from vmfuzz.comparison.errata import Erratum
from vmfuzz.comparison.processor import fingerprint, version_of
from vmfuzz.comparison.trial import Observation, Trial
from vmfuzz.differences.pair import Both, PairTrial, lacking_rows, together, translated
from vmfuzz.execute.base import Executor
from vmfuzz.findings.minimize import Minimizer
from vmfuzz.generate.families import FamilyPlan
from vmfuzz.state.vmcs import Vmcs

#: Examples of one group that are kept for minimization, those with the fewest changes.
_EXAMPLES: Final = 3
#: Rows of one batch and group that are looked at one by one.
_LOOKED_AT: Final = 4
#: Seconds for one minimization, at most, unless there is more for each.
_SECONDS_EACH: Final = 10.0


@dataclass(frozen=True)
class Shape:
    """What makes two differences one: what the manual allows, the checks that decide, what each did, and who departs from the manual."""

    first: str
    other: str
    predicted: tuple[str, ...]
    checks: tuple[str, ...]
    first_verdict: str
    other_verdict: str

    @property
    def id(self) -> str:
        """A short permanent name made of the content."""
        text = json.dumps([self.first, self.other, self.predicted, self.checks])
        return hashlib.sha256(text.encode()).hexdigest()[:10]


@dataclass
class Difference:
    """One difference: how many candidates showed it, cases that show it, and the smallest one once it was minimized."""

    shape: Shape
    first_message: str | None
    other_message: str | None
    count: int = 0
    cases: list[Case] = field(default_factory=list)
    minimal: Case | None = None

    @property
    def judgement(self) -> str:
        """Who departs from the manual, in words: "first", "second", "both", or "neither" where the manual leaves it open."""
        wrong = [self.shape.first_verdict not in _FINE, self.shape.other_verdict not in _FINE]
        return {(True, True): "both", (True, False): "first", (False, True): "second"}.get((wrong[0], wrong[1]), "neither")


_FINE: Final = ("agrees", "not modelled")


@dataclass
class Differences:
    """What a comparison of two processors gave; counts are candidates."""

    first: str
    other: str
    same_capabilities: bool
    seed: int = 0
    #: of what executed as the first and as the second
    versions: tuple[str, str] = ("", "")
    drawn: int = 0
    #: candidates that both ran and for which the manual allows a common outcome
    compared: int = 0
    #: of these, candidates with other outcomes, each allowed, where their capabilities allow them different ones
    explained: int = 0
    not_comparable: int = 0
    #: of these, candidates that set a field which one of the two lacks, by the sentence that says so
    lacking: Counter[str] = field(default_factory=Counter)
    found: dict[str, Difference] = field(default_factory=dict)
    #: (first's word, second's word) -> candidates with the same outcome for which the two name another check
    names: Counter[tuple[str | None, str | None]] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def differing(self) -> int:
        """Candidates on which they differ."""
        return sum(difference.count for difference in self.found.values())

    def to_json(self) -> dict[str, Any]:
        """A JSON object for machines; its keys are stable."""
        return {
            "schema": "vmfuzz-diff-1",
            "first": self.first,
            "second": self.other,
            "seed": self.seed,
            "versions": {"first": self.versions[0], "second": self.versions[1]},
            "same_capabilities": self.same_capabilities,
            "drawn": self.drawn,
            "compared": self.compared,
            "explained_by_capabilities": self.explained,
            "not_comparable": self.not_comparable,
            "not_run": dict(self.lacking),
            "differing": self.differing,
            "seconds": round(self.seconds, 3),
            "named_otherwise": [{"first": one, "second": two, "count": count} for (one, two), count in self.names.most_common()],
            "differences": [
                {
                    "id": each.shape.id,
                    "count": each.count,
                    "departs": each.judgement,
                    "predicted": list(each.shape.predicted),
                    "checks": list(each.shape.checks),
                    "first": {"outcome": each.shape.first, "comparison": each.shape.first_verdict, "message": each.first_message},
                    "second": {"outcome": each.shape.other, "comparison": each.shape.other_verdict, "message": each.other_message},
                    "minimized": each.minimal is not None,
                    "entry": shown_case(each).id,
                    "base": shown_case(each).base,
                    "base_alone": not shown_case(each).mutation,
                    "mutation": {key: f"{value:#x}" for key, value in sorted(shown_case(each).mutation.items())},
                }
                for each in self.ordered()
            ],
        }

    def ordered(self) -> list[Difference]:
        """The differences, those of defects first, then by count."""
        return sorted(self.found.values(), key=lambda each: (each.judgement == "neither", -each.count, each.shape.id))


def shown_case(difference: Difference) -> Case:
    """The case of a difference that people see: the smallest one, else the first that was kept."""
    return difference.minimal or difference.cases[0]


class Pairing:
    """Draws candidates for two executors and gathers their differences; `result` is what there is so far.

    `errata`: deviations known besides the package's; where a processor departs from the manual they say by which one.
    """

    def __init__(self, first: Executor, other: Executor, seed: int = 0, errata: Sequence[Erratum] = ()) -> None:
        self.campaign = Campaign(first, seed, errata=errata)
        self.trial = PairTrial(
            Trial(first, self.campaign.model, self.campaign.generator, self.campaign.altered),
            Trial(other, errata=errata),
        )
        same = fingerprint(first.capabilities()) == fingerprint(other.capabilities())
        versions = (version_of(first), version_of(other))
        self.result = Differences(first.name, other.name, same, seed, versions)
        other_trial = self.trial.other
        self._altered = AlteredModel(other_trial.model.capabilities, other_trial.deviations) if other_trial.deviations else None

    def run(self, iterations: int, on_progress: Callable[[Differences], None] | None = None) -> Differences:
        """Draw and compare `iterations` candidates; KeyboardInterrupt ends it with what there is."""
        start = time.perf_counter()
        try:
            for plan in self._plans():
                left = iterations - self.result.drawn
                if left <= 0:
                    break
                rows = min(plan.rows, self.campaign.family_size, left)
                first = self.campaign.execute(plan, rows)
                self.campaign.progress.tally.add(first)
                self._gather(first, plan.base)
                self.result.seconds = time.perf_counter() - start
                if on_progress is not None:
                    on_progress(self.result)
        except KeyboardInterrupt:
            pass
        self.result.seconds = time.perf_counter() - start
        return self.result

    def capabilities(self) -> tuple[Capabilities, Capabilities]:
        """What the first and the second processor report."""
        return self.trial.model.capabilities, self.trial.other.model.capabilities

    def capability_differences(self) -> dict[str, tuple[str | None, str | None]]:
        """Capability MSRs and CPUID leaves that differ, for JSON: name -> (first's, second's); None where a processor has none."""
        here, there = (each.to_json() for each in self.capabilities())
        return {
            f"{'MSR ' if part == 'msrs' else 'CPUID '}{key}": (_text(here[part].get(key)), _text(there[part].get(key)))
            for part in ("msrs", "cpuid")
            for key in sorted({*here[part], *there[part]})
            if here[part].get(key) != there[part].get(key)
        }

    def _plans(self) -> Iterator[FamilyPlan]:
        number = 0
        while True:
            yield from self.campaign.plan(number)
            number += 1

    def run_cases(self, cases: Iterable[Case]) -> Differences:
        """Compare cases instead of drawing candidates; those that one of the two cannot have count as not comparable."""
        start = time.perf_counter()
        for case in cases:
            base = self.trial.base(case.base)
            self.result.drawn += 1
            for trial in (self.trial, self.trial.other):
                if fields := trial.lacking(case):
                    self.result.lacking[f"{trial.executor.name} lacks {', '.join(fields)}"] += 1
                    break
            if base is None or not self.trial.applies(case):
                self.result.not_comparable += 1
                continue
            self._add(self.trial.compare(base, [case.mutation]), case.base, base)
        self.result.seconds += time.perf_counter() - start
        return self.result

    def _gather(self, first: Comparison, name: str) -> None:
        """Run a drawn batch on the second processor too, and add what differs."""
        batch, there = first.prediction.batch, self.trial.other.base(name)
        self.result.drawn += len(batch)
        for field_name, rows in (lacking_rows(batch, there) if there is not None else {}).items():
            self.result.lacking[f"{self.trial.other.executor.name} lacks {field_name}"] += rows
        moved_to = None if there is None else translated(batch, there)
        if moved_to is None:
            self.result.not_comparable += len(batch)
            return
        moved, place = moved_to
        model, executor = self.trial.other.model, self.trial.other.executor
        other = compare(model.predict_batch(moved), executor.run(moved), self._altered)
        self._add(together(first, other, place), name, batch.base)

    def _add(self, both: Both, name: str, base: Vmcs) -> None:
        self.result.compared += int(both.comparable.sum())
        self.result.explained += int(both.explained.sum())
        self._add_names(both)
        self.result.not_comparable += int((~both.comparable).sum())
        groups: dict[tuple[object, ...], list[int]] = {}
        for row in np.flatnonzero(both.differs).tolist():
            there = int(both.place[row])
            key = (
                int(both.prediction.allowed[row]), int(both.bits[row]), int(both.other.bits[there]), int(both.verdict[row]),
                int(both.other.verdict[there]), int(both.outcomes.message[row]), int(both.other.outcomes.message[there]),
            )  # fmt: skip
            groups.setdefault(key, []).append(row)
        for rows in groups.values():
            for position, row in enumerate(rows[:_LOOKED_AT]):
                weight = len(rows) - _LOOKED_AT + 1 if position == _LOOKED_AT - 1 else 1
                self._add_row(both, row, name, base, weight)

    def _add_names(self, both: Both) -> None:
        """Count rows with the same failure for which the two name another check."""
        rows = np.flatnonzero(both.comparable & ~both.differs & ~both.explained & (both.outcomes.kind != Kind.EXIT))
        there = both.place[rows]
        pairs, counts = np.unique(np.stack([both.outcomes.message[rows], both.other.outcomes.message[there]]), axis=1, return_counts=True)
        one, two = [*both.outcomes.messages, None], [*both.other.outcomes.messages, None]
        for (here, other), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
            if None not in (one[here], two[other]) and one[here] != two[other]:
                self.result.names[one[here], two[other]] += count

    def _add_row(self, both: Both, row: int, name: str, base: Vmcs, weight: int) -> None:
        here, there = self._observations(both, row)
        shape = Shape(here.actual, there.actual, here.predicted, here.checks, here.comparison, there.comparison)
        found = self.result.found.setdefault(shape.id, Difference(shape, here.message, there.message))
        found.count += weight
        case = Case(name, mutation_between(base, both.prediction.batch.row(row)))
        if case not in found.cases:
            found.cases = sorted([*found.cases, case], key=lambda each: len(each.mutation))[:_EXAMPLES]

    def _observations(self, both: Both, row: int) -> tuple[Observation, Observation]:
        return self.trial.observation(both, row), self.trial.other.observation(both.other, int(both.place[row]))

    def minimize(self, seconds: float) -> None:
        """Reduce each difference to its smallest case, and lay those together that come down to the same; `seconds` for all.

        KeyboardInterrupt leaves the rest as it is.
        """
        deadline, each = time.monotonic() + seconds, max(_SECONDS_EACH, seconds / max(len(self.result.found), 1))
        settled: dict[tuple[object, ...], Difference] = {}
        for difference in self.result.ordered():
            left = deadline - time.monotonic()
            if left <= 0:
                settled[difference.shape.id,] = difference
                continue
            try:
                small = self._smallest(difference, min(left, each))
            except KeyboardInterrupt:
                small, deadline = None, time.monotonic()
            key: tuple[object, ...] = (difference.shape.id,)
            if small is not None:
                shape, difference.minimal = small
                key = (shape.first, shape.other, tuple(difference.minimal.mutation), shape.checks)
                difference.shape = shape
            if key in settled:
                settled[key].count += difference.count
            else:
                settled[key] = difference
        self.result.found = {each.shape.id + (each.minimal.id if each.minimal else ""): each for each in settled.values()}

    def _smallest(self, difference: Difference, seconds: float) -> tuple[Shape, Case] | None:
        """The smallest case of a difference and its shape, or None where no example shows it again alone."""
        for case in difference.cases:
            base = self.trial.base(case.base)
            if base is None:
                continue
            both = self.trial.compare(base, [case.mutation])
            if not both.differs[0]:
                continue
            goal = _goal(both)
            minimal = Case(case.base, {})  # where the base alone shows it, nothing is to be reduced
            if not goal(self.trial.compare(base, [{}]))[0]:
                reduced = Minimizer(self.trial, goal, seconds).run(case)
                if not reduced:
                    continue
                minimal = reduced[0].case
            base = self.trial.base(minimal.base)
            assert base is not None
            shown = self.trial.compare(base, [minimal.mutation])
            here, there = self._observations(shown, 0)
            difference.first_message, difference.other_message = here.message, there.message
            shape = Shape(here.actual, there.actual, here.predicted, here.checks, here.comparison, there.comparison)
            return shape, minimal
        return None


def _goal(both: Both) -> Callable[[Comparison], npt.NDArray[np.bool_]]:
    """Rows that still differ, with the same outcome on each side as the first row of `both`."""
    bits = int(both.bits[0]), int(both.other.bits[int(both.place[0])])

    def goal(tried: Comparison) -> npt.NDArray[np.bool_]:
        assert isinstance(tried, Both)
        rows: npt.NDArray[np.bool_] = tried.differs & (tried.bits == bits[0])
        for row in np.flatnonzero(rows).tolist():
            rows[row] = int(tried.other.bits[int(tried.place[row])]) == bits[1]
        return rows

    return goal


def _text(value: object) -> str | None:
    return None if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
