"""Raw rows without end, at each risk: a million through the module in a machine, ten million through its predicate in C and in Python.

    python tests/system/every_row.py --state rows.jsonl

What a program may ask of /dev/vmfuzz, and no generator of candidates does: any fields, values wider than their fields, words and addresses of the
arena. In the machine (`guest raw`, guest.c) each row has to end, a row cut to the width of its fields has to end in the same way, and the kernel's log
stays clean. The two predicates have to refuse the same rows for the same reasons, before and after the cut.

Each chunk adds a line to the state file; run it again with the same file to go on. Only lines of the module as it is now count. Exit code 1 when a
machine died, or anything differed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from debian_kernels import digest
from machine import HERE, Machine, MachineError, needs

from vmfuzz.arch.fields import FIELDS
from vmfuzz.execute.bochs.executor import CPU_MODELS, BochsExecutor
from vmfuzz.execute.kmod.containment import BOLD, SAFE, KmodContainment
from vmfuzz.execute.wire.family import Arena
from vmfuzz.state.vmcs import Vmcs

sys.path.insert(0, str(HERE.parent / "execute"))
from predicate_in_c import InC, RawBatch, build

RISKS: Final = {"safe": SAFE, "bold": BOLD}
#: For the predicates: the risk, and whether the machine may be lost (the bootable image at bold).
PREDICATES: Final = {"safe": (SAFE, False), "bold": (BOLD, False), "virtual": (BOLD, True)}
REQUESTS: Final = 200
CHUNK: Final = 20_000
COUNTS: Final = ("requests", "errors", "rows", "entered", "failed", "refused", "wide", "compared", "differ")


class State:
    """What is done, a line of JSON each chunk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._module = digest()
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._chunks = [chunk for chunk in map(json.loads, lines) if chunk["module"] == self._module]

    def add(self, part: str, risk: str, seed: int, figures: dict[str, Any]) -> None:
        """Keep a chunk; on disk before the next begins."""
        chunk = {"module": self._module, "part": part, "risk": risk, "seed": seed, **figures}
        self._chunks.append(chunk)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(chunk) + "\n")

    def total(self, part: str, risk: str, name: str) -> int:
        """The sum of a figure."""
        return sum(int(chunk.get(name, 0)) for chunk in self._chunks if (chunk["part"], chunk["risk"]) == (part, risk))

    def next_seed(self, part: str, risk: str) -> int:
        """The first seed that has no chunk."""
        return 1 + max((int(chunk["seed"]) for chunk in self._chunks if (chunk["part"], chunk["risk"]) == (part, risk)), default=0)


def in_the_machine(state: State, rows: int, risks: tuple[str, ...], cpu: str, arguments: str) -> str:
    """Raw rows through the module until each of `risks` has had so many; what went wrong, empty when nothing did."""
    with Machine("bochs", cpu=cpu, arguments=arguments) as machine:
        machine.start()
        for name in risks:
            while state.total("machine", name, "rows") < rows:
                seed = state.next_seed("machine", name)
                try:
                    said = machine.shell(f"/guest raw {seed} {REQUESTS} {RISKS[name]} bochs-2.7 || true")
                except MachineError as error:
                    state.add("machine", name, seed, {"died": 1})
                    return f"{name}, seed {seed}: {error}"
                found = re.findall(r"\d+", said.splitlines()[-1])
                state.add("machine", name, seed, dict(zip(COUNTS, map(int, found), strict=True)))
                if "FAIL" in said or machine.trouble():
                    return f"{name}, seed {seed}: {said}{machine.trouble()}"
                if seed % 10 == 0:
                    print(f"machine, {name}: {state.total('machine', name, 'rows'):,} rows", flush=True)
        machine.shell("rmmod vmfuzz")
    return ""


