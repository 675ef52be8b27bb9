"""Where the time goes, measured in one run: executor alone, generation alone, prediction alone, end to end, one candidate a draw; and two jobs.

    python benchmarks/throughput.py [--families 64] [--iterations 6000000] [CPU ...]

All but the jobs run on one core, the emulated CPU's process too. The same families are used for all parts but "end to end", which is a campaign from its
start, and "two jobs", which is one of twice the size with --jobs 2 on all cores. "End to end" is measured before and after the two jobs, for the speed
of a shared machine drifts; the mean counts. Prints candidates a second and each part's ratio to the executor alone, for two jobs to the campaign on
one core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

from vmfuzz.campaign.loop import Campaign
from vmfuzz.execute.base import Executor
from vmfuzz.execute.kinds import open_executor

SINGLE_DRAWS = 400
#: Passes whose families the parts are measured with.
CHUNKS = (4, 6)


def rate(candidates: int, work: Callable[[], object]) -> float:
    """Candidates a second of `work`."""
    start = time.perf_counter()
    work()
    return candidates / (time.perf_counter() - start)


def generation_rate(campaign: Campaign) -> float:
    """Candidates a second of drawing plans and expanding them, over two passes of a campaign."""
    start, candidates = time.perf_counter(), 0
    for chunk in CHUNKS:
        candidates += sum(len(campaign.generator.expand(plan)) for plan in campaign.plan(chunk))
    return candidates / (time.perf_counter() - start)


def measure(cpu: str, families: int, iterations: int) -> dict[str, float]:
    """The rates on one CPU model."""
    with open_executor("bochs", cpu=cpu) as executor:
        campaign = Campaign(executor, seed=1)
        generator, model = campaign.generator, campaign.model
        plans = [plan for chunk in CHUNKS for plan in campaign.plan(chunk)]
        plans = plans[:: max(1, len(plans) // families)]
        batches = [generator.expand(plan) for plan in plans]
        for batch in batches[:4]:
            executor.run(batch)
        total = sum(len(batch) for batch in batches)
        rates = {
            "executor alone": rate(total, lambda: [executor.run(batch) for batch in batches]),
            "generation alone": generation_rate(campaign),
            "prediction alone": rate(total, lambda: [model.predict_batch(batch) for batch in batches]),
        }
        rates["end to end"] = end_to_end_rate(executor, iterations)
        singles = [plan for chunk in range(8) for plan in campaign.plan(chunk)][:SINGLE_DRAWS]
        rates["one candidate a draw"] = rate(SINGLE_DRAWS, lambda: [campaign.execute(p, 1) for p in singles])
        return rates


def end_to_end_rate(executor: Executor, iterations: int) -> float:
    """Candidates a second of a campaign from its start."""
    return rate(iterations, lambda: Campaign(executor, seed=1).run(iterations))


def jobs_rate(cpu: str, iterations: int) -> float:
    """Candidates a second of `vmfuzz run --jobs 2`, as it says itself."""
    command = [
        sys.executable,
        "-c",
        "from vmfuzz.cli.main import main; main()",
        "run",
        "--jobs",
        "2",
        "--cpu",
        cpu,
        "-n",
        str(iterations),
        "--json",
    ]
    return float(
        json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)["candidates_per_second"]
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", type=int, default=64, help="families that executor and prediction are measured with")
    parser.add_argument("--iterations", type=int, default=6_000_000, help="candidates of the campaign that is measured end to end")
    parser.add_argument("cpus", nargs="*", metavar="CPU", help="default: corei7_skylake_x")
    arguments = parser.parse_args()
    cores = os.sched_getaffinity(0)
    for cpu in arguments.cpus or ["corei7_skylake_x"]:
        os.sched_setaffinity(0, {min(cores)})
        rates = measure(cpu, arguments.families, arguments.iterations)
        os.sched_setaffinity(0, cores)
        two = jobs_rate(cpu, 2 * arguments.iterations)
        os.sched_setaffinity(0, {min(cores)})
        with open_executor("bochs", cpu=cpu) as executor:
            rates["end to end"] = (rates["end to end"] + end_to_end_rate(executor, arguments.iterations)) / 2
        os.sched_setaffinity(0, cores)
        alone = rates["executor alone"]
        print(cpu)
        for name, value in rates.items():
            print(f"  {name:22} {value:12,.0f}/s  {value / alone:8.1%} of the executor alone")
        print(f"  {'two jobs':22} {two:12,.0f}/s  {two / rates['end to end']:8.2f} times end to end on one core")


if __name__ == "__main__":
    main()
