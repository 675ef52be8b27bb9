"""A campaign on the bootable image in a virtual machine that may be lost (--risk bold --virtual): is anything left behind for a later candidate?

    python tests/system/virtual_campaign.py [--candidates 100000] [--cpu corei7_skylake_x] [--seed 1] [--narrow] [--raw]

boots Debian's Bochs (emulated) with an image that compares the machine's state with that before its first row after each slice of at most 64 rows
(host_state.c). First some candidates run that may run everywhere, then the campaign, then the first ones again; and once more in a new machine.
`--narrow`: the same campaign without --virtual, for the share of refused candidates and the checks that decide. `--raw`: rows of every_row.py in the
place of the campaign: any fields, any values; nobody predicts them. Exit code 1 when state differed, a
candidate of the first ones ended otherwise, an outcome is unexplained, or resets and named candidates differ.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
from every_row import raw_batches
from guest_executor import ImageExecutor
from image_machine import ImageMachine, build_image, image_options, needs_image
from machine import needs

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.mismatches import Findings
from vmfuzz.campaign.tally import Tally
from vmfuzz.comparison.compare import Verdict
from vmfuzz.execute.kmod.containment import BOLD, KmodContainment
from vmfuzz.execute.serial.device import MachineReset
from vmfuzz.model.known_deviations import deviations_of
from vmfuzz.state.batch import VmcsBatch

#: What host_state.c leaves in the black box.
DIFFERS: Final = 255
#: The seed of the candidates that run before the campaign and after it.
_ALWAYS: Final = 1234


def build_watching(folder: Path, planted_after: int = 0) -> Path:
    """The ISO of an image that compares its state; `planted_after`: so many slices after its first boot it leaves an MSR changed."""
    source = Path(__file__).with_name("host_state.c")
    return build_image(folder, f"EXTRA={source} -DPLANTED_AFTER={planted_after} -Wl,--wrap=vmfuzz_machine_slice")


class WatchedExecutor(ImageExecutor):
    """The image that compares its state; `differences` counts how often it found some."""

    def __init__(self, machine: ImageMachine, **options: Any) -> None:
        self.differences = 0
        super().__init__(machine, **options)

    def _begin_again(self, reset: MachineReset) -> None:
        self.differences += reset.hello.vector == DIFFERS
        super()._begin_again(reset)

    def plain(self) -> KmodContainment:
        """What may run at bold on any machine."""
        return KmodContainment(self.capabilities(), self.known_good(), self.arena, BOLD)


@dataclass
class Result:
    """What a campaign came to."""

    verdicts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    #: candidates that are refused where the machine may not be lost, and ran
    besides: int = 0
    #: checks that were seen deciding alone
    decided: int = 0
    #: what nothing explains, as JSON
    findings: list[str] = field(default_factory=list)
    #: candidates that run before and after, and how many of them ended otherwise after, and in a new machine
    always: int = 0
    changed: int = 0
    differences: int = 0
    boots: int = 0
    seconds: float = 0.0

    def wrong(self) -> list[str]:
        """What is not as it should be, as sentences."""
        checks = {
            "the machine's state differed after a slice": not self.differences,
            "a candidate ended otherwise than in a new machine": self.always > 0 and not self.changed,
            "an outcome is unexplained": not self.verdicts["MISMATCH"],
            "resets and named candidates differ": self.verdicts["EXECUTOR_CRASHED"] == self.boots - 1,
        }
        return [sentence for sentence, holds in checks.items() if not holds]

    def __str__(self) -> str:
        said = ", ".join(f"{number:,} {name}" for name, number in self.verdicts.most_common())
        return (
            f"{self.verdicts.total():,} candidates in {self.seconds:.0f} s (emulated): {said}; {self.besides:,} ran that may not run everywhere; "
            f"{self.decided} checks decided alone; {self.boots} boots; state differed {self.differences} times; of {self.always:,} candidates "
            f"that ran before, after and in a new machine {self.changed} ended otherwise"
        )


def same(one: Outcomes, other: Outcomes) -> int:
    """How many outcomes are alike in everything that the processor said."""
    alike = np.ones(len(one.kind), np.bool_)
    for name in ("kind", "number", "raw_reason", "qualification", "entry_interruption_info", "encoding"):
        alike &= getattr(one, name) == getattr(other, name)
    return int(alike.sum())


def always(executor: WatchedExecutor, family: int) -> list[VmcsBatch]:
    """Candidates of each plan of a chunk that may run at bold on any machine."""
    campaign, found = Campaign(executor, seed=_ALWAYS), []
    for plan in campaign.plan(0):
        batch = campaign.execute(plan, family).prediction.batch
        rows = np.flatnonzero(executor.plain().refused(batch).rule < 0)
        if len(rows):
            found.append(batch.take(rows))
    return found


def _run(executor: WatchedExecutor, candidates: int, seed: int, family: int, result: Result) -> None:
    campaign = Campaign(executor, seed=seed)
    seen, findings = Tally(campaign.model, deviations_of(executor.name)), Findings()
    for chunk in count():
        for plan in campaign.plan(chunk):
            comparison = campaign.execute(plan, family)
            seen.add(comparison)
            findings.add(comparison, plan.base)
            result.verdicts.update(Verdict(int(number)).name for number in comparison.verdict)
            for verdict, reasons in ((Verdict.REFUSED, result.refusals), (Verdict.EXECUTOR_CRASHED, result.deaths)):
                reasons.update(str(comparison.outcomes.message_of(int(row))) for row in np.flatnonzero(comparison.verdict == verdict))
            ran = ~np.isin(comparison.verdict, [Verdict.REFUSED, Verdict.NOT_RUN])
            result.besides += int((ran & (executor.plain().refused(comparison.prediction.batch).rule >= 0)).sum())
            if result.verdicts.total() >= candidates:
                result.decided = int((np.asarray(seen.decided) > 0).sum())
                result.findings = [json.dumps(finding.to_json()) for finding in findings.by_id.values()]
                return


def _run_raw(executor: WatchedExecutor, candidates: int, seed: int, result: Result) -> None:
    """The same with raw rows, cut to the width of their fields; their verdicts are the kinds of their outcomes."""
    known = executor.known_good()
    names = [name for name, item in FIELDS.items() if item.writable and executor.capabilities().has_field(name) and name in known]
    for number in count(seed):
        for raw in raw_batches(number, known, names, executor.arena):
            batch = raw.cut()
            outcomes = executor.run(batch)
            result.verdicts.update(Kind(int(kind)).name for kind in outcomes.kind)
            ran = ~np.isin(outcomes.kind, [Kind.REFUSED, Kind.NOT_RUN])
            result.besides += int((ran & (executor.plain().refused(batch).rule >= 0)).sum())
            if result.verdicts.total() >= candidates:
                return


def run(iso: Path, cpu: str, candidates: int, *, seed: int = 1, family: int = 1000, virtual: bool = True, raw: bool = False) -> Result:
    """The campaign, or raw rows, between two runs of the same candidates, and these once more in a new machine."""
    result, began = Result(), time.monotonic()
    with ImageMachine(iso, cpu).start() as machine, WatchedExecutor(machine, risk="bold", virtual=virtual) as executor:
        batches = always(executor, max(family // 10, 10))
        before = [executor.run(batch) for batch in batches]
        if raw:
            _run_raw(executor, candidates, seed, result)
        else:
            _run(executor, candidates, seed, family, result)
        after = [executor.run(batch) for batch in batches]
        result.differences, result.boots = executor.differences, executor.link.hello.boots
    with ImageMachine(iso, cpu).start() as machine, WatchedExecutor(machine, risk="bold", virtual=False) as executor:
        new = [executor.run(batch) for batch in batches]
    result.always = sum(len(batch) for batch in batches)
    result.changed = sum(2 * len(one.kind) - same(one, two) - same(one, three) for one, two, three in zip(before, after, new, strict=True))
    result.seconds = time.monotonic() - began
    return result


def main() -> None:
    """Command line."""
    parser = image_options(__doc__, 100_000)
    parser.add_argument("--narrow", action="store_true", help="without --virtual")
    parser.add_argument("--raw", action="store_true", help="raw rows in the place of the campaign")
    wanted = parser.parse_args()
    missing = needs("bochs") or needs_image()
    if missing:
        sys.exit(missing)
    with tempfile.TemporaryDirectory() as folder:
        iso, mode = build_watching(Path(folder) / "build"), {"virtual": not wanted.narrow, "raw": wanted.raw}
        result = run(iso, wanted.cpu, wanted.candidates, seed=wanted.seed, **mode)
    print(f"{wanted.cpu}, seed {wanted.seed}{', narrow' if wanted.narrow else ''}{', raw' if wanted.raw else ''}: {result}")
    for name in ("refusals", "deaths"):
        print(f"{name}:", *(f"  {number:,} {what}" for what, number in getattr(result, name).most_common()), sep="\n")
    print(*result.findings[:20], sep="\n")
    sys.exit("\n".join(result.wrong()) or 0)


if __name__ == "__main__":
    main()
