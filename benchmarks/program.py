"""Candidates a second of a campaign through the two reference answerers, in Python and in C (docs/program.md), on one core.

    python benchmarks/program.py [--iterations 1000000] [--state FILE] [python] [c]

Counted is processor time, of this process and of the program together: what a core does that does nothing else, however busy the machine is. The campaign
is measured from its start, its setup apart, without minimizing. Results go to FILE one a line, and what is there is not done again.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vmfuzz.campaign.loop import Campaign
from vmfuzz.execute.program.executor import ProgramExecutor

ROOT = Path(__file__).parents[1]
#: Candidates a second that a campaign is to reach at least.
WANTED = {"python": 5_000, "c": 20_000}


def command(language: str, directory: Path) -> list[str]:
    """The command of a reference answerer; the one in C is compiled first."""
    source = ROOT / "examples" / f"answerer.{'py' if language == 'python' else 'c'}"
    if language == "python":
        return [sys.executable, str(source)]
    subprocess.run(["cc", "-O2", "-o", directory / "answerer", source], check=True)
    return [str(directory / "answerer")]


def measure(language: str, iterations: int, directory: Path) -> dict[str, float | str]:
    """Seconds of processor time that a campaign takes here and in the program."""
    started = command(language, directory)
    before = children()
    with ProgramExecutor(started) as executor:
        campaign = Campaign(executor, seed=1)
        here = time.process_time()
        campaign.run(iterations)
        here = time.process_time() - here
    return {"language": language, "iterations": iterations, "here": here, "program": children() - before}


def children() -> float:
    """Processor time of programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=1_000_000)
    parser.add_argument("--state", type=Path, default=Path("program.jsonl"))
    parser.add_argument("languages", nargs="*", choices=[*WANTED, []], help="default: both")
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.state.read_text().splitlines()] if arguments.state.exists() else []
    for language in arguments.languages or WANTED:
        if not any((row["language"], row["iterations"]) == (language, arguments.iterations) for row in rows):
            with tempfile.TemporaryDirectory() as directory:
                rows.append(measure(language, arguments.iterations, Path(directory)))
            with arguments.state.open("a") as state:
                state.write(json.dumps(rows[-1]) + "\n")
    print("| answerer | candidates | seconds here | in the program | candidates a second | wanted |\n|---|---:|---:|---:|---:|---:|")
    for row in rows:
        rate = row["iterations"] / (row["here"] + row["program"])
        figures = f"{row['iterations']:,} | {row['here']:.1f} | {row['program']:.1f} | {rate:,.0f} | {WANTED[row['language']]:,}"
        print(f"| {row['language']} | {figures} |")


if __name__ == "__main__":
    main()
