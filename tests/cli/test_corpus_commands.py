"""The commands that look after findings: findings, show, minimize, verdict, export, replay, run --directory; and the pytest plugin."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.store import Store
from vmfuzz.cli.main import main
from vmfuzz.cli.minimize import settle
from vmfuzz.comparison.case import Case
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import entry_files, load, save
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_NOTHING_TESTED
from vmfuzz.execute.base import Executor
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.findings.triage import Triage
from vmfuzz.model.checks import CHECKS
from vmfuzz.state.profiles import capabilities, known_good

CORPUS = Path(__file__).parents[2] / "corpus"


def vmfuzz(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A small corpus: three shipped entries, one of them a deviation."""
    place = tmp_path / "corpus"
    for folder in ("guest.gs.p", "ctl.cr3target.count", "deviation.bochs-rip-identical"):
        shutil.copytree(CORPUS / folder, place / folder)
    return place


def id_in(corpus: Path, folder: str) -> str:
    return next((corpus / folder).glob("*.json")).stem


def test_findings_lists_a_corpus_and_filters_by_verdict(corpus: Path) -> None:
    listed = vmfuzz("findings", str(corpus)).stdout
    assert "3 entries" in listed
    assert id_in(corpus, "guest.gs.p") in listed
    assert len(json.loads(vmfuzz("findings", str(corpus), "--verdict", "deviation", "--json").stdout)["entries"]) == 1


def test_show_says_what_differs_what_the_manual_requires_and_where_the_edge_is(corpus: Path) -> None:
    shown = " ".join(vmfuzz("show", id_in(corpus, "guest.gs.p")[:6], "--corpus", str(corpus)).stdout.split())
    for words in (
        "guest_gs_access_rights",
        "0000C093H",
        "0000C013H",
        "entry failure 33",
        "the P bit (bit 7) of the GS access rights must be 1",
    ):
        assert words in shown


def test_a_verdict_is_written(corpus: Path) -> None:
    id = id_in(corpus, "guest.gs.p")
    result = vmfuzz("verdict", id, "model-fixed", "--reason", "because", "--corpus", str(corpus))
    assert result.exit_code == 0
    assert "regression-guard -> model-fixed: because" in result.stdout
    assert json.loads(vmfuzz("show", id, "--corpus", str(corpus), "--json").stdout)["verdict"] == "model-fixed"
    assert vmfuzz("verdict", id, "nonsense", "--corpus", str(corpus)).exit_code == 2


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("deviation:bochs-rip", "there is no deviation 'bochs-rip'; the closest are bochs-rip-identical"),
        ("deviation:zzz", "there is no deviation 'zzz'; they are called bochs-"),
        ("ambiguity:nmi", "the closest are nmi-sti"),
    ],
)
def test_an_unknown_id_in_a_verdict_is_answered_in_one_short_line(corpus: Path, verdict: str, words: str) -> None:
    result = vmfuzz("verdict", id_in(corpus, "guest.gs.p"), verdict, "--corpus", str(corpus))
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr) < 250


