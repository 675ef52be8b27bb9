"""A campaign on a Dask cluster: a real scheduler and real workers, each a process of its own, on this machine."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from patience import until
from vmfuzz.campaign.jobs import merge, run_share, shares_of
from vmfuzz.campaign.loop import Campaign, Summary
from vmfuzz.cli.main import main
from vmfuzz.cluster import members as cluster_members
from vmfuzz.cluster import run as cluster_module
from vmfuzz.cluster import worker as cluster_worker
from vmfuzz.cluster.members import FarProcessor, connect
from vmfuzz.cluster.run import ClusterRun, Part
from vmfuzz.errors import EnvironmentUnusable, UsageError
from vmfuzz.execute.bochs import executor as bochs
from vmfuzz.execute.kinds import open_executor
from vmfuzz.state.profiles import capabilities, known_good

SOURCE = Path(__file__).parents[2] / "src"
SKYLAKE, TIGERLAKE = "corei7_skylake_x", "tigerlake"
SEED, CANDIDATES, PIECES = 3, 12_001, 3


class Cluster:
    """A scheduler and workers as subprocesses that end with the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "scheduler.json"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(self.file), env={})
        until(lambda: self.file.exists() and self.file.read_text(encoding="utf-8").endswith("}"), self.processes["scheduler"])
        self.address = json.loads(self.file.read_text(encoding="utf-8"))["address"]

    def _start(self, name: str, *arguments: str, env: dict[str, str], python: Sequence[str] = ()) -> None:
        path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
        with (self.directory / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *python, "-m", "dask", *arguments, "--no-dashboard"],
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, "PYTHONPATH": path, **env},
            )

    def worker(self, name: str, *arguments: str, nanny: bool = False, python: Sequence[str] = (), **env: str) -> None:
        options = [*arguments, *([] if nanny else ["--no-nanny"]), "--name", name]
        self._start(name, "worker", self.address, *options, env=env, python=python)

    def wait(self, count: int) -> None:
        with connect(self.address) as client:
            client.wait_for_workers(count)

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(encoding="utf-8")

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def close(self) -> None:
        for name in self.processes:
            self.kill(name)  # a worker that is asked to end first looks for its scheduler


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers on one CPU model, one of them with two threads, and a worker on another model; the CPU models are the workers' own."""
    cluster = Cluster(tmp_path_factory.mktemp("fleet"))
    try:
        cluster.worker("one", "--nthreads", "1")
        cluster.worker("two", "--nthreads", "2", VMFUZZ_CPU=SKYLAKE)
        cluster.worker("other", "--nthreads", "1", VMFUZZ_CPU=TIGERLAKE)
        cluster.wait(3)
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster that a test may damage."""
    cluster = Cluster(tmp_path)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is waited for answers in the end, however slow the machine; tests of what happens where nobody does say for how long."""
    monkeypatch.setattr(cluster_members, "CONNECT_SECONDS", 600)
    monkeypatch.setattr(cluster_module, "REPLACEMENT_SECONDS", 600.0)
    monkeypatch.setattr(cluster_module, "ANSWER_SECONDS", 600.0)


#: What becomes of findings after the run: not a matter of which worker ran what.
SETTLED = ("minimized", "counted", "depends_on_what_ran_before", "unstable", "explained", "not_kept", "not_minimized")


def vmfuzz(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), catch_exceptions=False)


def counts(data: dict[str, Any]) -> dict[str, Any]:
    """What the same seed and pieces have to give again."""
    times = ("seconds", "executor_seconds", "candidates_per_second", "history", "date", "jobs", "missing", "lost", "command", *SETTLED)
    return {key: value for key, value in data.items() if key not in times}


@cache
def expected(cpu: str, candidates: int = CANDIDATES, pieces: int = PIECES) -> dict[str, Any]:
    """The result of the same pieces, run here one after another."""
    results = [run_share(share) for share in shares_of("bochs", cpu, SEED, candidates, pieces)]
    with open_executor("bochs", cpu=cpu) as executor:
        return counts(merge(Campaign(executor, SEED), candidates, results).to_json())


