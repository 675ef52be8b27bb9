"""How soon an error in a processor is found: mutants of the model stand in for the processor, the true model judges.

    python benchmarks/sensitivity.py [--candidates 1000000] [--seed 1 2 3] [--list] [--never-emulated] [--check BEGINNING] [CPU]

Mutants are derived from the algebra (src/vmfuzz/model/small_errors.py): each check dropped, each gate (a part of `when`) dropped, each atom negated, each
constant and each bit position off by one; and, as kinds that generation knows nothing of, each bit position off by two, comparisons made strict, members
of sets dropped, "all" and "any" exchanged. All mutants see the same stream of candidates; for each, the number of candidates until its outcome first
leaves the set that the true model allows is counted. CPU is any stored profile (`vmfuzz caps --list`); `--never-emulated` takes only the mutants of
checks that exist on no emulated CPU model, `--check` those of some checks. Of those that are not found the solver (extra `solver`) says which are
equivalent: no state exists in which they show.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import numpy as np

from vmfuzz.campaign.loop import Campaign
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.generate.visible import visibility_of
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.evaluate import Truth
from vmfuzz.model.predict import BatchPrediction, Model, model_of
from vmfuzz.model.small_errors import HELD_OUT, KINDS, SmallError, errors_of
from vmfuzz.state.profiles import capabilities, emulated_names, known_good


@dataclass
class Mutant:
    """A processor with a small error in one check; `found`: candidates until it was caught."""

    error: SmallError
    found: int | None = None


def hunt(campaign: Campaign, mutants: list[Mutant], candidates: int) -> None:
    """Run the campaign's candidates through all mutants that have not been found."""
    model = campaign.model
    by_check: dict[int, list[Mutant]] = {}
    for mutant in mutants:
        by_check.setdefault(mutant.error.check, []).append(mutant)
    ran, chunk = 0, 0
    while ran < candidates:
        for plan in campaign.plan(chunk):
            if ran >= candidates:
                break
            comparison = campaign.execute(plan)
            campaign.progress.tally.add(comparison, [block.target for block in plan.blocks])
            prediction = comparison.prediction
            left = [mutant for number in prediction.affected for mutant in by_check.get(number, ()) if mutant.found is None]
            truths = prediction.conditions.truths([mutant.error.erroneous for mutant in left])
            for mutant, truth in zip(left, truths, strict=True):
                try_mutant(model, mutant, prediction, truth, ran)
            ran += plan.rows
        chunk += 1


def try_mutant(model: Model, mutant: Mutant, prediction: BatchPrediction, truth: Truth, ran: int) -> None:
    """Whether the mutated processor, whose erroneous check has this truth, leaves the true prediction on some row of the batch."""
    original = prediction.violated.get(mutant.error.check, False)
    rows = np.broadcast_to(truth, len(prediction)) != np.broadcast_to(original, len(prediction))
    if not rows.any():
        return
    allowed = model.allowed_if(prediction, mutant.error.check, truth)
    outcome = allowed & (~allowed + np.uint64(1))
    caught = rows & (outcome & prediction.allowed == 0)
    if caught.any():
        mutant.found = ran + int(np.flatnonzero(caught)[0]) + 1


def line(name: str, mutants: list[Mutant], equivalent: set[SmallError]) -> str:
    """A line of the table."""
    found = [mutant.found for mutant in mutants if mutant.found is not None]
    middle, worst = (f"{statistics.median(found):,.0f}", f"{max(found):,}") if found else ("-", "-")
    hidden = sum(mutant.error in equivalent for mutant in mutants)
    return f"| {name} | {len(mutants):,} | {hidden:,} | {len(found):,} | {len(mutants) - hidden - len(found):,} | {middle} | {worst} |"


def never_emulated() -> set[str]:
    """Ids of the checks that exist on no emulated CPU model."""
    emulated = {compiled.check.id for name in emulated_names() for compiled in model_of(capabilities(name)).compiled}
    return {check.id for check in CHECKS} - emulated


def report(cpu: str, seed: int, candidates: int, listed: bool, ids: Collection[str], known: dict[SmallError, bool]) -> None:
    """Hunt the mutants of the checks `ids` with one seed and print the table; `known` keeps what the solver said."""
    caps = capabilities(cpu)
    campaign = Campaign(ModelExecutor(caps, known_good(caps)), seed)
    compiled = campaign.model.compiled
    mutants = [Mutant(error) for error in errors(campaign.model) if compiled[error.check].check.id in ids]
    hunt(campaign, mutants, candidates)
    solver = visibility_of(campaign.generator)
    for mutant in mutants:
        if mutant.found is None and mutant.error not in known:
            known[mutant.error] = solver.witness(mutant.error) is not None
    equivalent = {mutant.error for mutant in mutants if mutant.found is None and not known[mutant.error]}
    checks = len({mutant.error.check for mutant in mutants})
    print(f"{cpu}, seed {seed}, {candidates:,} candidates, model against mutated model, {checks} checks")
    print("| mutants | number | equivalent | found | not found | median candidates | worst |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for kind in KINDS:
        print(line(kind, [mutant for mutant in mutants if mutant.error.kind == kind], equivalent))
    for name, held_out in (("all that generation looks for", False), ("all held out", True)):
        print(line(name, [mutant for mutant in mutants if (mutant.error.kind in HELD_OUT) is held_out], equivalent))
    if listed:
        for mutant in mutants:
            if mutant.found is None and mutant.error not in equivalent:
                error = mutant.error
                print(f"not found: {compiled[error.check].check.id}: {error.kind} {error.what}")


@cache
def errors(model: Model) -> tuple[SmallError, ...]:
    """The mutants' errors, the same objects for each seed."""
    return errors_of(model)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--list", action="store_true", help="list the mutants that were not found and are not equivalent")
    parser.add_argument("--never-emulated", action="store_true", help="only mutants of checks that exist on no emulated CPU model")
    parser.add_argument("--check", default="", metavar="BEGINNING", help="only mutants of checks whose id begins so")
    parser.add_argument("cpu", nargs="?", default="corei7_skylake_x")
    arguments = parser.parse_args()
    known: dict[SmallError, bool] = {}
    ids = never_emulated() if arguments.never_emulated else {check.id for check in CHECKS}
    ids = {id for id in ids if id.startswith(arguments.check)}
    for seed in arguments.seed:
        report(arguments.cpu, seed, arguments.candidates, arguments.list, ids, known)


if __name__ == "__main__":
    main()