def raw_column(rng: np.random.Generator, name: str, known: int, arena: Arena, count: int) -> npt.NDArray[np.uint64]:
    """Values of a field: the known one, some bits of it flipped, an edge, an address in the arena, anything; one in five with bits the field has not."""
    field = FIELDS[name]
    column = np.full(count, known, np.uint64)
    for share in (0.45, 0.2, 0.1):
        flip = np.left_shift(np.uint64(1), rng.integers(0, field.width, count, dtype=np.uint64))
        column ^= np.where(rng.random(count) < share, flip, np.uint64(0))
    edges = np.array([0, 1, 2, 3, 4, 31, 32, field.mask], np.uint64)
    inside = np.uint64(arena.base) + rng.integers(0, arena.size // 8, count, dtype=np.uint64) * np.uint64(8)
    anything = rng.integers(0, 1 << 64, count, dtype=np.uint64)
    what = rng.random(count)
    for limit, other in ((0.25, rng.choice(edges, count)), (0.15, inside), (0.08, anything)):
        column = np.where(what < limit, other, column)
    column &= np.uint64(field.mask)
    beyond = rng.integers(0, 1 << 64, count, dtype=np.uint64) & ~np.uint64(field.mask)
    return np.where(rng.random(count) < 0.2, column | beyond, column)


def raw_batches(seed: int, known: Vmcs, names: list[str], arena: Arena) -> Iterator[RawBatch]:
    """One chunk: batches of rows with several columns, and words of the arena in some."""
    rng = np.random.default_rng(seed)
    for _ in range(20):
        count = CHUNK // 20
        chosen = rng.choice(names, size=int(rng.integers(1, 9)), replace=False)
        columns = {str(name): raw_column(rng, str(name), known.get(str(name)) or 0, arena, count) for name in chosen}
        words = {}
        if rng.random() < 0.3:
            words = {arena.base + 8 * int(rng.integers(0, arena.size // 8 if rng.random() < 0.5 else 1024)): np.zeros(count, np.uint64)}
        yield RawBatch(known, columns, words)


def through_the_predicates(state: State, rows: int) -> str:
    """Raw rows through both predicates until each risk has had so many; what went wrong, empty when nothing did."""
    with tempfile.TemporaryDirectory() as folder:
        library = build(Path(folder))
        executors = [BochsExecutor(cpu) for cpu in CPU_MODELS]
        for name, (risk, virtual) in PREDICATES.items():
            while state.total("predicate", name, "rows") < rows:
                seed = state.next_seed("predicate", name)
                executor = executors[seed % len(executors)]
                facts = (executor.capabilities(), executor.known_good(), executor.arena, risk)
                c, python = InC(library, *facts, virtual=virtual), KmodContainment(*facts, virtual=virtual)
                refused = differ = 0
                for batch in raw_batches(seed, facts[1], [n for n in c.names if executor.capabilities().has_field(n)], executor.arena):
                    in_c, in_python = c.rules(batch), python.refused(batch).rule
                    differ += int((in_c != np.maximum(in_python, 0)).sum() + (in_c != c.rules(batch.cut())).sum())
                    refused += int((in_c != 0).sum())
                state.add("predicate", name, seed, {"cpu": executor.name, "rows": CHUNK, "refused": refused, "differ": differ})
                if differ:
                    return f"{executor.name}, {name}, seed {seed}: {differ} rows are judged differently"
        for executor in executors:
            executor.close()
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows in the machine at each risk")
    parser.add_argument(
        "--predicate",
        type=int,
        default=10_000_000,
        help="rows through the predicates at each risk, and in a virtual machine",
    )
    parser.add_argument("--cpu", default="corei7_skylake_x", help="a CPU model of Debian's Bochs")
    parser.add_argument("--arguments", default="nopti mitigations=off", help="for the kernel")
    parser.add_argument("--state", type=Path, default=Path("every-row.jsonl"), help="what is done; another run goes on from there")
    parser.add_argument("--risk", choices=tuple(RISKS), help="rows in the machine at this risk only")
    parser.add_argument("--nice", type=int, default=10, help="how much others come first (default: 10)")
    wanted = parser.parse_args()
    missing = needs("bochs")
    if missing:
        sys.exit(missing)
    os.nice(wanted.nice)
    state = State(wanted.state)
    wrong = [through_the_predicates(state, wanted.predicate)]
    risks = (wanted.risk,) if wanted.risk else tuple(RISKS)
    if wanted.rows:
        wrong.append(in_the_machine(state, wanted.rows, risks, wanted.cpu, wanted.arguments))
    for risk in PREDICATES:
        print(f"predicate, {risk}:", *(f"{state.total('predicate', risk, name):,} {name}" for name in ("rows", "refused", "differ")))
    for risk in RISKS:
        print(f"machine, {risk}:", *(f"{state.total('machine', risk, name):,} {name}" for name in COUNTS))
    sys.exit("\n".join(filter(None, wrong)) or 0)


if __name__ == "__main__":
    main()
