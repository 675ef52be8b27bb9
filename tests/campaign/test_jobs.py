"""One campaign as several processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from functools import cache
from pathlib import Path

import pytest

from vmfuzz.campaign.jobs import merge, run_jobs, run_share, shares_of
from vmfuzz.campaign.loop import Campaign, Progress, Summary
from vmfuzz.campaign.store import Store
from vmfuzz.errors import ExecutorError, UnknownNameError, UsageError, VmfuzzError
from vmfuzz.execute.kinds import open_executor

CPU = "corei7_skylake_x"


def ran(iterations: int, jobs: int, seed: int = 3, directory: Path | None = None) -> Summary:
    with open_executor("bochs", cpu=CPU) as executor:
        campaign = Campaign(executor, seed)
        shares = shares_of("bochs", CPU, seed, iterations, jobs, directory)
        if directory is None:
            return run_jobs(campaign, shares)
        with Store(directory) as store:
            return run_jobs(campaign, shares, store=store)


def counts(summary: Summary) -> dict[str, object]:
    return {key: value for key, value in summary.to_json().items() if "second" not in key and key != "history"}


@cache
def two_jobs() -> dict[str, object]:
    return counts(ran(30_001, 2))


@pytest.mark.parametrize(("iterations", "jobs"), [(10, 3), (1, 4), (1_000_001, 2), (7, 7)])
def test_shares_have_all_candidates_and_seeds_of_their_own(iterations: int, jobs: int) -> None:
    shares = shares_of("bochs", CPU, 1, iterations, jobs)
    assert sum(share.iterations for share in shares) == iterations
    assert min(share.iterations for share in shares) >= 1
    assert len({share.own_seed for share in shares}) == len(shares)


def test_one_job_has_the_campaigns_own_seed() -> None:
    (share,) = shares_of("bochs", CPU, 17, 100, 1)
    assert share.own_seed == 17


def test_the_same_seed_and_jobs_give_the_same_result() -> None:
    assert counts(ran(30_001, 2)) == two_jobs()
    assert two_jobs()["candidates"] == 30_001
    assert counts(ran(30_001, 2, seed=4)) != two_jobs()


def test_the_merged_result_is_the_sum_of_the_shares() -> None:
    results = [run_share(share) for share in shares_of("bochs", CPU, 3, 30_001, 2)]
    with open_executor("bochs", cpu=CPU) as executor:
        merged = counts(merge(Campaign(executor, 3), 30_001, results))
    assert merged == two_jobs()


def test_a_campaign_of_jobs_goes_on_where_it_stopped(tmp_path: Path) -> None:
    assert ran(10_000, 2, directory=tmp_path).progress.tally.candidates == 10_000
    assert ran(12_000, 2, directory=tmp_path).progress.tally.candidates == 12_000
    with (
        pytest.raises(UsageError, match=r"another jobs \(2\) than this one \(1\)"),
        open_executor("bochs", cpu=CPU) as executor,
        Store(tmp_path) as store,
    ):
        Campaign(executor, 3).run(10, store=store)


def test_a_job_that_dies_is_named() -> None:
    def kill(_progress: Progress) -> None:
        for child in multiprocessing.active_children():
            assert child.pid is not None
            os.kill(child.pid, signal.SIGKILL)

    with (
        open_executor("bochs", cpu=CPU) as executor,
        pytest.raises(ExecutorError, match=r"job \d of 2 ended without a result \(exit status -9\)"),
    ):
        run_jobs(Campaign(executor, 3), shares_of("bochs", CPU, 3, 50_000_000, 2), kill)


def test_ctrl_c_ends_all_jobs_with_what_they_have() -> None:
    def interrupt(_progress: Progress) -> None:
        raise KeyboardInterrupt

    with open_executor("bochs", cpu=CPU) as executor:
        summary = run_jobs(Campaign(executor, 3), shares_of("bochs", CPU, 3, 50_000_000, 2), interrupt)
    assert summary.stopped
    assert 0 < summary.progress.tally.candidates < 50_000_000


def test_an_unknown_name_in_a_job_is_the_same_error_here() -> None:
    with open_executor("bochs", cpu=CPU) as executor, pytest.raises(UnknownNameError) as raised:
        run_jobs(Campaign(executor, 1), shares_of("bochs", "pentium", 1, 1000, 2))
    assert str(raised.value).startswith("unknown CPU model 'pentium'; known: arrow_lake, ")


@pytest.mark.parametrize(
    "error", [UnknownNameError("field", "guest_cr5", ["guest_cr3", "guest_cr4"]), ExecutorError("gone"), UsageError("no")]
)
def test_errors_cross_from_process_to_process(error: VmfuzzError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.exit_code) == (str(error), error.exit_code)
