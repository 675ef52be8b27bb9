"""The campaign's state on disk: resumed campaigns equal uninterrupted ones, kills lose nothing, and clear errors say what is wrong."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from vmfuzz.campaign.loop import Campaign, Progress
from vmfuzz.campaign.store import Store
from vmfuzz.campaign.stored import DATABASE, has_campaign, restore_stored, stored_facts, stored_findings
from vmfuzz.cli.main import main
from vmfuzz.comparison.trial import Trial
from vmfuzz.errors import EnvironmentUnusable, UsageError
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.model.checks import CHECKS
from vmfuzz.state.profiles import capabilities, known_good

ROOT = Path(__file__).parents[2]
CAPS = capabilities("corei7_skylake_x")
LEFT_OUT = ("guest.ss.s", "ctl.cr3target.count", "guest.gs.base", "guest.cs.p", "ctl.entry.msrload.align")
TIMES = {"seconds", "executor_seconds", "candidates_per_second", "history"}
FAMILIES = 80
PLAIN = "64-bit/plain/nothing"


def campaign(seed: int = 0, family_size: int = 64) -> Campaign:
    """A campaign with findings: the processor leaves out some checks."""
    checks = [check for check in CHECKS if check.id not in LEFT_OUT]
    made = Campaign(ModelExecutor(CAPS, known_good(CAPS), checks), seed)
    made.family_size = family_size
    return made


def counted(made: Campaign, families: int = FAMILIES, store: Store | None = None) -> dict[str, Any]:
    data = made.run(made.family_size * families, store=store).to_json()
    return {key: value for key, value in data.items() if key not in TIMES}


@cache
def uninterrupted() -> str:
    return json.dumps(counted(campaign()))


def with_findings(directory: Path, made: Campaign) -> dict[str, int]:
    """Store a campaign that has met these mismatches, whatever its draws would have been; how often each was met."""
    base = made.generator.bases.get(PLAIN)
    assert base is not None
    mutations = [{"guest_ss_access_rights": 0xC083}, {"cr3_target_count": 5}, {"cr3_target_count": 77, "guest_rsp": 5}, {}]
    with Store(directory) as store:
        store.attach(made, 4)
        made.progress.findings.add(Trial(made.executor, made.model).compare(base, mutations), PLAIN)
        store.ends(made, 0)
    return {id: finding.count for id, finding in made.progress.findings.by_id.items()}


class Power(Exception):
    """The process ends here."""


def interrupted(directory: Path, after: int) -> None:
    def count(progress: Progress, left: list[int] = [after]) -> None:  # noqa: B006
        left[0] -= 1
        if not left[0]:
            raise Power

    with Store(directory) as store, pytest.raises(Power):
        campaign().run(64 * FAMILIES, count, store)


@pytest.mark.parametrize("stops", [(1,), (63,), (64,), (65,), (1, 10, 30, 30)])
def test_a_resumed_campaign_counts_what_an_uninterrupted_one_does(tmp_path: Path, stops: tuple[int, ...]) -> None:
    for after in stops:
        interrupted(tmp_path, after)
    with Store(tmp_path) as store:
        resumed = counted(campaign(), store=store)
    assert json.dumps(resumed) == uninterrupted()
    assert resumed["findings"]


def test_a_finished_campaign_can_be_made_longer(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        first = counted(campaign(), 30, store)
        longer = counted(campaign(), FAMILIES, store)
    assert (first["candidates"], longer["candidates"]) == (30 * 64, FAMILIES * 64)
    assert {finding["id"] for finding in first["findings"]} <= {finding["id"] for finding in longer["findings"]}


def test_findings_on_disk_are_those_of_the_campaign(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        made = campaign()
        made.run(64 * FAMILIES, store=store)
        # also while the campaign runs
        stored = {finding["id"]: finding["count"] for finding in stored_findings(tmp_path)}
    assert stored == {id: finding.count for id, finding in made.progress.findings.by_id.items()}
    with Store(tmp_path) as store:
        again = campaign()
        store.attach(again, 1)
    for id, finding in made.progress.findings.by_id.items():
        kept = again.progress.findings.by_id[id]
        assert (kept.example, kept.base_name, kept.predicted, kept.actual) == (
            finding.example,
            finding.base_name,
            finding.predicted,
            finding.actual,
        )
        assert set(kept.others) == set(finding.others)


def script() -> ModuleType:
    path = Path(__file__).parents[2] / "tests" / "quality" / "kill_campaign.py"
    spec = importlib.util.spec_from_file_location("kill_campaign", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kill_9_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    kill = script()
    measured = kill.kill_and_resume(tmp_path, kills=3, seed=1, longest=0.8)
    assert measured["candidates"] > 0
    assert kill.same_as_uninterrupted(tmp_path)


def test_kill_9_while_findings_are_minimized_loses_none(tmp_path: Path) -> None:
    kill = script()
    assert with_findings(tmp_path, kill.campaign())
    measured = kill.kill_minimization(tmp_path, kills=2, seed=1)
    assert measured["minimizations_killed"] == 2
    assert measured["same_entries"]
    assert measured["entries"]


def test_findings_of_jobs_are_read_where_they_lie(tmp_path: Path) -> None:
    Store(tmp_path).close()
    first, second = (with_findings(tmp_path / f"job-{job}", campaign(seed=job)) for job in range(2))
    together = {data["id"]: data["count"] for data in stored_findings(tmp_path)}
    assert first == second != {}
    assert together == {id: 2 * count for id, count in first.items()}


def test_a_campaign_can_be_read_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_findings(tmp_path, campaign())
    before = stored_findings(tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert stored_findings(tmp_path) == before != []
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_two_campaigns_in_one_directory_are_refused(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(UsageError, match=rf"another campaign \(process {os.getpid()}\) is at work there"):
        Store(tmp_path)
    Store(tmp_path).close()


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(EnvironmentUnusable, match=r"cannot keep a campaign in .*; name a directory that you can write to"):
        Store(tmp_path / "file")


def test_a_lock_that_does_not_fit_on_the_disk_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        with pytest.raises(
            EnvironmentUnusable, match=r"cannot lock .*: No space left on device; the campaign there is as it was: make room"
        ):
            Store(tmp_path)
    Store(tmp_path).close()


@cache
def unprivileged() -> list[str]:
    """What has to stand before a command so that permissions count for it; skips the test where root cannot give them up."""
    if os.geteuid():
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may write everywhere, and setpriv is not there")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "-n", "10", "--directory", "DIR/new"), "cannot keep a campaign in"),
        (("run", "--resume", "--directory", "DIR"), "what was stored before is complete"),
        (("minimize", "--corpus", "DIR"), "what was stored before is complete"),
        (("run", "-n", "10", "--summary", "DIR/summary.json"), "is not a directory that can be written"),
        (("replay", str(ROOT / "corpus" / "guest.pat"), "--junit", "DIR/junit.xml"), "is not a directory that can be written"),
    ],
)
def test_a_read_only_directory_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    place = tmp_path / "place"
    interrupted(place, 3)
    before = unprivileged()
    if before:
        shutil.chown(place, 65534)
    place.chmod(0o555)
    command = [*before, sys.executable, "-c", "from vmfuzz.cli.main import main; main()"]
    done = subprocess.run([*command, *(each.replace("DIR", str(place)) for each in arguments)], capture_output=True, text=True, check=False)
    listed = subprocess.run([*command, "findings", str(place)], capture_output=True, text=True, check=False)
    place.chmod(0o755)
    assert (done.returncode, done.stdout) == (3, "")
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    # and yet it can be read
    assert (listed.returncode, listed.stderr) == (0, "")


def test_a_full_disk_is_a_clear_error_and_what_was_stored_stays(tmp_path: Path) -> None:
    interrupted(tmp_path, 5)
    before = stored_findings(tmp_path)
    with Store(tmp_path) as store:
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(EnvironmentUnusable, match=r"campaign\.sqlite: database or disk is full; what was stored before is complete"):
            counted(campaign(), store=store)
    assert {finding["id"] for finding in before} <= {finding["id"] for finding in stored_findings(tmp_path)}
    with Store(tmp_path) as store:
        assert json.dumps(counted(campaign(), store=store)) == uninterrupted()


def test_what_is_no_campaign_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"not a database, but long enough to be looked at" * 40)
    with pytest.raises(UsageError, match="is not a campaign of vmfuzz, or is damaged"):
        Store(tmp_path)
    with pytest.raises(UsageError, match="cannot be read as a campaign"):
        stored_findings(tmp_path)


def test_a_database_of_another_program_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        database.execute("CREATE TABLE bookmarks (id INTEGER, title TEXT)")
    before = (tmp_path / DATABASE).read_bytes()
    with pytest.raises(UsageError, match=r"is not a campaign of vmfuzz, or is damaged \(it has the tables bookmarks"):
        Store(tmp_path)
    assert (tmp_path / DATABASE).read_bytes() == before


#: SQL that damages a campaign's state, each in another way.
DAMAGE = [
    "DELETE FROM facts WHERE name = 'seed'",
    "UPDATE facts SET value = 'null' WHERE name = 'wanted'",
    "UPDATE facts SET value = '\"7\"' WHERE name = 'jobs'",
    "UPDATE facts SET value = '\"vmfuzz-campaign-9\"' WHERE name = 'schema'",
    "UPDATE facts SET value = '{' WHERE name = 'cpu'",
    "UPDATE state SET data = '{}'",
    "UPDATE state SET data = '[]'",
    "UPDATE state SET data = 'null'",
    "UPDATE state SET data = json_remove(data, '$.tally.violated')",
    "UPDATE state SET data = json_set(data, '$.tally.decided', json('[1, 2]'))",
    "UPDATE state SET data = json_set(data, '$.tally.candidates', 'many')",
    "UPDATE state SET data = json_set(data, '$.tally.verdicts', json('[[\"NONSENSE\", 1]]'))",
    "UPDATE state SET data = json_set(data, '$.tally.coverage', json('{}'))",
    "UPDATE state SET data = json_set(data, '$.tally.coverage', 7)",
    "UPDATE state SET data = json_set(data, '$.history', json('[1]'))",
    "UPDATE state SET data = json_set(data, '$.seconds', json('null'))",
    "UPDATE findings SET data = '{}'",
    "UPDATE findings SET data = x'ff00'",
    "UPDATE findings SET data = json_set(data, '$.examples', json('[]'))",
    "UPDATE findings SET data = json_set(data, '$.actual', json('[99, 0, 0]'))",
    "UPDATE findings SET data = json_set(data, '$.count', json('null'))",
    "UPDATE chunk SET plans = '[{}]'",
    "UPDATE chunk SET plans = json_set(plans, '$[0].base', 'no such base')",
    "UPDATE chunk SET number = 'x'",
    "DROP TABLE state",
    "DROP TABLE findings",
    "ALTER TABLE findings RENAME COLUMN data TO other",
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_one_sentence(tmp_path: Path, damage: str) -> None:
    with_findings(tmp_path, campaign())
    with Store(tmp_path) as store:
        made = campaign()
        store.chunk(0, made.plan(0))
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        database.execute(damage)
        database.commit()

    def resumed() -> None:
        with Store(tmp_path) as store:
            store.attach(campaign(), 64)

    def sentence(look: Callable[[], object]) -> str | None:
        try:
            look()
        except UsageError as error:
            return str(error)
        return None

    looks: list[Callable[[], object]] = [lambda: restore_stored(tmp_path, campaign()), lambda: stored_findings(tmp_path), resumed]
    sentences = [said for look in looks if (said := sentence(look)) is not None]
    assert all(said.startswith(f"{tmp_path / DATABASE} ") for said in sentences)
    tables = {"DROP TABLE state": 1, "DROP TABLE findings": 2, "UPDATE chunk": 1}
    assert len(sentences) >= next((count for text, count in tables.items() if damage.startswith(text)), 2)


def test_a_campaign_that_did_not_begin_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / DATABASE).touch()
    for _ in range(2):  # an empty file, and one with tables only
        result = CliRunner().invoke(main, ["run", "--resume", "--directory", str(tmp_path)])
        assert result.exit_code == 2
        assert result.stdout == ""
        assert result.stderr.endswith("its campaign has not begun, so there is nothing to go on with; leave out --resume to begin it\n")
    for arguments in (["coverage", str(tmp_path)], ["report", str(tmp_path)], ["minimize", "--corpus", str(tmp_path)]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2
        assert f"its campaign has not begun; `vmfuzz run --directory {tmp_path}` begins it" in result.stderr
    assert CliRunner().invoke(main, ["run", "-n", "10", "--directory", str(tmp_path)]).exit_code == 0


def test_a_disk_that_was_full_at_the_start_does_not_say_to_resume(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(EnvironmentUnusable, match=r"disk is full; make room or give the right to write, then start it again$"):
            counted(campaign(), store=store)
    assert stored_findings(tmp_path) == []


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_a_campaign_was_to_run_is_kept_before_it_runs(tmp_path: Path, jobs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up later must not cost the number that was wanted."""

    def full(*_arguments: object, **_options: object) -> None:
        raise EnvironmentUnusable("the disk is full")

    monkeypatch.setattr("vmfuzz.campaign.store.Store.attach", full)
    result = CliRunner().invoke(main, ["run", "-n", "12345", "--seed", "3", "--jobs", jobs, "--directory", str(tmp_path)])
    assert result.exit_code == 3
    facts = stored_facts(tmp_path)
    assert (facts["wanted"], facts["seed"], facts["jobs"], facts["option"]) == (12345, 3, int(jobs), "auto")


