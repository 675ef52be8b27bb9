"""One campaign as several processes: shares with seeds of their own, merged into one result.

A share is a campaign like any other; what it counted comes back as data. The same seed and number of jobs give the same candidates. The same
function runs on the workers of a Dask cluster (cluster/run.py).
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from vmfuzz.campaign.as_data import finding_data, finding_from, restore_tally, tally_data
from vmfuzz.campaign.loop import Campaign, Progress, Summary
from vmfuzz.campaign.mismatches import Finding, Findings, Warned
from vmfuzz.campaign.store import Store
from vmfuzz.campaign.tally import Tally
from vmfuzz.comparison.errata import Erratum
from vmfuzz.errors import ExecutorError, VmfuzzError
from vmfuzz.execute.kinds import open_executor
from vmfuzz.interrupts import CTRL_C, cause_of, held

#: Argument of prctl: the signal to get when the parent ends (linux/prctl.h).
_PR_SET_PDEATHSIG: Final = 1
#: Seconds between two reports of a share.
_REPORT_EVERY: Final = 0.5

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Share:
    """One job's part of a campaign of `jobs` jobs; `directory` is that of the whole campaign, if it is kept."""

    executor: str
    cpu: str | None
    seed: int
    job: int
    jobs: int
    iterations: int
    directory: Path | None = None
    errata: tuple[Erratum, ...] = ()

    @property
    def own_seed(self) -> int:
        """The seed of this job's campaign."""
        if self.jobs == 1:
            return self.seed
        return int(np.random.SeedSequence([self.seed, self.jobs, self.job]).generate_state(1)[0])


def shares_of(
    executor: str, cpu: str | None, seed: int, iterations: int, jobs: int, directory: Path | None = None, errata: tuple[Erratum, ...] = ()
) -> list[Share]:
    """The shares of a campaign: as equal as can be, none empty."""
    jobs = min(jobs, iterations)
    each, more = divmod(iterations, jobs)
    return [Share(executor, cpu, seed, job, jobs, each + (job < more), directory, errata) for job in range(jobs)]


