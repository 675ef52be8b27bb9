"""Which atoms an ordinary run decides, and why it does not decide the others: docs/atoms.md.

    python tools/atoms.py run STATE [CPU ...] [--millions 5] [--seed 1] [--known EARLIER]
    python tools/atoms.py page STATE

`run` makes a campaign on each CPU model (default: all) and asks the solver about each way of an atom (decides that its check is violated, or satisfied)
that was not seen. What comes of a model is kept in STATE as one file; a model whose file is there is not run again. `page` writes docs/atoms.md from
the files. Needs the extra `solver`.

What the solver and the case say of a way does not depend on how candidates are made: `--known` takes it from the files of an earlier run of the same
model.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vmfuzz.campaign.loop import Campaign
from vmfuzz.comparison.trial import Trial
from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.execute.kinds import open_executor
from vmfuzz.files import write_text
from vmfuzz.findings.suite import Suite
from vmfuzz.model.atoms import Atom
from vmfuzz.prose import wrapped

PAGE: Final = Path(__file__).parents[1] / "docs" / "atoms.md"
IMPOSSIBLE: Final = "impossible"
#: Why a way is not seen: what its case does on the processor, in the words of the page; "agrees" is a state that generation should have found.
REASONS: Final = {
    "deviation": "the solver's case is a known deviation of the emulated CPU, which cannot agree with the model there",
    "refused by containment": "containment refuses the solver's case",
    "not modelled": "the solver's case depends on something that the model does not know",
    "no case": "the solver neither proves it impossible nor finds a case",
    "agrees": "processor and model agree on the solver's case, but this run did not meet it",
    "mismatch": "its case is a mismatch",
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="campaigns and proofs")
    page = commands.add_parser("page", help="docs/atoms.md")
    for command in (run, page):
        command.add_argument("state", type=Path, metavar="STATE", help="directory for one file a CPU model")
    run.add_argument("--millions", type=int, default=5)
    run.add_argument("--seed", type=int, default=1)
    run.add_argument(
        "--known",
        type=Path,
        metavar="EARLIER",
        help="STATE of an earlier run, with the same model, whose answers about ways are taken over",
    )
    run.add_argument("cpus", nargs="*", metavar="CPU", help="default: all")
    arguments = parser.parse_args()
    if arguments.command == "page":
        files = (arguments.state / f"{cpu}.json" for cpu in CPU_MODELS)
        write_text(PAGE, page_of([json.loads(path.read_text(encoding="utf-8")) for path in files]))
        return
    arguments.state.mkdir(parents=True, exist_ok=True)
    for cpu in arguments.cpus or CPU_MODELS:
        path = arguments.state / f"{cpu}.json"
        if not path.exists():
            result = ways_of(cpu, arguments.millions, arguments.seed, answers(arguments.known, cpu) if arguments.known else {})
            write_text(path, json.dumps(result, indent=1))
            print(
                f"{cpu}: {result['seen']} of {result['ways']} seen, {len(result['unseen'])} not, {len(result['findings'])} findings",
                flush=True,
            )


def answers(state: Path, cpu: str) -> dict[tuple[str, str, str], str]:
    """What an earlier run said of each way that it did not see: (check, atom, way) -> why."""
    unseen = json.loads((state / f"{cpu}.json").read_text(encoding="utf-8"))["unseen"]
    return {(each["check"], each["atom"], each["way"]): each["why"] for each in unseen}


def ways_of(cpu: str, millions: int, seed: int, known: Mapping[tuple[str, str, str], str]) -> dict[str, Any]:
    """Run the campaign, ask the solver about what was not seen and is not in `known`."""
    with open_executor("bochs", cpu=cpu) as executor:
        campaign = Campaign(executor, seed)
        campaign.run(millions * 1_000_000)
        coverage = campaign.progress.tally.coverage
        trial = Trial(executor, campaign.model, campaign.generator)
        suite = Suite(trial)
        unseen = []
        for atom, violated in coverage.unseen():
            key = campaign.model.compiled[atom.check].check.id, str(atom), "violated" if violated else "satisfied"
            why = known.get(key) or asked(suite, trial, atom, violated)
            unseen.append(dict(zip(("check", "atom", "way"), key, strict=True), why=why))
        return {
            "cpu": cpu,
            "seed": seed,
            "candidates": campaign.progress.tally.candidates,
            "findings": sorted(campaign.progress.findings.by_id),
            "ways": coverage.atoms.size,
            "seen": int(coverage.atoms.sum()),
            "unseen": unseen,
        }


def asked(suite: Suite, trial: Trial, atom: Atom, violated: bool) -> str:
    """IMPOSSIBLE where that is proven, else what a case does."""
    try:
        if suite.proven_impossible(atom, violated):
            return IMPOSSIBLE
        case = suite.case(atom, violated)
    except EnvironmentUnusable as error:
        return f"no case: {error}"
    return "no case" if case is None else trial.observe(case).comparison


def reason(why: str) -> str:
    """The key of REASONS that an observation falls under."""
    return next((key for key in REASONS if why.startswith(key)), why)


def page_of(results: Sequence[dict[str, Any]]) -> str:
    """docs/atoms.md."""
    kinds = [kind for kind in REASONS if any(reason(each["why"]) == kind for result in results for each in result["unseen"])]
    candidates = results[0]["candidates"]
    lines = [
        "# Atoms that a run does not decide",
        "",
        "For everybody who works on generation, or wants to know exactly what a campaign leaves out. You will find each part of a check that did",
        "not decide an outcome, with the reason.",
        "",
        f"A campaign of {candidates:,} candidates (seed {results[0]['seed']}) ran on each emulated CPU model. An atom is one comparison in the",
        "condition of a check. It *decides* in a candidate if three things hold: its other value would reverse the check, no other check matters, and",
        "processor and model agree on the outcome. An atom can decide in two ways: that its check is violated, or that it is satisfied. The solver (z3)",
        "looked for each way that no candidate showed. Either it proves that this processor has no such state, or it makes a case, which was run.",
        "",
        f"Unexplained mismatches in these {len(results)} campaigns: {sum(len(result['findings']) for result in results)}.",
        "",
        "Made with `python tools/atoms.py run STATE`, then `python tools/atoms.py page STATE`.",
        "",
        f"| CPU model (emulated) | ways | seen | proven impossible | {' | '.join(kinds)} |",
        "|---|" + "---:|" * (3 + len(kinds)),
    ]
    for result in results:
        found = [reason(each["why"]) for each in result["unseen"]]
        counts = [found.count(kind) for kind in (IMPOSSIBLE, *kinds)]
        lines.append(f"| {result['cpu']} | {result['ways']:,} | {result['seen']:,} | {' | '.join(map(str, counts))} |")
    lines += [
        "",
        *(f"- *{kind}*: {REASONS[kind]}." for kind in kinds),
        "",
        "## Ways that no run showed and no proof rules out",
        "",
        *_left(results),
    ]
    return wrapped("\n".join(lines) + "\n")


def _left(results: Sequence[dict[str, Any]]) -> list[str]:
    """A table of all that is left, with the models it is left on."""
    left: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for result in results:
        for each in result["unseen"]:
            if each["why"] != IMPOSSIBLE:
                left[each["check"], each["way"], each["atom"], each["why"]].append(result["cpu"])
    lines = ["| check | way | atom | why | CPU models |", "|---|---|---|---|---|"]
    for (check, way, atom, why), cpus in sorted(left.items()):
        where = "all" if len(cpus) == len(results) else ", ".join(cpus) if len(cpus) <= 3 else f"{len(cpus)}"
        lines.append(f"| `{check}` | {way} | `{atom}` | {why} | {where} |")
    return lines


if __name__ == "__main__":
    main()
