"""Candidates whose outcome depends on what ran before in the same machine: the shortest sequence that shows it, kept, shown and replayed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.campaign.as_data import finding_data, finding_from
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.mismatches import Findings
from vmfuzz.cli.main import main
from vmfuzz.comparison.behind import DEPENDS, Behind
from vmfuzz.comparison.case import Case, mutation_between
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import Entry, dumps, load, save, to_json
from vmfuzz.corpus.entries import from_json as entry_from
from vmfuzz.corpus.replay import _run_sequence, keep_capabilities, replay
from vmfuzz.errors import UsageError
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.findings import account
from vmfuzz.findings.sequence import shortest
from vmfuzz.findings.triage import settled, triage
from vmfuzz.generate.families import FamilyPlan
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.report.ci import found_in
from vmfuzz.report.data import Processor
from vmfuzz.report.minimal import minimal_cases
from vmfuzz.report.source import Source
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

BASE = "64-bit/plain/nothing"
#: The planted state: a TSC offset with ARMS set, and later a CR3-target value with SPENDS set, fail the next entry of TRIGGER.
ARMS, SPENDS = 1 << 40, 1 << 41
TRIGGER = {"cr3_target_value_1": 1 << 20}


class Planted(ModelExecutor):
    """Has a state that outlives an entry, as a hypervisor: after a row that arms and, behind it, one that spends, a row that triggers is refused."""

    def __init__(self) -> None:
        known = capabilities("corei7_skylake_x")
        super().__init__(known, known_good(known))
        self.machines = 0

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        outcomes = super().run(batch)
        assert isinstance(batch, VmcsBatch)
        self.machines += 1
        state, values = 0, OperandValues(batch)
        names = ("tsc_offset", "cr3_target_value_0", "cr3_target_value_1")
        columns = [np.broadcast_to(np.asarray(values(name), np.uint64), len(batch)) for name in names]
        for row, (offset, first, second) in enumerate(zip(*columns, strict=True)):
            if state == 2 and int(second) & TRIGGER["cr3_target_value_1"]:
                outcomes.kind[row], outcomes.number[row], outcomes.raw_reason[row] = Kind.VMFAIL_VALID, 7, 0
                outcomes.entry_interruption_info[row] = 0
            state = 1 if int(offset) & ARMS else state
            state = 2 if state and int(first) & SPENDS else state
        return outcomes


class FirstEntryDiffers(ModelExecutor):
    """Forgets an event at the first entry of a machine, as KVM does; `moody`: now and then only."""

    def __init__(self, moody: bool = False) -> None:
        known = capabilities("corei7_skylake_x")
        super().__init__(known, known_good(known))
        self.runs, self.moody = 0, moody

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        outcomes = super().run(batch)
        self.runs += 1
        if outcomes.raw_reason[0] == 52 and not (self.moody and self.runs * 7 % 5 < 2):
            outcomes.raw_reason[0] = outcomes.number[0] = 48
        return outcomes


def always() -> bool:
    return True


def noisy_rows(trial: Trial) -> VmcsBatch:
    """200 rows of which two matter for the last, which is the trigger; each differs from the base in more than it needs."""
    base = trial.base(BASE)
    assert base is not None
    rng = np.random.default_rng(7)
    offsets = rng.integers(0, 1 << 30, 200, np.uint64)
    first, second = (np.full(200, 5, np.uint64) for _ in range(2))
    offsets[31] |= np.uint64(ARMS)
    first[90] |= np.uint64(SPENDS)
    second[199] = TRIGGER["cr3_target_value_1"]
    return VmcsBatch(base, {"tsc_offset": offsets, "cr3_target_value_0": first, "cr3_target_value_1": second})


def case_of_last(trial: Trial, rows: VmcsBatch) -> Case:
    return Case(BASE, mutation_between(rows.base, rows.row(len(rows) - 1)))


def test_the_shortest_sequence() -> None:
    trial = Trial(Planted())
    rows = noisy_rows(trial)
    found = shortest(trial, case_of_last(trial, rows), "VMfailValid(7)", rows, always)
    assert found is not None
    assert found.case.mutation == TRIGGER
    (arms, spends) = found.behind.before
    assert list(arms) == ["tsc_offset"]
    assert arms["tsc_offset"] & ARMS
    assert spends == {"cr3_target_value_0": SPENDS | 5}
    assert (found.behind.otherwise, found.behind.actual) == ((), "entered, exit 52")
    # 200 rows are not tried one by one
    assert trial.executor.machines < 120  # type: ignore[attr-defined]


def test_no_sequence_where_nothing_of_the_kind_ran_or_where_it_needs_none() -> None:
    trial = Trial(Planted())
    rows = noisy_rows(trial)
    assert shortest(trial, case_of_last(trial, rows), "VMfailValid(7)", rows.take(np.arange(100, 200)), always) is None
    assert shortest(trial, case_of_last(trial, rows), "VMfailValid(7)", None, always) is None
    assert shortest(Trial(FirstEntryDiffers(moody=True)), Case(BASE, {}), "entered, exit 48", None, always) is None


def test_the_first_in_a_machine() -> None:
    """Nothing has to run before, and an entry of the base must not."""
    found = shortest(Trial(FirstEntryDiffers()), Case(BASE, {"guest_rflags": 0x202}), "entered, exit 48", None, always)
    assert found is not None
    assert found.case == Case(BASE, {"guest_rflags": 0x202})
    assert found.behind == Behind((), ({},), "entered, exit 52")
    assert found.behind.words == "alone; after an entry of the base, the outcome is entered, exit 52"


def test_triage_keeps_apart_what_does_now_this_and_now_that() -> None:
    trial, findings = Trial(FirstEntryDiffers(moody=True)), Findings()
    base = trial.base(BASE)
    assert base is not None
    comparison = trial.compare_batch(VmcsBatch(base, {"guest_rflags": np.array([0x202], np.uint64)}))
    while not findings.add(comparison, BASE):
        comparison = trial.compare_batch(comparison.prediction.batch)
    result = triage(trial, findings.by_id.values())
    assert (result.unstable, result.depends, result.entries) == (list(findings.by_id), {}, {})


class SmallFamilies(Campaign):
    """Plans of one base in which the operands of the planted state vary."""

    def plan(self, number: int) -> list[FamilyPlan]:
        return [FamilyPlan(BASE, number + 1, 2000, ("tsc_offset", "cr3_target_value_0", "cr3_target_value_1"))]


@pytest.fixture(scope="module")
def campaign() -> SmallFamilies:
    """A campaign that met the planted state, and was then stored and restored."""
    campaign = SmallFamilies(Planted(), 0)
    campaign.run(2000)
    findings = campaign.progress.findings.by_id
    (id,) = findings
    findings[id] = finding_from(json.loads(json.dumps({"id": id, **finding_data(findings[id])})), campaign.generator.bases)
    return campaign


@pytest.fixture(scope="module")
def entry(campaign: SmallFamilies) -> Entry:
    """The entry to which the campaign's finding came down."""
    result = settled(campaign, 3600)
    (id,) = campaign.progress.findings.by_id
    (entry,) = result.entries.values()
    assert (result.depends, result.unstable, result.explained) == ({id: entry.id}, [], [])
    assert result.counted == {id: campaign.progress.findings.by_id[id].count}
    return entry


