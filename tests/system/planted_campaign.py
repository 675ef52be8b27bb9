"""A campaign on the bootable image in which some candidates are deadly (planted.c): does it name each of them, end by itself and lose nothing?

    python tests/system/planted_campaign.py [--candidates 100000] [--one-in 5000] [--cpu corei7_skylake_x] [--seed 1]

boots Debian's Bochs (emulated), runs the campaign and prints what became of it. Which candidates are deadly is computed here once more, from their values.
Exit code 1 when one was not named, another one was blamed, a candidate has no outcome, or an outcome is unexplained.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from guest_executor import ImageExecutor
from image_machine import ImageMachine, build_image, image_options, needs_image
from machine import needs

from vmfuzz.arch.fields import BY_ENCODING
from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.campaign.loop import Campaign
from vmfuzz.comparison.compare import Verdict
from vmfuzz.execute.wire.family import Family
from vmfuzz.state.batch import VmcsBatch


@dataclass
class Planted:
    """What became of the deadly candidates: how many there were among those that ran, how many of these were named, how many others were blamed."""

    planted: int = 0
    named: int = 0
    blamed: int = 0


def build_planted(folder: Path, one_in: int) -> Path:
    """The ISO of an image in which the candidates are deadly whose values' sum is `one_in` - 1, modulo `one_in`."""
    return build_image(folder, f"EXTRA={Path(__file__).with_name('planted.c')} -DPLANTED_ONE_IN={one_in} -Wl,--wrap=vmfuzz_put_down")


class PlantedExecutor(ImageExecutor):
    """The image with deadly candidates; `found` counts them."""

    def __init__(self, machine: ImageMachine, one_in: int, **options: Any) -> None:
        self.found = Planted()
        self._one_in = np.uint64(one_in)
        super().__init__(machine, **options)

    def _run_batch(self, batch: VmcsBatch) -> Outcomes:
        outcomes = super()._run_batch(batch)
        family = Family.of(batch, self.arena, self.known_good())
        values = np.zeros((len(batch), len(family.targets)), np.uint64)
        family.rows(np.arange(len(batch)), values)
        masks = [BY_ENCODING[target].mask if target in BY_ENCODING else (1 << 64) - 1 for target in family.targets]
        total = (values & np.array(masks, np.uint64)).sum(axis=1, dtype=np.uint64)
        deadly = (total % self._one_in == self._one_in - np.uint64(1)) & (outcomes.kind != Kind.REFUSED)
        named = outcomes.kind == Kind.EXECUTOR_CRASHED
        self.found.planted += int(deadly.sum())
        self.found.named += int((deadly & named).sum())
        self.found.blamed += int((named & ~deadly).sum())
        return outcomes


@dataclass
class Result:
    """What a campaign with deadly candidates came to."""

    found: Planted
    verdicts: Counter[str]
    boots: int
    seconds: float

    @property
    def candidates(self) -> int:
        """All of them."""
        return self.verdicts.total()

    def wrong(self) -> list[str]:
        """What is not as it should be, as sentences."""
        checks = {
            "not every planted candidate was named": self.found.named == self.found.planted,
            "a candidate was named that is harmless": not self.found.blamed,
            "nothing was planted": self.found.planted > 0,
            "an outcome is unexplained": not self.verdicts["MISMATCH"],
            "deaths and boots differ": self.verdicts["EXECUTOR_CRASHED"] == self.found.named == self.boots - 1,
        }
        return [sentence for sentence, holds in checks.items() if not holds]

    def __str__(self) -> str:
        said = ", ".join(f"{number:,} {name}" for name, number in self.verdicts.most_common())
        return (
            f"{self.candidates:,} candidates in {self.seconds:.0f} s (emulated): {self.found.planted} planted deadly ones ran, {self.found.named} named, "
            f"{self.found.blamed} others blamed, {self.boots} boots; {said}"
        )


def run(machine: ImageMachine, one_in: int, candidates: int, seed: int = 1) -> Result:
    """The campaign, on a machine that was started with `build_planted`'s image."""
    verdicts: Counter[str] = Counter()
    began = time.monotonic()
    with PlantedExecutor(machine, one_in) as executor:
        campaign = Campaign(executor, seed=seed)
        for chunk in count():
            for plan in campaign.plan(chunk):
                comparison = campaign.execute(plan)
                for verdict in np.unique(comparison.verdict):
                    verdicts[Verdict(int(verdict)).name] += int((comparison.verdict == verdict).sum())
                if verdicts.total() >= candidates:
                    return Result(executor.found, verdicts, executor.link.hello.boots, time.monotonic() - began)
    raise AssertionError("count() ends")


def main() -> None:
    """Command line."""
    parser = image_options(__doc__, 100_000)
    parser.add_argument("--one-in", type=int, default=5000, help="of so many candidates one is deadly")
    wanted = parser.parse_args()
    missing = needs("bochs") or needs_image()
    if missing:
        sys.exit(missing)
    with (
        tempfile.TemporaryDirectory() as folder,
        ImageMachine(build_planted(Path(folder) / "build", wanted.one_in), wanted.cpu).start() as machine,
    ):
        result = run(machine, wanted.one_in, wanted.candidates, wanted.seed)
    print(result)
    sys.exit("\n".join(result.wrong()) or 0)


if __name__ == "__main__":
    main()
