"""A campaign's directory, to read only: also where nothing can be written, and while the campaign runs."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from vmfuzz.campaign.as_data import finding_from, restore_tally
from vmfuzz.campaign.lock import at_work
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.lost import LostBatch, lost_from
from vmfuzz.campaign.mismatches import EXAMPLES_KEPT, Warned
from vmfuzz.comparison.errata import errata_data
from vmfuzz.comparison.processor import fingerprint
from vmfuzz.errors import UsageError
from vmfuzz.execute.base import lacking_fields
from vmfuzz.execute.kinds import is_harmless

DATABASE: Final = "campaign.sqlite"
SCHEMA: Final = "vmfuzz-campaign-1"
#: What the facts of a campaign must have, and of which type. "option" may be missing.
_FACTS: Final[Mapping[str, type]] = {
    "schema": str,
    "executor": str,
    "cpu": str,
    "capabilities": str,
    "seed": int,
    "jobs": int,
    "checks": list,
    "wanted": int,
    "lacking_fields": list,
    "poison": int,
}
#: What damaged rows make of the code that understands them.
_MISUNDERSTOOD: Final = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def has_campaign(directory: Path) -> bool:
    """Whether a campaign was started in the directory."""
    return (directory / DATABASE).is_file()


def stored_facts(directory: Path) -> dict[str, Any]:
    """What the campaign in a directory was started with; raises UsageError where none has begun, or it cannot be read."""
    if not has_campaign(directory):
        raise UsageError(f"{directory} is not the directory of a campaign; make one with: vmfuzz run --directory {directory}")
    with _reading(directory) as database:
        facts = facts_in(database, directory)
    if not facts:
        raise UsageError(f"{directory}: its campaign has not begun; `vmfuzz run --directory {directory}` begins it")
    return facts


def restore_stored(directory: Path, campaign: Campaign, jobs: int = 1) -> None:
    """Give a new campaign what is stored in a directory; raises UsageError where the two do not fit, or it cannot be read."""
    with _reading(directory) as database:
        require_same_facts(directory, facts_in(database, directory), facts_of(campaign, jobs))
        restore(directory, database, campaign)


def stored_findings(directory: Path) -> list[dict[str, Any]]:
    """The mismatches of the campaign in a directory, as they are, also while it runs; raises UsageError where it cannot be read.

    Those of a campaign in several jobs are put together: each job keeps its own.
    """
    found: dict[str, dict[str, Any]] = {}
    for place in _job_directories(directory) or [directory]:
        with _reading(place) as database, understood(place):
            for id, text in database.execute("SELECT id, data FROM findings ORDER BY rowid").fetchall():
                data = {"id": id, **json.loads(text)}
                data["count"] = int(data["count"])
                known = found.setdefault(id, data)
                if known is not data:
                    known["count"] += data["count"]
                    known["examples"] = (known["examples"] + data["examples"])[: EXAMPLES_KEPT + 1]
    return list(found.values())


def stored_lost(directory: Path) -> list[LostBatch]:
    """The lost batches of the campaign in a directory and of its jobs, also one that is found to be lost only now.

    Raises UsageError where it cannot be read.
    """
    return [batch for place in [directory, *_job_directories(directory)] for batch in _lost_at(place)]


def stored_triage(directory: Path) -> dict[str, Any]:
    """What became of the findings of the campaign in a directory when they were last minimized, by the names in store.TRIAGE; empty before.

    Raises UsageError where it cannot be read.
    """
    with _reading(directory) as database, understood(directory):
        (text,) = database.execute("SELECT value FROM facts WHERE name = 'triage'").fetchone() or ("{}",)
        return dict(json.loads(text))


def stored_candidates(directory: Path) -> int:
    """How many candidates the campaign in a directory has run, as far as all its jobs have said so; raises UsageError where it cannot be read."""
    with _reading(directory) as database, understood(directory):
        row = database.execute("SELECT data FROM state").fetchone()
        return int(json.loads(row[0])["tally"]["candidates"]) if row else 0


def boot_id() -> str:
    """What names the time since this machine was started, or "" where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


# What rows mean, to Store too


