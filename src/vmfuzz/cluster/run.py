"""A campaign on a Dask cluster: each processor that its workers execute on gets the whole campaign, cut into pieces that any of its workers may run.

The pieces are the shares of campaign/jobs.py: what a piece runs depends on the seed, the number of candidates and of pieces, never on which worker
runs it or when. So a piece whose worker goes away is run again elsewhere, and the result is the same. On a real processor it is not run again:
the piece may have taken the machine with it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future as Asked
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from vmfuzz.campaign.as_data import finding_data
from vmfuzz.campaign.jobs import Share, merge, shares_of
from vmfuzz.campaign.loop import Campaign, Summary
from vmfuzz.cluster import worker as cluster_worker
from vmfuzz.cluster.members import FarProcessor, Key, first_line, members, refuse
from vmfuzz.comparison.errata import Erratum, errata_data
from vmfuzz.corpus.entries import from_json
from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.execute.kinds import is_harmless
from vmfuzz.findings.triage import Triage
from vmfuzz.interrupts import CTRL_C, cause_of

if TYPE_CHECKING:
    from distributed import Client, Future

#: Seconds between two looks at what the workers do.
_LOOK_EVERY: Final = 1.0
#: How often a piece is begun before it is given up.
_ATTEMPTS: Final = 3
#: Seconds for which a processor without workers is waited for, and for which the scheduler is.
REPLACEMENT_SECONDS: Final = 20.0
#: Seconds that a result has to come over, once its piece is done.
ANSWER_SECONDS: Final = 30.0
#: Seconds that pieces have to end after Ctrl-C; then what they said last counts.
_STOP_SECONDS: Final = 10.0


@dataclass
class Part:
    """The campaign on one processor of the cluster.

    `results`: what finished pieces gave, by number; `latest`: what running ones said last; `lost`: pieces that are not in the result (or not wholly),
    and why.
    """

    processor: FarProcessor
    campaign: Campaign
    shares: list[Share]
    results: dict[int, dict[str, Any]] = field(default_factory=dict)
    latest: dict[int, dict[str, Any]] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    workers: set[str] = field(default_factory=set)
    #: called with a piece that has come in
    keep: Callable[[int, dict[str, Any]], None] = lambda _job, _result: None
    seconds: float = 0.0
    _tried: Counter[int] = field(default_factory=Counter)
    _without_workers: float | None = None

    @property
    def wanted(self) -> int:
        """Candidates of all pieces."""
        return sum(share.iterations for share in self.shares)

    @property
    def waiting(self) -> list[int]:
        """Pieces that are neither done nor given up; those that run are among them."""
        return [share.job for share in self.shares if share.job not in self.results and share.job not in self.lost]

    def merged(self, stopped: bool = False) -> Summary:
        """Everything that has come in, in the order of the pieces."""
        known = {**self.latest, **self.results}
        summary = merge(self.campaign, self.wanted, [known[job] for job in sorted(known)], self.seconds)
        summary.stopped |= stopped
        return summary

    def failed(self, job: int, reason: str, again: bool = True) -> None:
        """A piece did not come to its end: it goes back to those that wait, or is given up."""
        self._tried[job] += 1
        if not again or self._tried[job] >= _ATTEMPTS:
            times = f" (tried {self._tried[job]} times)" if self._tried[job] > 1 else ""
            self.lost[job] = f"{reason}{times}"
        else:
            self.latest.pop(job, None)

    def gone(self, job: int, worker: str, how: str = "went away while it ran the piece") -> None:
        """Nobody knows what became of a piece on a worker."""
        if is_harmless(self.processor.name):
            self.failed(job, f"worker {worker} {how}")
        else:
            self.failed(
                job, f"worker {worker} {how}, which may have taken the machine down, so it does not run on another one", again=False
            )

    def give_up_without_workers(self) -> None:
        """Give up the pieces that wait where no worker has been left for a while."""
        if self.workers or not self.waiting:
            self._without_workers = None
        elif self._without_workers is None:
            self._without_workers = time.monotonic()
        elif time.monotonic() - self._without_workers > REPLACEMENT_SECONDS:
            self.lost.update(dict.fromkeys(self.waiting, f"no worker with {self.processor.name} is left"))


@dataclass(frozen=True)
class _Task:
    """A piece on a worker."""

    part: Part
    job: int
    worker: str
    key: str


class ClusterRun:
    """A campaign on the cluster of `client`; raises EnvironmentUnusable that names the workers which cannot take part.

    `executor`, `cpu`: what the workers execute on, see `cluster_worker.chosen`. `notes` says what happened that a person should know.
    """

    def __init__(self, client: Client, executor: str = "auto", cpu: str | None = None) -> None:
        self.client = client
        self._asked_for = (executor, cpu)
        self._id = f"vmfuzz-{uuid4().hex[:12]}"
        self.parts: list[Part] = []
        self.notes: list[str] = []
        self.stopping = False
        self.stopped_by = CTRL_C
        self._running: dict[Future, _Task] = {}
        self._known: set[str] = set()
        self._unanswered: float | None = None
        self._stop_at = 0.0
        found, problems = self._settling()
        if problems:
            refuse(problems)
        self._known.update(found)
        #: the processors, and the workers of each, sorted
        self.processors: dict[Key, tuple[FarProcessor, list[str]]] = {}
        for address, processor in sorted(found.items()):
            self.processors.setdefault(processor.key, (processor, []))[1].append(address)
        self.processors = dict(sorted(self.processors.items()))

    def _settling(self) -> tuple[dict[str, FarProcessor], dict[str, str]]:
        deadline = time.monotonic() + 5
        while not (addresses := set(self.client.nthreads(callback_timeout=ANSWER_SECONDS))):
            if time.monotonic() > deadline:
                raise EnvironmentUnusable(
                    "the cluster has no workers; start one on each machine: dask worker ADDRESS --nthreads 1 --nworkers CORES"
                )
            time.sleep(0.2)
        return members(self.client, addresses, *self._asked_for)

    def add(self, key: Key, seed: int, iterations: int, pieces: int | None = None, errata: tuple[Erratum, ...] = ()) -> Part:
        """Give a processor its campaign of `iterations` candidates in `pieces` pieces (None: as many as it has workers).

        `errata`: deviations known besides the package's, here and on the workers.
        """
        processor, workers = self.processors[key]
        shares = shares_of(processor.option, processor.cpu, seed, iterations, pieces or len(workers), errata=errata)
        part = Part(processor, Campaign(processor, seed, errata=errata), shares, workers=set(workers))
        self.parts.append(part)
        return part

    def run(self, on_progress: Callable[[Sequence[Part]], None] | None = None) -> None:
        """Run all pieces of all parts. Ctrl-C (or KeyboardInterrupt from `on_progress`) ends them with what they have; a second one at once."""
        start, before = time.monotonic(), [part.seconds for part in self.parts]
        with self._interruptible(), ThreadPoolExecutor(1) as asking:
            asked = asking.submit(self._look)
            try:
                while any(part.waiting for part in self.parts) and not self._has_stopped():
                    try:
                        self._hand_out()
                        self._collect()
                        for part, seconds in zip(self.parts, before, strict=True):
                            part.seconds = seconds + time.monotonic() - start
                        if asked.done():
                            self._take(asked)
                            asked = asking.submit(self._look)
                            if on_progress is not None:
                                on_progress(self.parts)
                    except KeyboardInterrupt:
                        if self.stopping:
                            break
                        self.stopping = True
            finally:
                for future in self._running:
                    future.cancel()
                self._running.clear()

    def minimize(self, seconds: float) -> list[Triage]:
        """Run the findings of each part again and reduce them, on one of its workers; Ctrl-C leaves the rest as it is."""
        self.stopping = False
        results = [Triage(left=sorted(part.campaign.progress.findings.by_id)) for part in self.parts]
        with self._interruptible():
            for number, part in enumerate(self.parts):
                if results[number].left and seconds and part.workers and self.client.status == "running":
                    self._begin_minimizing(number, part, seconds)
            while self._running and not self._has_stopped():
                try:
                    alive = self._look(newcomers=False)[0]
                except Exception as error:  # as above
                    self.notes.append(f"findings were not minimized: {first_line(error)}")
                    break
                for future, task in list(self._running.items()):
                    if not future.done() and task.worker in alive:
                        continue
                    del self._running[future]
                    try:
                        if task.worker not in alive:
                            raise EnvironmentUnusable("it went away")
                        results[task.job] = _triage_from(future.result(timeout=ANSWER_SECONDS))
                    except Exception as error:
                        self.notes.append(f"worker {task.worker} did not minimize: {first_line(error)}")
        return results

    def _begin_minimizing(self, number: int, part: Part, seconds: float) -> None:
        worker, key = min(part.workers), f"{self._id}-{number}-minimize"
        findings = [finding_data(finding) for finding in part.campaign.progress.findings.by_id.values()]
        arguments = (key, part.processor.option, part.processor.cpu, findings, seconds, errata_data(part.campaign.errata))
        self._running[submit(self.client, worker, key, "minimize", *arguments)] = _Task(part, number, worker, key)

    def _has_stopped(self) -> bool:
        """Whether nothing more is to be waited for after Ctrl-C."""
        if not self.stopping:
            self._stop_at = time.monotonic() + _STOP_SECONDS
        return self.stopping and (not self._running or time.monotonic() > self._stop_at)

    # One turn

    def _hand_out(self) -> None:
        """Give a piece to each worker that has none."""
        if self.stopping or self.client.status != "running":
            return
        busy = {task.worker for task in self._running.values()}
        for part in self.parts:
            under_way = {task.job for task in self._running.values() if task.part is part}
            jobs = [job for job in part.waiting if job not in under_way]
            for job, worker in zip(jobs, sorted(part.workers - busy), strict=False):
                key = f"{self._id}-{self.parts.index(part)}-{job}-{uuid4().hex[:8]}"
                task, share = _Task(part, job, worker, key), part.shares[job]
                data = {**vars(share), "errata": errata_data(share.errata)}
                self._running[submit(self.client, worker, key, "run_piece", key, data)] = task

    def _collect(self) -> None:
        """Take what has come in, waiting a moment for it."""
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline and not any(future.done() for future in self._running):
            time.sleep(0.02)
        for future in [future for future in self._running if future.done()]:
            self._take_result(future, self._running.pop(future))

    def _take_result(self, future: Future, task: _Task) -> None:
        part, job = task.part, task.job
        try:
            result = future.result(timeout=ANSWER_SECONDS)
        except Exception as error:  # whatever went wrong there comes here as it was; cancelled, where the scheduler was away
            part.gone(job, task.worker, f"gave no result ({first_line(error)}) of the piece")
            return
        if "error" in result:
            part.failed(job, f"worker {task.worker}: {result['error']}", again=not result.get("safety"))
        elif not result["stopped"]:
            part.results[job] = result
            part.keep(job, result)
        elif self.stopping:
            part.latest[job] = result
        else:
            part.failed(
                job,
                f"worker {task.worker} stopped the piece, because this campaign did not ask about it for {cluster_worker.ORPHANED_AFTER:g} s",
            )

    def _look(self, newcomers: bool = True) -> tuple[set[str], dict[str, Any], dict[str, FarProcessor], dict[str, str]]:
        """(workers that are there, what pieces say by key, newcomers, newcomers that cannot take part); in a thread: a hung machine holds it up."""
        time.sleep(0.1 if self.stopping else _LOOK_EVERY)
        # a call that is under way when the scheduler dies does not always end by itself
        alive = set(self.client.nthreads(callback_timeout=ANSWER_SECONDS))
        tasks = list(self._running.values())
        keys, workers = [task.key for task in tasks], sorted({task.worker for task in tasks} & alive)
        said: dict[str, Any] = {}
        if workers:
            answers = self.client.run(
                cluster_worker.look, keys, self.stopping, workers=workers, on_error="ignore", callback_timeout=ANSWER_SECONDS
            )
            for answer in answers.values():
                said.update(answer)
        new = alive - self._known if newcomers and not self.stopping else set()
        return alive, said, *(members(self.client, new, *self._asked_for) if new else ({}, {}))

    def _take(self, asked: Asked[tuple[set[str], dict[str, Any], dict[str, FarProcessor], dict[str, str]]]) -> None:
        try:
            alive, said, newcomers, strangers = asked.result()
        except Exception as error:  # a client whose scheduler is gone fails in any way
            self._without_scheduler(error)
            return
        self._unanswered = None
        for task in self._running.values():
            if task.key in said:
                task.part.latest[task.job] = said[task.key]
        self._join(newcomers, strangers)
        for future, task in list(self._running.items()):
            if task.worker not in alive:
                del self._running[future]
                future.cancel()
                task.part.gone(task.job, task.worker)
        for part in self.parts:
            part.workers &= alive
            part.give_up_without_workers()

    def _without_scheduler(self, error: Exception) -> None:
        """The scheduler does not answer: wait for a while, then give up what waits."""
        if self._unanswered is None:
            self._unanswered = time.monotonic()
        if self.client.status == "closed" or time.monotonic() - self._unanswered > REPLACEMENT_SECONDS:
            for part in self.parts:
                part.lost.update(dict.fromkeys(part.waiting, f"the scheduler no longer answers ({first_line(error)})"))

    def _join(self, newcomers: dict[str, FarProcessor], strangers: dict[str, str]) -> None:
        self._known.update(newcomers, strangers)
        by_key = {part.processor.key: part for part in self.parts}
        for address, processor in sorted(newcomers.items()):
            if processor.key in by_key:
                by_key[processor.key].workers.add(address)
            else:
                strangers = {**strangers, address: f"has the processor {processor.name}, which the campaign did not have when it began"}
        self.notes += [f"worker {address} joined but cannot take part: it {text}" for address, text in sorted(strangers.items())]

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C is noted, so that it cannot come between a result and its place; the second one is an exception."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def note(number: int, frame: FrameType | None) -> None:
            handler = before[signal.Signals(number)]
            try:
                if callable(handler):
                    handler(number, frame)
            except KeyboardInterrupt as interrupt:
                if self.stopping:
                    raise
                self.stopping, self.stopped_by = True, cause_of(interrupt)

        for number, handler in before.items():
            if callable(handler):  # a signal that is ignored stays so
                signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def submit(client: Client, worker: str, key: str, name: str, *arguments: Any) -> Future:
    """Call a function of cluster_worker on a worker.

    The scheduler unpacks what is submitted and need not have vmfuzz; a local function travels as its code.
    """

    def call(module: str, function: str, arguments: tuple[Any, ...]) -> Any:
        return getattr(import_module(module), function)(*arguments)

    return client.submit(call, cluster_worker.__name__, name, arguments, key=key, workers=[worker], allow_other_workers=False, pure=False)


def _triage_from(data: dict[str, Any]) -> Triage:
    if "error" in data:
        raise EnvironmentUnusable(data["error"])
    entries = [from_json(entry) for entry in data["entries"]]
    became = {name: data[name] for name in ("unstable", "explained", "left", "not_kept", "counted", "depends")}
    return Triage({entry.id: entry for entry in entries}, **became)