def test_a_campaign_takes_it_to_an_entry(entry: Entry) -> None:
    assert entry.kind == DEPENDS
    assert entry.behind is not None
    assert [set(row) for row in entry.behind.before] == [{"tsc_offset"}, {"cr3_target_value_0"}]
    assert set(entry.case.mutation) == set(TRIGGER)
    assert (entry.main_result.actual, entry.main_result.comparison) == ("VMfailValid(7)", "mismatch")
    assert entry.main_result.predicted == ("entered, exit 52",)
    assert entry.id != entry.case.id


def test_it_is_a_file_that_the_schema_describes(entry: Entry, tmp_path: Path) -> None:
    schema = json.loads(resources.files("vmfuzz.corpus").joinpath("corpus_schema.json").read_text(encoding="utf-8"))
    jsonschema.validate(to_json(entry), schema)
    path = save(tmp_path, entry)
    assert load(path) == entry
    assert load(path).behind.before == entry.behind.before  # type: ignore[union-attr]
    for left_out in ("before", "otherwise"):
        data = {key: value for key, value in to_json(entry).items() if key != left_out}
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(data, schema)
        with pytest.raises(UsageError):
            entry_from(data)


def test_another_sequence_is_another_entry(entry: Entry) -> None:
    assert entry.behind is not None
    for behind in (replace(entry.behind, before=entry.behind.before[:1]), replace(entry.behind, otherwise=({},))):
        other = replace(entry, behind=behind)
        assert other.id != entry.id
        with pytest.raises(UsageError, match="change the id too"):
            entry_from({**to_json(other), "id": entry.id})