@pytest.mark.parametrize("arguments", [["--seed", "1"], ["--cpu", "tigerlake"], ["--jobs", "2"]], ids=" ".join)
def test_nothing_is_said_to_run_before_a_refusal(tmp_path: Path, arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["run", "-n", "10", "--directory", str(tmp_path)]).exit_code == 0
    result = CliRunner().invoke(main, ["run", "--resume", "--directory", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"vmfuzz: {tmp_path}: its campaign has another ")


def test_a_place_for_findings_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "findings").write_text("in the way", encoding="utf-8")
    result = CliRunner().invoke(main, ["run", "-n", "10", "--directory", str(tmp_path)])
    assert result.exit_code == 3
    assert f"{tmp_path}/findings is not a directory that can be written" in result.stderr


def test_coverage_and_report_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    place = tmp_path / "place"
    command = [sys.executable, "-c", "from vmfuzz.cli.main import main; main()"]
    assert subprocess.run([*command, "run", "-n", "500", "--directory", str(place)], check=False, capture_output=True).returncode == 0
    before = unprivileged()
    if before:
        for path in (place, *place.iterdir()):
            shutil.chown(path, 65534)
    place.chmod(0o555)
    done = {
        each: subprocess.run([*before, *command, each, str(place)], capture_output=True, text=True, check=False)
        for each in ("coverage", "report", "findings")
    }
    place.chmod(0o755)
    assert {each: (ran.returncode, ran.stderr) for each, ran in done.items()} == dict.fromkeys(done, (0, ""))
    assert done["coverage"].stdout.startswith("corei7_skylake_x: 500 candidates\n")
    assert "500" in done["report"].stdout


