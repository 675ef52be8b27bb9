"""Output that goes to no terminal: whole lines, nothing cut off, nothing padded, whatever COLUMNS says."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from vmfuzz.arch.fields import FIELDS
from vmfuzz.cli.main import main
from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.reading import read_text
from vmfuzz.model.checks import CHECKS

CORPUS = Path(__file__).parents[2] / "corpus"
COMMANDS = [
    ["fields"],
    ["fields", "guest_cr4"],
    ["checks"],
    ["checks", "guest.gs.p"],
    ["caps"],
    ["doctor"],
    ["findings", str(CORPUS)],
    ["replay", str(CORPUS / "guest.pat")],
    ["run", "-n", "300"],
    ["coverage", "-n", "300"],
    ["suite", "guest.gs.p"],
    ["diff", "model", "bochs", "-n", "3000", "--seed", "1", "--minimize-seconds", "0"],
    ["check", "0x80000021"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments[:2]))
def test_no_command_pads_or_cuts_its_lines(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    lines = CliRunner().invoke(main, arguments, catch_exceptions=False).stdout.splitlines()
    assert lines
    assert [line for line in lines if line != line.rstrip()] == []
    assert [line for line in lines if "…" in line] == []


def test_every_field_and_every_check_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    listed = CliRunner().invoke(main, ["fields"]).stdout.splitlines()
    assert [line.split()[1] for line in listed[1:]] == list(FIELDS)
    lines = CliRunner().invoke(main, ["checks"]).stdout.splitlines()
    assert [line for line in lines if line.startswith("  ")] == [f"  {check.id}  {check.text}" for check in CHECKS]


def test_each_paragraph_of_an_answer_is_one_line() -> None:
    """What is filled to a width in a terminal is not elsewhere: `vmfuzz check dump | grep Rule` gives whole rules."""
    sample = Path(__file__).parents[1] / "explain" / "samples" / "kvm.txt"
    found = answer(read_text(sample.read_text(encoding="utf-8"), str(sample))[0])
    lines = CliRunner().invoke(main, ["check", str(sample), "--no-verify"]).stdout.splitlines()
    assert lines == render(found, width=None).splitlines()
    assert [line.strip() for line in lines if "Rule: " in line] == [f"Rule: {finding.check.text}" for finding in found.violated]
    filled = render(found).splitlines()
    assert len(filled) > len(lines)
    assert max(map(len, filled)) <= 79
    assert " ".join(lines).split() == " ".join(filled).split()


def test_colours_that_are_asked_for_come_without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    output = CliRunner().invoke(main, ["coverage", "-n", "300"]).stdout
    assert "\x1b[1m" in output
    assert [line for line in output.splitlines() if line.removesuffix("\x1b[0m").endswith(" ")] == []