def run_share(share: Share, report: Report | None = None, stopping: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Run one share in this process and give its result as data; `report` gets the same now and then on the way.

    `stopping` is asked after each family; where it is true the share ends as by Ctrl-C.
    """
    last = time.monotonic()
    with open_executor(share.executor, cpu=share.cpu) as executor, contextlib.ExitStack() as stack:
        campaign = Campaign(executor, share.own_seed, errata=share.errata)
        store = stack.enter_context(Store(share.directory / f"job-{share.job}")) if share.directory is not None else None

        def on_progress(_progress: Progress) -> None:
            nonlocal last
            if report is not None and time.monotonic() - last >= _REPORT_EVERY:
                last = time.monotonic()
                report(_result(campaign, stopped=False))
            if stopping():
                raise KeyboardInterrupt

        summary = campaign.run(share.iterations, on_progress, store)
        return _result(campaign, summary.stopped)


def _result(campaign: Campaign, stopped: bool) -> dict[str, Any]:
    progress = campaign.progress
    return {
        "processor": campaign.model.capabilities.name,
        "tally": tally_data(progress.tally),
        "findings": [{"id": finding.signature.id, **finding_data(finding)} for finding in progress.findings.by_id.values()],
        "seconds": progress.seconds,
        "executor_seconds": progress.executor_seconds,
        "last_new": progress.last_new,
        "bases": sorted(campaign.bases_used),
        "warned": [warned.to_json() for warned in progress.warned],
        "stopped": stopped,
    }


def merge(campaign: Campaign, wanted: int, results: Iterable[dict[str, Any]], seconds: float | None = None) -> Summary:
    """Put the results of shares into a campaign that has run nothing itself, on a processor like theirs.

    `seconds`: how long all of them took; the longest share's time where they ran at once.
    """
    progress = Progress(wanted, Tally(campaign.model, campaign.progress.tally.deviations), Findings())
    stopped = False
    for result in results:
        part = Tally(campaign.model, progress.tally.deviations)
        restore_tally(part, result["tally"])
        progress.tally.merge(part)
        for data in result["findings"]:
            _merge_finding(progress.findings, finding_from(data, campaign.generator.bases))
        progress.seconds = max(progress.seconds, result["seconds"])
        progress.executor_seconds += result["executor_seconds"]
        progress.last_new = max(progress.last_new, result["last_new"])
        progress.warned += [Warned.from_json(each) for each in result.get("warned", ())]
        campaign.bases_used.update(result["bases"])
        stopped |= result["stopped"]
    if seconds is not None:
        progress.seconds = seconds
    progress.history = campaign.progress.history
    progress.note()
    campaign.progress = progress
    return campaign.summary(stopped)


def _merge_finding(findings: Findings, new: Finding) -> None:
    known = findings.by_id.setdefault(new.signature.id, new)
    if known is new:
        return
    new.count += known.count
    known.warnings = new.warnings = list(dict.fromkeys([*known.warnings, *new.warnings]))
    if len(known.differences) <= len(new.differences):
        known.count = new.count
        known.others.update(new.others)
    else:
        new.others.update(known.others)
        findings.by_id[new.signature.id] = new


def run_jobs(
    campaign: Campaign, shares: list[Share], on_progress: Callable[[Progress], None] | None = None, store: Store | None = None
) -> Summary:
    """Run shares in a process each and merge them into `campaign`, which runs nothing itself.

    `store` is that of the whole campaign; each share has one of its own below its directory, from which it goes on.

    KeyboardInterrupt ends all of them with what they have. Raises ExecutorError, naming the job, when one of the processes dies, and any
    VmfuzzError of a job; `campaign` then has what the jobs have reported.
    """
    context = multiprocessing.get_context("spawn")
    channel: Any = context.Queue()
    stop = context.Event()
    workers = [context.Process(target=_work, args=(share, channel, stop), daemon=True) for share in shares]
    wanted = sum(share.iterations for share in shares)
    if store is not None:
        store.attach(campaign, wanted, len(shares))
    latest: dict[int, dict[str, Any]] = {}
    done: dict[int, dict[str, Any]] = {}
    stopped_by = CTRL_C
    try:
        with held():  # Ctrl-C reaches the jobs through `stop` only
            for worker in workers:
                worker.start()
        while len(done) < len(shares):
            try:
                _receive(channel, workers, latest, done)
                if on_progress is not None and latest:
                    merge(campaign, wanted, latest.values())
                    on_progress(campaign.progress)
            except KeyboardInterrupt as interrupt:
                stopped_by = cause_of(interrupt)
                stop.set()
        summary = merge(campaign, wanted, [done[share.job] for share in shares])
        if store is not None:
            campaign.progress.findings.touched.update(campaign.progress.findings.by_id)
            store.ends(campaign, 0)
        summary.stopped_by = stopped_by
        return summary
    except VmfuzzError:
        merge(campaign, wanted, latest.values())
        raise
    finally:
        for worker in workers:
            if worker.pid is not None:
                worker.kill() if len(done) < len(shares) else worker.join()


def _receive(channel: Any, workers: list[Any], latest: dict[int, dict[str, Any]], done: dict[int, dict[str, Any]]) -> None:
    try:
        job, kind, data = channel.get(timeout=1.0)
    except queue.Empty:
        for job, worker in enumerate(workers):
            if job not in done and worker.exitcode not in (None, 0):
                raise ExecutorError(
                    f"job {job} of {len(workers)} ended without a result (exit status {worker.exitcode}); "
                    "run it again; a run with --directory can go on with --resume"
                ) from None
        return
    if kind == "error":
        raise data
    latest[job] = data
    if kind == "done":
        done[job] = data


def _work(share: Share, channel: Any, stop: Any) -> None:
    """What the process of one share does."""
    _end_with_parent()
    try:
        result = run_share(share, lambda data: channel.put((share.job, "report", data)), stop.is_set)
        channel.put((share.job, "done", result))
    except VmfuzzError as error:
        channel.put((share.job, "error", error))


def _end_with_parent() -> None:
    """Have this process killed when its parent is: a job that nobody hears would run on, and keep the campaign's directory locked."""
    parent = multiprocessing.parent_process()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)
