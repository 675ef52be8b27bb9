"""Whether the executor gives the outcomes of another commit's, row by row: kinds, numbers, exit reasons, qualifications, messages.

    git worktree add --detach OTHER f6a2bf2 && make -C OTHER .venv/.installed
    python benchmarks/same_outcomes.py OTHER [--millions 10] [--state DIRECTORY]

The candidates are those of the other commit's campaigns, a million of each seed from 1 on; what only one commit lets run is
counted apart. What was compared is noted in DIRECTORY and not compared again.
Ends with 1 where a row differs. A sample of this is a test, against the engine's own instructions in place of the other commit
(tests/execute/bochs/test_bochs.py).
"""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vmfuzz.arch.outcomes import Kind

HERE = Path(__file__).parents[1]
PROBE = Path(__file__).with_name("probe.py")
MILLION = 1_000_000


def probe(checkout: Path, *arguments: str) -> None:
    """Have a checkout's interpreter do something."""
    subprocess.run([checkout / ".venv" / "bin" / "python", PROBE, *arguments], check=True)


def outcomes(file: Path) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """The outcomes of each family, and the texts of their messages."""
    with file.open("rb") as stream:
        while stream.peek(1):
            yield pickle.load(stream)  # written by probe.py


def different(one: tuple[dict[str, Any], list[str]], other: tuple[dict[str, Any], list[str]]) -> tuple[int, int]:
    """Of two outcomes of a family: rows that only one commit's containment refused, and others that differ; messages are compared as texts."""
    (left, left_texts), (right, right_texts) = one, other
    rows = np.array([*left_texts, ""])[left["message"]] != np.array([*right_texts, ""])[right["message"]]
    for name in left.keys() - {"message"}:
        rows |= left[name] != right[name]
    refused = (left["kind"] == Kind.REFUSED) != (right["kind"] == Kind.REFUSED)
    return int(refused.sum()), int((rows & ~refused).sum())


def compare(other: Path, state: Path, seed: int) -> str:
    """Compare a million candidates; a line about them."""
    families, results = state / f"families-{seed}.pickle", [state / f"{side}-{seed}.pickle" for side in ("other", "this")]
    probe(other, "families", str(families), str(MILLION), str(seed))
    for checkout, file in zip((other, HERE), results, strict=True):
        probe(checkout, "outcomes", str(families), str(file))
    rows = refused = wrong = 0
    for one, two in zip(*map(outcomes, results), strict=True):
        rows += len(one[0]["kind"])
        by_one, others = different(one, two)
        refused, wrong = refused + by_one, wrong + others
    for file in (families, *results):
        file.unlink()
    return f"seed {seed}: {rows} rows, {refused} refused by one commit only, {wrong} differ"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="a checkout of the other commit with its environment in .venv")
    parser.add_argument("--millions", type=int, default=10)
    parser.add_argument("--state", type=Path, default=Path(tempfile.gettempdir(), "vmfuzz-same"), help="where what was compared is noted")
    arguments = parser.parse_args()
    state = arguments.state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    failed = False
    for seed in range(1, arguments.millions + 1):
        note = state / f"seed-{seed}.txt"
        if not note.exists():
            note.write_text(compare(arguments.other.resolve(), state, seed) + "\n", encoding="utf-8")
        print(line := note.read_text(encoding="utf-8").strip(), flush=True)
        failed |= not line.endswith(" 0 differ")
    sys.exit(failed)


if __name__ == "__main__":
    main()
