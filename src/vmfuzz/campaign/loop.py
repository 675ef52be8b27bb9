"""The campaign: draw families, run them, compare, count, until the wanted number of candidates or until told to stop."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.outcomes import Kind
from vmfuzz.campaign.history import History
from vmfuzz.campaign.mismatches import Findings, Warned
from vmfuzz.campaign.tally import Tally
from vmfuzz.comparison.compare import AlteredModel, Comparison, Verdict, compare
from vmfuzz.comparison.errata import Erratum, all_deviations_of
from vmfuzz.comparison.processor import version_of
from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.execute.base import Executor, HasItsOwnWord, Poisons, lacking_fields, warnings_of
from vmfuzz.generate.bases import Bases
from vmfuzz.generate.families import FAMILY_SIZE, FamilyPlan, generator_of
from vmfuzz.generate.schedule import Schedule
from vmfuzz.interrupts import CTRL_C, cause_of
from vmfuzz.model.predict import Model, model_of
from vmfuzz.state.batch import VmcsBatch

#: So many new objects more than have gone make Python look for cycles in a campaign; 700 elsewhere.
_OBJECTS_A_COLLECTION: Final = 50_000


@dataclass(frozen=True)
class Position:
    """Where a campaign goes on: the chunk, how many of its plans are done, and the plans (None: not drawn yet)."""

    chunk: int = 0
    done: int = 0
    plans: list[FamilyPlan] | None = None


class Keeper(Protocol):
    """What keeps a campaign's state while it runs; store.py has the one that keeps it on disk."""

    def attach(self, campaign: Campaign, wanted: int) -> Position:
        """Give the campaign what is kept of it (nothing, if it is new) and say where it goes on."""

    def chunk(self, number: int, plans: list[FamilyPlan]) -> None:
        """A chunk of plans begins."""

    def begins(self, plan: FamilyPlan, count: int) -> None:
        """A batch is about to run: the first `count` candidates of the plan."""

    def ends(self, campaign: Campaign, done: int) -> None:
        """The batch is over and counted; `done` plans of the chunk are."""

    def breaks_off(self) -> None:
        """The batch that began has not reached the executor, or it is known that the machine came back."""


@dataclass
class Progress:
    """Where a campaign is: handed to the caller after every family."""

    wanted: int
    tally: Tally
    findings: Findings
    seconds: float = 0.0
    executor_seconds: float = 0.0
    #: seconds since the start at which something new (finding, check seen deciding, outcome) was last seen
    last_new: float = 0.0
    history: History = field(default_factory=History)
    warned: list[Warned] = field(default_factory=list)

    def note(self) -> None:
        """Keep the present point of the history."""
        self.history.add(self.seconds, self.tally.candidates, int((self.tally.decided > 0).sum()), len(self.findings.by_id))

    @property
    def rate(self) -> float:
        """Candidates a second, end to end."""
        return self.tally.candidates / self.seconds if self.seconds else 0.0


@dataclass
class Summary:
    """The result of a campaign."""

    executor: str
    seed: int
    progress: Progress
    stopped: bool
    bases: tuple[str, ...]
    #: why the campaign could not go on, if it could not
    error: str | None = None
    #: fields that the capabilities promise and VMWRITE did not take at capture: no candidate has them
    lacking: tuple[str, ...] = ()
    #: what stopped it, if something did
    stopped_by: str = CTRL_C
    #: of what executed
    version: str = ""

    def to_json(self) -> dict[str, Any]:
        """A JSON object for machines; its keys are stable."""
        progress = self.progress
        return {
            "schema": "vmfuzz-summary-1",
            "executor": self.executor,
            "processor": progress.tally.model.capabilities.name,
            "version": self.version,
            "microcode": None if (revision := progress.tally.model.capabilities.microcode) is None else f"{revision:#x}",
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "seed": self.seed,
            "stopped": self.stopped,
            "error": self.error,
            "wanted": progress.wanted,
            "seconds": round(progress.seconds, 3),
            "executor_seconds": round(progress.executor_seconds, 3),
            "candidates_per_second": round(progress.rate),
            "bases": list(self.bases),
            "lacking_fields": list(self.lacking),
            **progress.tally.to_json(),
            "history": [list(point) for point in progress.history.points],
            "findings": [finding.to_json() for finding in progress.findings.by_id.values()],
            "kernel_warnings": [warned.to_json() for warned in progress.warned],
        }


