"""Live progress of a campaign: a panel in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import zip_longest

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table

from vmfuzz.campaign.compare import Verdict
from vmfuzz.campaign.loop import Progress
from vmfuzz.campaign.tally import Tally
from vmfuzz.model.sections import SHORT_NAMES

#: Seconds between two lines where there is no terminal.
_LINE_EVERY = 5.0
_REFRESH = 0.25


@contextmanager
def progress_display(name: str, wanted: int, quiet: bool = False) -> Iterator[Callable[[Progress], None]]:
    """A function to call after each family; shows progress on standard error."""
    console = Console(stderr=True)
    if quiet:
        yield lambda _progress: None
    elif console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield _throttled(_REFRESH, lambda progress: live.update(_panel(name, progress)))
    else:
        console.print(f"running {wanted:,} candidates on {name}", highlight=False)
        yield _throttled(_LINE_EVERY, lambda progress: console.print(_line(progress), highlight=False))


def _throttled(seconds: float, show: Callable[[Progress], None]) -> Callable[[Progress], None]:
    last = time.monotonic()

    def call(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= seconds:
            last = now
            show(progress)

    return call


def _line(progress: Progress) -> str:
    tally = progress.tally
    decided = int((tally.decided > 0).sum())
    return (
        f"{tally.candidates:>13,} candidates  {progress.rate:>9,.0f}/s  checks decided {decided}/{len(tally.decided)}  "
        f"findings {len(progress.findings.by_id)}"
    )


def _panel(name: str, progress: Progress) -> RenderableType:
    return Group(_state(name, progress), Padding(_sections(progress.tally), (1, 0, 0, 0)))


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


def _state(name: str, progress: Progress) -> Table:
    tally = progress.tally
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", style="dim")
    grid.add_column()
    grid.add_row("running on", name)
    grid.add_row("candidates", f"{tally.candidates:,} of {progress.wanted:,}   {progress.rate:,.0f}/s")
    grid.add_row("", ProgressBar(total=progress.wanted, completed=tally.candidates, width=40))
    grid.add_row("agree", f"{tally.verdicts[Verdict.AGREES]:,}   not modelled {tally.verdicts[Verdict.NOT_MODELLED]:,}")
    grid.add_row("checks", f"{int((tally.decided > 0).sum())} of {len(tally.decided)} seen deciding alone")
    common = ",  ".join(f"{label} {count:,}" for label, count in tally.outcomes.most_common(4))
    grid.add_row("outcomes", common)
    findings = progress.findings.by_id
    style = "bold red" if findings else "green"
    mismatches = tally.verdicts[Verdict.MISMATCH]
    grid.add_row("findings", f"[{style}]{len(findings)}[/] from {mismatches:,} mismatches")
    grid.add_row("last new", f"{progress.seconds - progress.last_new:,.0f} s ago")
    return grid
