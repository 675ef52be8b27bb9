"""How soon an error in a processor is found: mutants of the model stand in for the processor, the true model judges.

    python benchmarks/sensitivity.py [--candidates 1000000] [--seed 1] [--list] [CPU]

Mutants are derived from the algebra: each check dropped, each gate (a part of `when`) dropped, each atom negated, each constant and each bit position
off by one. All mutants see the same stream of candidates; for each, the number of candidates until its outcome first leaves the set that the
true model allows is counted. A mutant whose truth never differs from the original's on any candidate is reported as "never differs": it is
equivalent, or generation has a hole.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vmfuzz.campaign.loop import Campaign
from vmfuzz.execute.model_executor import ModelExecutor
from vmfuzz.model.atoms import nodes_of, replaced
from vmfuzz.model.evaluate import Memo, Truth, evaluate
from vmfuzz.model.expr import TRUE, Bits, Cond, Node, all_of, make
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.predict import BatchPrediction, Model
from vmfuzz.state.profiles import capabilities, known_good

KINDS = ("check dropped", "gate dropped", "atom negated", "constant off by one", "bit position off by one")


@dataclass
class Mutant:
    """A processor whose check `number` has `violated` in place of the SDM's condition; `found`: candidates until it was caught."""

    number: int
    kind: str
    what: str
    violated: Cond
    differed: bool = False
    found: int | None = None


def variants(node: Node) -> Iterator[tuple[str, str, Node]]:
    """(kind, what, replacement) for each small error in one node."""
    if node.op in ("eq", "le", "one_of", "bit"):
        yield "atom negated", f"not {node.op}", ~node  # type: ignore[operator]
    if node.op == "const" and node.args[0]:
        for step in (1, -1):
            value = (node.args[0] + step) & ((1 << 64) - 1)
            yield "constant off by one", f"{node.args[0]:#x} -> {value:#x}", make(Bits, "const", value)
    if node.op == "bit":
        for step in (1, -1):
            index = node.args[1] + step
            if 0 <= index < node.args[0].width:
                yield "bit position off by one", f"bit {node.args[1]} -> {index}", make(Cond, "bit", node.args[0], index, "")


def mutants_of(model: Model) -> list[Mutant]:
    """Every mutant of every check that exists on the processor."""
    mutants: list[Mutant] = []
    for number, compiled in enumerate(model.compiled):
        if compiled.unknown.op != "false" and not compiled.violated.reads:
            continue
        mutants.append(Mutant(number, "check dropped", "", ~TRUE))
        gates = compiled.when.args if compiled.when.op == "all" else (compiled.when,) if compiled.when is not TRUE else ()
        must = model.fold(compiled.check.must)
        for gate in gates:
            rest = all_of(*(other for other in gates if other is not gate), ~must)
            mutants.append(Mutant(number, "gate dropped", str(gate.op), rest))
        for node in nodes_of(compiled.violated):
            for kind, what, new in variants(node):
                changed = replaced(compiled.violated, node, new)
                if changed is not compiled.violated and isinstance(changed, Cond):
                    mutants.append(Mutant(number, kind, what, changed))
    return mutants


def hunt(campaign: Campaign, mutants: list[Mutant], candidates: int) -> None:
    """Run the campaign's candidates through all mutants that have not been found."""
    model = campaign.model
    by_check: dict[int, list[Mutant]] = {}
    for mutant in mutants:
        by_check.setdefault(mutant.number, []).append(mutant)
    ran, chunk = 0, 0
    while ran < candidates:
        for plan in campaign.plan(chunk):
            if ran >= candidates:
                break
            comparison = campaign.execute(plan)
            campaign.progress.tally.add(comparison, [block.target for block in plan.blocks])
            prediction = comparison.prediction
            values, memo = OperandValues(prediction.batch), dict(prediction.memo)
            for number in prediction.affected:
                for mutant in by_check.get(number, ()):
                    if mutant.found is None:
                        try_mutant(model, mutant, prediction, values, memo, ran)
            ran += plan.rows
        chunk += 1


def try_mutant(model: Model, mutant: Mutant, prediction: BatchPrediction, values: OperandValues, memo: Memo, ran: int) -> None:
    """Whether the mutated processor leaves the true prediction on some row of the batch."""
    truth: Truth = evaluate(mutant.violated, values, memo)
    original = prediction.violated.get(mutant.number, False)
    rows = np.broadcast_to(truth, len(prediction)) != np.broadcast_to(original, len(prediction))
    if not rows.any():
        return
    mutant.differed = True
    allowed = model.allowed_if(prediction, mutant.number, truth)
    outcome = allowed & (~allowed + np.uint64(1))
    caught = rows & (outcome & prediction.allowed == 0)
    if caught.any():
        mutant.found = ran + int(np.flatnonzero(caught)[0]) + 1


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="list the mutants that were not found")
    parser.add_argument("cpu", nargs="?", default="corei7_skylake_x")
    arguments = parser.parse_args()
    caps = capabilities(arguments.cpu)
    campaign = Campaign(ModelExecutor(caps, known_good(caps)), arguments.seed)
    mutants = mutants_of(campaign.model)
    hunt(campaign, mutants, arguments.candidates)
    print(f"{arguments.cpu}, seed {arguments.seed}, {arguments.candidates:,} candidates, model against mutated model")
    print("| mutants | number | found | median candidates | worst | differed, not found | never differed |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for kind in (*KINDS, "all"):
        chosen = [mutant for mutant in mutants if kind in (mutant.kind, "all")]
        found = [mutant.found for mutant in chosen if mutant.found is not None]
        middle, worst = (f"{statistics.median(found):,.0f}", f"{max(found):,}") if found else ("-", "-")
        hidden = sum(mutant.differed and mutant.found is None for mutant in chosen)
        never = sum(not mutant.differed for mutant in chosen)
        print(f"| {kind} | {len(chosen)} | {len(found)} | {middle} | {worst} | {hidden} | {never} |")
    if arguments.list:
        for mutant in mutants:
            if mutant.found is None:
                id = campaign.model.compiled[mutant.number].check.id
                print(f"{'differed' if mutant.differed else 'never differed'}: {id}: {mutant.kind} {mutant.what}")


if __name__ == "__main__":
    main()
