"""Live progress of a campaign: a panel in a terminal, a line at once and every few seconds elsewhere."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from vmfuzz.campaign.loop import Progress
from vmfuzz.campaign.tally import Tally
from vmfuzz.comparison.compare import Verdict
from vmfuzz.counted import counted
from vmfuzz.model.sections import SHORT_NAMES
from vmfuzz.report.numbers import duration

#: Seconds between two lines where there is no terminal.
_LINE_EVERY = 5.0
_REFRESH = 0.25
#: The present rate is that of so many seconds.
_NOW_SECONDS = 5.0
_OUTCOMES_SHOWN = 6
_LABEL = 19
#: A terminal smaller than this gets a line.
_COLUMNS, _LINES = 80, 24


def say_start(name: str, wanted: int, seed: int, quiet: bool) -> None:
    """Say on standard error what is being started, before preparing the campaign takes its time."""
    if not quiet:
        Console(stderr=True).print(
            f"starting on {name}: {counted(wanted, 'candidate')}, seed {seed}", highlight=False, markup=False, soft_wrap=True
        )


class _Rate:
    """Candidates a second over the last few seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def now(self, progress: Progress) -> float:
        """The rate up to this progress; that of the whole campaign where nothing was seen before."""
        here = (progress.seconds, progress.tally.candidates)
        while len(self._seen) > 1 and here[0] - self._seen[0][0] > _NOW_SECONDS:
            self._seen.popleft()
        self._seen.append(here)
        seconds, candidates = (new - old for new, old in zip(here, self._seen[0], strict=True))
        return candidates / seconds if seconds > 0 else progress.rate


@contextmanager
def progress_display(name: str, wanted: int, quiet: bool = False) -> Iterator[Callable[[Progress], None]]:
    """A function to call after each family; shows progress on standard error."""
    console = Console(stderr=True)
    rate = _Rate()
    if quiet:
        yield lambda _progress: None
    elif console.is_terminal:
        with Live(Text(f"running {counted(wanted, 'candidate')} on {name}"), console=console, refresh_per_second=4, transient=True) as live:
            panel = _panel if console.width >= _COLUMNS and console.height >= _LINES else _small_panel
            yield _throttled(_REFRESH, lambda progress: live.update(panel(name, progress, rate.now(progress))))
    else:
        console.print(f"running {counted(wanted, 'candidate')} on {name}", highlight=False, soft_wrap=True)
        yield _throttled(_LINE_EVERY, lambda progress: console.print(_line(progress, rate.now(progress)), highlight=False, soft_wrap=True))


def _throttled(seconds: float, show: Callable[[Progress], None]) -> Callable[[Progress], None]:
    last = -math.inf  # the first figures are shown as soon as there are any

    def call(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= seconds:
            last = now
            show(progress)

    return call


def _line(progress: Progress, now: float) -> str:
    tally = progress.tally
    decided = int((tally.decided > 0).sum())
    return (
        f"{tally.candidates:>13,} candidates {now:>9,.0f}/s  checks {decided}/{len(tally.decided)}  "
        f"findings {len(progress.findings.by_id)}  last new {_ago(progress)}"
    )


def _ago(progress: Progress) -> str:
    return f"{duration(max(0, round(progress.seconds - progress.last_new))).replace('.0', '')} ago"


def _panel(name: str, progress: Progress, now: float) -> RenderableType:
    # the empty line at the end is where the terminal echoes ^C: on a full line it would begin another one, which nobody removes
    return Group(_state(name, progress, now), Padding(_sections(progress.tally), (1, 0, 0, 0)), "")


def _small_panel(_name: str, progress: Progress, now: float) -> RenderableType:
    return Group(Text(" ".join(_line(progress, now).split()), no_wrap=True, overflow="ellipsis"), "")


def _sections(tally: Tally) -> Table:
    """Bars of the checks seen deciding, two sections a row, in the SDM's order down the columns."""
    seen: dict[str, list[int]] = {}
    for compiled, decided in zip(tally.model.compiled, tally.decided.tolist(), strict=True):
        counts = seen.setdefault(compiled.check.section.title, [0, 0])
        counts[0] += decided > 0
        counts[1] += 1
    cells = [
        (SHORT_NAMES[title], ProgressBar(total=existing, completed=decided, width=9), f"{decided}/{existing}")
        for title, (decided, existing) in seen.items()
    ]
    half = -(-len(cells) // 2)
    grid = Table.grid(padding=(0, 1))
    for _ in range(2):
        grid.add_column(justify="right", style="dim", no_wrap=True)
        grid.add_column()
        grid.add_column(justify="right", no_wrap=True, min_width=7)
    for left, right in zip_longest(cells[:half], cells[half:], fillvalue=("", "", "")):
        grid.add_row(*left, *right)
    return grid


def _state(name: str, progress: Progress, now: float) -> Table:
    tally, verdicts = progress.tally, progress.tally.verdicts
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", style="dim", no_wrap=True)
    grid.add_column()
    grid.add_row("running on", escape(name))
    grid.add_row("candidates", f"{tally.candidates:,} of {progress.wanted:,}   {now:,.0f}/s now, {progress.rate:,.0f}/s in all")
    grid.add_row("", ProgressBar(total=progress.wanted, completed=tally.candidates, width=40))
    left = (progress.wanted - tally.candidates) / now if now else 0.0
    grid.add_row("time", f"{duration(progress.seconds)}, about {duration(left)} left")
    not_run = verdicts[Verdict.REFUSED] + verdicts[Verdict.NOT_RUN]
    grid.add_row("agree", f"{verdicts[Verdict.AGREES]:,}   not modelled {verdicts[Verdict.NOT_MODELLED]:,}")
    grid.add_row("deviate as known", f"{verdicts[Verdict.DEVIATION]:,}   not run {not_run:,}")
    grid.add_row("checks", f"{int((tally.decided > 0).sum())} of {len(tally.decided)} seen deciding alone")
    grid.add_row("outcomes", _outcomes(tally))
    grid.add_row("findings", _findings(progress))
    grid.add_row("last new", f"{_ago(progress)} (check, outcome or finding)")
    return grid


def _outcomes(tally: Tally) -> Table:
    """The most frequent outcomes, two a line."""
    grid = Table.grid(padding=(0, 1))
    for _ in range(2):
        grid.add_column(width=_LABEL, no_wrap=True, overflow="ellipsis")
        grid.add_column(justify="right", no_wrap=True, min_width=10)
    common = [(label, f"{count:,}") for label, count in tally.outcomes.most_common(_OUTCOMES_SHOWN)]
    for left, right in zip_longest(common[::2], common[1::2], fillvalue=("", "")):
        grid.add_row(*left, *right)
    return grid


def _findings(progress: Progress) -> str:
    """How many, and the newest one in words."""
    findings = list(progress.findings.by_id.values())
    if not findings:
        return "[green]0[/]"
    newest = findings[-1].signature
    cause = ", ".join(newest.checks[:2]) or newest.actual
    return f"[bold red]{len(findings)}[/] from {progress.tally.verdicts[Verdict.MISMATCH]:,} mismatches; newest:\n{escape(newest.kind)}: {escape(cause)}"
