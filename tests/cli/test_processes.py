"""The command as a real process: signals and pipes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from patience import until
from vmfuzz.campaign.store import Store
from vmfuzz.campaign.stored import DATABASE
from vmfuzz.errors import EXIT_NOTHING_TESTED

SOURCE = Path(__file__).parents[2] / "src"
COMMAND = [sys.executable, "-m", "vmfuzz"]
STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    """No process outlives its test, also where the test ends on its way."""
    yield
    while STARTED:
        STARTED.pop().kill()


def start(*arguments: str, stdout: int = subprocess.PIPE, before: Sequence[str] = (), **options: object) -> subprocess.Popen[str]:
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [*before, *COMMAND, *arguments],
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
    assert line.startswith("starting "), line + process.stderr.read()
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


def family_of(process: subprocess.Popen[str]) -> list[int]:
    """The children of a process and theirs."""
    return [child for pid in children_of(process) for child in (pid, *children_of_pid(pid))]


SIGNALS = {"Ctrl-C": (signal.SIGINT, 130), "SIGTERM": (signal.SIGTERM, 143)}


@pytest.mark.parametrize(
    ("name", "jobs", "to"),
    [
        ("Ctrl-C", "1", "the process"),
        ("Ctrl-C", "1", "its group"),
        ("Ctrl-C", "2", "its group"),
        ("SIGTERM", "1", "the process"),
        ("SIGTERM", "1", "its family"),
        ("SIGTERM", "2", "its family"),
    ],
)
def test_ctrl_c_and_sigterm_end_with_the_summary_and_leave_no_worker(tmp_path: Path, name: str, jobs: str, to: str) -> None:
    """A terminal sends Ctrl-C to a process group; a service manager sends SIGTERM to every process of the service."""
    path, (number, code) = tmp_path / "summary.json", SIGNALS[name]
    process = start("run", "--iterations", "1g", "--jobs", jobs, "--summary", str(path), start_new_session=True)
    running_after(process)
    workers = family_of(process)
    assert workers
    if to == "its group":
        os.killpg(process.pid, number)
    else:
        for pid in [*(workers if to == "its family" else ()), process.pid]:
            os.kill(pid, number)
    output, errors = process.communicate()
    assert "Traceback" not in errors
    assert output.startswith(f"stopped by {name} after ")
    assert "processor and model agree" in output
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["stopped"] is True
    assert 0 < data["candidates"] < data["wanted"] == 10**9
    assert data["findings"] == []
    assert process.returncode == code
    until(lambda: alive(workers) == [])


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize(
    "arguments",
    [["coverage", "-n", "1g"], ["diff", "model", "bochs", "-n", "1g"], ["suite"], ["replay", str(SOURCE.parent / "corpus")]],
    ids=lambda arguments: arguments[0],
)
def test_a_signal_ends_every_long_command_with_its_code(arguments: list[str], name: str) -> None:
    process, (number, code) = start(*arguments), SIGNALS[name]
    until(lambda: bool(children_of(process)), process)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == code
    assert "Traceback" not in errors
    assert "Aborted" not in errors


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_during_the_imports_ends_the_command_without_a_word(name: str) -> None:
    process, (number, code) = start("run", "--iterations", "1g"), SIGNALS[name]
    until(lambda: "numpy" in Path(f"/proc/{process.pid}/maps").read_text(encoding="ascii", errors="replace"), process)
    process.send_signal(number)
    assert process.communicate() == ("", "")
    assert process.returncode == code


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04"], ids=["no", "nothing", "Ctrl-D"])
def test_a_question_that_is_not_answered_with_yes_runs_nothing_and_ends_with_its_code(answer: str) -> None:
    terminal, side = os.openpty()
    try:
        process = start("run", "--executor", "remote:nothing-that-exists", "--risk", "bold", stdin=side)
        os.write(terminal, answer.encode())
        output, errors = process.communicate()
    finally:
        os.close(terminal)
        os.close(side)
    assert (process.returncode, output) == (EXIT_NOTHING_TESTED, "")
    assert "Go on? [y/N]" in errors
    assert errors.endswith("vmfuzz: not confirmed, so nothing was run\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_a_script_ignores_stays_ignored(number: signal.Signals) -> None:
    process = start("run", "--iterations", "5000", preexec_fn=lambda: signal.signal(number, signal.SIG_IGN))
    until(lambda: bool(children_of(process)), process)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == 0
    assert output.startswith("ran 5,000 candidates")


def test_jobs_end_when_their_campaign_is_killed_and_leave_its_directory(tmp_path: Path) -> None:
    process = start("run", "--iterations", "1g", "--jobs", "2", "--directory", str(tmp_path), start_new_session=True)
    until(lambda: all(ran_in(tmp_path / f"job-{job}") for job in range(2)), process)
    descendants = family_of(process)
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


#: Commands with their exit codes.
ENDINGS = [
    *((arguments, 0) for arguments in (*READABLE, *FOR_MACHINES)),
    (["--help"], 0),
    (["run", "-n", "400"], 0),
    (["run", "-n", "400", "--json"], 0),
    (["coverage", "-n", "400"], 0),
    (["check", "0x80000021"], 1),
    (["check"], 2),
    (["diff", "model", "bochs", "-n", "3000", "--seed", "1", "--minimize-seconds", "0"], 1),
    (["suite", "guest.gs.p"], 0),
    (["replay", str(SOURCE.parent / "corpus" / "ambiguity.btf-not-loaded")], 0),
    (["findings", str(SOURCE.parent / "corpus")], 0),
    (["report", str(SOURCE.parent / "docs" / "report" / "summaries" / "tigerlake.json")], 0),
    (["dump-code"], 0),
    (["doctor"], 0),
]


@pytest.mark.parametrize(("arguments", "code"), ENDINGS, ids=lambda value: " ".join(value) if isinstance(value, list) else str(value))
def test_a_reader_that_goes_away_changes_no_exit_code(arguments: list[str], code: int) -> None:
    if arguments != ["check"]:  # with nothing to read it has something to say
        assert with_closed_output(*arguments)[0] == code


@pytest.mark.parametrize(("arguments", "code"), ENDINGS, ids=lambda value: " ".join(value) if isinstance(value, list) else str(value))
def test_closed_descriptors_change_no_exit_code(arguments: list[str], code: int) -> None:
    process = start(*arguments, before=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
    assert process.communicate() == ("", "")
    assert process.returncode == code


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&-"])
def test_any_descriptor_may_be_closed(closed: str) -> None:
    process = start("run", "-n", "400", "--jobs", "2", before=["sh", "-c", f'exec "$@" {closed}', "sh"])
    output, errors = process.communicate()
    assert process.returncode == 0
    assert ("ran 400 candidates" in output) == (">&-" not in closed.replace("2>&-", ""))
    assert ("running 400 candidates" in errors) == ("2>&-" not in closed)


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


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "-n", "300"],
        ["run", "-n", "300", "--jobs", "2"],
        ["coverage", "-n", "300"],
        ["diff", "bochs", "bochs", "-n", "300"],
        ["suite", "guest.gs.p"],
    ],
    ids=" ".join,
)
def test_nothing_is_left_in_the_users_directory(arguments: list[str], tmp_path: Path) -> None:
    process = start(*arguments, cwd=tmp_path)
    process.communicate()
    assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []
