"""Executor-only rate: random single-bit mutations of the known-good VMCS, one family a field, on each CPU
model.

    python benchmarks/executor_rate.py [--rows 200000] [--family 20000] [--repeat 3] [--seed 1] [CPU ...]

Prints the best rate of the repetitions (shared machines are noisy) in rows a second (one worker, so one core), their
median, the share that entered, refused and crashed rows, and how often a family had to be run again.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import Kind
from vmfuzz.execute.bochs.executor import CPU_MODELS, BochsExecutor, writable_fields
from vmfuzz.state.batch import VmcsBatch


def single_bit_families(executor: BochsExecutor, rows: int, size: int, seed: int) -> list[VmcsBatch]:
    """Families of `size` rows over eight fields each; every row flips one bit of one of them."""
    rng = np.random.default_rng(seed)
    base = executor.known_good()
    names = writable_fields(base)
    families = []
    for _ in range(max(1, rows // size)):
        chosen = list(rng.choice(names, size=8, replace=False))
        which = rng.integers(0, len(chosen), size)
        columns = {}
        for j, name in enumerate(chosen):
            flips = np.left_shift(np.uint64(1), rng.integers(0, FIELDS[name].width, size).astype(np.uint64))
            columns[name] = np.uint64(base[name]) ^ np.where(which == j, flips, np.uint64(0))
        families.append(VmcsBatch(base, columns))
    return families


def measure(cpu: str, rows: int, size: int, seed: int, repeat: int) -> str:
    """One line of the table."""
    with BochsExecutor(cpu) as executor:
        families = single_bit_families(executor, rows, size, seed)
        rates = []
        for _ in range(repeat):
            start = time.perf_counter()
            kinds = np.concatenate([executor.run(family).kind for family in families])
            rates.append(len(kinds) / (time.perf_counter() - start))
        share = float(np.mean(kinds == Kind.EXIT))
        lost = int(np.sum(kinds == Kind.EXECUTOR_CRASHED))
        refused = float(np.mean(kinds == Kind.REFUSED))
        return (
            f"{cpu:27} {max(rates):9,.0f} rows/s (median {np.median(rates):9,.0f})  entered {share:4.0%}  "
            f"refused {refused:4.1%}  crashed {lost}  runs repeated {executor.drift.reruns} of {len(families) * repeat}"
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--family", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("cpu", nargs="*", default=list(CPU_MODELS), metavar="CPU")
    options = parser.parse_args()
    for cpu in options.cpu:
        print(measure(cpu, options.rows, options.family, options.seed, options.repeat), flush=True)


if __name__ == "__main__":
    main()
