"""A campaign's state on disk: what was counted, the findings, and where to go on, so that a kill at any moment loses at most one batch.

One SQLite database a campaign directory, in WAL mode: a transaction is there wholly or not at all, whatever happens to the process, and one
family costs one commit. Writing a file aside and renaming it would do as well but would write all findings anew each time. The plans of the
current chunk are kept too, so that a resumed campaign runs exactly the candidates that it would have run.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from vmfuzz.campaign.as_data import finding_data, tally_data
from vmfuzz.campaign.lock import locked
from vmfuzz.campaign.loop import Campaign, Position
from vmfuzz.campaign.lost import LostBatch, plan_from
from vmfuzz.campaign.stored import (
    DATABASE,
    boot_id,
    facts_in,
    facts_of,
    lost_in,
    not_ours,
    require_same_facts,
    restore,
    understood,
)
from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.execute.base import NamesCulprits
from vmfuzz.execute.kinds import is_harmless
from vmfuzz.generate.families import FamilyPlan


class Triaged(Protocol):
    """What became of a campaign's findings (findings/triage.py); its entries are files of their own.

    `counted`: how many candidates of which finding are counted with entries. By id: those that are `unstable`, `explained` or `not_kept`, and
    those for which the time did not suffice (`left`). `depends`: those whose entries, named here, are sequences.
    """

    counted: dict[str, int]
    unstable: list[str]
    explained: list[str]
    not_kept: dict[str, list[str]]
    depends: dict[str, str]
    left: list[str]


#: What is kept of a triage, by its names there.
TRIAGE: Final = ("counted", "unstable", "explained", "not_kept", "depends")
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS chunk (id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL, plans TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 1), position INTEGER NOT NULL, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS findings (id TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS running (id INTEGER PRIMARY KEY CHECK (id = 1), plan TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS lost (plan TEXT NOT NULL);
"""


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
        self._begun = self.path.is_file() and self.path.stat().st_size > 0
        try:
            with self._translated():
                self._database = sqlite3.connect(self.path, isolation_level=None)
                self._require_ours()
                self._database.execute("PRAGMA journal_mode = WAL")
                self._database.executescript(_TABLES)
            self._begun = bool(self.facts)
        except BaseException:
            os.close(self._lock)
            raise

    def _require_ours(self) -> None:
        """Raise UsageError where the database is that of another program, before anything is written into it."""
        tables = {name for (name,) in self._database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "facts" not in tables:
            raise not_ours(self.directory, f"it has the tables {', '.join(sorted(tables))}")

    # What the campaign is

    @property
    def facts(self) -> dict[str, Any]:
        """What the campaign was started with, empty if none was: executor, cpu, seed, wanted, ..."""
        with self._translated():
            return facts_in(self._database, self.directory)

    @property
    def lost(self) -> list[LostBatch]:
        """Batches after which the machine did not come back; a batch that was under way is one of them once the campaign is attached."""
        with self._translated():
            return lost_in(self._database, self.directory)

    def begin(self, campaign: Campaign, wanted: int, jobs: int = 1) -> None:
        """Keep what the campaign is and how many candidates it is to run; raises UsageError where another one is stored.

        `jobs`: the processes that it runs in, each of which has a store of its own if it is not one.
        """
        facts = self.require_same(campaign, jobs)
        with self._transaction():
            option = {} if self.option is None else {"option": self.option}
            for name, value in {**facts, **option, "wanted": wanted}.items():
                self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))
        self._begun = True

    def attach(self, campaign: Campaign, wanted: int, jobs: int = 1) -> Position:
        """As `begin`; give the campaign what is stored (nothing, if it is new) and say where it goes on."""
        self.begin(campaign, wanted, jobs)
        with self._translated():
            restore(self.directory, self._database, campaign)
        return self._position(campaign)

    def require_same(self, campaign: Campaign, jobs: int = 1) -> dict[str, Any]:
        """Facts of the campaign, which is stored here or new; raises UsageError where another one is stored.

        What was under way when the stored one ended is taken as lost, where the machine may have gone with it.
        """
        facts = facts_of(campaign, jobs)
        require_same_facts(self.directory, self.facts, facts)
        harmless = is_harmless(campaign.executor.name)
        with self._translated():
            # on a machine that can hang, a batch has to be on disk before it runs
            self._database.execute(f"PRAGMA synchronous = {'NORMAL' if harmless else 'FULL'}")
        self._take_leftovers(campaign, harmless)
        return facts

    def _take_leftovers(self, campaign: Campaign, harmless: bool) -> None:
        with self._translated():
            row = self._database.execute("SELECT plan FROM running").fetchone()
            lost = lost_in(self._database, self.directory)
        with self._transaction():
            if row is not None and not harmless:
                with understood(self.directory):
                    data = json.loads(row[0])
                    data["restarted"] = data.get("boot") != boot_id()
                self._database.execute("INSERT INTO lost VALUES (?)", (json.dumps(data),))
            self._database.execute("DELETE FROM running")
        for batch in lost:
            if batch.trying is not None:
                self.keep_lost(batch.did_not_come_back().named(campaign))
        if row is not None and not harmless and isinstance(campaign.executor, NamesCulprits):
            batch = self.lost[-1]
            culprit = campaign.executor.culprit(campaign.candidates(batch.plan, batch.count))
            if culprit is not None:
                self.keep_lost(batch.with_culprit(culprit).named(campaign))

    def keep_lost(self, batch: LostBatch) -> None:
        """Keep what is known now about a lost batch."""
        with self._transaction():
            self._database.execute("UPDATE lost SET plan = ? WHERE rowid = ?", (json.dumps(batch.to_data()), batch.number))

    def _position(self, campaign: Campaign) -> Position:
        with self._translated(), understood(self.directory):
            chunk = self._database.execute("SELECT number, plans FROM chunk").fetchone()
            state = self._database.execute("SELECT position FROM state").fetchone()
            if chunk is None:
                return Position()
            plans = [plan_from(data) for data in json.loads(chunk[1])]
            for plan in plans:
                campaign.generator.base_of(plan)
            done = int(state[0]) if state else 0
            lost = {json.dumps(asdict(batch.plan)) for batch in self.lost}
            while done < len(plans) and json.dumps(asdict(plans[done])) in lost:
                done += 1
            return Position(int(chunk[0]), done, plans)

    # As the campaign goes

    def chunk(self, number: int, plans: list[FamilyPlan]) -> None:
        """A chunk of plans begins."""
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO chunk VALUES (1, ?, ?)", (number, json.dumps([asdict(plan) for plan in plans])))
            self._database.execute("UPDATE state SET position = 0")

    def begins(self, plan: FamilyPlan, count: int) -> None:
        """A batch is about to run: the first `count` candidates of the plan."""
        text = json.dumps({"plan": asdict(plan), "count": min(count, plan.rows), "boot": boot_id()})
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
            "warned": [warned.to_json() for warned in progress.warned],
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

    def keep_triage(self, triage: Triaged) -> None:
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
            if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # a table or a column that is not there
                raise not_ours(self.directory, error) from None
            kept = "what was stored before is complete: " if self._begun else ""
            again = "--resume" if self._begun else "start it again"
            raise EnvironmentUnusable(
                f"cannot write {self.path}: {error}; {kept}make room or give the right to write, then {again}"
            ) from None
        except sqlite3.DatabaseError as error:
            raise not_ours(self.directory, error) from None
