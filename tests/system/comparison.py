"""A campaign on a test machine whose outcomes are compared with the model and with the emulated CPU of this process, and its figures.

    python tests/system/comparison.py --executed 1000000 --cpu corei7_skylake_x --arguments pti=on

boots a machine, runs the campaign, unloads the module and prints the figures. Candidates that containment refuses or that Bochs 2.7 would not
survive do not count as executed. Exit code 1 when something differs that nothing explains, or when the kernel's log is not clean.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from debian_kernels import digest, kernels
from guest_executor import GuestExecutor, ImageExecutor, ran, translate
from machine import Machine, MachineError, needs

from vmfuzz.arch.outcomes import Outcomes
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.mismatches import Findings
from vmfuzz.campaign.tally import Tally
from vmfuzz.comparison.compare import AlteredModel, Comparison, Verdict
from vmfuzz.comparison.compare import compare as compare_with_model
from vmfuzz.errors import UnknownNameError
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.model.known_deviations import deviations_of
from vmfuzz.model.predict import Model

#: Of so many candidates at least one has to be executed, or the campaign would not end.
MOST_LEFT_OUT = 10
#: Every so many candidates it is written down how many were refused and how many checks were seen deciding alone, so that campaigns can be
#: compared at an equal number of candidates.
STEP = 25_000


@dataclass
class Figures:
    """What a campaign counted."""

    verdicts: Counter[str] = field(default_factory=Counter)
    equal: int = 0
    different: int = 0
    seconds: float = 0.0
    executor_seconds: float = 0.0
    findings: list[str] = field(default_factory=list)
    #: containment's words
    refusals: Counter[str] = field(default_factory=Counter)
    #: what the machine's processor deviates in
    deviations: Counter[str] = field(default_factory=Counter)
    #: for rows that end differently here: what explains the machine's outcome, and what this process's
    differences: Counter[str] = field(default_factory=Counter)
    #: ids of checks that were seen deciding alone
    decided: list[str] = field(default_factory=list)
    #: after each STEP: candidates, how many of them were refused, how many checks were seen deciding alone
    steps: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def candidates(self) -> int:
        return self.verdicts.total()

    @property
    def executed(self) -> int:
        return self.candidates - self.verdicts["REFUSED"] - self.verdicts["NOT_RUN"]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        counters = {name: dict(getattr(self, name).most_common()) for name in ("verdicts", "refusals", "deviations", "differences")}
        plain = {name: getattr(self, name) for name in ("candidates", "executed", "equal", "different", "findings", "decided", "steps")}
        return {**plain, "seconds": round(self.seconds), "executor_seconds": round(self.executor_seconds), **counters}

    def __str__(self) -> str:
        v = self.verdicts
        return (
            f"{self.candidates:,} candidates in {self.seconds:.0f} s ({self.executor_seconds:.0f} s in the executor): {v['REFUSED']:,} refused, "
            f"{v['NOT_RUN']:,} left out, {self.executed:,} executed ({self.executed / max(self.executor_seconds, 1e-9):,.0f}/s); of these "
            f"{v['AGREES']:,} agree with the model, {v['DEVIATION']:,} are known deviations, {v['NOT_MODELLED']:,} rest on something not "
            f"modelled, {v['MISMATCH']:,} differ; {len(self.decided)} checks decided alone. In-process CPU: "
            f"{self.equal:,} of {self.equal + self.different:,} end equally"
        )


class ProcessorHere:
    """The emulated CPU of this process with the name of the machine's."""

    def __init__(self, guest: GuestExecutor | ImageExecutor) -> None:
        self.guest, self.executor = guest, BochsExecutor(guest.machine.cpu)
        self.model, self.guest_model = Model(self.executor.capabilities()), Model(guest.capabilities())
        own = deviations_of(self.executor.name)
        self.altered = AlteredModel(self.model.capabilities, own)
        #: the machine's processor with what both deviate in, then with one more of its own deviations each
        more = [deviation for deviation in deviations_of(guest.name) if deviation not in own]
        self.there = [AlteredModel(guest.capabilities(), (*own, *one)) for one in ((), *((deviation,) for deviation in more))]

    def compare(self, there: Comparison, figures: Figures) -> None:
        """Count rows that ran on both, and of which the model says the same for both, as equal or not; name what explains a difference."""
        moved = translate(there.prediction.batch, self.guest, self.executor)
        here = compare_with_model(self.model.predict_batch(moved), self.executor.run(moved), self.altered)
        both = ran(there.outcomes) & ran(here.outcomes) & (here.prediction.allowed == there.prediction.allowed)
        same = (there.outcomes.kind == here.outcomes.kind) & (there.outcomes.number == here.outcomes.number)
        figures.equal += int((both & same).sum())
        figures.different += int((both & ~same).sum())
        rows = np.flatnonzero(both & ~same)
        for row, cause in zip(rows.tolist(), self._causes(there, rows), strict=True):
            here_ends = f"{here.outcomes[row].short()} ({explanation(here, self.altered, row)})"
            figures.differences[f"{there.outcomes[row].short()} ({cause}) / {here_ends}"] += 1

    def _causes(self, there: Comparison, rows: npt.NDArray[np.intp]) -> list[str]:
        """What explains the machine's outcomes of these rows: what both deviate in where that is enough, else one of its own deviations."""
        causes = ["several deviations"] * len(rows)
        if not len(rows):
            return causes
        prediction = self.guest_model.predict_batch(there.prediction.batch.take(rows))
        outcomes = take(there.outcomes, rows)
        for altered in reversed(self.there):
            found = compare_with_model(prediction, outcomes, altered)
            for row in np.flatnonzero(found.verdict != Verdict.MISMATCH).tolist():
                causes[row] = altered.deviations[-1].id if altered is not self.there[0] else explanation(found, altered, row)
        return causes


