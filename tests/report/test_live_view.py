"""The live view's coverage by section, and the bounded history that a report draws."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from vmfuzz.campaign.history import History
from vmfuzz.campaign.loop import Campaign, Progress
from vmfuzz.campaign.mismatches import Findings
from vmfuzz.campaign.tally import Tally
from vmfuzz.cli.progress import _panel, _Rate, _small_panel
from vmfuzz.execute.kinds import open_executor
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.predict import model_of
from vmfuzz.model.sections import NUMBERS, SHORT_NAMES
from vmfuzz.state.profiles import capabilities, known_good


def test_the_panel_shows_every_section_in_80_columns_and_24_lines() -> None:
    with open_executor(cpu="sapphire_rapids") as executor:
        campaign = Campaign(executor, 0)
        campaign.run(5_000)
    console = Console(width=80, height=24, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(_panel(executor.name, campaign.progress, 12_345.6))
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


def test_findings_are_named_and_a_small_terminal_gets_one_line() -> None:
    caps = capabilities("corei7_skylake_x")
    executor = ModelExecutor(caps, known_good(caps), [check for check in CHECKS if check.id != "guest.gs.base"])
    campaign = Campaign(executor, 0)
    campaign.run(20_000)
    shown = {}
    for panel, width, height in ((_panel, 80, 24), (_small_panel, 40, 10)):
        console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None)
        console.print(panel(executor.name, campaign.progress, 12_345.6))
        shown[panel] = console.file.getvalue()  # type: ignore[attr-defined]
        assert max(map(len, shown[panel].splitlines())) <= width
        assert len(shown[panel].splitlines()) < height
    assert "accepts what the model refuses: guest.gs.base" in shown[_panel]
    assert "12,346/s now" in shown[_panel]
    assert len(shown[_small_panel].splitlines()) == 2


def test_the_present_rate_forgets_the_start() -> None:
    progress, rate = Progress(10**6, Tally(model_of(capabilities("tigerlake"))), Findings()), _Rate()
    for second in range(1, 21):
        progress.seconds, progress.tally.candidates = second, max(0, second - 10) * 1000
        now = rate.now(progress)
    assert now == 1000
    assert progress.rate == 500
