"""The table of docs/diff-bochs-2.8-3.0.md: vmfuzz diff of two releases of the emulator on every CPU model that both have.

    python3 -m venv old && old/bin/pip install bochscpu-python==0.3.1
    python tools/diff_releases.py old/bin/python STATE [-n 1M] [--seed 1]

STATE keeps the result of each model, so that a run that was stopped goes on. The table is put into the page in place of the one that is there;
differences are printed, for a person to look up in the source of both releases.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from vmfuzz.errors import EXIT_AGREEMENT, EXIT_FOUND, EXIT_NOTHING_TESTED
from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.files import write_text

PAGE: Final = Path(__file__).parents[1] / "docs" / "diff-bochs-2.8-3.0.md"
VMFUZZ: Final = (sys.executable, "-c", "from vmfuzz.cli.main import main; main()")
#: The older release does not have it.
NEW_MODELS: Final = ("arrow_lake",)
BEGIN, END = "<!-- table: tools/diff_releases.py -->", "<!-- end of table -->"


def result(python: str, cpu: str, iterations: str, seed: str, state: Path) -> dict[str, Any]:
    """The result of `vmfuzz diff` on one CPU model, run now if it was not before."""
    path = state / f"{cpu}-{iterations}-{seed}.json"
    if not path.exists():
        command = [*VMFUZZ, "diff", f"bochs@{python}", "bochs", "--cpu", cpu, "-n", iterations, "--seed", seed, "--json"]
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
        if done.returncode not in (EXIT_AGREEMENT, EXIT_FOUND, EXIT_NOTHING_TESTED):
            raise SystemExit(f"{cpu}: vmfuzz diff ended with {done.returncode}")
        write_text(path, done.stdout)
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def row(cpu: str, data: dict[str, Any]) -> str:
    """One line of the table."""
    named = sum(each["count"] for each in data["named_otherwise"])
    counts = (data["drawn"], data["compared"], data["explained_by_capabilities"], data["differing"], named)
    return f"| {cpu} | {'equal' if data['same_capabilities'] else 'other'} | " + " | ".join(f"{count:,}" for count in counts) + " |"


def table(results: dict[str, dict[str, Any]]) -> str:
    """The table and the sums below it."""
    drawn, compared, apart = (sum(data[key] for data in results.values()) for key in ("drawn", "compared", "not_comparable"))
    lines = [
        "| CPU model (emulated) | capabilities | candidates | compared | other outcome, explained by capabilities | differ | "
        "same outcome, another check named |",
        "|---|---|---:|---:|---:|---:|---:|",
        *(row(cpu, data) for cpu, data in results.items()),
        "",
        "*Compared*: both ran the candidate (containment refuses some) and the manual allows them a common outcome. In all: "
        f"{drawn:,} drawn, {compared:,} compared, {apart:,} not comparable.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", help="interpreter of the environment with the older release")
    parser.add_argument("state", type=Path, help="directory of the results")
    parser.add_argument("-n", default="1M", help="candidates on each model (1M)")
    parser.add_argument("--seed", default="1")
    arguments = parser.parse_args()
    os.nice(10)
    results = {}
    for cpu in CPU_MODELS:
        if cpu not in NEW_MODELS:
            results[cpu] = result(arguments.python, cpu, arguments.n, arguments.seed, arguments.state)
            print(row(cpu, results[cpu]), flush=True)
            for each in results[cpu]["differences"]:
                print(json.dumps(each))
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    write_text(PAGE, f"{before}{BEGIN}\n\n{table(results)}\n\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