def take(outcomes: Outcomes, rows: npt.NDArray[np.intp]) -> Outcomes:
    """The outcomes of some rows."""
    columns = {item.name: getattr(outcomes, item.name) for item in fields(outcomes)}
    return Outcomes(**{name: column if name == "messages" else column[rows] for name, column in columns.items()})


def explanation(comparison: Comparison, altered: AlteredModel | None, row: int) -> str:
    """The deviation that explains a row's outcome, or the verdict on it."""
    known = int(comparison.deviation[row])
    return altered.deviations[known].id if altered is not None and known >= 0 else Verdict(int(comparison.verdict[row])).name


def count(comparison: Comparison, altered: AlteredModel | None, figures: Figures) -> None:
    """Add one family's verdicts, refusals and deviations."""
    figures.verdicts.update(Verdict(int(number)).name for number in comparison.verdict)
    for row in np.flatnonzero(comparison.verdict == Verdict.REFUSED).tolist():
        figures.refusals[comparison.outcomes.message_of(row) or "no reason given"] += 1
    for row in np.flatnonzero(comparison.verdict == Verdict.DEVIATION).tolist():
        figures.deviations[explanation(comparison, altered, row)] += 1


def compare(guest: GuestExecutor | ImageExecutor, executed: int, *, seed: int = 1, family: int = 1000, progress: bool = False) -> Figures:
    """Run a campaign on the machine until so many were executed; each is also compared with this process's CPU, where it has one of that name."""
    campaign, figures, findings, chunk, began = Campaign(guest, seed=seed), Figures(), Findings(), 0, time.monotonic()
    seen = Tally(campaign.model, deviations_of(guest.name))  # not the campaign's own: what was seen steers what comes
    try:
        here: ProcessorHere | None = ProcessorHere(guest)
    except UnknownNameError:
        here = None
    while figures.executed < executed and figures.candidates < executed * MOST_LEFT_OUT:
        for plan in campaign.plan(chunk):
            comparison = campaign.execute(plan, family)
            before = figures.executed
            findings.add(comparison, plan.base)
            count(comparison, campaign.altered, figures)
            seen.add(comparison)
            if figures.candidates // STEP > len(figures.steps):
                figures.steps.append((figures.candidates, figures.verdicts["REFUSED"], int((np.asarray(seen.decided) > 0).sum())))
            if here is not None:
                here.compare(comparison, figures)
            if progress and figures.executed // 50_000 != before // 50_000:
                print(f"{figures.executed:,} executed", file=sys.stderr, flush=True)
            if figures.executed >= executed:
                break
        chunk += 1
    if here is not None:
        here.executor.close()
    figures.decided = [compiled.check.id for compiled, times in zip(campaign.model.compiled, seen.decided, strict=True) if times]
    figures.findings = [json.dumps(finding.to_json()) for finding in findings.by_id.values()]
    figures.seconds, figures.executor_seconds = time.monotonic() - began, campaign.progress.executor_seconds
    return figures


