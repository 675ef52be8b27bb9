"""A campaign on each emulated CPU model, and the page that docs/report/ shows of them.

    python benchmarks/report_campaigns.py -n 10M STATE

STATE is a directory for the campaigns' state; the summaries and the page go to docs/report/ (--into). Stopped at any moment it goes on where
it was when started again; a campaign that was shorter is made longer.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from vmfuzz.campaign.store import has_campaign
from vmfuzz.cli.run import Count
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_FOUND
from vmfuzz.execute.bochs import CPU_MODELS

VMFUZZ = (sys.executable, "-c", "from vmfuzz.cli.main import main; main()")
INTO = Path(__file__).parents[1] / "docs" / "report"


def campaign(cpu: str, candidates: int, state: Path, summary: Path, seed: int) -> None:
    if summary.is_file() and json.loads(summary.read_text(encoding="utf-8"))["candidates"] >= candidates:
        return
    directory = state / cpu
    go_on = ["--resume"] if has_campaign(directory) else ["--cpu", cpu, "--seed", str(seed)]
    command = [*VMFUZZ, "run", "-n", str(candidates), "--directory", str(directory), "--summary", str(summary), *go_on]
    done = subprocess.run(command, check=False)
    if done.returncode not in (EXIT_AGREEMENT, EXIT_FOUND):
        raise SystemExit(f"{cpu}: the campaign ended with {done.returncode}; start this again to go on")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("state", type=Path, help="directory of the campaigns' state")
    parser.add_argument("-n", default="1M", type=lambda text: Count().convert(text, None, None), help="candidates on each model (1M)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--into", type=Path, default=INTO, help="where summaries and page go (docs/report)")
    arguments = parser.parse_args()
    os.nice(10)
    summaries = arguments.into / "summaries"
    summaries.mkdir(parents=True, exist_ok=True)
    for cpu in CPU_MODELS:
        campaign(cpu, arguments.n, arguments.state, summaries / f"{cpu}.json", arguments.seed)
    files = sorted(str(summaries / f"{cpu}.json") for cpu in CPU_MODELS)
    subprocess.run([*VMFUZZ, "report", *files, "--html", str(arguments.into / "index.html")], check=True)


if __name__ == "__main__":
    main()
