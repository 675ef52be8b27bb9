"""Where the time goes, measured in one run: executor alone, generation alone, prediction alone, end to end, one candidate a draw.

    python benchmarks/throughput.py [--families 64] [CPU ...]

The same families are used for all parts. Prints candidates a second and each part's ratio to the executor alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from vmfuzz.campaign.loop import Campaign
from vmfuzz.execute.base import open_executor
from vmfuzz.generate.families import FAMILY_SIZE

SINGLE_DRAWS = 400


def rate(candidates: int, work: Callable[[], object]) -> float:
    """Candidates a second of `work`."""
    start = time.perf_counter()
    work()
    return candidates / (time.perf_counter() - start)


def measure(cpu: str, families: int) -> dict[str, float]:
    """The rates on one CPU model."""
    with open_executor("bochs", cpu=cpu) as executor:
        campaign = Campaign(executor, seed=1)
        plans = [plan for chunk in range(-(-families // 64)) for plan in campaign.plan(chunk)][:families]
        generator, model = campaign.generator, campaign.model
        batches = [generator.expand(plan) for plan in plans]
        for batch in batches[:4]:
            executor.run(batch)
        total = families * FAMILY_SIZE
        rates = {
            "executor alone": rate(total, lambda: [executor.run(batch) for batch in batches]),
            "generation alone": rate(total, lambda: [generator.expand(p) for c in range(families // 64) for p in campaign.plan(c)]),
            "prediction alone": rate(total, lambda: [model.predict_batch(batch) for batch in batches]),
        }
        rates["end to end"] = rate(total, lambda: Campaign(executor, seed=1).run(total))
        singles = [plan for chunk in range(-(-SINGLE_DRAWS // 64)) for plan in campaign.plan(chunk)][:SINGLE_DRAWS]
        rates["one candidate a draw"] = rate(SINGLE_DRAWS, lambda: [campaign.execute(p, 1) for p in singles])
        return rates


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", type=int, default=64, help=f"families of {FAMILY_SIZE} candidates")
    parser.add_argument("cpus", nargs="*", metavar="CPU", help="default: corei7_skylake_x")
    arguments = parser.parse_args()
    for cpu in arguments.cpus or ["corei7_skylake_x"]:
        rates = measure(cpu, arguments.families)
        alone = rates["executor alone"]
        print(cpu)
        for name, value in rates.items():
            print(f"  {name:22} {value:12,.0f}/s  {value / alone:8.1%} of the executor alone")


if __name__ == "__main__":
    main()
