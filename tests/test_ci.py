"""What CI runs (.ci/run), with stand-ins for the programs that it calls: it fails where one of its steps does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / ".ci" / "run"
#: Stand-ins: each writes down how it was called; `timeout` ends with $STATUS where it runs the machine tests.
PROGRAMS = {
    "make": 'echo "make $*" >> "$CALLS"',
    "timeout": 'case "$*" in *test-system*) echo "$*" >> "$CALLS"; exit "$STATUS";; *) exit 0;; esac',
    "apt-get": "exit 0",
    "gcc": "exit 0",
    "id": "echo 1000",
}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with the script in its place, and the stand-ins."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(RUN, tmp_path / ".ci" / "run")
    for name, does in PROGRAMS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    return tmp_path


def ci(here: Path, status: int) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """CI with machine tests that end with a status, and what it called."""
    calls = here / "calls"
    environment = {"PATH": f"{here / 'bin'}:{os.environ['PATH']}", "CALLS": str(calls), "STATUS": str(status)}
    done = subprocess.run(["bash", here / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False)
    return done, calls.read_text().splitlines()


def test_ci_passes_where_all_steps_do(here: Path) -> None:
    done, calls = ci(here, 0)
    assert done.returncode == 0, done.stderr
    assert [call.split()[-1] for call in calls] == ["test", "test-wheel", "test-system", "run", "lint"]


@pytest.mark.parametrize("status", [124, 137])  # timeout's own, and where what it ran had to be killed
def test_machine_tests_that_take_too_long_fail_the_build(here: Path, status: int) -> None:
    done, calls = ci(here, status)
    assert done.returncode == status
    assert "this build fails" in done.stdout
    assert calls[-1].endswith("test-system")


def test_machine_tests_that_fail_fail_the_build(here: Path) -> None:
    done, _ = ci(here, 2)
    assert done.returncode == 2
    assert "this build fails" not in done.stdout


def test_make_test_says_first_how_long_it_takes_also_the_first_time() -> None:
    recipe = (RUN.parents[1] / "Makefile").read_text(encoding="utf-8").partition("\ntest: ")[2].splitlines()[1]
    assert re.search(r'echo "make test: \d+ min ', recipe), recipe