def ran(run: ClusterRun, candidates: int = CANDIDATES, pieces: int = PIECES, on_progress: Any = None) -> list[Summary]:
    for key in run.processors:
        run.add(key, SEED, candidates, pieces)
    run.run(on_progress)
    return [part.merged(run.stopping) for part in run.parts]


# One campaign on several processors


def test_each_processor_gets_the_campaign_that_jobs_would_run_on_it(
    fleet: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expectation = [expected(SKYLAKE), expected(TIGERLAKE)]

    def fail(*_arguments: object, **_options: object) -> None:
        raise AssertionError("the client opened an executor")

    monkeypatch.setattr(bochs.BochsExecutor, "__init__", fail)
    directory, file = tmp_path / "campaign", tmp_path / "summary.json"
    options = (
        "run",
        "--scheduler",
        fleet.address,
        "-n",
        str(CANDIDATES),
        "--seed",
        str(SEED),
        "--jobs",
        str(PIECES),
        "--minimize-seconds",
        "0",
    )
    result = vmfuzz(*options, "--directory", str(directory), "--summary", str(file), "--json")
    data = json.loads(result.stdout)
    assert data["schema"] == "vmfuzz-summaries-1"
    assert [counts(summary) for summary in data["summaries"]] == expectation
    assert [summary["missing"] for summary in data["summaries"]] == [[], []]
    assert [summary["command"] for summary in data["summaries"]] == [
        f"vmfuzz run --iterations {CANDIDATES} --seed {SEED} --executor bochs --cpu {cpu} --jobs {PIECES}" for cpu in (SKYLAKE, TIGERLAKE)
    ]
    assert json.loads(file.read_text(encoding="utf-8")) == data
    assert result.exit_code == (1 if any(summary["findings"] for summary in data["summaries"]) else 0)

    # what has come in is not run again: the pieces on disk are marked here, and the marks come out
    for piece in directory.glob("*/pieces/*.json"):
        text = piece.read_text(encoding="utf-8")
        piece.write_text(text.replace('"last_new": ', '"last_new": 1000'), encoding="utf-8")
    assert len(list(directory.glob("*/pieces/*.json"))) == 2 * PIECES
    next(directory.glob("bochs-tigerlake/pieces/1.json")).write_text("damaged", encoding="utf-8")
    again = vmfuzz("run", "--scheduler", fleet.address, "--resume", "--directory", str(directory), "--json", "--minimize-seconds", "0")
    assert [counts(summary) for summary in json.loads(again.stdout)["summaries"]] == expectation

    monkeypatch.undo()
    for source in (directory, file):
        report = json.loads(vmfuzz("report", str(source), "--json").stdout)
        assert [each["executor"] for each in report["processors"]] == [f"bochs {SKYLAKE}", f"bochs {TIGERLAKE}"]
        assert [each["candidates"] for each in report["processors"]] == [CANDIDATES, CANDIDATES]
    assert vmfuzz("coverage", str(directory / f"bochs-{TIGERLAKE}"), "--json").exit_code == 0


def test_deviations_of_a_file_are_known_to_the_workers_and_to_the_campaign_that_goes_on(own: Cluster, tmp_path: Path) -> None:
    own.worker("one", "--nthreads", "1")
    own.wait(1)
    program = Path(__file__).parents[1] / "execute" / "program" / "the_model.py"
    known = tmp_path / "known.json"
    cases = [{"base": "64-bit/plain/nothing", "mutation": {"guest_rflags": "0x0"}, "actual": "entered"}]
    erratum = {"id": "mine", "executor": "program the model", "text": "bit 1 of RFLAGS is not checked", "cases": cases}
    known.write_text(json.dumps({"schema": "vmfuzz-errata-1", "errata": [erratum]}), encoding="utf-8")
    options = ("run", "--scheduler", own.address, "--json", "--directory", str(tmp_path / "campaign"))
    executor = f"program:{shlex.join([sys.executable, str(program), 'guest.rflags.reserved.one'])}"
    result = vmfuzz(*options, "--executor", executor, "--errata", str(known), "-n", "3000", "--seed", "1", "--jobs", "2")
    (summary,) = json.loads(result.stdout)["summaries"]
    assert (result.exit_code, summary["findings"], summary["missing"]) == (0, [], [])
    assert list(summary["deviations"]) == ["mine"]
    known.unlink()  # the directory keeps what was in it, for a piece that is missing
    next((tmp_path / "campaign").glob("*/pieces/1.json")).unlink()
    again = vmfuzz(*options, "--resume")
    assert (again.exit_code, [counts(each) for each in json.loads(again.stdout)["summaries"]]) == (0, [counts(summary)])


def test_a_worker_has_one_piece_at_a_time_however_many_threads(fleet: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    submit = cluster_module.submit

    def watched(client: Any, worker: str, *arguments: Any) -> Any:
        nonlocal most
        busy = [task.worker for task in run._running.values()]
        assert worker not in busy
        most = max(most, len(busy) + 1)
        return submit(client, worker, *arguments)

    monkeypatch.setattr(cluster_module, "submit", watched)
    with connect(str(fleet.file)) as client:
        run = ClusterRun(client, cpu=SKYLAKE)
        assert [len(workers) for _, workers in run.processors.values()] == [3]  # --cpu counts more than a worker's own
        (summary,) = ran(run, 12_000, 6)
    assert most == 3
    assert summary.progress.tally.candidates == 12_000


def test_without_jobs_there_are_as_many_pieces_as_workers_and_people_get_a_summary_each(fleet: Cluster) -> None:
    result = vmfuzz("run", "--scheduler", fleet.address, "-n", "3000")
    assert f"running 3,000 candidates on bochs {SKYLAKE} in 2 pieces, workers: 2" in result.stderr
    assert f"running 3,000 candidates on bochs {TIGERLAKE} in 1 piece, workers: 1" in result.stderr
    assert f"ran 3,000 candidates on bochs {SKYLAKE}" in result.stdout
    assert f"ran 3,000 candidates on bochs {TIGERLAKE}" in result.stdout


def test_ctrl_c_ends_the_pieces_with_what_they_have(fleet: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    patient = "from vmfuzz.cluster import members; members.CONNECT_SECONDS = 600"
    command = [sys.executable, "-c", f"{patient}; from vmfuzz.cli.main import main; main()", "run", "--scheduler", fleet.address]
    path = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        [*command, "-n", "1g", "--summary", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "candidates: " in line and "candidates: 0 " not in line:
            break
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert "Traceback" not in errors
    assert output.startswith("stopped by Ctrl-C after ")
    data = json.loads(file.read_text(encoding="utf-8"))
    assert all(summary["stopped"] and summary["candidates"] < summary["wanted"] == 10**9 for summary in data["summaries"])
    assert sum(summary["candidates"] for summary in data["summaries"]) > 0
    assert process.returncode == 130
    with connect(fleet.address) as client:  # the workers are free again
        (summary,) = ran(ClusterRun(client, cpu=TIGERLAKE), 3000)
    assert summary.progress.tally.candidates == 3000


# Workers that go away


def after_submitting(number: int, act: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something happen once so many pieces are on their way."""
    submit, submitted = cluster_module.submit, 0

    def watched(*arguments: Any) -> Any:
        nonlocal submitted
        future = submit(*arguments)
        submitted += 1
        if submitted == number:
            act()
        return future

    monkeypatch.setattr(cluster_module, "submit", watched)


def test_a_piece_whose_worker_dies_is_run_again_elsewhere(own: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    own.worker("one", "--nthreads", "1")
    own.worker("two", "--nthreads", "1")
    own.wait(2)
    after_submitting(2, lambda: own.kill("one"), monkeypatch)
    with connect(own.address) as client:
        run = ClusterRun(client)
        (summary,) = ran(run)
    assert run.parts[0]._tried.total() == 1
    assert counts(summary.to_json()) == expected(SKYLAKE)


def test_a_worker_that_comes_later_takes_the_place_of_one_that_died(own: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    own.worker("one", "--nthreads", "1")
    own.wait(1)

    def replace() -> None:
        own.kill("one")
        own.worker("two", "--nthreads", "1")

    after_submitting(1, replace, monkeypatch)
    with connect(own.address) as client:
        (summary,) = ran(ClusterRun(client))
    assert counts(summary.to_json()) == expected(SKYLAKE)


def test_pieces_without_a_worker_are_reported(own: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "REPLACEMENT_SECONDS", 1.0)
    own.worker("one", "--nthreads", "1")
    own.wait(1)
    after_submitting(1, lambda: own.kill("one"), monkeypatch)
    result = vmfuzz("run", "--scheduler", own.address, "-n", "1g", "--jobs", "2")
    assert result.exit_code == 3
    assert (
        "vmfuzz: piece 2 of 2 on bochs corei7_skylake_x (500,000,000 candidates) did not finish: "
        "no worker with bochs corei7_skylake_x is left" in result.stderr
    )


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGSTOP])
def test_a_scheduler_that_dies_or_hangs_ends_the_campaign_with_what_has_come_in(
    own: Cluster, monkeypatch: pytest.MonkeyPatch, with_signal: signal.Signals
) -> None:
    monkeypatch.setattr(cluster_module, "REPLACEMENT_SECONDS", 1.0)
    monkeypatch.setattr(cluster_module, "ANSWER_SECONDS", 5.0)
    own.worker("one", "--nthreads", "1")
    own.wait(1)

    def end(_parts: Sequence[Part]) -> None:
        own.processes["scheduler"].send_signal(with_signal)

    with connect(own.address) as client:
        run = ClusterRun(client)
        (summary,) = ran(run, 1_000_000_000, 2, end)
        assert run.minimize(1.0)[0].entries == {}
    assert {why.split(" (")[0] for why in run.parts[0].lost.values()} == {"the scheduler no longer answers"}
    assert sorted(run.parts[0].lost) == [0, 1]
    assert not summary.stopped


def far(name: str) -> Part:
    known = capabilities(SKYLAKE)
    processor = FarProcessor(name, "1", name.split()[0], None, (known, known_good(known)))
    return Part(processor, Campaign(processor, SEED), shares_of("bochs", None, SEED, 100, 2))


def test_a_piece_that_may_have_taken_a_real_machine_with_it_is_not_run_on_another() -> None:
    real, emulated = far("kmod Xeon"), far("bochs x")
    for part in (real, emulated):
        part.gone(1, "tcp://there:1")
    assert real.waiting == [0]
    assert "may have taken the machine down" in real.lost[1]
    assert emulated.waiting == [0, 1]
    for _ in range(2):
        emulated.gone(1, "tcp://there:1")
    assert emulated.lost == {1: "worker tcp://there:1 went away while it ran the piece (tried 3 times)"}


def test_an_answer_that_does_not_come_is_judged_the_same_way() -> None:
    class Failing:
        def result(self, **_options: float) -> None:
            raise CancelledError("scheduler-restart")

    for name, waiting in (("kmod Xeon", [0]), ("bochs x", [0, 1])):
        part = far(name)
        run = object.__new__(ClusterRun)
        run._take_result(Failing(), cluster_module._Task(part, 1, "tcp://there:1", "key"))
        assert part.waiting == waiting
        assert all("gave no result (CancelledError: scheduler-restart)" in why for why in part.lost.values())


def test_a_piece_that_nobody_asks_about_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_worker, "ORPHANED_AFTER", 0.5)
    (share,) = shares_of("bochs", SKYLAKE, SEED, 1_000_000_000, 1)
    result = cluster_worker.run_piece("orphan", {**vars(share)})
    assert result["stopped"]
    assert not cluster_worker._RUNNING


def test_a_piece_waits_for_the_one_that_runs_in_the_same_process() -> None:
    shares = [vars(share) for share in shares_of("bochs", SKYLAKE, SEED, 1_000_000_000, 2)]
    results: dict[str, dict[str, Any]] = {}

    def work(key: str, share: dict[str, Any]) -> None:
        results[key] = cluster_worker.run_piece(key, share)

    threads = [threading.Thread(target=work, args=(f"piece-{number}", share)) for number, share in enumerate(shares)]
    threads[0].start()
    until(lambda: cluster_worker.look(["piece-0"], stop=False))
    threads[1].start()
    until(lambda: "piece-1" in cluster_worker._RUNNING)
    assert list(cluster_worker.look(["piece-0", "piece-1"], stop=False)) == ["piece-0"]
    assert cluster_worker.look(["piece-1"], stop=True) == {}
    threads[1].join()
    assert results["piece-1"] == {"error": "ended before it began"}
    cluster_worker.look(["piece-0"], stop=True)
    threads[0].join()
    assert results["piece-0"]["stopped"]
    assert results["piece-0"]["tally"]["candidates"] > 0


# Workers that cannot take part


def without(directory: Path, *names: str) -> Path:
    """The packages of this environment without some: a directory of links."""
    directory.mkdir()
    for package in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not package.name.startswith(tuple(names)) and package.suffix != ".pth":
            (directory / package.name).symlink_to(package)
    return directory


def test_a_worker_without_vmfuzz_or_with_another_version_is_named(own: Cluster, tmp_path: Path) -> None:
    nothing = without(tmp_path / "nothing", "vmfuzz", "__editable__")
    old = without(tmp_path / "old", "vmfuzz", "__editable__", "hypothesis-")
    for name, version in (("vmfuzz", "0.0.9"), ("hypothesis", "6.1")):
        (old / f"{name}-{version}.dist-info").mkdir()
        (old / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    own.worker("none", "--nthreads", "1", python=["-S"], PYTHONPATH=str(nothing))
    own.worker("old", "--nthreads", "1", python=["-S"], PYTHONPATH=str(old))
    own.wait(2)
    result = vmfuzz("run", "--scheduler", own.address)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "vmfuzz not installed (here 0.1.0)" in result.stderr
    assert "vmfuzz 0.0.9 (here 0.1.0), hypothesis 6.1 (here " in result.stderr
    assert result.stderr.count("worker tcp://127.0.0.1:") == 2
    assert "pip install 'vmfuzz[cluster]'" in result.stderr


def test_a_worker_whose_executor_does_not_open_is_named(fleet: Cluster) -> None:
    result = vmfuzz("run", "--scheduler", fleet.address, "--cpu", "pentium")
    assert result.exit_code == 3
    assert "worker tcp://127.0.0.1:" in result.stderr
    assert "unknown CPU model 'pentium'" in result.stderr


def test_other_sources_under_the_same_version_are_refused() -> None:
    answer = asyncio.run(cluster_worker.describe("auto", None, "0123456789"))
    assert answer == {"error": f"has vmfuzz 0.1.0 with other sources ({cluster_worker.sources()}) than here (0123456789)"}


@pytest.mark.parametrize(
    ("asked", "variables", "device", "expectation"),
    [
        (("auto", None), {}, False, ("bochs", None)),
        (("auto", None), {}, True, ("kmod", None)),
        (("auto", None), {"VMFUZZ_CPU": TIGERLAKE}, True, ("bochs", TIGERLAKE)),
        (("auto", SKYLAKE), {"VMFUZZ_CPU": TIGERLAKE}, True, ("bochs", SKYLAKE)),
        (("auto", None), {"VMFUZZ_EXECUTOR": "bochs@old/bin/python"}, True, ("bochs@old/bin/python", None)),
        (("bochs", None), {"VMFUZZ_EXECUTOR": "kmod", "VMFUZZ_CPU": TIGERLAKE}, True, ("bochs", TIGERLAKE)),
    ],
)
def test_a_worker_chooses_by_the_campaign_then_by_its_environment_then_by_its_machine(
    asked: tuple[str, str | None],
    variables: dict[str, str],
    device: bool,
    expectation: tuple[str, str | None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    place = tmp_path / "device"
    if device:
        place.touch()
    monkeypatch.setattr(cluster_worker, "DEVICE", place)
    for name in ("VMFUZZ_EXECUTOR", "VMFUZZ_CPU"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cluster_worker.chosen(*asked) == expectation


# Findings


def test_findings_are_run_again_and_minimized_on_the_worker(own: Cluster, tmp_path: Path) -> None:
    # a worker that knows no deviation of its emulator: what is on the list is found anew, as a real disagreement
    preload = tmp_path / "no_deviations.py"
    preload.write_text(
        "import vmfuzz.comparison.errata as errata\nerrata.deviations_of = lambda name: ()\n",
        encoding="utf-8",
    )
    own.worker("one", "--nthreads", "1", "--preload", str(preload))
    own.wait(1)
    directory = tmp_path / "campaign"
    result = vmfuzz(
        "run", "--scheduler", own.address, "-n", "3000", "--seed", "1", "--directory", str(directory), "--minimize-seconds", "600"
    )
    assert result.exit_code == 1, result.output
    assert "minimized to " in result.stdout
    place = directory / f"bochs-{SKYLAKE}"
    entries = list((place / "findings").glob("*.json"))
    assert entries
    assert any(entry.stem in result.stdout for entry in entries)
    assert vmfuzz("show", entries[0].stem, "--corpus", str(place)).exit_code == 0
    assert vmfuzz("findings", str(place)).exit_code in (0, 1)


# Addresses


@pytest.mark.parametrize("address", ["127.0.0.1:1", "tcp://127.0.0.1:1"])
def test_an_address_where_nothing_answers_is_said(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_members, "CONNECT_SECONDS", 1)
    result = vmfuzz("run", "--scheduler", address)
    assert result.exit_code == 3
    assert result.stderr.startswith(f"vmfuzz: no Dask scheduler answers at {address} within 1 s; start one with `dask scheduler`")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("address", ["nonsense", "", "http://127.0.0.1:1", "127.0.0.1:port"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="expected the address that `dask scheduler` prints"):
        connect(address)


def test_a_workers_address_is_refused(fleet: Cluster) -> None:
    with connect(fleet.address) as client:
        worker = min(client.nthreads())
    with pytest.raises(UsageError, match="this is a Worker; expected the address of the scheduler"):
        connect(worker)


def test_a_cluster_without_workers_says_how_to_start_one(own: Cluster) -> None:
    with connect(own.address) as client, pytest.raises(EnvironmentUnusable, match="no workers; start one on each machine: dask worker"):
        ClusterRun(client)


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = vmfuzz("run", "--scheduler", "tcp://127.0.0.1:1")
    assert result.exit_code == 3
    assert result.stderr == "vmfuzz: --scheduler needs distributed; install it with: pip install 'vmfuzz[cluster]'\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--risk", "bold", "--yes"], "decided on that machine"),
        (["--bisect-lost"], "narrowed down on that machine"),
        (["--resume"], "--resume needs --directory"),
    ],
)
def test_options_that_mean_nothing_on_a_cluster_are_refused(options: list[str], words: str) -> None:
    result = vmfuzz("run", "--scheduler", "tcp://127.0.0.1:1", *options)
    assert result.exit_code == 2
    assert words in result.stderr
