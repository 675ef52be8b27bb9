"""The long campaign: N million candidates on every emulated CPU model, resumable, and the table for docs/agreement.md.

    python benchmarks/agreement.py run --directory DIR [--millions 20] [--jobs 2] [CPU ...]
    python benchmarks/agreement.py table --directory DIR

Each CPU model runs in steps of a million candidates, each step with its own seed; what a step counted is written to DIR before the next one begins,
so that an interrupted run goes on where it stopped. A step that has findings writes them too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from vmfuzz.campaign.loop import Campaign
from vmfuzz.execute.base import open_executor
from vmfuzz.execute.bochs import CPU_MODELS

STEP = 1_000_000


def step_file(directory: Path, cpu: str, step: int) -> Path:
    """Where a step's summary lies."""
    return directory / cpu / f"{step:03d}.json"


def run_step(directory: Path, cpu: str, step: int) -> str:
    """Run one step and write its summary; returns a line to print."""
    with open_executor("bochs", cpu=cpu) as executor:
        summary = Campaign(executor, seed=1000 + step).run(STEP)
    path = step_file(directory, cpu, step)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(summary.to_json(), indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return f"{cpu} step {step}: {summary.progress.rate:,.0f}/s, {len(summary.progress.findings.by_id)} findings"


def run(directory: Path, millions: int, jobs: int, cpus: list[str]) -> None:
    """Run all steps that are missing."""
    missing = [(cpu, step) for step in range(millions) for cpu in cpus if not step_file(directory, cpu, step).exists()]
    print(f"{len(missing)} of {millions * len(cpus)} steps to run", flush=True)
    with ProcessPoolExecutor(jobs) as pool:
        futures = [pool.submit(run_step, directory, cpu, step) for cpu, step in missing]
        for future in as_completed(futures):
            print(future.result(), flush=True)


def load(directory: Path, cpu: str) -> list[dict[str, Any]]:
    """The summaries of a CPU model's finished steps."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((directory / cpu).glob("*.json"))]


def table(directory: Path) -> None:
    """Print candidates and verdicts by CPU model, deviations by CPU model, and what was never seen."""
    keys = ("agrees", "not_modelled", "deviation", "refused", "mismatch", "executor_crashed")
    print("| CPU model (emulated) | candidates | " + " | ".join(key.replace("_", " ") for key in keys) + " | checks seen deciding alone |")
    print("|---|" + "---:|" * (len(keys) + 2))
    deviations: dict[str, Counter[str]] = {}
    for cpu in CPU_MODELS:
        steps = load(directory, cpu)
        if not steps:
            continue
        verdicts = Counter[str]()
        decided: set[str] = set()
        for step in steps:
            verdicts.update(step["verdicts"])
            decided.update(id for id, counts in step["checks"].items() if counts["decided"])
            for name, count in step["deviations"].items():
                deviations.setdefault(name, Counter())[cpu] += count
        total = sum(step["candidates"] for step in steps)
        cells = " | ".join(f"{verdicts[key]:,}" for key in keys)
        print(f"| {cpu} | {total:,} | {cells} | {len(decided)} of {len(steps[0]['checks'])} |")
    print("\n| known deviation | candidates | CPU models |\n|---|---:|---:|")
    for name, counts in sorted(deviations.items(), key=lambda item: -item[1].total()):
        print(f"| {name} | {counts.total():,} | {len(counts)} |")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--millions", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("cpus", nargs="*", metavar="CPU")
    arguments = parser.parse_args()
    if arguments.command == "table":
        table(arguments.directory)
        return
    try:
        run(arguments.directory, arguments.millions, arguments.jobs, arguments.cpus or list(CPU_MODELS))
    except KeyboardInterrupt:
        sys.exit("stopped; run the same command again to go on")


if __name__ == "__main__":
    main()
