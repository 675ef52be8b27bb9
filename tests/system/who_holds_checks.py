"""Who holds each check on KVM: KVM's own check, the processor below it, or nobody. A campaign in a whole machine that asks for KVM's word.

    python tests/system/who_holds_checks.py docs/report/kvm.jsonl --kernel 6.1. --candidates 60000

For each check that alone decides candidates it counts how many failed as the check demands and what became of the others, and runs a few of those
that failed again, each alone, for KVM's own word (the tracepoint kvm_nested_vmenter_failed). The campaign becomes one line of the file, written
anew after each pass over the checks; a campaign with the same executor takes the place of the one before. `python tools/kvm_page.py` makes the
tables of it. Exit code 1 where a mismatch is left.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from debian_kernels import kernels, release
from guest_executor import KvmGuestExecutor
from machine import KVM_ARGUMENTS, Machine, needs

from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.tally import violations_per_stage
from vmfuzz.comparison.compare import Comparison, Verdict
from vmfuzz.execute.kvm.words import text_of
from vmfuzz.files import write_text
from vmfuzz.state.batch import VmcsBatch

_FAMILY: Final = 400
#: So many candidates of a check that failed are asked for KVM's word.
_ASKED: Final = 2


@dataclass
class Held:
    """One check. `alone`: executed candidates in which it alone decides; `failed`: those that failed as it demands; `otherwise`: what the others are.

    `words`: of some that failed, the outcome alone in a new virtual machine and KVM's text, None without one.
    """

    alone: int = 0
    failed: int = 0
    otherwise: Counter[str] = field(default_factory=Counter)
    words: list[tuple[str, str | None]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {"alone": self.alone, "failed": self.failed, "otherwise": dict(self.otherwise.most_common()), "words": self.words}


class Holders:
    """The campaign on one executor."""

    def __init__(self, guest: KvmGuestExecutor, seed: int) -> None:
        self.guest = guest
        self.campaign = Campaign(guest, seed=seed)
        self.checks = {compiled.check.id: Held() for compiled in self.campaign.model.compiled}

    def run(self, candidates: int, place: Path) -> None:
        """Run so many candidates, and write down what is known after each pass."""
        tally, number = self.campaign.progress.tally, 0
        while tally.candidates < candidates:
            for plan in self.campaign.plan(number):
                count = min(plan.rows, _FAMILY, candidates - tally.candidates)
                if count <= 0:
                    break
                comparison = self.campaign.execute(plan, count)
                tally.add(comparison, [block.target for block in plan.blocks])
                self._add(comparison)
            number += 1
            keep(place, self.to_json())

    def _add(self, comparison: Comparison) -> None:
        prediction = comparison.prediction
        ran = comparison.verdict <= Verdict.DEVIATION
        per_stage = violations_per_stage(prediction)
        actual = np.uint64(1) << comparison.bits.astype(np.uint64)
        for index, truth in prediction.violated.items():
            compiled = self.campaign.model.compiled[index]
            alone = truth & ran & (per_stage[compiled.step[0]] == 1) & prediction.reached[compiled.step]
            failed = alone & (actual & np.uint64(compiled.outcomes) != 0)
            held = self.checks[compiled.check.id]
            held.alone += int(np.count_nonzero(alone))
            held.failed += int(np.count_nonzero(failed))
            held.otherwise.update(self._what_it_is(comparison, row) for row in np.flatnonzero(alone & ~failed).tolist())
            for row in np.flatnonzero(failed)[: _ASKED - len(held.words)].tolist():
                held.words.append(self._word(prediction.batch.take([row])))

    def _what_it_is(self, comparison: Comparison, row: int) -> str:
        verdict = Verdict(int(comparison.verdict[row]))
        number = int(comparison.deviation[row])
        if verdict is Verdict.DEVIATION and self.campaign.altered is not None and number >= 0:
            return self.campaign.altered.deviations[number].id
        return verdict.name.lower()

    def _word(self, alone: VmcsBatch) -> tuple[str, str | None]:
        outcomes = self.guest.run(alone)
        texts = [text for line in self.guest.machine_process.trace if (text := text_of(line)) is not None]
        # a launched VMCS is made by an entry of the base: the candidate's own is the last
        return outcomes[0].short(), texts[-1] if texts else None

    def to_json(self) -> dict[str, Any]:
        """One line of the file."""
        tally = self.campaign.progress.tally
        return {
            "executor": self.guest.name,
            "seed": self.campaign.seed,
            "candidates": tally.candidates,
            "executed": tally.executed,
            "verdicts": {verdict.name.lower(): tally.verdicts[verdict] for verdict in Verdict},
            "deviations": dict(tally.by_deviation.most_common()),
            "checks": {id: held.to_json() for id, held in self.checks.items()},
        }


def keep(place: Path, campaign: dict[str, Any]) -> None:
    """Put a campaign into the file, in place of one with the same executor."""
    lines = place.read_text(encoding="utf-8").splitlines() if place.exists() else []
    others = [line for line in lines if json.loads(line)["executor"] != campaign["executor"]]
    write_text(place, "".join(f"{line}\n" for line in [*others, json.dumps(campaign)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--kernel", default="6.1.", help="the beginning of its release")
    parser.add_argument("--candidates", type=int, default=60_000)
    parser.add_argument("--parameters", default="", help="of kvm_intel")
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    found = [folder for folder in kernels() if release(folder).startswith(wanted.kernel)]
    missing = needs("bochs")
    if missing or not found:
        sys.exit(missing or f"no kernel {wanted.kernel}* with headers is installed (tests/system/README.md)")
    with Machine("bochs", arguments=KVM_ARGUMENTS, kernel=found[-1]) as machine:
        machine.start().load_others(wanted.parameters)
        with KvmGuestExecutor(machine) as guest:
            holders = Holders(guest, wanted.seed)
            holders.run(wanted.candidates, wanted.file)
        trouble = machine.trouble()
    verdicts = holders.to_json()["verdicts"]
    print(verdicts, trouble or "the kernel's log is clean", flush=True)
    sys.exit(1 if verdicts["mismatch"] or verdicts["executor_crashed"] or trouble else 0)


if __name__ == "__main__":
    main()
