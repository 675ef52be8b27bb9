"""The command as a real process: signals and pipes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from patience import until
from vmfuzz.campaign.store import DATABASE, Store

SOURCE = Path(__file__).parents[2] / "src"
COMMAND = [sys.executable, "-m", "vmfuzz"]
STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """No process outlives its test, also where the test ends on its way."""
    yield
    while STARTED:
        STARTED.pop().kill()


def start(*arguments: str, stdout: int = subprocess.PIPE, **options: object) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "120"},
        **options,  # type: ignore[call-overload]
    )
    STARTED.append(process)
    return process


def running_after(process: subprocess.Popen[str]) -> None:
    """Return when candidates have run: `run` then says how many on standard error."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("running "), line + process.stderr.read()
    line = process.stderr.readline()
    assert " candidates " in line, line + process.stderr.read()


def alive(children: list[int]) -> list[int]:
    return [
        child for child in children if Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]
    ]


def children_of(process: subprocess.Popen[str]) -> list[int]:
    return children_of_pid(process.pid)


def children_of_pid(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("whole_group", [False, True], ids=["to the process", "to its group as a terminal does"])
def test_ctrl_c_ends_with_the_summary_and_leaves_no_worker(tmp_path: Path, whole_group: bool) -> None:
    path = tmp_path / "summary.json"
    process = start("run", "--iterations", "1g", "--summary", str(path), start_new_session=True)
    running_after(process)
    workers = children_of(process)
    assert workers
    if whole_group:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert "Traceback" not in errors
    assert output.startswith("stopped by Ctrl-C after ")
    assert "processor and model agree" in output
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["stopped"] is True
    assert 0 < data["candidates"] < data["wanted"] == 10**9
    assert process.returncode == (1 if data["findings"] else 0)
    assert alive(workers) == []


def test_jobs_end_when_their_campaign_is_killed_and_leave_its_directory(tmp_path: Path) -> None:
    process = start("run", "--iterations", "1g", "--jobs", "2", "--directory", str(tmp_path), start_new_session=True)
    until(lambda: all(ran_in(tmp_path / f"job-{job}") for job in range(2)), process)
    descendants = [child for pid in children_of(process) for child in (pid, *children_of_pid(pid))]
    process.kill()
    process.communicate()
    until(lambda: not alive(descendants))
    assert len(descendants) >= 5  # the emulated CPU of the campaign, two jobs, and theirs
    for job in range(2):
        Store(tmp_path / f"job-{job}").close()
        assert ran_in(tmp_path / f"job-{job}") > 0


def ran_in(directory: Path) -> int:
    """Candidates of the campaign in a directory, as they are on disk."""
    try:
        with closing(sqlite3.connect(f"{(directory / DATABASE).as_uri()}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT data FROM state").fetchone()
    except sqlite3.OperationalError:
        return 0
    return int(json.loads(row[0])["tally"]["candidates"]) if row else 0


def with_closed_output(*arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a command whose reader has gone before it writes."""
    reader, writer = os.pipe()
    os.close(reader)
    process = start(*arguments, stdout=writer)
    os.close(writer)
    _, errors = process.communicate()
    return process.returncode, errors


READABLE = (["checks"], ["checks", "guest.gs.p"], ["fields"], ["caps"])
FOR_MACHINES = (["checks", "--json"], ["fields", "--json"], ["caps", "--json"])


@pytest.mark.parametrize("arguments", [*READABLE, *FOR_MACHINES], ids=" ".join)
def test_a_reader_that_goes_away_gives_no_traceback(arguments: list[str]) -> None:
    assert with_closed_output(*arguments)[1] == ""


@pytest.mark.parametrize(
    "arguments",
    [*READABLE, *FOR_MACHINES],
    ids=" ".join,
)
def test_a_reader_that_goes_away_is_not_something_found(arguments: list[str]) -> None:
    assert with_closed_output(*arguments)[0] == 0


needs_full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")


@needs_full_device
@pytest.mark.parametrize(
    "arguments",
    [
        *READABLE,
        *FOR_MACHINES,
        ["--help"],
        ["--version"],
        ["checks", "--help"],
        ["check", "0x80000021"],
        ["dump-code", "--c"],
        ["doctor"],
        ["run", "--iterations", "1000"],
        ["run", "--iterations", "1000", "--json"],
        ["coverage", "--iterations", "1000"],
        ["suite", "guest.gs.s"],
    ],
    ids=" ".join,
)
def test_a_full_disk_gives_one_sentence_and_exit_code_3(arguments: list[str]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        process = start(*arguments, stdout=full.fileno())
        _, errors = process.communicate()
    assert process.returncode == 3
    last = errors.strip().splitlines()[-1]
    assert last.startswith("vmfuzz: cannot write standard output: No space left on device; ")
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


@needs_full_device
def test_nothing_at_all_can_be_written() -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        assert subprocess.run([*COMMAND, "checks"], stdout=full, stderr=full, check=False).returncode == 3


def test_bad_input_gives_one_sentence_and_exit_code_2() -> None:
    process = start("run", "--cpu", "pentium")
    output, errors = process.communicate()
    assert process.returncode == 2
    assert output == ""
    assert errors.startswith("vmfuzz: unknown CPU model 'pentium'; known: arrow_lake, ")
    assert errors.count("\n") == 1
