"""A campaign's state on disk: what was counted, the findings, and where to go on, so that a kill at any moment loses at most one batch.

One SQLite database a campaign directory, in WAL mode: a transaction is there wholly or not at all, whatever happens to the process, and one
family costs one commit. Writing a file aside and renaming it would do as well but would write all findings anew each time. The plans of the
current chunk are kept too, so that a resumed campaign runs exactly the candidates that it would have run.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from vmfuzz.campaign.as_data import finding_data, finding_from, restore_tally, tally_data
from vmfuzz.campaign.corpus import fingerprint
from vmfuzz.campaign.findings import EXAMPLES_KEPT
from vmfuzz.campaign.lock import at_work, locked
from vmfuzz.campaign.lost import LostBatch, lost_from, plan_from
from vmfuzz.errors import EnvironmentUnusable, UsageError
from vmfuzz.execute.base import lacking_fields
from vmfuzz.generate.families import FamilyPlan

if TYPE_CHECKING:
    from vmfuzz.campaign.loop import Campaign
    from vmfuzz.campaign.triage import Triage

DATABASE: Final = "campaign.sqlite"
_SCHEMA: Final = "vmfuzz-campaign-1"
#: What is kept of a triage, by its names there; its entries are files of their own.
TRIAGE: Final = ("counted", "unstable", "explained", "not_kept")
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS chunk (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL, plans TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 1), position INTEGER NOT NULL, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS findings (id TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS running (id INTEGER PRIMARY KEY CHECK (id = 1), plan TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS lost (plan TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Position:
    """Where a campaign goes on: the chunk, how many of its plans are done, and the plans (None: not drawn yet)."""

    chunk: int = 0
    done: int = 0
    plans: list[FamilyPlan] | None = None


class Store:
    """The state of the campaign in `directory`, which only this process may write as long as the store is open.

    Raises UsageError where another campaign is at work there, or the directory holds something else; EnvironmentUnusable where it
    cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / DATABASE
        #: the executor's name as `open_executor` takes it, kept with the facts as "option" so that a resumed campaign opens the same one
        self.option: str | None = None
        self._lock = locked(directory)
        try:
            with self._translated():
                self._database = sqlite3.connect(self.path, isolation_level=None)
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.executescript(_TABLES)
        except BaseException:
            os.close(self._lock)
            raise

    # What the campaign is

    @property
    def facts(self) -> dict[str, Any]:
        """What the campaign was started with, empty if none was: executor, cpu, seed, wanted, ..."""
        with self._translated():
            return {name: json.loads(value) for name, value in self._database.execute("SELECT name, value FROM facts")}

    @property
    def lost(self) -> list[LostBatch]:
        """Batches after which the machine did not come back; a batch that was under way is one of them once the campaign is attached."""
        with self._translated():
            return _lost_in(self._database)

    def attach(self, campaign: Campaign, wanted: int, jobs: int = 1) -> Position:
        """Give the campaign what is stored (nothing, if it is new) and say where it goes on; raises UsageError where the two do not fit.

        `jobs`: the processes that it runs in, each of which has a store of its own if it is not one.
        """
        facts = self.require_same(campaign, jobs)
        with self._transaction():
            option = {} if self.option is None else {"option": self.option}
            for name, value in {**facts, **option, "wanted": wanted}.items():
                self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))
        self._restore(campaign)
        return self._position()

    def require_same(self, campaign: Campaign, jobs: int = 1) -> dict[str, Any]:
        """Facts of the campaign, which is stored here or new; raises UsageError where another one is stored.

        What was under way when the stored one ended is taken as lost, where the machine may have gone with it.
        """
        facts: dict[str, Any] = {
            "schema": _SCHEMA,
            "executor": campaign.executor.name,
            "cpu": campaign.executor.capabilities().name,
            "capabilities": fingerprint(campaign.executor.capabilities()),
            "seed": campaign.seed,
            "jobs": jobs,
            "checks": [compiled.check.id for compiled in campaign.model.compiled],
            "lacking_fields": list(lacking_fields(campaign.executor)),
        }
        stored = self.facts
        if stored:
            stored.setdefault("lacking_fields", [])  # older directories do not say; their processors lacked none
        for name, value in facts.items():
            if stored and stored.get(name) != value:
                raise UsageError(
                    f"{self.directory}: its campaign has another {name} ({_short(stored.get(name))}) than this one ({_short(value)}); "
                    "use another directory"
                )
        emulated = is_emulated(campaign.executor.name)
        with self._translated():
            # on a machine that can hang, a batch has to be on disk before it runs
            self._database.execute(f"PRAGMA synchronous = {'NORMAL' if emulated else 'FULL'}")
        self._take_leftovers(campaign, emulated)
        return facts

    def _take_leftovers(self, campaign: Campaign, emulated: bool) -> None:
        with self._translated():
            row = self._database.execute("SELECT plan FROM running").fetchone()
            lost = _lost_in(self._database)
        with self._transaction():
            if row is not None and not emulated:
                data = json.loads(row[0])
                data["restarted"] = data.get("boot") != _boot()
                self._database.execute("INSERT INTO lost VALUES (?)", (json.dumps(data),))
            self._database.execute("DELETE FROM running")
        for batch in lost:
            if batch.trying is not None:
                self.keep_lost(batch.did_not_come_back().named(campaign))

    def keep_lost(self, batch: LostBatch) -> None:
        """Keep what is known now about a lost batch."""
        with self._transaction():
            self._database.execute("UPDATE lost SET plan = ? WHERE rowid = ?", (json.dumps(batch.to_data()), batch.number))

    def _restore(self, campaign: Campaign) -> None:
        with self._translated():
            row = self._database.execute("SELECT data FROM state").fetchone()
            findings = self._database.execute("SELECT id, data FROM findings ORDER BY rowid").fetchall()
        if row is not None:
            data = json.loads(row[0])
            progress = campaign.progress
            restore_tally(progress.tally, data["tally"])
            progress.seconds, progress.executor_seconds = data["seconds"], data["executor_seconds"]
            progress.last_new = data["last_new"]
            progress.history.restore(data.get("history", []))
            campaign.bases_used.update(data["bases"])
        for id, text in findings:
            campaign.progress.findings.by_id[id] = finding_from(json.loads(text), campaign.generator.bases)

    def _position(self) -> Position:
        with self._translated():
            chunk = self._database.execute("SELECT number, plans FROM chunk").fetchone()
            state = self._database.execute("SELECT position FROM state").fetchone()
        if chunk is None:
            return Position()
        plans = [plan_from(data) for data in json.loads(chunk[1])]
        done = state[0] if state else 0
        lost = {json.dumps(asdict(batch.plan)) for batch in self.lost}
        while done < len(plans) and json.dumps(asdict(plans[done])) in lost:
            done += 1
        return Position(chunk[0], done, plans)

    # As the campaign goes

    def chunk(self, number: int, plans: list[FamilyPlan]) -> None:
        """A chunk of plans begins."""
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO chunk VALUES (1, ?, ?)", (number, json.dumps([asdict(plan) for plan in plans])))
            self._database.execute("UPDATE state SET position = 0")

    def begins(self, plan: FamilyPlan, count: int) -> None:
        """A batch is about to run: the first `count` candidates of the plan."""
        text = json.dumps({"plan": asdict(plan), "count": min(count, plan.rows), "boot": _boot()})
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO running VALUES (1, ?)", (text,))

    def breaks_off(self) -> None:
        """The batch that began has not reached the executor, or it is known that the machine came back."""
        with self._transaction():
            self._database.execute("DELETE FROM running")

    def ends(self, campaign: Campaign, done: int) -> None:
        """The batch is over and counted; `done` plans of the chunk are."""
        progress = campaign.progress
        data = {
            "tally": tally_data(progress.tally),
            "seconds": progress.seconds,
            "executor_seconds": progress.executor_seconds,
            "last_new": progress.last_new,
            "history": progress.history.points,
            "bases": sorted(campaign.bases_used),
        }
        findings = progress.findings
        changed = {id: json.dumps(finding_data(findings.by_id[id])) for id in findings.by_id if id in findings.touched}
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?)", (done, json.dumps(data)))
            self._database.executemany(
                "INSERT INTO findings VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET data = excluded.data", list(changed.items())
            )
            self._database.execute("DELETE FROM running")
        findings.touched.clear()

    def keep_triage(self, triage: Triage) -> None:
        """Keep what became of the findings: which of them are counted with entries, and which are none."""
        became = {name: getattr(triage, name) for name in TRIAGE}
        for name, before in self.facts.get("triage", {}).items():
            # what there was no time for now is as it was
            left = [id for id in before if id in triage.left]
            became[name] = {**{id: before[id] for id in left}, **became[name]} if isinstance(before, dict) else [*left, *became[name]]
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO facts VALUES ('triage', ?)", (json.dumps(became),))

    def close(self) -> None:
        """Release the directory."""
        self._database.close()
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._translated():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise EnvironmentUnusable(
                f"cannot write {self.path}: {error}; what was stored before is complete: make room or give the right to write, then --resume"
            ) from None
        except (sqlite3.DatabaseError, json.JSONDecodeError) as error:
            raise UsageError(f"{self.path} is not a campaign of vmfuzz, or is damaged ({error}); use another directory") from None


def has_campaign(directory: Path) -> bool:
    """Whether a campaign was started in the directory."""
    return (directory / DATABASE).is_file()


def stored_findings(directory: Path) -> list[dict[str, Any]]:
    """The mismatches of the campaign in a directory, as they are, also while it runs; raises UsageError where it cannot be read.

    Those of a campaign in several jobs are put together: each job keeps its own.
    """
    found: dict[str, dict[str, Any]] = {}
    for place in _job_directories(directory) or [directory]:
        with _reading(place) as database:
            rows = database.execute("SELECT id, data FROM findings ORDER BY rowid").fetchall()
        for id, text in rows:
            data = {"id": id, **json.loads(text)}
            known = found.setdefault(id, data)
            if known is not data:
                known["count"] += data["count"]
                known["examples"] = (known["examples"] + data["examples"])[: EXAMPLES_KEPT + 1]
    return list(found.values())


def _job_directories(directory: Path) -> list[Path]:
    """Where the jobs of a campaign in several jobs keep what is theirs; empty for one in a single process."""
    return sorted(path.parent for path in directory.glob(f"job-*/{DATABASE}"))


def stored_triage(directory: Path) -> dict[str, Any]:
    """What became of the findings of the campaign in a directory when they were last minimized, by the names in TRIAGE; empty before.

    Raises UsageError where it cannot be read.
    """
    with _reading(directory) as database:
        (text,) = database.execute("SELECT value FROM facts WHERE name = 'triage'").fetchone() or ("{}",)
    became: dict[str, Any] = json.loads(text)
    return became