def as_recorded(entry: Entry, executor: ModelExecutor, path: Path) -> list[str]:
    from vmfuzz.corpus.replay import Replayed, _Record

    record = _Record(Replayed(path, entry), entry.main_result, entry.main_result.processors[0])
    _run_sequence(Trial(executor), record)
    assert record.replayed.executed == 1
    return [change.what for change in record.replayed.changes]


def test_replay_runs_it_in_order_in_one_machine(entry: Entry, tmp_path: Path) -> None:
    assert as_recorded(entry, Planted(), tmp_path) == []
    known = capabilities("corei7_skylake_x")
    assert as_recorded(entry, ModelExecutor(known, known_good(known)), tmp_path) == ["outcome", "comparison"]
    assert entry.behind is not None
    turned = replace(entry, behind=replace(entry.behind, before=entry.behind.before[::-1]))
    assert as_recorded(turned, Planted(), tmp_path) == ["outcome", "comparison"]
    swapped = replace(entry, behind=replace(entry.behind, otherwise=entry.behind.before))
    assert as_recorded(swapped, Planted(), tmp_path) == ["outcome after 2 candidates"]


def test_replay_of_a_corpus_with_it(entry: Entry, tmp_path: Path) -> None:
    """The model has no such state: what was recorded has changed. Only predicted, nothing has."""
    path = save(tmp_path, entry)
    (changed,) = replay([(path, entry)], place=tmp_path).changed
    assert [change.what for change in changed.changes] == ["outcome", "comparison"]
    assert replay([(path, entry)], "none", place=tmp_path).changed == []


def output(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_people_see_the_sequence(entry: Entry, campaign: SmallFamilies, tmp_path: Path) -> None:
    save(tmp_path, entry)
    keep_capabilities(tmp_path, campaign.model.capabilities)
    assert entry.behind is not None
    shown = output("show", entry.id, "--corpus", tmp_path)
    places = [
        shown.index(part)
        for part in ("1. tsc_offset = ", "2. cr3_target_value_0 = ", "3. cr3_target_value_1 = ", "alone the outcome is entered, exit 52")
    ]
    assert places == sorted(places)
    assert "after 2 candidates; alone, the outcome is entered, exit 52" in output("findings", tmp_path)
    assert "is a sequence" in output("minimize", entry.id, "--corpus", tmp_path, code=2)
    assert "before it, in the same virtual machine" in output("export", entry.id, "--c", "--corpus", tmp_path)


def summary_with(campaign: SmallFamilies, entry: Entry) -> dict[str, Any]:
    (id,) = campaign.progress.findings.by_id
    finding = campaign.progress.findings.by_id[id]
    return {
        **campaign.summary(stopped=False).to_json(),
        "command": "vmfuzz run",
        "minimized": [to_json(entry)],
        "counted": {id: finding.count},
    }


def test_it_is_counted_once_and_reported(campaign: SmallFamilies, entry: Entry) -> None:
    data = summary_with(campaign, entry)
    words = account.in_words(data)
    assert words.startswith("1 finding, met by ")
    assert words.endswith("; 1 of them depends on what ran before")
    assert [found.kind for found in found_in(data)] == [DEPENDS]
    (case,) = minimal_cases(Processor("model", "1", [Source("a", data)]))
    assert case.notes[0].startswith("Before it, in the same new machine and in this order, run: tsc_offset = ")
    assert case.notes[1] == "The same case alone: entered, exit 52."


def test_dumps_is_stable(entry: Entry) -> None:
    assert dumps(entry_from(json.loads(dumps(entry)))) == dumps(entry)
