"""The executor `model`: the model in a processor's place, in every command that runs candidates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from vmfuzz.cli.main import main
from vmfuzz.errors import UnknownNameError
from vmfuzz.execute.kinds import open_executor, plain_names
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.hexadecimal import as_wide
from vmfuzz.state.profiles import capabilities, known_good

ROWS = ("-n", "3000", "--seed", "1")


def vmfuzz(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def test_the_model_is_an_executor() -> None:
    assert "model" in plain_names()
    with open_executor("model", cpu="icelake") as executor:
        assert isinstance(executor, ModelExecutor)
        assert executor.capabilities() == capabilities("icelake")
        assert executor.known_good() == known_good(capabilities("icelake"))
    with open_executor("model") as executor:
        assert executor.name == "model corei7_skylake_x"
    with pytest.raises(UnknownNameError, match="unknown CPU model 'ice'"):
        open_executor("model", cpu="ice")


@pytest.mark.parametrize("executor", ["auto", "bochs"])
def test_an_emulator_says_that_a_profile_is_no_cpu_model_and_names_the_model(executor: str) -> None:
    result = vmfuzz("run", "--executor", executor, "--cpu", "icelake")
    assert result.exit_code == 2
    assert "--cpu icelake: this is a stored profile of a processor, not an emulated CPU model" in result.stderr
    assert "--executor model --cpu icelake" in result.stderr


def test_run_says_that_it_is_the_model_itself() -> None:
    result = vmfuzz("run", "--executor", "model", "--cpu", "icelake", *ROWS)
    assert result.exit_code == 0
    assert "3,000 candidates on model icelake in" in result.stdout
    assert "this executor is the model itself" in result.stdout
    assert "no findings" in result.stdout
    assert "this executor is the model itself" not in vmfuzz("run", *ROWS).stdout


def test_run_resumes_and_coverage_reads_a_campaign_on_the_model(tmp_path: Path) -> None:
    place = tmp_path / "campaign"
    options = ("--executor", "model", "--cpu", "icelake", "--directory", str(place))
    assert vmfuzz("run", *ROWS, *options).exit_code == 0
    resumed = vmfuzz("run", "-n", "5000", "--directory", str(place), "--resume", "--json")
    assert resumed.exit_code == 0
    summary = json.loads(resumed.stdout)
    assert (summary["executor"], summary["processor"], summary["candidates"]) == ("model icelake", "icelake", 5000)
    assert summary["version"].startswith("vmfuzz ")
    assert vmfuzz("coverage", str(place)).stdout.startswith("icelake: 5,000 candidates")
    report = tmp_path / "report.html"
    assert vmfuzz("report", str(place), "--html", str(report)).exit_code == 0
    assert "model icelake" in report.read_text(encoding="utf-8")


def test_a_campaign_runs_and_resumes_on_a_capabilities_file(tmp_path: Path) -> None:
    sent = tmp_path / "sent.json"
    sent.write_text(json.dumps(capabilities("meteor_lake").to_json()), encoding="utf-8")
    place = str(tmp_path / "campaign")
    assert vmfuzz("run", *ROWS, "--executor", "model", "--cpu", str(sent), "--directory", place).exit_code == 0
    resumed = vmfuzz("run", "-n", "4000", "--directory", place, "--resume")
    assert resumed.exit_code == 0
    assert "4,000 candidates on model" in resumed.stdout


def test_jobs_run_on_the_model() -> None:
    result = vmfuzz("run", "-n", "4000", "--jobs", "2", "--executor", "model", "--cpu", "icelake", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["candidates"] == 4000


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_campaign_of_which_nothing_is_left_says_so(tmp_path: Path, jobs: str) -> None:
    options = ("--executor", "model", "--directory", str(tmp_path), "--jobs", jobs)
    assert "nothing is left" not in vmfuzz("run", "--iterations", "300", *options).stderr
    again = vmfuzz("run", "--iterations", "200", *options, "--resume")
    ran = "the campaign has already run 300 candidates, and --iterations asks for 200"
    assert again.stderr == f"nothing is left to run: {ran}; for more, raise --iterations\n"
    assert again.stdout.startswith("ran 300 candidates on model")
    assert "nothing is left" not in vmfuzz("run", "--iterations", "400", *options, "--resume").stderr


def test_coverage_and_suite_take_the_model() -> None:
    shown = vmfuzz("coverage", *ROWS, "--executor", "model", "--cpu", "icelake", "--json")
    assert json.loads(shown.stdout)["processor"] == "icelake"
    made = vmfuzz("suite", "guest.pkrs", "--executor", "model", "--cpu", "meteor_lake", "--json")
    assert made.exit_code == 0
    index = json.loads(made.stdout)
    assert index["executor"] == "model meteor_lake"
    assert {atom["check"] for atom in index["atoms"]} == {"guest.pkrs"}


def test_a_suite_made_on_the_model_replays_there(tmp_path: Path) -> None:
    place = tmp_path / "suite"
    assert vmfuzz("suite", "guest.pkrs", "--executor", "model", "--cpu", "meteor_lake", "-o", str(place)).exit_code == 0
    for arguments in ((), ("--executor", "model")):
        result = vmfuzz("replay", str(place), *arguments, "--json")
        report = json.loads(result.stdout)
        assert result.exit_code == 0, result.output
        assert report["executed"] > 0
        assert report["predicted_only"] == 0


def test_diff_takes_profiles() -> None:
    result = vmfuzz("diff", "sapphire_rapids_w7", "granite_rapids", "-n", "3000", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert (data["first"], data["second"]) == ("model sapphire_rapids_w7", "model granite_rapids")
    assert data["compared"] > 0


def test_diff_names_the_capabilities_that_differ_as_the_manual_writes_them() -> None:
    result = vmfuzz("diff", "corei7_haswell_4770", "sapphire_rapids_w7", "-n", "100", "--minimize-seconds", "0")
    lines = result.stdout.splitlines()
    first, second = (capabilities(name) for name in ("corei7_haswell_4770", "sapphire_rapids_w7"))
    assert f"  IA32_VMX_PINBASED_CTLS (481H): {as_wide(first.msr(0x481), 64)} | {as_wide(second.msr(0x481), 64)}" in lines
    assert f"  IA32_VMX_PROCBASED_CTLS3 (492H): not there | {as_wide(second.msr(0x492), 64)}" in lines
    assert f"  CPUID.1.0:EAX: {as_wide(first.registers(1)[0], 32)} | {as_wide(second.registers(1)[0], 32)}" in lines
