"""A campaign on a test machine whose outcomes are compared with the model and with the emulated CPU of this process, and its figures.

    python tests/system/comparison.py --candidates 1000000 --cpu corei7_skylake_x --arguments pti=on

boots a machine, runs the campaign, unloads the module and prints the figures. Exit code 1 when something differs that nothing explains, or
when the kernel's log is not clean.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from guest_executor import GuestExecutor, ran, translate
from machine import Machine, MachineError, kernels, needs

from vmfuzz.arch.outcomes import Outcomes
from vmfuzz.campaign.compare import Verdict
from vmfuzz.campaign.findings import Findings
from vmfuzz.campaign.loop import Campaign
from vmfuzz.errors import UnknownNameError
from vmfuzz.execute.bochs import BochsExecutor
from vmfuzz.model.predict import Model
from vmfuzz.state.batch import VmcsBatch

#: Share of outcomes in which Bochs 2.7 may differ from 3.0, which lacks some of its deviations and has others.
MOST_DIFFERENCES = 0.02


@dataclass
class Figures:
    """What a campaign counted."""

    verdicts: Counter[str] = field(default_factory=Counter)
    equal: int = 0
    different: int = 0
    seconds: float = 0.0
    executor_seconds: float = 0.0
    findings: list[str] = field(default_factory=list)

    @property
    def candidates(self) -> int:
        return self.verdicts.total()

    @property
    def executed(self) -> int:
        return self.candidates - self.verdicts["REFUSED"] - self.verdicts["NOT_RUN"]

    def __str__(self) -> str:
        v = self.verdicts
        return (
            f"{self.candidates:,} candidates in {self.seconds:.0f} s ({self.executor_seconds:.0f} s in the executor): {v['REFUSED']:,} refused, "
            f"{v['NOT_RUN']:,} left out, {self.executed:,} executed ({self.executed / max(self.executor_seconds, 1e-9):,.0f}/s); of these "
            f"{v['AGREES']:,} agree with the model, {v['DEVIATION']:,} are known deviations, {v['NOT_MODELLED']:,} rest on something not "
            f"modelled, {v['MISMATCH']:,} differ. In-process CPU: {self.equal:,} of {self.equal + self.different:,} end equally"
        )


def compare(guest: GuestExecutor, candidates: int, *, seed: int = 1, family: int = 1000, progress: bool = False) -> Figures:
    """Run a campaign on the machine; each row that runs on both is also compared with this process's CPU, where it has one of that name."""
    campaign, figures, findings, chunk, began = Campaign(guest, seed=seed), Figures(), Findings(), 0, time.monotonic()
    try:
        here: BochsExecutor | None = BochsExecutor(guest.machine.cpu)
    except UnknownNameError:
        here = None
    model = None if here is None else Model(here.capabilities())
    while figures.candidates < candidates:
        for plan in campaign.plan(chunk):
            comparison = campaign.execute(plan, min(family, candidates - figures.candidates))
            batch, verdict = comparison.prediction.batch, comparison.verdict
            findings.add(comparison, plan.base)
            figures.verdicts.update(Verdict(int(number)).name for number in verdict)
            if here is not None and model is not None:
                same = _same_here(batch, guest, here, model, comparison.outcomes, comparison.prediction.allowed)
                figures.equal += int(same.sum())
                figures.different += int((~same).sum())
            if progress and figures.candidates % 50_000 < len(batch):
                print(f"{figures.candidates:,}", file=sys.stderr, flush=True)
            if figures.candidates >= candidates:
                break
        chunk += 1
    if here is not None:
        here.close()
    figures.findings = [json.dumps(finding.to_json()) for finding in findings.by_id.values()]
    figures.seconds, figures.executor_seconds = time.monotonic() - began, campaign.progress.executor_seconds
    return figures


def _same_here(
    batch: VmcsBatch, guest: GuestExecutor, here: BochsExecutor, model: Model, outcomes: Outcomes, allowed: npt.NDArray[np.uint64]
) -> npt.NDArray[np.bool_]:
    """For rows that ran on both and of which the model says the same for both: whether they ended equally."""
    moved = translate(batch, guest, here)
    other = here.run(moved)
    both = ran(outcomes) & ran(other) & (model.predict_batch(moved).allowed == allowed)
    return np.asarray(((outcomes.kind == other.kind) & (outcomes.number == other.number))[both], np.bool_)


def assert_agreement(figures: Figures) -> None:
    """Nothing unexplained, and enough of it to mean something."""
    assert figures.verdicts["EXECUTOR_CRASHED"] == 0
    assert figures.verdicts["MISMATCH"] == 0, figures.findings
    assert figures.executed > figures.candidates / 4
    if figures.equal + figures.different:
        assert figures.equal > figures.executed / 4
        assert figures.different <= figures.equal * MOST_DIFFERENCES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cpu", default="corei7_skylake_x", help="a CPU model of Debian's Bochs")
    parser.add_argument("--kernel", type=int, default=0, help="which of the installed kernels: 0 the oldest, -1 the newest")
    parser.add_argument("--arguments", default="nopti mitigations=off", help="for the kernel")
    parser.add_argument("--last", type=Path, default=Path("last-request"), help="where the last request goes if the machine dies")
    wanted = parser.parse_args()
    missing = needs("bochs")
    if missing:
        sys.exit(missing)
    with Machine("bochs", cpu=wanted.cpu, arguments=wanted.arguments, kernel=kernels()[wanted.kernel]) as machine:
        machine.start()
        print(f"{wanted.cpu}, {machine.shell('uname -r').strip()}, {wanted.arguments}, seed {wanted.seed} (emulated)", flush=True)
        guest = GuestExecutor(machine)
        try:
            figures = compare(guest, wanted.candidates, seed=wanted.seed, progress=True)
        except MachineError as error:
            wanted.last.write_bytes(machine.last_request())
            sys.exit(f"{error}\nThe machine is dead; {wanted.last} has the last request (a journal without its head line).")
        guest.close()
        machine.shell("rmmod vmfuzz")
        trouble = machine.trouble()
    print(figures)
    print(f"kernel log: {trouble or 'clean'}; the module unloaded")
    print(*figures.findings[:20], sep="\n")
    sys.exit(bool(trouble or figures.verdicts["MISMATCH"] or figures.verdicts["EXECUTOR_CRASHED"]))


if __name__ == "__main__":
    main()