def facts_in(database: sqlite3.Connection, directory: Path) -> dict[str, Any]:
    """The facts in a database, empty if no campaign was begun; raises UsageError where they are not those of one."""
    with understood(directory):
        facts = {name: json.loads(value) for name, value in database.execute("SELECT name, value FROM facts")}
    if not facts:
        return facts
    facts.setdefault("lacking_fields", [])  # older directories do not say; their processors lacked none
    facts.setdefault("poison", 0)  # nor were any run with it
    if facts.get("schema") != SCHEMA:
        raise not_ours(directory, f"its schema is {facts.get('schema')!r}, expected {SCHEMA!r}")
    for name, kind in _FACTS.items():
        if not isinstance(facts.get(name), kind) or isinstance(facts.get(name), bool):
            raise not_ours(directory, f"its fact {name!r} is {short(facts.get(name))}")
    return facts


def facts_of(campaign: Campaign, jobs: int) -> dict[str, Any]:
    """What a campaign in so many jobs is, all but how long it is to run."""
    return {
        "schema": SCHEMA,
        "executor": campaign.executor.name,
        "cpu": campaign.executor.capabilities().name,
        "capabilities": fingerprint(campaign.executor.capabilities()),
        "seed": campaign.seed,
        "jobs": jobs,
        "checks": [compiled.check.id for compiled in campaign.model.compiled],
        "lacking_fields": list(lacking_fields(campaign.executor)),
        # which candidates a plan makes on a machine that may be lost
        "poison": int(getattr(campaign.executor, "poison", False)),
        **({"errata": errata_data(campaign.errata)} if campaign.errata else {}),
    }


def require_same_facts(directory: Path, stored: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Raise UsageError where the stored campaign, if there is one, is another one."""
    for name, value in facts.items():
        if stored and stored.get(name) != value:
            raise UsageError(
                f"{directory}: its campaign has another {name} ({short(stored.get(name))}) than this one ({short(value)}); "
                "use another directory"
            )


def restore(directory: Path, database: sqlite3.Connection, campaign: Campaign) -> None:
    """Give a new campaign the counts and findings in a database."""
    with understood(directory):
        row = database.execute("SELECT data FROM state").fetchone()
        findings = database.execute("SELECT id, data FROM findings ORDER BY rowid").fetchall()
        if row is not None:
            data = json.loads(row[0])
            progress = campaign.progress
            restore_tally(progress.tally, data["tally"])
            progress.seconds, progress.executor_seconds = float(data["seconds"]), float(data["executor_seconds"])
            progress.last_new = float(data["last_new"])
            progress.history.restore(data.get("history", []))
            progress.warned = [Warned.from_json(each) for each in data.get("warned", ())]
            campaign.bases_used.update(data["bases"])
        for id, text in findings:
            campaign.progress.findings.by_id[id] = finding_from(json.loads(text), campaign.generator.bases)


def lost_in(database: sqlite3.Connection, directory: Path) -> list[LostBatch]:
    """The lost batches in a database."""
    with understood(directory):
        rows = database.execute("SELECT rowid, plan FROM lost ORDER BY rowid").fetchall()
        (checks,) = database.execute("SELECT value FROM facts WHERE name = 'checks'").fetchone() or ("[]",)
        return [lost_from(number, json.loads(text), json.loads(checks)) for number, text in rows]


@contextmanager
def understood(directory: Path) -> Iterator[None]:
    """Rows are read in the block; raises UsageError where they are not as vmfuzz writes them."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{directory / DATABASE} does not fit: {error}") from None
    except _MISUNDERSTOOD as error:
        raise not_ours(directory, f"{type(error).__name__} {error}") from None


def not_ours(directory: Path, why: object) -> UsageError:
    """The error for a database that is something else, or damaged."""
    return UsageError(f"{directory / DATABASE} is not a campaign of vmfuzz, or is damaged ({why}); use another directory")


def short(value: object) -> str:
    """A value for a sentence."""
    text = "missing" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# Files


def _job_directories(directory: Path) -> list[Path]:
    """Where the jobs of a campaign in several jobs keep what is theirs; empty for one in a single process."""
    return sorted(path.parent for path in directory.glob(f"job-*/{DATABASE}"))


def _lost_at(directory: Path) -> list[LostBatch]:
    with _reading(directory) as database:
        lost, facts = lost_in(database, directory), facts_in(database, directory)
        running = database.execute("SELECT plan FROM running").fetchone()
    if is_harmless(facts.get("executor", "")) or at_work(directory):
        return lost
    lost = [batch if batch.trying is None else batch.did_not_come_back() for batch in lost]
    if running is not None:
        with understood(directory):
            data = json.loads(running[0])
            lost.append(replace(lost_from(-1, data, facts["checks"]), restarted=data.get("boot") != boot_id()))
    return lost


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
