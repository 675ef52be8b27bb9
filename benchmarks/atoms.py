"""Which atoms an ordinary run decides, and why it does not decide the others.

    python benchmarks/atoms.py [--millions 5] [--seed 1] [CPU ...]

Prints, for each CPU model, how many ways of atoms (decides that its check is violated, or satisfied) were seen within so many candidates, how many of
the rest the solver proves impossible, and a list of what remains, each with what its case (of `vmfuzz suite`) does on the emulated CPU. Needs the extra
`solver`.
"""

from __future__ import annotations

import argparse

from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.suite import UNREACHABLE, Suite
from vmfuzz.campaign.trial import Trial
from vmfuzz.execute.base import open_executor


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("cpus", nargs="*", metavar="CPU", help="default: corei7_skylake_x")
    arguments = parser.parse_args()
    for cpu in arguments.cpus or ["corei7_skylake_x"]:
        report(cpu, arguments.millions, arguments.seed)


def report(cpu: str, millions: int, seed: int) -> None:
    """Run, ask the solver, print."""
    with open_executor("bochs", cpu=cpu) as executor:
        campaign = Campaign(executor, seed)
        campaign.run(millions * 1_000_000)
        coverage = campaign.progress.tally.coverage
        trial = Trial(executor, campaign.model, campaign.generator)
        maker = Suite(trial)
        impossible, left = 0, []
        for atom, way in coverage.unseen():
            pair = maker.pair(atom)
            word = "violated" if way else "satisfied"
            if pair.status == UNREACHABLE and word in pair.proof:
                impossible += 1
                continue
            case = pair.violated if way else pair.satisfied
            does = (
                trial.observe(case).comparison if case is not None else "no case: the other way is impossible" if pair.proof else "no case"
            )
            left.append((campaign.model.compiled[atom.check].check.id, str(atom), word, does))
        seen, total = int(coverage.atoms.sum()), coverage.atoms.size
        print(f"{cpu}, seed {seed}, {millions} million candidates: {seen} of {total} ways of atoms seen deciding,")
        print(f"{impossible} proven impossible, {len(left)} left:")
        for id, text, word, does in left:
            print(f"- {id} {word} by {text}: its case: {does}")


if __name__ == "__main__":
    main()