@contextmanager
def _few_collections() -> Iterator[None]:
    """Have Python look for cycles of objects less often, and not at what is there already: a campaign makes millions of objects and hardly a cycle."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_OBJECTS_A_COLLECTION, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _require_bases(executor: Executor, bases: Bases) -> None:
    """Raise EnvironmentUnusable that names the checks where no known-good state can be made of what the executor captured."""
    if bases.modes:
        return
    violated, unknown = bases.doubts()
    if violated:
        raise EnvironmentUnusable(
            f"{executor.name}: the model predicts that the captured state fails VM entry ({', '.join(violated)}), so there is nothing to mutate. "
            "If the state does enter there, the model is wrong: `vmfuzz check` on the state says more"
        )
    raise EnvironmentUnusable(
        f"{executor.name}: the outcome of the captured state depends on something that is not modelled ({', '.join(unknown)}), so there is nothing to "
        "mutate. If an earlier version of vmfuzz wrote these capabilities, write them again: they may lack what these checks need"
    )


class Campaign:
    """One campaign on one executor; the same seed gives the same candidates. `errata`: deviations known besides the package's."""

    #: candidates of one family, at most
    family_size = FAMILY_SIZE

    def __init__(self, executor: Executor, seed: int, model: Model | None = None, errata: Sequence[Erratum] = ()) -> None:
        self.executor = executor
        self.seed = seed
        self.model = model or model_of(executor.capabilities())
        self.generator = generator_of(self.model, executor.known_good())
        _require_bases(executor, self.generator.bases)
        self.schedule = Schedule(self.generator, seed, self.undisputed)
        self.errata = tuple(errata)
        deviations = all_deviations_of(executor.name, self.errata, self.model, self.generator)
        self.altered = AlteredModel(self.model.capabilities, deviations) if deviations else None
        self.bases_used: set[str] = set()
        self._executing = False
        self.progress = Progress(0, Tally(self.model, deviations), Findings())

    def plan(self, number: int) -> list[FamilyPlan]:
        """Pass `number` of the campaign over all checks; what was never seen gets more."""
        return self.schedule.chunk(number, self.progress.tally.coverage.unseen_goals())

    def undisputed(self, batch: VmcsBatch) -> npt.NDArray[np.bool_]:
        """Rows about which the model knows everything and no known deviation of the executor says otherwise: bool (n,)."""
        prediction = self.model.predict_batch(batch)
        return ~prediction.not_modelled if self.altered is None else ~prediction.not_modelled & ~self.altered.disputes(prediction)

    def run(self, iterations: int, on_progress: Callable[[Progress], None] | None = None, store: Keeper | None = None) -> Summary:
        """Run until `iterations` candidates have run in all; `on_progress` is called after each family, `store` keeps the state.

        A store in which a campaign was begun makes this one go on where that one stopped. KeyboardInterrupt ends the run cleanly.
        """
        progress = self.progress
        progress.wanted = iterations
        position = store.attach(self, iterations) if store is not None else Position()
        start = time.perf_counter() - progress.seconds
        stopped_by = None
        try:
            with _few_collections():
                while progress.tally.candidates < iterations:
                    self._chunk(position, iterations, start, on_progress, store)
                    position = Position(position.chunk + 1)
        except KeyboardInterrupt as interrupt:
            stopped_by = cause_of(interrupt)
            if store is not None and not self._executing:
                store.breaks_off()
        progress.seconds = time.perf_counter() - start
        return self.summary(stopped_by is not None, stopped_by=stopped_by or CTRL_C)

    def summary(self, stopped: bool, error: str | None = None, stopped_by: str = CTRL_C) -> Summary:
        """The result so far; `error` says why the campaign could not go on."""
        bases, lacking = tuple(sorted(self.bases_used)), lacking_fields(self.executor)
        return Summary(self.executor.name, self.seed, self.progress, stopped, bases, error, lacking, stopped_by, version_of(self.executor))

    def _chunk(
        self, position: Position, iterations: int, start: float, on_progress: Callable[[Progress], None] | None, store: Keeper | None
    ) -> None:
        plans = position.plans
        if plans is None:
            plans = self.plan(position.chunk)
            if store is not None:
                store.chunk(position.chunk, plans)
        for done, plan in enumerate(plans[position.done :], position.done + 1):
            remaining = iterations - self.progress.tally.candidates
            if remaining <= 0:
                return
            count = min(plan.rows, self.family_size, remaining)
            if store is not None:
                store.begins(plan, count)
            self._family(plan, count, start)
            if store is not None:
                store.ends(self, done)
            if on_progress is not None:
                on_progress(self.progress)

    def _family(self, plan: FamilyPlan, count: int, start: float) -> None:
        progress = self.progress
        self.bases_used.add(plan.base)
        warnings = warnings_of(self.executor)
        comparison = self.execute(plan, count)
        before = (len(progress.tally.outcomes), int((progress.tally.decided > 0).sum()), len(progress.findings.by_id))
        progress.tally.add(comparison, [block.target for block in plan.blocks])
        self._ask_for_a_word(comparison)
        new = warnings_of(self.executor)[len(warnings) :]
        found = progress.findings.add(comparison, plan.base, plan, new)
        if new:
            progress.warned.append(Warned(tuple(new), plan.base, plan.seed, len(comparison.verdict), tuple(found)))
        progress.seconds = time.perf_counter() - start
        if before != (len(progress.tally.outcomes), int((progress.tally.decided > 0).sum()), len(progress.findings.by_id)):
            progress.last_new = progress.seconds
        progress.note()

    def candidates(self, plan: FamilyPlan, count: int | None = None) -> VmcsBatch:
        """The candidates of a plan (the first `count` of them): on an executor that poisons, poisoned twins of those that would be refused."""
        batch = self.generator.expand(plan, count)
        return self.executor.with_twins(batch) if isinstance(self.executor, Poisons) else batch

    def _ask_for_a_word(self, comparison: Comparison) -> None:
        """The second oracle of an executor that has a word only for single candidates: ask it about one that failed, as the model says."""
        if not isinstance(self.executor, HasItsOwnWord):
            return
        failed = np.isin(comparison.outcomes.kind, (Kind.VMFAIL_VALID, Kind.ENTRY_FAILURE)) & (comparison.verdict == Verdict.AGREES)
        rows = np.flatnonzero(failed)
        if len(rows):
            row = int(rows[self.progress.tally.candidates % len(rows)])
            self.progress.tally.add_word(comparison, row, self.executor.own_word(comparison.prediction.batch.row(row)))

    def execute(self, plan: FamilyPlan, count: int | None = None) -> Comparison:
        """Expand, predict, run and compare one family."""
        batch = self.candidates(plan, count)
        prediction = self.model.predict_batch(batch)
        before = time.perf_counter()
        # stays set where the executor does not return: then nobody knows what became of the machine
        self._executing = True
        outcomes = self.executor.run(batch)
        self._executing = False
        self.progress.executor_seconds += time.perf_counter() - before
        return compare(prediction, outcomes, self.altered)
