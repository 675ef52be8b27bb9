"""Campaigns, findings, replay and comparison on a program of somebody else's."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from vmfuzz.campaign.loop import Campaign
from vmfuzz.cli.ci import again
from vmfuzz.cli.main import main
from vmfuzz.cli.places import option_of
from vmfuzz.comparison.case import Case
from vmfuzz.comparison.compare import Verdict
from vmfuzz.comparison.processor import Processor, fingerprint, processor_of
from vmfuzz.comparison.trial import Trial
from vmfuzz.errors import UsageError
from vmfuzz.execute.program.executor import ProgramExecutor
from vmfuzz.findings.minimize import Minimizer, same_finding
from vmfuzz.state.profiles import capabilities

PROGRAMS = Path(__file__).parents[1] / "execute" / "program"
THE_MODEL = [sys.executable, str(PROGRAMS / "the_model.py")]
#: The check that a wrong program leaves out.
CHECK = "guest.rflags.reserved.one"
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


def test_a_crash_is_minimized_to_what_causes_it() -> None:
    with ProgramExecutor([sys.executable, str(PROGRAMS / "wrong.py"), "crash"]) as executor:
        trial = Trial(executor)
        base = trial.base("64-bit/plain/nothing")
        assert base is not None
        case = Case("64-bit/plain/nothing", {"guest_cr4": base["guest_cr4"] ^ 0x20, "guest_rip": 0x1234})
        crashed = trial.compare(base, [case.mutation])
        assert trial.observation(crashed, 0).comparison == "executor-crash"
        (found, *_) = Minimizer(trial, same_finding(crashed, 0), 60, costly=True).run(case)
    assert found.case.mutation == {"guest_cr4": base["guest_cr4"] ^ 0x20}


def test_a_program_beside_the_model_differs_where_the_toy_leaves_a_check_out() -> None:
    code, said = invoke("diff", "model", named(TOY), "-n", "200", "--seed", "1", "--minimize-seconds", "0", "--json")
    found = json.loads(said)
    assert code == 1
    assert found["compared"] >= 150
    assert not any(
        each["first"]["outcome"].startswith("entered") and each["second"]["outcome"] == "entered" for each in found["differences"]
    )


def test_differences_of_a_program_are_kept_shown_minimized_and_replayed_and_its_errata_explain_them(tmp_path: Path) -> None:
    lacking, entries = named([*THE_MODEL, CHECK]), str(Path(__file__).parents[2] / "corpus" / CHECK)
    kept = str(tmp_path / "kept")
    code, said = invoke("diff", "model", lacking, "--corpus", entries, "--directory", kept)
    assert (code, f"checks violated: {CHECK}" in said) == (1, True)
    (file,) = Path(kept).glob("**/" + "[0-9a-f]" * 10 + ".json")
    code, said = invoke("show", file.stem, "--corpus", kept)
    assert (code, CHECK in said, "guest_rflags" in said) == (0, True, True)
    code, said = invoke("minimize", file.stem, "--corpus", kept, "--executor", lacking)
    assert (code, said) == (0, f"{file.stem} is minimal\n")

    entry = json.loads(file.read_text(encoding="utf-8"))
    code, said = invoke("replay", kept, "--executor", lacking)  # the model's record is none of the program's
    assert (code, "1 record executed, 1 predicted only" in said, "all as recorded" in said) == (0, True, True), said
    assert invoke("replay", kept, "--executor", named(THE_MODEL))[0] == 1

    entry["results"] = [each for each in entry["results"] if each["processors"][0]["executor"] == "program the model"]
    assert [each["comparison"] for each in entry["results"]] == ["mismatch"]
    known = tmp_path / "known.json"
    erratum = {"id": "mine", "executor": "program", "text": "bit 1 of RFLAGS", "cases": [entry]}
    known.write_text(json.dumps({"schema": "vmfuzz-errata-1", "errata": [erratum]}), encoding="utf-8")
    code, said = invoke("replay", kept, "--executor", lacking, "--errata", str(known))
    assert (code, "all as recorded" in said) == (0, True), said
    code, said = invoke("diff", "model", lacking, "--corpus", entries, "--errata", str(known), "--json")
    (difference,) = json.loads(said)["differences"]
    assert (code, difference["second"]["comparison"], difference["departs"]) == (1, "deviation:mine", "second")


def test_a_finding_of_a_program_says_how_it_can_be_seen_again_and_is_not_taken_to_another_executor(tmp_path: Path) -> None:
    data = {"command": "vmfuzz run --executor 'program:./mine a'", "seed": 3, "executor": "program mine", "version": "2"}
    file = tmp_path / "findings" / "0123456789.json"
    assert again(data, file.stem, tmp_path, "program:./mine a").startswith(f"{data['command']} (seed 3 on program mine; ")
    file.parent.mkdir()
    file.touch()
    words = shlex.split(again(data, file.stem, tmp_path, "program:./mine a").partition(" (seed 3 ")[0])
    assert words == ["vmfuzz", "replay", str(file), "--executor", "program:./mine a"]
    known = fingerprint(capabilities("corei7_skylake_x"))
    assert option_of(Processor("corei7_skylake_x", known, "bochs corei7_skylake_x", "1")) == ("auto", "corei7_skylake_x")
    with pytest.raises(UsageError, match="program mine: the record does not have its command; name the executor: --executor"):
        option_of(Processor("corei7_skylake_x", known, "program mine", "2"))


def test_entries_name_the_version_of_the_program() -> None:
    with ProgramExecutor(TOY) as executor:
        processor = processor_of(executor)
    assert (processor.executor, processor.version) == ("program toy in Python", "1")


def test_doctor_examines_a_program_for_people_and_machines() -> None:
    code, said = invoke("doctor", "--executor", named(TOY))
    assert (code, "the program follows the protocol" in said) == (0, True)
    code, said = invoke("doctor", "--json", "--executor", named([sys.executable, str(PROGRAMS / "wrong.py"), "garbage"]))
    assert code == 1
    assert [step["right"] for step in json.loads(said)["steps"]] == [True, True, False]
    assert invoke("doctor", "--executor", "bochs")[0] == 2
