"""Live progress of a campaign: a panel in a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from vmfuzz.campaign.compare import Verdict
from vmfuzz.campaign.loop import Progress

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


def _panel(name: str, progress: Progress) -> Table:
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
