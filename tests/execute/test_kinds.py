"""The table of executors: a new one is one folder and one line, and every command knows it then."""

from __future__ import annotations

import json
import textwrap
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from vmfuzz.cli.main import main
from vmfuzz.errors import UnknownNameError, UsageError
from vmfuzz.execute import kinds
from vmfuzz.execute.kinds import TABLE, Kind, all_names, cpu_option, is_harmless, is_the_processor_there, kind_named, open_executor

FOLDER = '''
"""Opens an executor that somebody else wrote: the model, which calls itself otherwise."""

from vmfuzz.execute.availability import Availability
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.execute.model.opening import open_by_name as open_model


class MyExecutor(ModelExecutor):
    @property
    def name(self) -> str:
        return f"mine {self.capabilities().name}"


def open_by_name(argument, cpu, options):
    model = open_model("", cpu, {})
    return MyExecutor(model.capabilities(), model.known_good(), **options)


def availability():
    return Availability("mine", True, "it is mine")
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One folder, and one line of the table."""
    context = click.Context(main)
    for name in main.list_commands(context):
        main.get_command(context, name)  # its help names the kinds of executors that there are when it is loaded: other tests read it
    (tmp_path / "my_executor").mkdir()
    (tmp_path / "my_executor" / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "my_executor" / "opening.py").write_text(textwrap.dedent(FOLDER), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    line = Kind("mine", "my_executor.opening")
    monkeypatch.setattr(kinds, "TABLE", (line, *TABLE))


@pytest.mark.usefixtures("mine")
def test_a_new_executor_is_one_folder_and_one_line(tmp_path: Path) -> None:
    place = tmp_path / "campaign"
    with open_executor("mine", cpu="tigerlake") as executor:
        assert executor.name == "mine tigerlake"
        assert executor.run([executor.known_good()])[0].short() != ""
    assert is_harmless("mine tigerlake")
    done = CliRunner().invoke(main, ["run", "--executor", "mine", "-n", "500", "--json", "--directory", str(place)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["executor"] == "mine corei7_skylake_x"
    again = CliRunner().invoke(main, ["run", "--resume", "-n", "1000", "--json", "--directory", str(place)], catch_exceptions=False)
    assert json.loads(again.stdout)["executed"] >= 900
    assert "it is mine" in CliRunner().invoke(main, ["doctor"]).stdout
    same = CliRunner().invoke(main, ["diff", "mine", "model", "-n", "500", "--json"], catch_exceptions=False)
    assert json.loads(same.stdout)["differences"] == []


@pytest.mark.usefixtures("mine")
def test_what_is_no_name_is_told_with_all_names() -> None:
    with pytest.raises(UnknownNameError, match=r"auto, bochs, bochs@PYTHON, kmod, kvm, mine, model, program:COMMAND, remote:COMMAND"):
        open_executor("another")


@pytest.mark.parametrize(
    ("name", "expected"), [("bochs@", "such as bochs@VENV/bin/python"), ("remote: ", "the command that starts the agent")]
)
def test_what_has_to_follow_a_name_is_told(name: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        open_executor(name)


@pytest.mark.parametrize("kind", TABLE, ids=lambda kind: kind.name)
def test_every_line_names_a_module_that_opens(kind: Kind) -> None:
    assert callable(import_module(kind.opening).open_by_name)


def test_names_mean_one_kind() -> None:
    assert [name for name in all_names() if kind_named(name) is None] == []
    assert kind_named("bochs@/a/b") is not kind_named("bochs")
    assert kind_named("bochsx") is kind_named("remote") is kind_named("") is None


def test_names_in_reports_tell_whether_the_machine_is_at_risk() -> None:
    assert is_harmless("bochs@0.3.1 tigerlake")
    assert is_harmless("model meteor_lake")
    assert not is_harmless("kmod GenuineIntel 6-85-7")
    assert not is_harmless("kvm 6.1.0 on GenuineIntel 6-85-4 (ept=Y)")
    assert not is_harmless("")


def test_a_processor_that_is_there_is_not_named_again() -> None:
    assert is_the_processor_there("remote:ssh root@there vmfuzz-agent")
    assert cpu_option("kmod", "GenuineIntel 6-85-7") is None
    assert cpu_option("kvm", "GenuineIntel 6-85-7 as tigerlake") == "tigerlake"
    assert cpu_option("bochs", "tigerlake") == "tigerlake"
