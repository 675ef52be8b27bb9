"""Replay: the shipped corpus is as recorded on all CPU models that it names, and whatever is edited is found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from vmfuzz.comparison.case import Case, Mutation
from vmfuzz.comparison.compare import Comparison
from vmfuzz.comparison.processor import fingerprint
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import entry_files, load_all
from vmfuzz.corpus.replay import PREDICT_ONLY, Report, replay
from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.state.profiles import capabilities as profile_capabilities
from vmfuzz.state.profiles import known_good
from vmfuzz.state.vmcs import Vmcs

CORPUS = Path(__file__).parents[2] / "corpus"
ENTRIES = load_all(entry_files(CORPUS))


@pytest.fixture(scope="module")
def report() -> Report:
    return replay(ENTRIES, "auto", CORPUS)


def test_the_shipped_corpus_replays_as_recorded_on_all_cpu_models(report: Report) -> None:
    assert [(str(replayed.path), [str(change) for change in replayed.changes]) for replayed in report.changed] == []
    assert report.executed == sum(len(result.processors) for _, entry in ENTRIES for result in entry.results)
    assert report.predicted_only == 0
    named = {processor.name for _, entry in ENTRIES for result in entry.results for processor in result.processors}
    assert named == set(CPU_MODELS)


def test_predicting_only_finds_the_predictions_as_recorded() -> None:
    report = replay(ENTRIES, PREDICT_ONLY, CORPUS)
    assert report.changed == []
    assert report.executed == 0
    assert report.predicted_only > 3000


def test_a_real_processor_is_opened_once_and_runs_the_records_of_its_capabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    known = profile_capabilities("tigerlake")
    opened: list[tuple[str, dict[str, Any]]] = []

    def remote(name: str, **options: Any) -> ModelExecutor:
        opened.append((name, options))
        return ModelExecutor(known, known_good(known))

    monkeypatch.setattr("vmfuzz.corpus.replay.open_executor", remote)
    entries = ENTRIES[:40]
    content = fingerprint(known)
    own = sum(each.capabilities == content for _, entry in entries for result in entry.results for each in result.processors)
    every = sum(len(result.processors) for _, entry in entries for result in entry.results)
    report = replay(entries, "remote:ssh target agent", CORPUS)
    assert opened == [("remote:ssh target agent", {})]
    assert own > 0
    assert (report.executed, report.predicted_only) == (own, every - own)


def of_a_program(data: dict[str, Any]) -> None:
    """The record of one profile, as a program's that called itself so."""
    result = next(each for each in data["results"] if any(one["name"] == "corei7_skylake_x" for one in each["processors"]))
    processor = next(one for one in result["processors"] if one["name"] == "corei7_skylake_x")
    data["results"] = [{**result, "processors": [{**processor, "executor": "program mine"}], "message": "in its own words"}]


def test_what_a_program_showed_is_not_executed_on_the_emulated_cpu_unless_it_is_named(tmp_path: Path) -> None:
    report = edited(tmp_path, of_a_program)
    assert (report.executed, report.predicted_only, report.changed) == (0, 1, [])
    named = replay([(each.path, each.entry) for each in report.entries], "bochs", tmp_path)
    assert (named.executed, named.predicted_only, named.changed) == (1, 0, [])  # another implementation has other words


def test_of_an_entry_with_a_record_of_the_executor_no_other_one_is_executed_on_it(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        before = json.loads(json.dumps(data["results"]))
        of_a_program(data)
        (program,) = data["results"]
        own = {**before[0], "processors": [one for one in before[0]["processors"] if one["name"] == "corei7_skylake_x"]}
        data["results"] = [own, {**program, "actual": "triple fault"}]

    entries = [(each.path, each.entry) for each in edited(tmp_path, edit).entries]
    for executor in ("auto", "bochs"):
        report = replay(entries, executor, tmp_path)
        assert (report.executed, report.predicted_only, report.changed) == (1, 1, [])


def edited(tmp_path: Path, edit: Any, number: int = 7) -> Report:
    """The replay of one shipped entry of which `edit` changed the JSON."""
    source = ENTRIES[number][0]
    path = tmp_path / source.name
    shutil.copy(source, path)
    data = json.loads(path.read_text(encoding="utf-8"))
    edit(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    return replay(load_all([path]), "auto", tmp_path)


def outcome(data: dict[str, Any]) -> None:
    data["results"][0]["actual"] = "triple fault"


def prediction(data: dict[str, Any]) -> None:
    data["results"][0]["predicted"].append("VMfailInvalid")


def violated(data: dict[str, Any]) -> None:
    data["results"][0]["violated"] = []


def message(data: dict[str, Any]) -> None:
    data["results"][0]["message"] = "something else"


def comparison(data: dict[str, Any]) -> None:
    data["results"][0]["comparison"] = "not run"


@pytest.mark.parametrize(
    ("edit", "what"),
    [(outcome, "outcome"), (prediction, "prediction"), (violated, "violated checks"), (message, "message"), (comparison, "comparison")],
)
@pytest.mark.parametrize("number", [0, 7, 150])
def test_an_edited_record_is_found_and_named(tmp_path: Path, edit: Any, what: str, number: int) -> None:
    report = edited(tmp_path, edit, number)
    (replayed,) = report.changed
    assert {change.what for change in replayed.changes} == {what}
    processors = ENTRIES[number][1].results[0].processors
    assert {change.processor for change in replayed.changes} == {processor.executor for processor in processors} or len(
        replayed.entry.results
    ) > 1


def test_capabilities_that_nobody_has_are_reported(tmp_path: Path) -> None:
    def edit(data: dict[str, Any]) -> None:
        data["results"][0]["processors"] = [{**data["results"][0]["processors"][0], "capabilities": "0" * 16}]

    (replayed,) = edited(tmp_path, edit).changed
    assert replayed.changes[0].what == "capabilities"


def test_capabilities_that_only_the_corpus_has_are_predicted_only(tmp_path: Path) -> None:
    from vmfuzz.arch.capabilities import Capabilities
    from vmfuzz.comparison.processor import fingerprint
    from vmfuzz.state.profiles import capabilities

    stored = capabilities("corei7_skylake_x")
    mine = Capabilities("my machine", {**stored.msrs, 0x48A: 0x42}, stored.cpuid)
    (tmp_path / "capabilities").mkdir()
    (tmp_path / "capabilities" / f"{fingerprint(mine)}.json").write_text(json.dumps(mine.to_json()), encoding="utf-8")

    def edit(data: dict[str, Any]) -> None:
        result = next(each for each in data["results"] if any(one["name"] == "corei7_skylake_x" for one in each["processors"]))
        result["processors"] = [{**result["processors"][0], "name": "my machine", "capabilities": fingerprint(mine)}]
        result["actual"] = "only this machine knows"
        data["results"] = [result]

    report = edited(tmp_path, edit)
    assert report.changed == []
    assert (report.executed, report.predicted_only) == (0, 1)


def test_records_are_predicted_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    predict = Trial.predict

    def watched(self: Trial, base: Vmcs, mutations: Sequence[Mutation]) -> Comparison:
        sizes.append(len(mutations))
        return predict(self, base, mutations)

    monkeypatch.setattr(Trial, "predict", watched)
    assert replay(ENTRIES, PREDICT_ONLY, CORPUS).predicted_only == sum(sizes) > 5 * len(sizes)


def test_ids_are_made_of_the_content() -> None:
    assert Case("64-bit/plain/nothing", {"vpid": 0}).id == Case("64-bit/plain/nothing", {"vpid": 0}).id
    assert Case("64-bit/plain/nothing", {"vpid": 0}).id != Case("64-bit/plain/nothing", {"vpid": 1}).id
    assert all(entry.id == path.stem for path, entry in ENTRIES)