def test_a_campaign_can_be_read_while_it_is_at_work(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["run", "-n", "500", "--directory", str(tmp_path)]).exit_code == 0
    with Store(tmp_path):
        for arguments in (["coverage", str(tmp_path)], ["report", str(tmp_path)]):
            assert CliRunner().invoke(main, arguments).exit_code == 0


def test_another_seed_or_processor_is_refused(tmp_path: Path) -> None:
    interrupted(tmp_path, 1)
    with Store(tmp_path) as store, pytest.raises(UsageError, match=r"its campaign has another seed \(0\) than this one \(1\)"):
        counted(campaign(seed=1), store=store)
    other = capabilities("tigerlake")
    with Store(tmp_path) as store, pytest.raises(UsageError, match="another executor"):
        counted(Campaign(ModelExecutor(other, known_good(other)), 0), store=store)


def test_a_directory_has_a_campaign_once_one_was_begun(tmp_path: Path) -> None:
    assert not has_campaign(tmp_path)
    Store(tmp_path).close()
    assert has_campaign(tmp_path)


def test_the_lock_is_gone_when_its_process_is(tmp_path: Path) -> None:
    code = f"import os\nfrom pathlib import Path\nfrom vmfuzz.campaign.store import Store\nStore(Path({str(tmp_path)!r}))\nos._exit(9)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    Store(tmp_path).close()
    assert sqlite3.connect(tmp_path / DATABASE).execute("PRAGMA integrity_check").fetchone() == ("ok",)
