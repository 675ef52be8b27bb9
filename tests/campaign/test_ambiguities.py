"""Ambiguities: the model makes cases that tell the readings apart, every place is complete, and docs/ambiguities.md is what the command prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from vmfuzz.campaign.ambiguity_cases import CHECKS_OF, LENIENT, STRICT, Witness, hypothetical, taken, witnesses
from vmfuzz.cli.main import main
from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.outcome_codes import ENTERED
from vmfuzz.model.public_readings import PUBLIC_READINGS, SOURCES

ROOT = Path(__file__).parents[2]
#: Telling its readings apart takes three control words at once.
WITHOUT_CASE = {"apic-timer-rdtsc"}


@pytest.fixture(scope="module")
def made() -> list[Witness]:
    return list(witnesses(hypothetical()))


def test_every_ambiguity_belongs_to_a_check_and_has_the_reading_of_every_implementation() -> None:
    assert all(CHECKS_OF[id] for id in AMBIGUITIES)
    assert set(PUBLIC_READINGS) == set(AMBIGUITIES)
    for readings in PUBLIC_READINGS.values():
        assert sorted(each.implementation for each in readings) == sorted(SOURCES)
        assert all(each.where for each in readings)


def test_every_ambiguity_has_a_case(made: list[Witness]) -> None:
    assert {witness.ambiguity for witness in made} == set(AMBIGUITIES) - WITHOUT_CASE


def test_the_reading_alone_decides_the_case_and_both_accept_its_neighbour(made: list[Witness]) -> None:
    trial = hypothetical()
    for witness in made:
        base = trial.base(witness.case.base)
        assert base is not None
        prediction = trial.predict(base, [witness.case.mutation, witness.accepted.mutation]).prediction
        assert [each.check.id for each in prediction.violations_of(0)] == [witness.check]
        assert prediction.violations_of(1) == []
        entering, failing = int(prediction.allowed[0]) & ENTERED, int(prediction.allowed[0]) & ~ENTERED
        assert entering
        assert failing
        assert not int(prediction.allowed[1]) & ~ENTERED


def test_a_processor_that_makes_every_check_reads_strictly(made: list[Witness]) -> None:
    results = [taken(hypothetical(), witness) for witness in made]
    assert {result.reading for result in results if result} == {STRICT}


def test_the_page_is_what_the_command_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    printed = CliRunner().invoke(main, ["ambiguities", "--markdown"], catch_exceptions=False)
    assert printed.exit_code == 0
    assert printed.stdout == (ROOT / "docs" / "ambiguities.md").read_text(encoding="utf-8")


def test_json_and_text_of_one_cpu_model() -> None:
    data = json.loads(CliRunner().invoke(main, ["ambiguities", "tigerlake", "--json"], catch_exceptions=False).stdout)
    place = next(place for place in data["places"] if place["id"] == "cs-unusable")
    assert place["cases"][0]["processors"] == [
        {"name": "bochs tigerlake", "outcome": "entered, exit 52", "accepted_case": "entered, exit 52", "reading": LENIENT}
    ]
    text = CliRunner().invoke(main, ["ambiguities", "tigerlake"], catch_exceptions=False).stdout
    assert text.endswith(f"{len(AMBIGUITIES)} places\n")
    refused = CliRunner().invoke(main, ["ambiguities", "tigerlak"])
    assert refused.exit_code == 2
    assert "tigerlake" in refused.stderr
