"""Ambiguities: the model makes cases that tell the readings apart, every place is complete, and docs/ambiguities.md is what the command prints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from vmfuzz.cli.main import main
from vmfuzz.differences.ambiguity_cases import CHECKS_OF, LENIENT, STRICT, Witness, hypothetical, taken, witnesses
from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.checks import BY_ID, NOT_APPLICABLE
from vmfuzz.model.known_deviations import DEVIATIONS
from vmfuzz.model.outcome_codes import ENTERED
from vmfuzz.model.public_readings import PUBLIC_READINGS, SOURCES
from vmfuzz.model.questions import PARTS, QUESTIONS

ROOT = Path(__file__).parents[2]


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
    assert {witness.ambiguity for witness in made} == set(AMBIGUITIES)


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


def test_every_question_has_its_number_and_every_ambiguity_its_question() -> None:
    numbers = [(each.number[0], int(each.number[1:])) for each in QUESTIONS]
    assert {part for part, _ in numbers} == set(PARTS)
    for part in PARTS:
        assert [number for letter, number in numbers if letter == part] == list(range(1, sum(letter == part for letter, _ in numbers) + 1))
    named = {name for each in QUESTIONS for name in re.findall(r"`([^`]+)`", each.decision)}
    assert set(AMBIGUITIES) <= named
    deviations = {deviation.id for deviation in DEVIATIONS}
    ids = [*BY_ID, *NOT_APPLICABLE]
    for name in named - set(AMBIGUITIES) - deviations:
        assert any(id == name or id.startswith((f"{name}.", f"{name}-")) for id in ids), name
