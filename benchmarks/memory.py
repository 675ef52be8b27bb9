"""Whether memory stays flat over a long campaign: python benchmarks/memory.py [--millions 100] [CPU].

Prints the resident memory of this process (the emulated CPU's worker apart) after each tenth of the campaign.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vmfuzz.campaign.loop import Campaign, Progress
from vmfuzz.execute.kinds import open_executor


def resident() -> float:
    """Resident memory of this process in MiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, default=100)
    parser.add_argument("cpu", nargs="?", default="corei7_skylake_x")
    arguments = parser.parse_args()
    wanted = arguments.millions * 1_000_000
    shown = 0

    def show(progress: Progress) -> None:
        nonlocal shown
        if progress.tally.candidates * 10 >= wanted * (shown + 1):
            shown += 1
            print(f"{progress.tally.candidates:>12,} candidates: {resident():,.0f} MiB", flush=True)

    with open_executor("bochs", cpu=arguments.cpu) as executor:
        Campaign(executor, 1).run(wanted, show)


if __name__ == "__main__":
    main()