def test_replay_passes_and_fails_by_its_exit_code_and_names_the_entry(corpus: Path, tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    assert vmfuzz("replay", str(corpus), "--junit", str(junit)).exit_code == 0
    assert ElementTree.parse(junit).getroot().attrib["failures"] == "0"
    path = next((corpus / "ctl.cr3target.count").glob("*.json"))
    path.write_text(
        path.read_text(encoding="utf-8").replace('"actual": "VMfailValid(7)"', '"actual": "VMfailValid(8)"', 1), encoding="utf-8"
    )
    result = vmfuzz("replay", str(corpus), "--junit", str(junit))
    assert result.exit_code == 1
    assert path.stem in result.stdout
    assert "recorded VMfailValid(8); now VMfailValid(7)" in result.stdout
    assert ElementTree.parse(junit).getroot().attrib["failures"] == "1"
    assert [each["id"] for each in json.loads(vmfuzz("replay", str(corpus), "--json").stdout)["changed"]] == [path.stem]
    path.write_text("{", encoding="utf-8")
    bad = vmfuzz("replay", str(corpus))
    assert (bad.exit_code, "is not JSON" in bad.stderr) == (2, True)
    assert vmfuzz("replay", str(corpus), "--executor", "bosch").exit_code == 2


def test_bad_places_and_ids_are_one_sentence(corpus: Path, tmp_path: Path) -> None:
    for arguments in (
        ("findings", str(tmp_path / "nowhere")),
        ("minimize", "--corpus", str(corpus)),
        ("replay", str(tmp_path / "nowhere")),
        ("show", "ffffffffff", "--corpus", str(corpus)),
        ("export", id_in(corpus, "guest.gs.p"), "--corpus", str(corpus)),
        ("run", "--resume"),
        ("run", "--resume", "--directory", str(tmp_path / "new")),
    ):
        result = vmfuzz(*arguments)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert len(result.stderr.strip().splitlines()) == 1


def test_a_run_keeps_its_campaign_and_goes_on_with_it(tmp_path: Path) -> None:
    directory = tmp_path / "campaign"
    first = vmfuzz("run", "-n", "4k", "--directory", str(directory), "--json")
    again = vmfuzz("run", "-n", "4k", "--directory", str(directory))
    assert again.exit_code == 2
    assert "add --resume to go on with it" in again.stderr
    resumed = json.loads(vmfuzz("run", "-n", "8k", "--directory", str(directory), "--resume", "--json").stdout)
    assert json.loads(first.stdout)["candidates"] == 4000
    assert resumed["candidates"] == 8000
    assert vmfuzz("findings", str(directory)).exit_code in (0, 2)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")
def test_exported_c_compiles(corpus: Path, tmp_path: Path) -> None:
    for folder in ("guest.gs.p", "ctl.cr3target.count", "deviation.bochs-rip-identical"):
        path = tmp_path / "case.c"
        assert vmfuzz("export", id_in(corpus, folder), "--c", "--corpus", str(corpus), "-o", str(path)).exit_code == 0
        subprocess.run(["gcc", "-Wall", "-Wextra", "-Werror", "-c", str(path), "-o", str(tmp_path / "case.o")], check=True)


def settled_in(directory: Path, executor: Executor) -> Triage:
    """A campaign that met an error of its executor, minimized into a directory as `vmfuzz run` does."""
    campaign = Campaign(executor, seed=0)
    base = campaign.generator.bases.get("64-bit/plain/nothing")
    assert base is not None
    with Store(directory) as store:
        store.attach(campaign, 2)
        mutations = [{"guest_ss_access_rights": 0xC083}, {"cr3_target_count": 77, "guest_rsp": 5}]
        campaign.progress.findings.add(Trial(executor).compare(base, mutations), "64-bit/plain/nothing")
        settle(campaign, 60.0, triaged := Triage(), store, quiet=True)
    return triaged


@pytest.fixture
def erring() -> ModelExecutor:
    """A processor that no profile describes and that leaves a check out."""
    stored = capabilities("corei7_skylake_x")
    mine = Capabilities("06-55-04 microcode 2006b06", {**stored.msrs, 0x48A: 0x42}, stored.cpuid)
    return ModelExecutor(
        mine, known_good(mine), [check for check in CHECKS if check.id not in ("guest.ss.s", "guest.gs.base", "guest.fs.base")]
    )


def test_findings_of_a_processor_that_no_profile_describes_can_be_shown_exported_and_replayed(
    tmp_path: Path, erring: ModelExecutor
) -> None:
    triaged = settled_in(tmp_path, erring)
    assert triaged.entries
    for id in triaged.entries:
        shown = vmfuzz("show", id, "--corpus", str(tmp_path))
        assert (shown.exit_code, "06-55-04 microcode 2006b06" in shown.stdout) == (0, True)
        assert vmfuzz("export", id, "--c", "--corpus", str(tmp_path)).exit_code == 0
    replayed = vmfuzz("replay", str(tmp_path))
    assert f"{len(triaged.entries)} predicted only" in replayed.stdout
    assert replayed.exit_code == EXIT_NOTHING_TESTED  # nothing here is that processor
    assert vmfuzz("replay", str(tmp_path), "--executor", "none").exit_code == EXIT_AGREEMENT  # and nobody asked for it
    refused = vmfuzz("minimize", next(iter(triaged.entries)), "--corpus", str(tmp_path))
    assert (refused.exit_code, "name the executor: --executor" in refused.stderr) == (2, True)
    shutil.rmtree(tmp_path / "findings" / "capabilities")
    lost = vmfuzz("show", next(iter(triaged.entries)), "--corpus", str(tmp_path))
    assert (lost.exit_code, "no profile here has the capabilities" in lost.stderr) == (2, True)


def test_coverage_of_a_campaign_that_executed_nothing_ends_with_5(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        store.option = "model"
        store.attach(Campaign(ModelExecutor(stored := capabilities("tigerlake"), known_good(stored)), seed=0), 100)
    for more in ((), ("--json",)):
        assert vmfuzz("coverage", str(tmp_path), *more).exit_code == EXIT_NOTHING_TESTED
    assert vmfuzz("coverage", str(tmp_path)).stdout == (
        f"tigerlake: 0 candidates have run, so nothing was seen; to go on: vmfuzz run --directory {tmp_path} --resume\n"
    )


def test_a_verdict_stays_when_findings_are_minimized_again(tmp_path: Path, erring: ModelExecutor) -> None:
    (id, *_) = settled_in(tmp_path, erring).entries
    assert vmfuzz("verdict", id, "model-fixed", "--reason", "because", "--corpus", str(tmp_path)).exit_code == 0
    left = tmp_path / "findings" / ".x.json.1.tmp"
    left.write_text("half a fi", encoding="utf-8")
    assert id in settled_in(tmp_path, erring).entries
    assert load(tmp_path / "findings" / f"{id}.json").verdict == "model-fixed"
    assert not left.exists()


def test_minimizing_an_entry_keeps_the_records_of_all_its_processors(corpus: Path) -> None:
    path = next((corpus / "guest.gs.p").glob("*.json"))
    entry = load(path)
    larger = replace(entry, case=Case(entry.case.base, {**entry.case.mutation, "cr0_read_shadow": 5}))
    path.unlink()
    save(path.parent, larger, path.with_name(f"{larger.id}.json"))
    result = vmfuzz("minimize", larger.id, "--corpus", str(corpus))
    assert f"{larger.id} -> {entry.id}" in result.stdout
    again = load(path)
    names = [{processor.executor for result in each.results for processor in result.processors} for each in (entry, again)]
    assert names[0] == names[1]
    assert len(names[0]) > 10
    assert again.case == entry.case


def test_what_show_says_fits_into_80_columns_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmfuzz.cli.show.Output", lambda: Console(width=80, highlight=False))
    for path in entry_files(CORPUS)[::12]:
        shown = vmfuzz("show", path.stem, "--corpus", str(CORPUS)).stdout
        long = [line for line in shown.splitlines() if len(line) > 80 and not line.startswith("file ")]
        assert long == []


def test_exports_write_the_field_by_its_encoding(corpus: Path) -> None:
    id = id_in(corpus, "guest.gs.p")
    test = vmfuzz("export", id, "--kvm-unit-test", "--corpus", str(corpus)).stdout
    # access rights of GS: 481EH; the P bit is cleared
    assert "vmcs_write(0x481e, vmcs_read(0x481e) & ~0x80ull);" in test
    assert "enter_guest_with_invalid_guest_state();" in test
    program = vmfuzz("export", id, "--syz", "--corpus", str(corpus)).stdout
    assert "@nested_intel_vmwrite_mask={AUTO, AUTO, {0x0, @guest32=0x481e, 0x0, 0x80, 0x0}}" in program


def test_the_pytest_plugin_collects_entries_and_names_what_changed(corpus: Path) -> None:
    path = next((corpus / "ctl.cr3target.count").glob("*.json"))
    path.write_text(
        path.read_text(encoding="utf-8").replace('"actual": "VMfailValid(7)"', '"actual": "VMfailValid(8)"', 1), encoding="utf-8"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "vmfuzz.pytest_plugin",
        "-p",
        "no:cacheprovider",
        "--vmfuzz-corpus",
        str(corpus),
        str(corpus),
    ]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=corpus, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "1 failed, 2 passed" in done.stdout
    assert "recorded VMfailValid(8); now VMfailValid(7)" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("place", ["../corpus", "{corpus}", "../corpus/guest.gs.p", "../project/mine"])
@pytest.mark.parametrize("below", [".", "part"])
def test_the_pytest_plugin_finds_a_corpus_wherever_it_lies(corpus: Path, place: str, below: str) -> None:
    project = corpus.parent / "project"
    (project / "part").mkdir(parents=True)
    shutil.copytree(corpus / "guest.gs.p", project / "mine")
    (project / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    named = place.format(corpus=corpus) if below == "." or place.startswith("{") else f"../{place}"
    command = [sys.executable, "-m", "pytest", "-p", "vmfuzz.pytest_plugin", "--collect-only", "-q", "--vmfuzz-corpus", named]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=project / below, env=environment, capture_output=True, text=True, check=False)
    expected = {path.stem for path in (corpus.parent / named.removeprefix("../").removeprefix("../")).rglob("*.json")}
    assert {line.rpartition("::")[2] for line in done.stdout.splitlines() if "::" in line} == expected, done.stdout + done.stderr
    assert len(expected) == (3 if named.endswith("corpus") else 1)


def test_the_commands_of_the_example_workflow_work(tmp_path: Path) -> None:
    # an entry of few processors: each that an entry names is started
    shutil.copytree(CORPUS / "deviation.bochs-spec-ctrl-fixed", tmp_path / "corpus" / "mine")
    workflow = (CORPUS.parent / ".github" / "workflows" / "replay-example.yml").read_text(encoding="utf-8")
    commands = [line.partition("run: ")[2].split() for line in workflow.splitlines() if "- run: " in line and "pip install" not in line]
    assert [command[0] for command in commands] == ["vmfuzz", "pytest"]
    programs = {"vmfuzz": ["-c", "from vmfuzz.cli.main import main; main()"], "pytest": ["-m", "pytest", "-p", "no:cacheprovider"]}
    for name, *arguments in commands:
        done = subprocess.run([sys.executable, *programs[name], *arguments], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert ElementTree.parse(tmp_path / "replay.xml").getroot().attrib["tests"] == "1"


def test_replay_takes_the_processor_of_another_machine(corpus: Path) -> None:
    result = vmfuzz("replay", str(corpus), "--executor", "remote:false")
    assert result.exit_code == 3
    assert "unknown executor" not in result.stderr
    assert "false" in result.stderr
    assert "unknown executor 'nowhere'" in vmfuzz("replay", str(corpus), "--executor", "nowhere").stderr


# What is named, and what is no entry


def mixed_corpus(place: Path) -> Path:
    """A good entry between two files that are none."""
    good = entry_files(CORPUS)[0]
    shutil.copyfile(good, place / good.name)
    (place / "0-first.json").write_text("[" * 100_000, encoding="utf-8")
    (place / "z-last.json").write_text('{"schema": 7}', encoding="utf-8")
    return good


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["for people", "for machines"])
def test_a_bad_entry_does_not_stop_the_others(tmp_path: Path, form: list[str]) -> None:
    good = mixed_corpus(tmp_path)
    junit = tmp_path / "junit.xml"
    for arguments in (["replay", str(tmp_path), "--junit", str(junit)], ["findings", str(tmp_path)]):
        result = vmfuzz(*arguments, *form)
        assert result.exit_code == 2
        errors = result.stderr.splitlines()
        assert errors[0].endswith(
            "0-first.json is not JSON: it is nested too deeply; expected a corpus entry; dumps and logs are for `vmfuzz check FILE`"
        )
        assert "z-last.json: not a corpus entry" in errors[1]
        assert errors[2].endswith(f"2 of 3 files in {tmp_path} are not entries; the others follow")
        assert good.stem in result.stdout or "1 entry" in result.stdout or '"entries": 1' in result.stdout
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == ("3", "2", "0")
    result = vmfuzz("diff", str(tmp_path), str(CORPUS), *form)
    assert result.exit_code == 2
    assert " records of the same case" in result.stdout or '"compared"' in result.stdout


def test_show_and_replay_take_the_same_names(tmp_path: Path) -> None:
    file = entry_files(CORPUS)[0]
    shutil.copyfile(file, tmp_path / file.name)
    for name in (str(file), file.stem, file.stem[:8], str(tmp_path)):
        where = () if Path(name).exists() else ("--corpus", str(CORPUS))
        shown = vmfuzz("show", name, *where, "--json")
        assert json.loads(shown.stdout)["id"] == file.stem
        replayed = vmfuzz("replay", name, *where, "--json")
        assert replayed.exit_code == 0
        assert json.loads(replayed.stdout)["entries"] == 1
    for command in ("show", "replay"):
        refused = vmfuzz(command, "nosuchid", "--corpus", str(CORPUS))
        assert refused.exit_code == 2
        assert "no entry 'nosuchid'" in refused.stderr
    many = vmfuzz("show", str(CORPUS))
    assert many.exit_code == 2
    assert "entries; name one entry" in many.stderr


def test_replay_that_executes_nothing_says_so() -> None:
    result = vmfuzz("replay", str(entry_files(CORPUS)[0]), "--executor", "none")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "all predictions are as recorded; nothing was executed here"
