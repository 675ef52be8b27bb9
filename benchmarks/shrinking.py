"""Hypothesis' shrinker beside the campaign's minimizer: both reduce the same first example of each of the ten planted errors of tests/quality.

    python benchmarks/shrinking.py [--seeds 5] [--state FILE]

The processor is the model with one error, the manual's model judges. For each error and seed Hypothesis looks for an example with
`strategies.candidates`, a few other fields edited, and shrinks it; the minimizer gets the same example as Hypothesis found it. Counted are executions of
candidates (the minimizer takes thousands in a batch, Hypothesis one at a time), seconds of this process's own time, and what is left. Results go to FILE
one a line, and what is there is not done again. Prints the table of docs/emulator.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from times import planted_errors

from vmfuzz import strategies
from vmfuzz.comparison.case import Case, base_value, mutation_between
from vmfuzz.comparison.compare import Verdict
from vmfuzz.comparison.trial import Trial
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.findings.minimize import Minimizer, cost_of, same_finding
from vmfuzz.generate.bases import base_rank
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.predict import Model
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

MOST_EXAMPLES = 100_000
#: Edited besides the operands of an error's check, so that there is something to leave out: as in an edited plain base.
PLAIN = {"mode": "64-bit", "features": "plain", "event": "nothing"}
BESIDES = ("cr3_target_count", "guest_cr0", "guest_gs_base", "guest_rflags", "guest_rip", "host_cr4")


def trial_of(planted: Any, error: Any) -> Trial:
    """The wrong processor, judged by the true model."""
    wrong = [altered for check in CHECKS if (altered := error.alter(check) if check.id == error.check else check) is not None]
    return Trial(ModelExecutor(planted.CAPS, planted.GOOD, wrong), Model(planted.CAPS, CHECKS))


def measure(planted: Any, error: Any, number: int) -> dict[str, Any]:
    """One error and one seed."""
    trial = trial_of(planted, error)
    failing: list[tuple[str, Vmcs]] = []
    first: list[float] = []

    class Wrong(Exception):
        pass

    @seed(number)
    @settings(
        max_examples=MOST_EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategies.candidates(planted.CAPS, checks=error.check), strategies.vmcs(planted.CAPS, fields=BESIDES, **PLAIN))
    def test(directed: Vmcs, besides: Vmcs) -> None:
        vmcs = directed.replace(**{name: value or 0 for name, (_, value) in planted.GOOD.differences(besides).items()})
        comparison = trial.compare_batch(VmcsBatch.of([vmcs], planted.GOOD))
        if comparison.verdict[0] == Verdict.MISMATCH:
            if not failing:
                first.extend((trial.executed, time.process_time()))
            failing.append((repr(directed).split("'")[1], vmcs))
            raise Wrong

    try:
        test()
    except Wrong:
        pass
    else:
        return {"error": error.check, "seed": number, "found": None}
    found, since = first
    shrunk = {"executed": trial.executed - int(found), "seconds": time.process_time() - since, **size(trial, *failing[-1])}
    start = size(trial, *failing[0])
    return {
        "error": error.check,
        "seed": number,
        "found": int(found),
        "start": start,
        "shrinker": shrunk,
        "minimizer": minimized(trial, *failing[0]),
    }


def minimized(trial: Trial, name: str, example: Vmcs) -> dict[str, Any]:
    """The same example reduced by the campaign's minimizer: its simplest case."""
    base, mutation = trial.base(name), mutation_of(trial, name, example)
    assert base is not None
    comparison = trial.compare(base, [mutation])
    before, since = trial.executed, time.process_time()
    (best, *_) = Minimizer(trial, same_finding(comparison, 0), seconds=600).run(Case(name, mutation))
    spent = {"executed": trial.executed - before, "seconds": time.process_time() - since}
    return {**spent, **measured(trial, best.case.base, dict(best.case.mutation))}


def mutation_of(trial: Trial, name: str, vmcs: Vmcs) -> dict[str, int]:
    """What differs from the base."""
    base = trial.base(name)
    assert base is not None
    return mutation_between(base, vmcs)


def size(trial: Trial, name: str, vmcs: Vmcs) -> dict[str, Any]:
    """How large an example is."""
    return measured(trial, name, mutation_of(trial, name, vmcs))


def measured(trial: Trial, name: str, mutation: dict[str, int]) -> dict[str, Any]:
    """How large a case is, and the case."""
    base = trial.base(name)
    assert base is not None
    cost = sum(cost_of(key, base_value(base, key), value) for key, value in mutation.items())
    return {"operands": len(mutation), "base": name, "cost": cost, "mutation": {key: f"{value:#x}" for key, value in mutation.items()}}


def table(rows: list[dict[str, Any]]) -> str:
    """The results as a table, one line an error."""
    lines = [
        "| planted error | operands: first, shrinker, minimizer | simpler is what is left by | executions: shrinker, minimizer | own seconds |",
        "|---|---|---|---|---|",
    ]
    for error in dict.fromkeys(row["error"] for row in rows):
        mine = [row for row in rows if row["error"] == error and row["found"] is not None]
        operands = ", ".join(f"{statistics.mean(row[who]['operands'] for row in mine):.1f}" for who in ("start", "shrinker", "minimizer"))
        counts = ", ".join(f"{statistics.median(row[who]['executed'] for row in mine):,.0f}" for who in ("shrinker", "minimizer"))
        seconds = ", ".join(f"{statistics.median(row[who]['seconds'] for row in mine):.2f}" for who in ("shrinker", "minimizer"))
        lines.append(f"| `{error}` | {operands} | {simpler(mine)} | {counts} | {seconds} |")
    return "\n".join(lines)


def simpler(rows: list[dict[str, Any]]) -> str:
    """Which of the two leaves what the minimizer calls simpler (operands, then base, then bits or distance), and how often."""

    def key(left: dict[str, Any]) -> tuple[Any, ...]:
        return left["operands"], base_rank(left["base"]), left["cost"]

    ways = [(key(row["minimizer"]) > key(row["shrinker"])) - (key(row["minimizer"]) < key(row["shrinker"])) for row in rows]
    counts = [(ways.count(0), "neither"), (ways.count(-1), "the minimizer"), (ways.count(1), "the shrinker")]
    return ", ".join(f"{who} {count}x" for count, who in counts if count)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--state", type=Path, default=Path("shrinking.jsonl"))
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.state.read_text().splitlines()] if arguments.state.exists() else []
    done = {(row["error"], row["seed"]) for row in rows}
    planted = planted_errors()
    for number in range(1, arguments.seeds + 1):
        for error in planted.ERRORS:
            if (error.check, number) not in done:
                rows.append(measure(planted, error, number))
                with arguments.state.open("a") as state:
                    state.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