def assert_agreement(figures: Figures) -> None:
    """Nothing unexplained, and enough of it to mean something."""
    assert figures.verdicts["EXECUTOR_CRASHED"] == 0
    assert figures.verdicts["MISMATCH"] == 0, figures.findings
    assert figures.executed > figures.candidates / 4
    if figures.equal + figures.different:
        assert figures.equal > figures.executed / 4
        # where the two releases end differently, each is explained by the manual's freedom or by a known deviation
        assert not [what for what in figures.differences if Verdict.MISMATCH.name in what], figures.differences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executed", type=int, default=1_000_000, help="how many candidates the processor has to execute")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cpu", default="corei7_skylake_x", help="a CPU model of Debian's Bochs")
    parser.add_argument("--kernel", type=int, default=0, help="which of the installed kernels: 0 the oldest, -1 the newest")
    parser.add_argument("--poison", action="store_true", help="docs/bare-metal.md")
    parser.add_argument("--arguments", default="nopti mitigations=off", help="for the kernel")
    parser.add_argument("--risk", choices=("safe", "bold"), default="safe")
    parser.add_argument("--last", type=Path, default=Path("last-request"), help="where the last request goes if the machine dies")
    parser.add_argument("--json", type=Path, help="a file to which the figures are added as one line of JSON")
    wanted = parser.parse_args()
    missing = needs("bochs")
    if missing:
        sys.exit(missing)
    with Machine("bochs", cpu=wanted.cpu, arguments=wanted.arguments, kernel=kernels()[wanted.kernel]) as machine:
        machine.start()
        kernel = machine.shell("uname -r").strip()
        print(f"{wanted.cpu}, {kernel}, {wanted.arguments}, seed {wanted.seed}, {wanted.risk} (emulated)", flush=True)
        guest = GuestExecutor(machine, risk=wanted.risk, poison=wanted.poison)
        try:
            figures = compare(guest, wanted.executed, seed=wanted.seed, progress=True)
        except MachineError as error:
            wanted.last.write_bytes(machine.last_request())
            sys.exit(f"{error}\nThe machine is dead; {wanted.last} has the last request (a journal without its head line).")
        guest.close()
        machine.shell("rmmod vmfuzz")
        trouble = machine.trouble()
    print(figures)
    print(f"kernel log: {trouble or 'clean'}; the module unloaded")
    for name in ("refusals", "deviations", "differences"):
        print(f"{name}:", *(f"  {number:,} {what}" for what, number in getattr(figures, name).most_common()), sep="\n")
    print(*figures.findings[:20], sep="\n")
    if wanted.json is not None:
        what = {
            "cpu": wanted.cpu,
            "kernel": kernel,
            "arguments": wanted.arguments,
            "seed": wanted.seed,
            "risk": wanted.risk,
            "poison": wanted.poison,
            "module": digest(),
        }
        line = {**what, "date": datetime.now(UTC).strftime("%Y-%m-%d"), "log": trouble or "clean", **figures.to_json()}
        with wanted.json.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    unexplained = any(Verdict.MISMATCH.name in what for what in figures.differences)
    sys.exit(bool(trouble or unexplained or figures.verdicts["MISMATCH"] or figures.verdicts["EXECUTOR_CRASHED"]))


if __name__ == "__main__":
    main()
