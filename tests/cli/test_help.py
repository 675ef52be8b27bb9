"""What people are told before anything happens: help, man pages, completions, what starts and what waits."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from vmfuzz.cli.listing import LINES
from vmfuzz.cli.main import COMMANDS, main
from vmfuzz.errors import EnvironmentUnusable

DOCS = Path(__file__).parents[2] / "docs"
VMFUZZ = [sys.executable, "-c", "from vmfuzz.cli.main import main; main(prog_name='vmfuzz')"]


def test_help_says_of_each_command_in_one_whole_sentence_what_it_does() -> None:
    listed = CliRunner().invoke(main, ["--help"], terminal_width=80).stdout.partition("\nCommands:\n")[2].splitlines()
    lines = dict(each.split(None, 1) for each in listed)
    assert list(lines) == list(COMMANDS)
    for name, line in lines.items():
        assert line == LINES[name]
        assert re.fullmatch(r"[A-Z].*[^.][.?]", line), line


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=lambda command: " ".join(command) or "vmfuzz")
def test_help_fits_a_terminal_of_80_columns(command: list[str]) -> None:
    shown = CliRunner().invoke(main, [*command, "--help"], terminal_width=80).stdout
    assert [line for line in shown.splitlines() if len(line) > 80] == []


def test_help_says_where_words_are_explained() -> None:
    assert "docs/glossary.md" in CliRunner().invoke(main, ["--help"]).stdout


def test_there_is_a_line_for_every_command() -> None:
    assert set(COMMANDS) == set(LINES)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_man_page_names_every_option_of_its_command(name: str) -> None:
    again = "python tools/man_pages.py"
    page = (DOCS / "man" / f"vmfuzz-{name}.1").read_text(encoding="utf-8").replace("\\-", "-")
    command = main.get_command(click.Context(main), name)
    assert command is not None
    for option in command.params:
        if isinstance(option, click.Option):
            assert all(form in page for form in option.opts), f"{name} {option.opts}: {again}"
            words = " ".join((option.help or "").split())
            assert words[:40] in " ".join(page.split()), f"{name} {option.opts}: {again}"
    assert LINES[name].rstrip(".") in page, again
    assert LINES[name] in (DOCS / "man" / "vmfuzz.1").read_text(encoding="utf-8").replace("\\-", "-"), again


def test_there_is_no_man_page_of_a_command_that_is_not_there() -> None:
    assert {path.stem for path in (DOCS / "man").glob("*.1")} == {"vmfuzz", *(f"vmfuzz-{name}" for name in COMMANDS)}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completions_are_those_of_this_vmfuzz(shell: str) -> None:
    (path,) = (path for path in (DOCS / "completion" / shell).iterdir() if path.is_file())
    done = subprocess.run(VMFUZZ, env={**os.environ, "_VMFUZZ_COMPLETE": f"{shell}_source"}, capture_output=True, text=True, check=True)
    assert path.read_text(encoding="utf-8").split() == done.stdout.split()


def test_a_word_that_was_begun_is_completed() -> None:
    words = {"_VMFUZZ_COMPLETE": "bash_complete", "COMP_WORDS": "vmfuzz che", "COMP_CWORD": "1"}
    done = subprocess.run(VMFUZZ, env={**os.environ, **words}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain,check", "plain,checks"]


def test_run_says_what_it_starts_before_it_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise EnvironmentUnusable("nothing was prepared")

    monkeypatch.setattr("vmfuzz.cli.run.Campaign", fail)
    said = CliRunner().invoke(main, ["run", "-n", "20k", "--cpu", "tigerlake", "--seed", "7"]).stderr
    assert said.splitlines()[0] == "starting on bochs tigerlake: 20,000 candidates, seed 7"
    assert "nothing was prepared" in said


def test_check_says_in_a_terminal_that_it_waits() -> None:
    terminal, end = pty.openpty()
    process = subprocess.Popen([*VMFUZZ, "check"], stdin=end, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    os.close(end)
    assert process.stderr is not None
    assert "end with Ctrl-D" in process.stderr.readline()
    os.write(terminal, b"exit reason 0x80000021\n\x04")
    output, _ = process.communicate()
    os.close(terminal)
    assert "80000021" in output
    assert process.returncode == 1


def test_check_says_nothing_of_waiting_where_it_gets_its_input() -> None:
    done = subprocess.run([*VMFUZZ, "check"], input="exit reason 0x80000021\n", capture_output=True, text=True, check=False)
    assert "Ctrl-D" not in done.stderr
