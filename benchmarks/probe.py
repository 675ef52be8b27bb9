"""What a checkout is asked to do by `against.py` and `same_outcomes.py`: run by that checkout's own interpreter, on any commit since f6a2bf2.

    python benchmarks/probe.py families FILE ROWS SEED        write candidates of a campaign to a file
    python benchmarks/probe.py outcomes FILE RESULTS          run them and write their outcomes
    python benchmarks/probe.py executor FILE                  run them and print the processor time of one
    python benchmarks/probe.py campaign CANDIDATES            run a campaign, print the processor time of its parts and its peak memory

Processor time is user and system time of this process and of all that it started (the emulated CPU's worker).
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vmfuzz.campaign.loop import Campaign, Progress
from vmfuzz.execute.base import Executor
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

try:
    from vmfuzz.execute.kinds import open_executor
except ImportError:  # where it was at f6a2bf2
    from vmfuzz.execute.base import open_executor  # type: ignore[no-redef, attr-defined]

CPU = "corei7_skylake_x"
MILLION = 1_000_000
#: The pass of the campaign from which candidates are taken on: the passes before it have small families.
FIRST_PASS = 3


def processor_time() -> float:
    """Seconds of this process, of its children that have ended, and of those that live."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split():
        total += int(Path(f"/proc/{child}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9
    return total


def families_of(campaign: Campaign, rows: int) -> Iterator[VmcsBatch]:
    """Families of a campaign, spread over its passes from FIRST_PASS on, until so many candidates."""
    given, number = 0, FIRST_PASS
    while given < rows:
        plans = campaign.plan(number)
        for plan in plans[:: max(1, sum(plan.rows for plan in plans) // max(rows // 4, 1))]:
            if given >= rows:
                break
            given += plan.rows
            yield campaign.generator.expand(plan)
        number += 1


def write_families(executor: Executor, file: Path, rows: int, seed: int) -> None:
    """Candidates as plain data, which every commit reads."""
    with file.open("wb") as stream:
        for batch in families_of(Campaign(executor, seed), rows):
            columns = {name: np.asarray(column) for name, column in batch.columns.items()}
            words = {address: np.asarray(column) for address, column in batch.memory_columns.items()}
            pickle.dump((dict(batch.base.items()), dict(batch.base.memory), columns, words, len(batch)), stream, pickle.HIGHEST_PROTOCOL)


def read_families(file: Path) -> Iterator[VmcsBatch]:
    """What `write_families` wrote, one family at a time."""
    with file.open("rb") as stream:
        while stream.peek(1):
            values, memory, columns, words, count = pickle.load(stream)  # written by this script
            yield VmcsBatch(Vmcs(values, memory), columns, words, count=count)


def write_outcomes(executor: Executor, file: Path, results: Path) -> None:
    """The outcomes of each family, messages as texts."""
    with results.open("wb") as stream:
        for batch in read_families(file):
            outcomes = executor.run(batch)
            numbers = {name: np.asarray(column) for name, column in vars(outcomes).items() if isinstance(column, np.ndarray)}
            pickle.dump((numbers, list(outcomes.messages)), stream, pickle.HIGHEST_PROTOCOL)


def executor_time(executor: Executor, file: Path) -> dict[str, Any]:
    """Microseconds a candidate, without reading the families, and how many there are."""
    executor.run(next(read_families(file)))  # pages of both processes, tables of Bochs
    total = spent = 0.0
    for batch in read_families(file):
        before = processor_time()
        executor.run(batch)
        spent += processor_time() - before
        total += len(batch)
    return {"microseconds": spent / total * 1e6, "candidates": total}


def campaign_time(executor: Executor, candidates: int) -> dict[str, Any]:
    """Seconds from the start of this process to the first million, seconds from there to the end, and the peak memory of this process."""
    reached: dict[int, tuple[int, float]] = {}

    def note(progress: Progress) -> None:
        ran = progress.tally.candidates
        if ran // MILLION not in reached:
            reached[ran // MILLION] = (ran, processor_time())

    summary = Campaign(executor, seed=1).run(candidates, note)
    ran, end = summary.progress.tally.candidates, processor_time()
    first, at_first = reached.get(1, (ran, end))
    return {
        "first": at_first / first * 1e6,
        "later": (end - at_first) / max(1, ran - first) * 1e6,
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "atoms": int(summary.progress.tally.coverage.atoms.sum()),
        "errors": int(summary.progress.tally.coverage.errors.sum()),
        "decided": int((summary.progress.tally.decided > 0).sum()),
    }


def main() -> None:
    """Command line; `against.py` and `same_outcomes.py` give it."""
    what, *rest = sys.argv[1:]
    with open_executor("bochs", cpu=CPU) as executor:
        if what == "families":
            write_families(executor, Path(rest[0]), int(rest[1]), int(rest[2]))
        elif what == "outcomes":
            write_outcomes(executor, Path(rest[0]), Path(rest[1]))
        elif what == "executor":
            print(json.dumps(executor_time(executor, Path(rest[0]))))
        else:
            print(json.dumps(campaign_time(executor, int(rest[0]))))


if __name__ == "__main__":
    main()
