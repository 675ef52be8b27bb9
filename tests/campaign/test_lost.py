"""Batches after which the machine did not come back: kept, passed over, and narrowed down over as many resets as it takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from vmfuzz.arch.outcomes import Outcomes
from vmfuzz.campaign import store as store_module
from vmfuzz.campaign import stored as stored_module
from vmfuzz.campaign.bisect import bisect_lost
from vmfuzz.campaign.loop import Campaign, Progress
from vmfuzz.campaign.lost import KIND, LostBatch
from vmfuzz.campaign.store import Store
from vmfuzz.campaign.stored import stored_lost
from vmfuzz.cli import places, run
from vmfuzz.cli.main import main
from vmfuzz.errors import UsageError
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.generate.families import FamilyPlan
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good

CAPS = capabilities("corei7_skylake_x")
ROWS = 64
LOST = 2
#: The most batches that a campaign on a deadly machine meets here, the lost one included.
BATCHES = 5


class Reset(BaseException):
    """The machine goes down here, and the process with it."""


class Hardware(ModelExecutor):
    """A processor that is no emulated one: a VMCS with the deadly value in the field takes the machine with it."""

    name = "kmod 6/85/4"  # type: ignore[assignment]
    deadly: tuple[str, int] | None = None
    #: rows of each batch that was begun
    begun: list[int]

    def run(self, batch: Any) -> Outcomes:
        self.begun.append(len(batch))
        if self.deadly is not None and self.deadly[1] in values_of(batch, self.deadly[0]):
            raise Reset
        return super().run(batch)


def values_of(batch: VmcsBatch, field: str) -> list[int | None]:
    column = batch.columns.get(field)
    return [batch.base.get(field)] * len(batch) if column is None else column.tolist()


def campaign(deadly: tuple[str, int] | None = None) -> Campaign:
    executor = Hardware(CAPS, known_good(CAPS))
    executor.deadly, executor.begun = deadly, []
    made = Campaign(executor, 0)
    made.family_size = ROWS
    return made


def begun(made: Campaign) -> list[int]:
    assert isinstance(made.executor, Hardware)
    return made.executor.begun


@cache
def plans() -> list[FamilyPlan]:
    return campaign().plan(0)


def lost_plan() -> FamilyPlan:
    return plans()[LOST]


@cache
def batches() -> list[VmcsBatch]:
    """The lost batch, then every other one that a campaign on such a machine can meet."""
    expand = campaign().generator.expand
    others = [plan for plan in plans()[:BATCHES] if plan is not lost_plan()]
    return [expand(lost_plan(), ROWS), *(expand(plan, ROWS) for plan in others)]


def unique_value(row: int) -> tuple[str, int]:
    """A field and its value that this row of the lost batch has, and no other row of any batch."""
    batch, *others = batches()
    for field in batch.columns:
        values = values_of(batch, field)
        value = values[row]
        if value is not None and values.count(value) == 1 and not any(value in values_of(other, field) for other in others):
            return field, value
    raise AssertionError(f"row {row} has no value of its own")


def rows_with_a_value() -> list[int]:
    found = []
    for row in range(ROWS):
        try:
            unique_value(row)
        except AssertionError:
            continue
        found.append(row)
    return found


DEADLY_ROWS = rows_with_a_value()


def go_down(directory: Path, deadly: tuple[str, int]) -> None:
    with Store(directory) as store, pytest.raises(Reset):
        campaign(deadly).run(ROWS * 10, store=store)


def bisect_to_the_end(directory: Path, deadly: tuple[str, int] | None) -> tuple[LostBatch, int]:
    """The lost batch and how often the machine went down while it was narrowed."""
    for resets in range(20):
        with Store(directory) as store:
            try:
                bisect_lost(campaign(deadly), store)
            except Reset:
                continue
            (batch,) = store.lost
            return batch, resets
    raise AssertionError("it goes on forever")


def test_there_are_rows_to_try() -> None:
    assert len(DEADLY_ROWS) >= 4


@pytest.mark.parametrize(
    "row", sorted({DEADLY_ROWS[0], DEADLY_ROWS[len(DEADLY_ROWS) // 3], DEADLY_ROWS[len(DEADLY_ROWS) // 2], DEADLY_ROWS[-1]})
)
def test_the_one_candidate_is_found_over_as_many_resets_as_it_takes(tmp_path: Path, row: int) -> None:
    plan = lost_plan()
    deadly = unique_value(row)
    go_down(tmp_path, deadly)
    (first,) = stored_lost(tmp_path)
    assert (first.plan, first.suspects, first.resets) == (plan, ROWS, 1)
    batch, resets = bisect_to_the_end(tmp_path, deadly)
    assert (batch.first, batch.last, batch.alone) == (row, row + 1, "did not come back")
    assert batch.resets == resets + 1
    assert 1 <= resets <= first.most_resets
    assert batch.mutation is not None
    assert batch.mutation[deadly[0]] == deadly[1]
    assert batch.id == first.id
    # nothing is left to run, and the campaign goes on
    with Store(tmp_path) as store:
        settled = campaign(deadly)
        bisect_lost(settled, store)
        assert begun(settled) == []
        assert campaign().run(ROWS * 10, store=store).progress.tally.candidates == ROWS * 10
    assert stored_lost(tmp_path) == [batch]


def test_each_half_is_on_disk_before_it_runs(tmp_path: Path) -> None:
    deadly = unique_value(DEADLY_ROWS[0])
    go_down(tmp_path, deadly)
    on_disk = []
    with Store(tmp_path) as store, pytest.raises(Reset):
        bisect_lost(campaign(deadly), store, lambda batch: on_disk.append((batch.trying, store.lost[0].trying)))
    assert on_disk
    assert all(trying is not None and trying == kept for trying, kept in on_disk)


def test_a_batch_that_does_no_harm_again_ends_with_one_that_came_back(tmp_path: Path) -> None:
    go_down(tmp_path, unique_value(DEADLY_ROWS[0]))
    batch, resets = bisect_to_the_end(tmp_path, None)
    assert (resets, batch.alone, batch.resets, batch.suspects) == (0, "came back", 1, 1)


def test_a_lost_batch_is_passed_over_however_often_the_campaign_is_opened(tmp_path: Path) -> None:
    deadly = unique_value(DEADLY_ROWS[0])
    go_down(tmp_path, deadly)
    for _ in range(2):
        with Store(tmp_path) as store:
            store.attach(campaign(), 1)
    with Store(tmp_path) as store:
        resumed = campaign(deadly)
        assert resumed.run(ROWS * 4, store=store).progress.tally.candidates == ROWS * 4
    assert begun(resumed) == [ROWS, ROWS]


def test_it_is_seen_before_the_campaign_is_resumed_but_not_while_it_runs(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        campaign().run(ROWS * 2, store=store)
        store.begins(lost_plan(), ROWS)
        assert stored_lost(tmp_path) == []
    (batch,) = stored_lost(tmp_path)
    assert not batch.restarted


def test_whether_this_machine_was_started_anew_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_down(tmp_path, unique_value(DEADLY_ROWS[0]))
    for module in (store_module, stored_module):
        monkeypatch.setattr(module, "boot_id", lambda: "another")
    assert stored_lost(tmp_path)[0].restarted
    with Store(tmp_path) as store:
        store.attach(campaign(), 1)
        assert store.lost[0].restarted


def test_ctrl_c_outside_of_the_processor_loses_no_batch(tmp_path: Path) -> None:
    def interrupt(_progress: Progress) -> None:
        raise KeyboardInterrupt

    with Store(tmp_path) as store:
        assert campaign().run(ROWS * 4, interrupt, store).stopped
    assert stored_lost(tmp_path) == []


def test_ctrl_c_while_a_batch_is_compared_loses_no_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = campaign()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(made.progress.tally, "add", interrupt)
    with Store(tmp_path) as store:
        assert made.run(ROWS * 4, store=store).stopped
    assert stored_lost(tmp_path) == []


def test_ctrl_c_in_a_half_blames_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_down(tmp_path, unique_value(DEADLY_ROWS[0]))
    made = campaign()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(made.executor, "run", interrupt)
    with Store(tmp_path) as store, pytest.raises(KeyboardInterrupt):
        bisect_lost(made, store)
    assert [(batch.suspects, batch.trying) for batch in stored_lost(tmp_path)] == [(ROWS, None)]


def test_another_campaign_cannot_bisect_it(tmp_path: Path) -> None:
    go_down(tmp_path, unique_value(DEADLY_ROWS[0]))
    with Store(tmp_path) as store, pytest.raises(UsageError, match=r"another seed \(0\) than this one \(1\)"):
        bisect_lost(Campaign(Hardware(CAPS, known_good(CAPS)), 1), store)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> type[Hardware]:
    """`--executor kmod` is a processor that goes down at a value of the third batch."""

    class Machine(Hardware):
        begun: list[int] = []  # noqa: RUF012

    @contextmanager
    def opened(name: str = "auto", cpu: str | None = None, **_options: object) -> Iterator[Hardware]:
        assert (name, cpu) == ("kmod", None)
        yield Machine(CAPS, known_good(CAPS))

    monkeypatch.setattr(run, "open_executor", opened)
    monkeypatch.setattr(places, "open_executor", opened)
    monkeypatch.setattr(Campaign, "family_size", ROWS)
    Machine.deadly = unique_value(DEADLY_ROWS[len(DEADLY_ROWS) // 2])
    return Machine


def vmfuzz(*arguments: str) -> Any:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def test_on_the_command_line_it_is_found_shown_and_narrowed(tmp_path: Path, machine: type[Hardware]) -> None:
    place = str(tmp_path / "campaign")
    with pytest.raises(Reset):
        vmfuzz("run", "--executor", "kmod", "-n", str(ROWS * 4), "--directory", place)
    shown = vmfuzz("findings", place).stdout
    for words in (
        "the machine went down during 1 batch\n",
        f"base {lost_plan().base}",
        f"suspects: {ROWS} of {ROWS} candidates",
        "--bisect-lost",
    ):
        assert words in shown
    resumed = vmfuzz("run", "--directory", place, "--resume")
    assert resumed.exit_code == 1
    assert f"{KIND}, 1 time" in resumed.stdout
    assert "checks aimed at: " in resumed.stdout or "operands varied: " in resumed.stdout
    for _ in range(10):
        try:
            narrowed = vmfuzz("run", "--directory", place, "--resume", "--bisect-lost", "--json")
            break
        except Reset:
            continue
    assert narrowed.exit_code == 1
    (lost,) = json.loads(narrowed.stdout)["lost"]
    field, value = machine.deadly or ("", 0)
    assert lost["kind"] == KIND
    assert lost["case"]["mutation"][field] == f"{value:#x}"
    assert json.loads(vmfuzz("findings", place, "--json").stdout)["lost"] == [lost]
    assert "Do not put it into a corpus" in vmfuzz("findings", place).stdout


def test_to_bisect_without_a_campaign_is_refused(tmp_path: Path) -> None:
    result = vmfuzz("run", "--directory", str(tmp_path / "new"), "--bisect-lost")
    assert result.exit_code == 2
    assert "--bisect-lost needs --resume" in result.stderr
