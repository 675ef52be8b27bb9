"""A campaign's state on disk: what was counted, the findings, and where to go on, so that a kill at any moment loses at most one batch.

One SQLite database a campaign directory, in WAL mode: a transaction is there wholly or not at all, whatever happens to the process, and one
family costs one commit. Writing a file aside and renaming it would do as well but would write all findings anew each time. The plans of the
current chunk are kept too, so that a resumed campaign runs exactly the candidates that it would have run.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.campaign.case import batch_of, mutation_between
from vmfuzz.campaign.compare import Verdict
from vmfuzz.campaign.corpus import fingerprint
from vmfuzz.campaign.coverage import Coverage
from vmfuzz.campaign.findings import Example, Finding, Signature
from vmfuzz.campaign.tally import Tally
from vmfuzz.errors import EnvironmentUnusable, ModelError, UsageError
from vmfuzz.generate.bases import Bases
from vmfuzz.generate.families import Block, FamilyPlan

if TYPE_CHECKING:
    from vmfuzz.campaign.loop import Campaign

DATABASE: Final = "campaign.sqlite"
_LOCK: Final = "campaign.lock"
_SCHEMA: Final = "vmfuzz-campaign-1"
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
        self._lock = _locked(directory)
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
    def lost(self) -> list[FamilyPlan]:
        """Batches after which the machine did not come back."""
        with self._translated():
            return [_plan(json.loads(text)) for (text,) in self._database.execute("SELECT plan FROM lost")]

    def attach(self, campaign: Campaign, wanted: int) -> Position:
        """Give the campaign what is stored (nothing, if it is new) and say where it goes on; raises UsageError where the two do not fit."""
        facts: dict[str, Any] = {
            "schema": _SCHEMA,
            "executor": campaign.executor.name,
            "cpu": campaign.executor.capabilities().name,
            "capabilities": fingerprint(campaign.executor.capabilities()),
            "seed": campaign.seed,
            "checks": [compiled.check.id for compiled in campaign.model.compiled],
        }
        stored = self.facts
        for name, value in facts.items():
            if stored and stored.get(name) != value:
                raise UsageError(
                    f"{self.directory}: its campaign has another {name} ({_short(stored.get(name))}) than this one ({_short(value)}); "
                    "use another directory"
                )
        # on a machine that can hang, a batch has to be on disk before it runs
        emulated = campaign.executor.name.startswith(("bochs", "model"))
        with self._translated():
            self._database.execute(f"PRAGMA synchronous = {'NORMAL' if emulated else 'FULL'}")
        with self._transaction():
            for name, value in {**facts, "wanted": wanted}.items():
                self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))
        self._restore(campaign)
        return self._position(emulated)

    def _restore(self, campaign: Campaign) -> None:
        with self._translated():
            row = self._database.execute("SELECT data FROM state").fetchone()
            findings = self._database.execute("SELECT id, data FROM findings ORDER BY rowid").fetchall()
        if row is not None:
            data = json.loads(row[0])
            progress = campaign.progress
            _restore_tally(progress.tally, data["tally"])
            progress.seconds, progress.executor_seconds = data["seconds"], data["executor_seconds"]
            progress.last_new = data["last_new"]
            campaign.bases_used.update(data["bases"])
        for id, text in findings:
            campaign.progress.findings.by_id[id] = _finding(json.loads(text), campaign.generator.bases)

    def _position(self, emulated: bool) -> Position:
        with self._translated():
            chunk = self._database.execute("SELECT number, plans FROM chunk").fetchone()
            state = self._database.execute("SELECT position FROM state").fetchone()
            running = self._database.execute("SELECT plan FROM running").fetchone()
        if chunk is None:
            return Position()
        done = state[0] if state else 0
        if running is not None:
            with self._transaction():
                self._database.execute("DELETE FROM running")
                if not emulated:
                    self._database.execute("INSERT INTO lost VALUES (?)", running)
            done += 0 if emulated else 1
        return Position(chunk[0], done, [_plan(data) for data in json.loads(chunk[1])])

    # As the campaign goes

    def chunk(self, number: int, plans: list[FamilyPlan]) -> None:
        """A chunk of plans begins."""
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO chunk VALUES (1, ?, ?)", (number, json.dumps([asdict(plan) for plan in plans])))
            self._database.execute("UPDATE state SET position = 0")

    def begins(self, plan: FamilyPlan) -> None:
        """A batch is about to run."""
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO running VALUES (1, ?)", (json.dumps(asdict(plan)),))

    def ends(self, campaign: Campaign, done: int) -> None:
        """The batch is over and counted; `done` plans of the chunk are."""
        progress = campaign.progress
        data = {
            "tally": _tally_data(progress.tally),
            "seconds": progress.seconds,
            "executor_seconds": progress.executor_seconds,
            "last_new": progress.last_new,
            "bases": sorted(campaign.bases_used),
        }
        findings = progress.findings
        changed = {id: json.dumps(_finding_data(findings.by_id[id])) for id in findings.by_id if id in findings.touched}
        with self._transaction():
            self._database.execute("INSERT OR REPLACE INTO state VALUES (1, ?, ?)", (done, json.dumps(data)))
            self._database.executemany(
                "INSERT INTO findings VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET data = excluded.data", list(changed.items())
            )
            self._database.execute("DELETE FROM running")
        findings.touched.clear()

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
    """The mismatches of the campaign in a directory, as they are, also while it runs; raises UsageError where it cannot be read."""
    try:
        database = sqlite3.connect(f"{(directory / DATABASE).resolve().as_uri()}?mode=ro", uri=True)
        try:
            rows = database.execute("SELECT id, data FROM findings ORDER BY rowid").fetchall()
        finally:
            database.close()
    except sqlite3.Error as error:
        raise UsageError(f"{directory / DATABASE} cannot be read as a campaign of vmfuzz: {error}") from None
    return [{"id": id, **json.loads(text)} for id, text in rows]


def _locked(directory: Path) -> int:
    """The file descriptor of the directory's lock, which the system releases when the process ends, however it ends."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise EnvironmentUnusable(
            f"cannot keep a campaign in {directory}: {error.strerror}; name a directory that can be written"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise EnvironmentUnusable(f"cannot lock {directory}: {error.strerror}") from None
        raise UsageError(
            f"{directory}: another campaign (process {holder}) is at work there; wait for it or use another directory"
        ) from None
    return lock


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _plan(data: dict[str, Any]) -> FamilyPlan:
    blocks = tuple(Block(**block) for block in data["blocks"])
    return FamilyPlan(**{**data, "operands": tuple(data["operands"]), "blocks": blocks})


