"""Output in a terminal of 80 columns: nothing is wider, nothing is cut off, what goes on below a line is further to the right."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from vmfuzz.arch.fields import FIELDS
from vmfuzz.cli.main import main
from vmfuzz.model.checks import CHECKS
from vmfuzz.state.profiles import processor_names

ROOT = Path(__file__).parents[2]
COLUMNS = 80
KVM_DUMP = ROOT / "tests" / "explain" / "samples" / "kvm.txt"


class _Terminal(io.StringIO):
    """Standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> list[str]:
    """The lines that a command prints in a terminal, without colours and without blanks at their ends, which nobody sees there."""
    for name, value in (("COLUMNS", str(COLUMNS)), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with pytest.raises(SystemExit):
        main.main(list(arguments))
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in terminal.getvalue().splitlines()]


@pytest.mark.parametrize(
    "arguments",
    [
        ["fields"],
        ["fields", "guest_cr4"],
        ["checks"],
        ["checks", "guest.gs.p"],
        ["checks", "--field", "guest_cr4"],
        ["caps"],
        ["caps", "--list"],
        ["doctor"],
        ["findings", str(ROOT / "corpus")],
        ["run", "--iterations", "300", "--executor", "model"],
        ["coverage", "--iterations", "300", "--executor", "model"],
        ["check", str(KVM_DUMP), "--explain"],
    ],
    ids=" ".join,
)
def test_nothing_is_wider_than_the_terminal_and_nothing_is_cut_off(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, *arguments)
    assert lines
    assert [line for line in lines if len(line) > COLUMNS] == []
    assert [line for line in lines if "…" in line] == []


def test_a_list_of_checks_is_two_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every id is whole at the left; its text is in one column beside it, also where it takes several lines."""
    lines = [line for line in shown(monkeypatch, "checks") if line.startswith("  ")]
    column = 2 + max(len(check.id) for check in CHECKS) + 2
    assert [line.split()[0] for line in lines if line[2] != " "] == [check.id for check in CHECKS]
    assert {line[:column].strip() for line in lines if line[2] == " "} == {""}
    assert " ".join(line[column:] for line in lines).split() == " ".join(check.text for check in CHECKS).split()


def test_every_field_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, "fields")[1:]
    assert [line.split()[1] for line in lines if not line.startswith(" ")] == list(FIELDS)
    assert any(line.startswith(" " * 10 + "exit.load_cet_state may be 1") for line in lines)


def test_what_is_said_of_a_profile_is_in_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, "caps", "--list")
    lines = lines[lines.index("profiles of processors (--executor model):") + 1 :]
    column = 2 + max(map(len, processor_names())) + 2
    assert any(line.startswith(" " * column) for line in lines)
    assert {line[:column].strip() for line in lines} == {"", *processor_names()}


def test_an_answer_is_filled_to_79_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(map(len, shown(monkeypatch, "check", str(KVM_DUMP)))) == COLUMNS - 1
