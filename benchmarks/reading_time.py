"""Measures the CPU time in which all texts of the corpus (tests/texts) are read, without judging: `python benchmarks/reading_time.py [--times 5]`.

Each time is that of a fresh process, whose caches one text fills for the next as in a campaign of damages; the best is printed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "explain"))

import corpus_of_texts

from vmfuzz.explain.reading import read_text


def seconds() -> float:
    """CPU time of this process for reading every text once."""
    texts = corpus_of_texts.bodies(corpus_of_texts.files())
    began = time.process_time()
    for text in texts:
        read_text(text)
    return time.process_time() - began


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="so many processes (default 5)")
    parser.add_argument("--once", action="store_true", help="measure in this process")
    arguments = parser.parse_args()
    if arguments.once:
        print(seconds())
        return 0
    command = [sys.executable, __file__, "--once"]
    found = [float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(arguments.times)]
    print(f"{len(corpus_of_texts.files())} texts: {min(found):.2f} s of CPU time, the best of {len(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