# Tally and findings as JSON


def _tally_data(tally: Tally) -> dict[str, Any]:
    return {name: _encoded(name, value) for name, value in vars(tally).items() if name not in ("model", "deviations")}


def _encoded(name: str, value: object) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Counter):
        return [[key.name if isinstance(key, Verdict) else key, number] for key, number in value.items()]
    if isinstance(value, int | float | str):
        return value
    if isinstance(value, Coverage):
        return value.to_json()
    raise ModelError(f"Tally.{name} is a {type(value).__name__}, which the store cannot keep: teach campaign/store.py")


def _restore_tally(tally: Tally, data: dict[str, Any]) -> None:
    for name, value in data.items():
        current = getattr(tally, name, None)
        if isinstance(current, np.ndarray):
            current[...] = np.asarray(value, current.dtype).reshape(current.shape)
        elif isinstance(current, Coverage):
            current.restore(value)
        elif isinstance(current, Counter):
            names = Verdict.__members__ if name == "verdicts" else {}
            current.update({names.get(key, key): number for key, number in value})
        else:
            setattr(tally, name, value)


def _finding_data(finding: Finding) -> dict[str, Any]:
    examples = [Example(finding.example, finding.base, finding.base_name), *finding.others.values()]
    return {
        "kind": finding.signature.kind,
        "checks": finding.signature.checks,
        "outcome": finding.signature.actual,
        "message": finding.signature.message,
        "count": finding.count,
        "actual": _outcome_data(finding.actual),
        "predicted": [_outcome_data(outcome) for outcome in sorted(finding.predicted, key=str)],
        "examples": [[example.base_name, mutation_between(example.base, example.vmcs)] for example in examples],
    }


def _finding(data: dict[str, Any], bases: Bases) -> Finding:
    examples = []
    for name, mutation in data["examples"]:
        base = bases.get(name)
        if base is None:
            raise UsageError(f"a stored finding is of base {name!r}, which this processor no longer has; use another directory")
        examples.append(Example(batch_of(base, [mutation]).row(0), base, name))
    first, *others = examples
    signature = Signature(data["kind"], tuple(data["checks"]), data["outcome"], data["message"])
    predicted = frozenset(_outcome(outcome) for outcome in data["predicted"])
    finding = Finding(signature, first.vmcs, first.base, first.base_name, predicted, _outcome(data["actual"]), data["count"])
    finding.others.update({frozenset(example.base.differences(example.vmcs)): example for example in others})
    return finding


def _outcome_data(outcome: Outcome) -> list[int | None]:
    return [int(outcome.kind), outcome.number, outcome.qualification]


def _outcome(data: list[Any]) -> Outcome:
    return Outcome(Kind(data[0]), data[1], data[2])
