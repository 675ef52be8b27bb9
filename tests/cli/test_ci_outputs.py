"""What machines that build get: JUnit, SARIF, annotations, quiet; and the line with which a finding can be seen again."""

from __future__ import annotations

import io
import json
import shlex
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from vmfuzz import __version__
from vmfuzz.cli.ci import command_of
from vmfuzz.cli.main import main
from vmfuzz.comparison import errata
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_ENVIRONMENT, EXIT_FOUND, EXIT_USAGE
from vmfuzz.model.checks import BY_ID
from vmfuzz.report.ci import annotation

ROOT = Path(__file__).parents[2]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """It is."""
        return True


def vmfuzz(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def without_deviations(patch: pytest.MonkeyPatch) -> None:
    """The emulator has no known deviations, so that there are findings."""
    patch.setattr(errata, "deviations_of", lambda _name: ())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the outputs of a campaign whose emulator has no known deviations, so that there are findings."""
    place = tmp_path_factory.mktemp("ci")
    with pytest.MonkeyPatch.context() as patch:
        without_deviations(patch)
        outputs = ("--summary", str(place / "s.json"), "--junit", str(place / "run.xml"), "--sarif", str(place / "run.sarif"))
        done = vmfuzz("run", "-n", "2500", "--seed", "0", "--directory", str(place / "d"), *outputs, "--format", "github", "--quiet")
    assert done.exit_code == EXIT_FOUND
    (place / "out.txt").write_text(done.stdout, encoding="utf-8")
    (place / "err.txt").write_text(done.stderr, encoding="utf-8")
    return place


def test_quiet_says_nothing_of_the_progress(place: Path) -> None:
    assert (place / "err.txt").read_text(encoding="utf-8") == ""
    assert "starting on " in vmfuzz("run", "-n", "10", "--executor", "model").stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--iterations", "2500"],
        ["coverage", "--iterations", "300"],
        ["diff", "model", "bochs", "--iterations", "2500"],
        ["suite", "guest.gs.p"],
        ["replay", str(ROOT / "corpus" / "guest.pat")],
        ["minimize", "--corpus", "PLACE/d", "--seconds", "5"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_quiet_says_nothing_on_a_terminals_standard_error(arguments: list[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_deviations(monkeypatch)
    arguments = [each.replace("PLACE", str(place)) for each in arguments]
    for quiet in (False, True):
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        monkeypatch.setattr(sys, "stderr", terminal := Terminal())
        with pytest.raises(SystemExit):
            main.main([*arguments, *(["--quiet"] if quiet else [])])
        assert (terminal.getvalue() == "") is quiet, terminal.getvalue()


def test_each_finding_has_an_annotation_and_a_sarif_result(place: Path) -> None:
    entries = json.loads((place / "s.json").read_text(encoding="utf-8"))["minimized"]
    assert entries
    said = [line for line in (place / "out.txt").read_text(encoding="utf-8").splitlines() if line.startswith("::error ")]
    log = json.loads((place / "run.sarif").read_text(encoding="utf-8"))
    (run,) = log["runs"]
    assert (log["version"], run["tool"]["driver"]["version"], run["properties"]["seed"]) == ("2.1.0", __version__, 0)
    for entry in entries:
        file = f"{place}/d/findings/{entry['id']}.json"
        (line,) = (line for line in said if f"title=vmfuzz finding {entry['id']}" in line)
        assert f"file={file}," in line
        (result,) = (each for each in run["results"] if each["partialFingerprints"]["vmfuzzFinding/v1"] == entry["id"])
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == file
        assert Path(file).is_file()
        assert entry["checks"][0] in result["message"]["text"] if entry["checks"] else entry["kind"] in result["message"]["text"]
        assert result["ruleId"] in {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert all(rule["shortDescription"]["text"] == BY_ID[rule["id"]].text for rule in run["tool"]["driver"]["rules"] if rule["id"] in BY_ID)


def test_junit_has_a_case_for_every_check(place: Path) -> None:
    summary = json.loads((place / "s.json").read_text(encoding="utf-8"))
    suite = ElementTree.parse(place / "run.xml").getroot()
    cases = {case.attrib["name"]: case for case in suite}
    assert set(cases) >= set(summary["checks"])
    wrong = {check for entry in summary["minimized"] for check in entry["checks"]} & set(summary["checks"])
    assert wrong
    assert all(cases[check].find("failure") is not None for check in wrong)
    for name in ("failure", "skipped"):
        assert int(suite.attrib["failures" if name == "failure" else name]) == sum(case.find(name) is not None for case in cases.values())
    assert int(suite.attrib["tests"]) == len(cases)


def test_every_finding_says_how_to_see_it_again(place: Path) -> None:
    lines = [line.strip() for line in (place / "out.txt").read_text(encoding="utf-8").splitlines() if line.startswith("  again: ")]
    assert len(lines) >= len(json.loads((place / "s.json").read_text(encoding="utf-8"))["minimized"])
    assert all("(seed 0 on bochs corei7_skylake_x; vmfuzz " in line and "bochscpu-python " in line for line in lines)
    assert all("again: vmfuzz replay " in line or "again: vmfuzz run --iterations 2500 --seed 0 (seed" in line for line in lines)
    replays = [shlex.split(line.partition("again: ")[2].partition(" (seed")[0])[1:] for line in lines if " replay " in line]
    assert replays
    assert vmfuzz(*replays[0], "--executor", "none").exit_code == EXIT_AGREEMENT


def test_the_command_that_runs_the_candidates_again_names_all_that_they_depend_on(monkeypatch: pytest.MonkeyPatch) -> None:
    without_deviations(monkeypatch)
    options = ("--iterations", "9000", "--seed", "3", "--executor", "bochs", "--cpu", "corei7_haswell_4770")
    first = vmfuzz("run", *options, "--minimize-seconds", "0", "--format", "github")
    lines = [line.partition("again: ")[2] for line in first.stdout.splitlines() if line.startswith("  again: ")]
    command = shlex.join(["vmfuzz", "run", *options])
    assert lines
    assert all(line.startswith(f"{command} (seed 3 on bochs corei7_haswell_4770; ") for line in lines)
    said = [line for line in first.stdout.splitlines() if line.startswith("::error ")]
    assert len(said) >= len(lines)
    assert all(f"; again: {command})" in line for line in said)
    assert command_of(9, 1, 2, "remote:ssh a agent", None, "bold", poison=True) == (
        "vmfuzz run --iterations 9 --seed 1 --executor 'remote:ssh a agent' --jobs 2 --risk bold --poison"
    )
    for virtual, said in ((True, "--virtual"), (False, "--not-virtual")):
        assert command_of(9, 1, 1, "serial:unix:line", None, "bold", virtual=virtual) == (
            f"vmfuzz run --iterations 9 --seed 1 --executor serial:unix:line --risk bold {said}"
        )


def test_a_resumed_campaign_counts_what_was_minimized_before(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without time for minimizing: run, findings and report count what is on disk."""
    without_deviations(monkeypatch)
    told = vmfuzz("findings", str(place / "d")).stdout
    again = vmfuzz("run", "--directory", str(place / "d"), "--resume", "--minimize-seconds", "0", "--summary", str(place / "again.json"))
    words = next(line for line in told.splitlines() if line.startswith("the campaign has ")).removeprefix("the campaign has ")
    assert words.split(";")[0] in again.stdout
    before, after = (json.loads((place / name).read_text(encoding="utf-8")) for name in ("s.json", "again.json"))
    assert {entry["id"] for entry in after["minimized"]} == {entry["id"] for entry in before["minimized"]}
    assert {name: after[name] for name in ("counted", "unstable", "explained", "not_minimized")} == {
        name: before[name] for name in ("counted", "unstable", "explained", "not_minimized")
    }


def test_two_outputs_in_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("out")
    for one, other in (("--junit", "--sarif"), ("--summary", "--junit")):
        done = vmfuzz("run", "-n", "10", one, str(tmp_path / "out"), other, str(tmp_path / "link"))
        assert (done.exit_code, done.stdout) == (EXIT_USAGE, "")
        assert f"{one} and {other} name one file" in done.stderr or f"{other} and {one} name one file" in done.stderr
    assert vmfuzz("run", "-n", "10", "--executor", "model", "--junit", "/dev/null", "--sarif", "/dev/null").exit_code == EXIT_AGREEMENT
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    for option in ("--junit", "--sarif"):
        (tmp_path / "file").write_text("", encoding="utf-8")
        done = vmfuzz("run", "-n", "10", option, str(tmp_path / "file" / "out"))
        assert done.exit_code == EXIT_ENVIRONMENT
        assert "is not a directory that can be written" in done.stderr
        assert "starting" not in done.stderr


def test_replay_annotates_the_files_that_changed(place: Path, tmp_path: Path) -> None:
    (path, *_) = sorted((place / "d" / "findings").glob("*.json"))
    changed = tmp_path / path.name
    data = json.loads(path.read_text(encoding="utf-8"))
    data["results"][0]["violated"] = ["guest.gs.s"]
    changed.write_text(json.dumps(data), encoding="utf-8")
    done = vmfuzz("replay", str(changed), "--executor", "none", "--format", "github")
    assert done.exit_code == EXIT_FOUND
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("::error "))
    assert line.startswith(f"::error file={changed},title=vmfuzz entry {path.stem}::")
    assert "violated checks: recorded guest.gs.s" in line


def test_replay_tells_machines_of_files_that_are_no_entries(tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{", encoding="utf-8")
    outputs = ("--format", "github", "--sarif", str(tmp_path / "replay.sarif"), "--junit", str(tmp_path / "replay.xml"))
    done = vmfuzz("replay", str(tmp_path / "broken.json"), *outputs)
    assert done.exit_code == EXIT_USAGE
    assert "the others follow" not in done.stderr
    assert "0 entries: 0 records executed" in done.stdout
    assert "as recorded" not in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("::error "))
    assert line.startswith(f"::error file={tmp_path}/broken.json,title=not a vmfuzz entry%3A broken::")
    (result,) = json.loads((tmp_path / "replay.sarif").read_text(encoding="utf-8"))["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == f"{tmp_path}/broken.json"
    assert ElementTree.parse(tmp_path / "replay.xml").getroot().attrib["errors"] == "1"


def test_an_annotation_is_one_line() -> None:
    assert annotation("a:b", "50 %\nmore", "x,y") == "::error file=x%2Cy,title=a%3Ab::50 %25%0Amore"
