"""Another commit against this one: the processor time of what people wait for, both run in turns.

    git worktree add --detach OTHER f6a2bf2 && make -C OTHER .venv/.installed
    python benchmarks/against.py OTHER [--rounds 5] [--candidates 2000000] [--rows 400000] [--state DIRECTORY] [--only NAME ...]

OTHER is a checkout with its own environment in .venv. Each figure is the median of the rounds, of user and system time of the command and of all that it
started; a shared machine changes these less than the time by the clock. What was measured is in DIRECTORY and is not measured again, so that a run
that was stopped goes on. The candidates of "executor alone" are those of the other commit; each commit replays its own corpus, so the numbers of records
differ a little. "two jobs" is how many times as fast two jobs are on two idle cores by their processor time: 4 times that of one job over that of two jobs
with twice the candidates.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
PROBE = Path(__file__).with_name("probe.py")
#: Whoever installed vmfuzz has its modules compiled; where this is set, each start compiles all of them.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
#: A dump for `vmfuzz check`: what KVM prints where a VM entry fails.
DUMP = HERE / "tests" / "texts" / "samples" / "kvm.txt"


@dataclass(frozen=True)
class Bench:
    """What is measured on both checkouts."""

    other: Path
    state: Path
    candidates: int
    rows: int

    @property
    def families(self) -> Path:
        """The candidates that both executors run."""
        return self.state / "families.pickle"

    def measures(self) -> dict[str, Callable[[Path], dict[str, float]]]:
        """What there is to measure: a function of a checkout that gives figures by name."""
        return {
            "executor": lambda checkout: {
                "executor alone, us a candidate": self.probe(checkout, "executor", str(self.families))["microseconds"]
            },
            "campaign": self.campaign,
            "run": lambda checkout: {"run -n 1000, s": self.command(checkout, "run", "-n", "1000")},
            "replay": lambda checkout: {"replay corpus, s": self.command(checkout, "replay", str(checkout / "corpus"))},
            "check": lambda checkout: {"check FILE, s": self.command(checkout, "check", str(DUMP))},
            "jobs": self.jobs,
            "help": lambda checkout: {"--help, s": self.command(checkout, "--help")},
            "version": lambda checkout: {"--version, s": self.command(checkout, "--version")},
        }

    def campaign(self, checkout: Path) -> dict[str, float]:
        """A campaign of one process: its first million and what follows, and its memory."""
        found = self.probe(checkout, "campaign", str(self.candidates))
        return {
            "first 1M, start included, us a candidate": found["first"],
            f"1M to {self.candidates / 1e6:g}M, us a candidate": found["later"],
            f"peak memory after {self.candidates / 1e6:g}M, MiB": found["peak MiB"],
            "atoms seen": found["atoms"],
            "small errors that would have shown": found["errors"],
        }

    def jobs(self, checkout: Path) -> dict[str, float]:
        """Two jobs and one."""
        half = self.candidates // 2
        one, two = (self.command(checkout, "run", "--jobs", str(jobs), "-n", str(jobs * half)) for jobs in (1, 2))
        return {f"two jobs of {half / 1e6:g}M each, times one job": 4 * one / two}

    def probe(self, checkout: Path, *arguments: str) -> dict[str, Any]:
        """What probe.py says, run by the checkout's interpreter."""
        command = [str(checkout / ".venv" / "bin" / "python"), str(PROBE), *arguments]
        printed = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=self.state, env=ENVIRONMENT
        ).stdout
        found: dict[str, Any] = json.loads(printed) if printed else {}
        return found

    def command(self, checkout: Path, *arguments: str) -> float:
        """Seconds of processor time of a vmfuzz command."""
        with subprocess.Popen(
            [checkout / ".venv" / "bin" / "vmfuzz", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.state,
            env=ENVIRONMENT,
        ) as started:
            _, _, used = os.wait4(started.pid, 0)
            started.returncode = 0
        return used.ru_utime + used.ru_stime


def measured(bench: Bench, names: list[str], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Figures of each round by name, of "other" and "this"; each is kept as soon as it is there."""
    file = bench.state / "measured.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if "executor" in names and not bench.families.exists():
        part = bench.families.with_suffix(".part")
        bench.probe(bench.other, "families", str(part), str(bench.rows), "1")
        part.replace(bench.families)
    for number in range(rounds):
        for name in names:
            for side, checkout in (("other", bench.other), ("this", HERE)):
                done = found.setdefault(name, {}).setdefault(side, [])
                if len(done) <= number:
                    done.append(bench.measures()[name](checkout))
                    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    table: dict[str, dict[str, list[float]]] = {}
    for sides in found.values():
        for side, each in sides.items():
            for figures in each[:rounds]:
                for what, figure in figures.items():
                    table.setdefault(what, {}).setdefault(side, []).append(figure)
    return table


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="a checkout of the other commit with its environment in .venv")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=2_000_000, help="candidates of the campaign")
    parser.add_argument("--rows", type=int, default=400_000, help="candidates that the executors run")
    parser.add_argument("--state", type=Path, default=Path(tempfile.gettempdir(), "vmfuzz-against"), help="where what was measured is kept")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measure only these")
    arguments = parser.parse_args()
    arguments.state.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments.other.resolve(), arguments.state.resolve(), arguments.candidates, arguments.rows)
    print("| what | other | this | ratio |\n|---|---:|---:|---:|")
    for what, sides in measured(bench, arguments.only or list(bench.measures()), arguments.rounds).items():
        other, this = (statistics.median(sides[side]) for side in ("other", "this"))
        print(f"| {what} | {other:,.2f} | {this:,.2f} | {this / other:.2f} |")


if __name__ == "__main__":
    main()