def stored_lost(directory: Path) -> list[LostBatch]:
    """The lost batches of the campaign in a directory and of its jobs, also one that is found to be lost only now.

    Raises UsageError where it cannot be read.
    """
    return [batch for place in [directory, *_job_directories(directory)] for batch in _lost_at(place)]


def _lost_at(directory: Path) -> list[LostBatch]:
    with _reading(directory) as database:
        lost = _lost_in(database)
        running = database.execute("SELECT plan FROM running").fetchone()
        facts = {
            name: json.loads(text) for name, text in database.execute("SELECT name, value FROM facts WHERE name IN ('executor', 'checks')")
        }
    if is_emulated(facts.get("executor", "")) or at_work(directory):
        return lost
    lost = [batch if batch.trying is None else batch.did_not_come_back() for batch in lost]
    if running is not None:
        data = json.loads(running[0])
        lost.append(replace(lost_from(-1, data, facts["checks"]), restarted=data.get("boot") != _boot()))
    return lost


def _lost_in(database: sqlite3.Connection) -> list[LostBatch]:
    rows = database.execute("SELECT rowid, plan FROM lost ORDER BY rowid").fetchall()
    (checks,) = database.execute("SELECT value FROM facts WHERE name = 'checks'").fetchone() or ("[]",)
    return [lost_from(number, json.loads(text), json.loads(checks)) for number, text in rows]


@contextmanager
def _reading(directory: Path) -> Iterator[sqlite3.Connection]:
    """The database of a campaign that may be running, to read only."""
    try:
        with _readable(directory) as place:
            database = sqlite3.connect(f"{(place / DATABASE).resolve().as_uri()}?mode=ro", uri=True)
            try:
                yield database
            finally:
                database.close()
    except (sqlite3.Error, OSError) as error:
        raise UsageError(f"{directory / DATABASE} cannot be read as a campaign of vmfuzz: {error}") from None


@contextmanager
def _readable(directory: Path) -> Iterator[Path]:
    """Where SQLite can read the campaign: it keeps its index of the write-ahead log beside the database, so a read-only directory is copied."""
    if os.access(directory, os.W_OK):
        yield directory
        return
    with tempfile.TemporaryDirectory(prefix="vmfuzz-read-") as copy:
        for path in (directory / DATABASE, directory / f"{DATABASE}-wal"):
            if path.exists():
                shutil.copyfile(path, Path(copy) / path.name)
        yield Path(copy)


def is_emulated(executor: str) -> bool:
    """Whether an executor of this name cannot take the machine with it."""
    return executor.startswith(("bochs", "model"))


def _boot() -> str:
    """What names the time since this machine was started, or "" where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
