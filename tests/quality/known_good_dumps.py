"""Prints every known-good state of every CPU model in every form that `vmfuzz check` reads, and requires: read whole, accused of nothing.

    python tests/quality/known_good_dumps.py [--cpu MODEL...] [--every 1]

Each state is printed in all forms of tests/explain/printers.py, with what it reports (an entry, a failure that its fields cannot explain, no
outcome) changing from state to state, and answered with and without the processor's capabilities. A text with a fault is printed; the exit
code is then 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "explain"))

from printers import PRINTERS, REPORTS, faults

from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.generate.bases import Bases
from vmfuzz.model.predict import model_of
from vmfuzz.state.profiles import capabilities, known_good


def main() -> int:
    """Run over the models and print a line for each; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", nargs="*", default=list(CPU_MODELS), help="CPU models; all without it")
    parser.add_argument("--every", type=int, default=1, help="take every so-manieth state")
    options = parser.parse_args()
    bad = 0
    for cpu in options.cpu:
        start, caps = time.monotonic(), capabilities(cpu)
        bases = Bases(model_of(caps), known_good(caps))
        states = [(name, state) for name in bases.samples() if (state := bases.get(name)) is not None][:: options.every]
        texts = wrong = 0
        for number, (name, state) in enumerate(states):
            for place, form in enumerate(PRINTERS):
                report = REPORTS[(number + place) % len(REPORTS)]
                found = faults(state, caps, form, report)
                texts += 1
                wrong += bool(found)
                if found:
                    print(f"{cpu} {name} as {form}, exit reason {report:#x}: {'; '.join(found[:4])}", flush=True)
        bad += wrong
        print(f"{cpu}: {len(states)} states, {texts:,} texts, {wrong} with a fault, {time.monotonic() - start:.0f} s", flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
