"""The live view's coverage by section, and the bounded history that a report draws."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from vmfuzz.campaign.history import History
from vmfuzz.campaign.loop import Campaign
from vmfuzz.cli.progress import _panel
from vmfuzz.execute.base import open_executor
from vmfuzz.model.sections import NUMBERS, SHORT_NAMES


def test_the_panel_shows_every_section_in_80_columns_and_24_lines() -> None:
    with open_executor(cpu="sapphire_rapids") as executor:
        campaign = Campaign(executor, 0)
        campaign.run(5_000)
    console = Console(width=80, height=24, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(_panel(executor.name, campaign.progress))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = text.splitlines()
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    decided, existing = (campaign.progress.tally.decided > 0).sum(), len(campaign.progress.tally.decided)
    bars = [re.search(rf"{re.escape(name)} .*?(\d+)/(\d+)", text) for name in SHORT_NAMES.values()]
    assert sum(int(bar[1]) for bar in bars if bar) == decided
    assert sum(int(bar[2]) for bar in bars if bar) == existing


def test_every_section_has_a_short_name_of_its_own() -> None:
    assert set(SHORT_NAMES) == set(NUMBERS)
    assert len(set(SHORT_NAMES.values())) == len(NUMBERS)


@pytest.mark.parametrize("step", [1, 7, 512])
def test_a_history_stays_small_and_reaches_the_end(step: int) -> None:
    history = History()
    total = 30_000 * step
    for candidates in range(step, total + 1, step):
        history.add(candidates / 1000, candidates, min(candidates, 300), 0)
        assert len(history.points) <= 200
    assert len(history.points) >= 50
    assert history.points[0][1] == step
    assert history.points[-1][1] >= total * 0.97
    again = History()
    again.restore([list(point) for point in history.points])
    assert again.points == history.points
    again.add(total, 2 * total, 300, 1)
    assert again.points[-1] == (total, 2 * total, 300, 1)
