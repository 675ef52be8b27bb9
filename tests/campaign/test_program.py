"""Campaigns, findings, replay and comparison on a program of somebody else's."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from click.testing import CliRunner

from vmfuzz.campaign.loop import Campaign
from vmfuzz.cli.main import main
from vmfuzz.comparison.compare import Verdict
from vmfuzz.comparison.processor import processor_of
from vmfuzz.execute.program.executor import ProgramExecutor

PROGRAMS = Path(__file__).parents[1] / "execute" / "program"
THE_MODEL = [sys.executable, str(PROGRAMS / "the_model.py")]
TOY = [sys.executable, str(Path(__file__).parents[2] / "examples" / "answerer.py")]


def named(command: list[str]) -> str:
    return f"program:{shlex.join(command)}"


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


def test_a_program_that_answers_as_the_model_does_agrees_on_every_candidate() -> None:
    with ProgramExecutor(THE_MODEL) as executor:
        campaign = Campaign(executor, 1)
        summary = campaign.run(1500)
    tally = summary.progress.tally
    assert tally.candidates == 1500
    assert {verdict for verdict in Verdict if tally.verdicts[verdict]} <= {Verdict.AGREES, Verdict.NOT_MODELLED}
    assert tally.verdicts[Verdict.AGREES] > 1000


def test_a_crash_is_a_finding_that_is_minimized_and_kept_and_replayed(tmp_path: Path) -> None:
    place, name = tmp_path / "campaign", named([*THE_MODEL, "2"])
    code, _ = invoke("run", "--executor", name, "-n", "150", "--seed", "3", "--directory", str(place), "--json")
    assert code == 1
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((place / "findings").glob("**/*.json"))]
    assert {entry["kind"] for entry in entries} == {"executor-crash"}
    assert all(entry["mutation"].get("guest_activity_state") == "0x2" and len(entry["mutation"]) <= 2 for entry in entries)
    assert entries[0]["results"][0]["processors"][0]["executor"] == "program the model"
    assert entries[0]["results"][0]["message"] == "the program ended: killed by SIGABRT"
    code, said = invoke("replay", str(place), "--executor", name)
    assert (code, "all as recorded" in said) == (0, True)


def test_a_program_beside_the_model_differs_where_the_toy_leaves_a_check_out() -> None:
    code, said = invoke("diff", "model", named(TOY), "-n", "200", "--seed", "1", "--minimize-seconds", "0", "--json")
    found = json.loads(said)
    assert code == 1
    assert found["compared"] >= 150
    assert not any(
        each["first"]["outcome"].startswith("entered") and each["second"]["outcome"] == "entered" for each in found["differences"]
    )


def test_entries_name_the_version_of_the_program() -> None:
    with ProgramExecutor(TOY) as executor:
        processor = processor_of(executor)
    assert (processor.executor, processor.version) == ("program toy in Python", "1")


def test_doctor_examines_a_program_for_people_and_machines() -> None:
    code, said = invoke("doctor", "--executor", named(TOY))
    assert (code, "it keeps to the protocol" in said) == (0, True)
    code, said = invoke("doctor", "--json", "--executor", named([sys.executable, str(PROGRAMS / "wrong.py"), "garbage"]))
    assert code == 1
    assert [step["right"] for step in json.loads(said)["steps"]] == [True, True, False]
    assert invoke("doctor", "--executor", "bochs")[0] == 2
