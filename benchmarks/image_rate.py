"""The bootable image against the kernel module: the same campaign through both, in turns, each in Debian's Bochs on one core (emulated).

    python benchmarks/image_rate.py [--candidates 10000] [--rounds 5] [--cpu corei7_skylake_x] [--seed 1]

Counted is what the executor takes, with its line or mailbox, and nothing of the campaign: processor time of the machine and of this process, so that other
work on the host does not count, and candidates a second by the clock. A machine that is not asked is stopped meanwhile. The image polls its port and
the module's program its mailbox, so what either waits for the other side counts too. Needs what tests/system/README.md lists.
"""

from __future__ import annotations

import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "system"))

from guest_executor import GuestExecutor, ImageExecutor  # noqa: E402
from image_machine import ImageMachine, build_image, image_options, needs_image  # noqa: E402
from machine import Machine, needs  # noqa: E402

from vmfuzz.arch.outcomes import Outcomes  # noqa: E402
from vmfuzz.campaign.loop import Campaign  # noqa: E402
from vmfuzz.state.batch import VmcsBatch  # noqa: E402
from vmfuzz.state.vmcs import Vmcs  # noqa: E402

#: The image's rate is to be at least so much of the module's.
WANTED = 0.7


@dataclass(frozen=True)
class Spent:
    """Of one round: candidates, seconds of processor time of the machine and of this process, seconds by the clock."""

    candidates: int = 0
    machine: float = 0.0
    here: float = 0.0
    clock: float = 0.0

    @property
    def microseconds(self) -> float:
        """Processor time a candidate."""
        return (self.machine + self.here) / self.candidates * 1e6

    @property
    def rate(self) -> float:
        """Candidates a second by the clock."""
        return self.candidates / self.clock

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.candidates + other.candidates, self.machine + other.machine, self.here + other.here, self.clock + other.clock)

    def __str__(self) -> str:
        parts = (f"{seconds / self.candidates * 1e6:.0f} {where}" for seconds, where in ((self.machine, "machine"), (self.here, "here")))
        return f"{self.microseconds:6.0f} us ({', '.join(parts)}) {self.rate:7,.0f}/s"


def processes_below(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have."""
    found = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return found + [below for child in found for below in processes_below(child)]


def processor_seconds(pids: Sequence[int]) -> float:
    """Processor time that they have had so far."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


class Measured:
    """A campaign on a machine whose executor is measured."""

    def __init__(self, machine: Machine | ImageMachine, executor: GuestExecutor | ImageExecutor, pids: list[int], seed: int) -> None:
        self.machine, self.executor, self.pids = machine, executor, pids
        self.spent = Spent()
        self._run = executor.run
        executor.run = self._measured  # type: ignore[method-assign]
        self._plans = self._campaign_of(Campaign(executor, seed=seed))
        self._stop()

    def _stop(self) -> None:
        for pid in self.pids:
            os.kill(pid, signal.SIGSTOP)

    def _go_on(self) -> None:
        """Only the emulator: script(1) above it would stop itself, because it saw the emulator stopped, and has nothing to do."""
        os.kill(self.pids[-1], signal.SIGCONT)

    def _measured(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        self._go_on()
        machine, here, clock = processor_seconds(self.pids), time.process_time(), time.perf_counter()
        outcomes = self._run(batch)
        clock, here = time.perf_counter() - clock, time.process_time() - here
        self._stop()
        self.spent += Spent(len(batch), processor_seconds(self.pids) - machine, here, clock)
        return outcomes

    def _campaign_of(self, campaign: Campaign) -> Iterator[None]:
        """The campaign, family by family."""
        for chunk in count():
            for plan in campaign.plan(chunk):
                campaign.execute(plan)
                yield

    def round(self, candidates: int) -> Spent:
        """Go on for so many candidates."""
        self.spent = Spent()
        while self.spent.candidates < candidates:
            next(self._plans)
        return self.spent

    def close(self) -> None:
        """End the machine, which nothing is left to be asked of."""
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        self.machine.close()


def started(which: str, cpu: str, seed: int, folder: Path) -> Measured:
    """The machine `which` (image, module), booted and stopped again."""
    before = set(processes_below(os.getpid()))
    machine = ImageMachine(build_image(folder), cpu).start() if which == "image" else Machine("bochs", cpu=cpu).start()
    executor = ImageExecutor(machine) if isinstance(machine, ImageMachine) else GuestExecutor(machine)
    return Measured(machine, executor, [pid for pid in processes_below(os.getpid()) if pid not in before], seed)


def main() -> None:
    """Command line."""
    parser = image_options(__doc__, 10_000)
    parser.add_argument("--rounds", type=int, default=5, help="of so many candidates for each of the two")
    wanted = parser.parse_args()
    missing = needs("bochs") or needs_image()
    if missing:
        sys.exit(missing)
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        both = {which: started(which, wanted.cpu, wanted.seed, Path(folder) / "build") for which in ("module", "image")}
        total = dict.fromkeys(both, Spent())
        for number in range(wanted.rounds):
            spent = {which: one.round(wanted.candidates) for which, one in both.items()}
            total = {which: total[which] + spent[which] for which in both}
            ratios.append(spent["module"].microseconds / spent["image"].microseconds)
            print(f"round {number + 1}:", *(f"{which} {one}" for which, one in spent.items()), f"ratio {ratios[-1]:.2f}", flush=True)
        for one in both.values():
            one.close()
    for which, spent_in_all in total.items():
        print(f"{which:6} {spent_in_all.candidates:,} candidates: {spent_in_all}")
    clock = total["image"].rate / total["module"].rate
    print(
        f"image / module: {statistics.median(ratios):.2f} by processor time (median of rounds), {clock:.2f} by the clock; wanted {WANTED}"
    )


if __name__ == "__main__":
    main()
