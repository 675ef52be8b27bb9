"""Kill a running campaign at random moments with SIGKILL, resume it each time, and see that nothing was lost.

    python tests/quality/kill_campaign.py [--kills 100] [--minimizing 20] [--seed 0] [--directory DIR]

After each kill the database must be readable, the candidates counted must not have become fewer, and every finding that was there before must be
there still. At the end the resumed campaign is compared with one that was never interrupted: all counts must be equal. Then the
minimization of its findings is killed `--minimizing` times: each file must be a whole entry, and what was written must be there still, or a
simpler case of the same finding in its place; in the end the files must be those of a minimization that was never interrupted. The campaign runs against
the model as the processor, with some checks left out, so that there are findings from the first second on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.store import Store
from vmfuzz.campaign.stored import DATABASE, stored_findings
from vmfuzz.cli.minimize import settle
from vmfuzz.cli.places import FINDINGS
from vmfuzz.corpus.entries import Entry, load
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.findings.triage import Triage
from vmfuzz.model.checks import CHECKS
from vmfuzz.state.profiles import capabilities, known_good

_CAPS = capabilities("corei7_skylake_x")
_LEFT_OUT = ("guest.ss.s", "ctl.cr3target.count", "host.base.gs", "guest.tr.sel.ti", "guest.rflags.reserved.zeros", "guest.gdtr.limit")
#: Seconds for a minimization that is not killed.
_PATIENCE = 900.0
_FAMILY = 128


def campaign() -> Campaign:
    """The campaign under test."""
    checks = [check for check in CHECKS if check.id not in _LEFT_OUT]
    made = Campaign(ModelExecutor(_CAPS, known_good(_CAPS), checks), seed=0)
    made.family_size = _FAMILY
    return made


def work(directory: Path, families: int) -> None:
    """The process that gets killed: begin or resume, to the end."""
    with Store(directory) as store:
        campaign().run(_FAMILY * families, lambda _progress: _say_so(), store)


def reduce(directory: Path) -> None:
    """The other process that gets killed: minimize what the campaign found."""
    with Store(directory) as store:
        made = campaign()
        store.attach(made, store.facts["wanted"])
        _say_so()
        settle(made, _PATIENCE, Triage(), store, quiet=True)


def _say_so() -> None:
    """Tell the parent that a batch is over; it reads the first time only."""
    global _said  # noqa: PLW0603
    if not _said:
        os.write(1, b".")
        _said = True


_said = False


def state(directory: Path) -> tuple[int, set[str]]:
    """(candidates counted, ids of findings) of the campaign on disk; raises sqlite3.Error or ValueError where it is damaged."""
    database = sqlite3.connect(f"{(directory / DATABASE).as_uri()}?mode=ro", uri=True)
    try:
        (sound,) = database.execute("PRAGMA integrity_check").fetchone()
        if sound != "ok":
            raise ValueError(f"integrity check: {sound}")
        row = database.execute("SELECT data FROM state").fetchone()
    finally:
        database.close()
    return json.loads(row[0])["tally"]["candidates"] if row else 0, {finding["id"] for finding in stored_findings(directory)}


def kill_and_resume(directory: Path, kills: int, seed: int, longest: float = 1.0) -> dict[str, Any]:
    """Kill `kills` times at random moments, up to `longest` seconds after the campaign is at work; returns what was measured."""
    rng = random.Random(seed)
    candidates, findings, mid = 0, set[str](), 0
    for _ in range(kills):
        if killed_after(["--work", str(directory), "--families", "1000000"], rng.uniform(0, longest)) is not None:
            raise RuntimeError("the campaign ended by itself")
        now, ids = state(directory)
        if now < candidates or not findings <= ids:
            raise RuntimeError(f"lost: {candidates - now} candidates, findings {sorted(findings - ids)}")
        mid += now > candidates
        candidates, findings = now, ids
    return {"kills": kills, "kills_after_progress": mid, "candidates": candidates, "findings": len(findings)}


def killed_after(arguments: list[str], seconds: float) -> float | None:
    """Run this script, and kill it so many seconds after it is at work; if it ended before, the seconds that it worked."""
    with subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if not process.stdout.read(1):
            raise RuntimeError(f"it ended by itself with status {process.wait()}")
        start = time.monotonic()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        return None if process.wait() == -signal.SIGKILL else time.monotonic() - start


def kill_minimization(directory: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill the minimization `kills` times at random moments of the time that it takes; returns what was measured."""
    longest, whole = killed_after(["--reduce", str(directory)], _PATIENCE), entries_in(directory)
    if longest is None:
        raise RuntimeError(f"the minimization took more than {_PATIENCE} s")
    shutil.rmtree(directory / FINDINGS)
    rng, before, killed, partly = random.Random(seed), dict[str, Entry](), 0, 0
    while killed < kills:
        if killed_after(["--reduce", str(directory)], rng.uniform(0, longest)) is not None:
            shutil.rmtree(directory / FINDINGS, ignore_errors=True)
            before = {}
            continue
        killed += 1
        now = entries_in(directory)
        partly += 0 < len(now) < len(whole)
        for id in set(before) - set(now):
            if not any(entry.case.mutation.keys() == before[id].case.mutation.keys() for entry in now.values()):
                raise RuntimeError(f"lost: entry {id}")
        before = now
    subprocess.run([sys.executable, __file__, "--reduce", str(directory)], check=True, capture_output=True)
    same = entries_in(directory) == whole
    return {"minimizations_killed": killed, "with_some_entries": partly, "entries": len(whole), "same_entries": same}


def entries_in(directory: Path) -> dict[str, Entry]:
    """The minimized findings on disk by id; raises UsageError where a file is no entry."""
    return {path.stem: load(path) for path in (directory / FINDINGS).glob("*.json")}


def same_as_uninterrupted(directory: Path) -> bool:
    """Whether the resumed campaign, one family further, has the counts and findings of one that was never interrupted.

    Both run in a process of their own: what Hypothesis draws depends on the modules that a process has loaded.
    """
    families = state(directory)[0] // _FAMILY + 1
    with tempfile.TemporaryDirectory(prefix="vmfuzz-whole-") as whole:
        for place in (directory, Path(whole)):
            subprocess.run([sys.executable, __file__, "--work", str(place), "--families", str(families)], check=True, capture_output=True)
        return counts(directory) == counts(Path(whole))


def counts(directory: Path) -> tuple[Any, Any]:
    """The tally and the findings of the campaign on disk."""
    database = sqlite3.connect(f"{(directory / DATABASE).as_uri()}?mode=ro", uri=True)
    try:
        (text,) = database.execute("SELECT data FROM state").fetchone()
    finally:
        database.close()
    return json.loads(text)["tally"], stored_findings(directory)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--minimizing", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--reduce", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--families", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work is not None:
        work(arguments.work, arguments.families)
        return
    if arguments.reduce is not None:
        reduce(arguments.reduce)
        return
    directory = arguments.directory or Path(tempfile.mkdtemp(prefix="vmfuzz-kill-"))
    start = time.monotonic()
    measured = kill_and_resume(directory.resolve(), arguments.kills, arguments.seed)
    measured["equal_to_uninterrupted"] = same_as_uninterrupted(directory.resolve())
    measured |= kill_minimization(directory.resolve(), arguments.minimizing, arguments.seed)
    measured["seconds"] = round(time.monotonic() - start)
    print(json.dumps(measured, indent=1))
    if arguments.directory is None:
        shutil.rmtree(directory)
    sys.exit(0 if measured["equal_to_uninterrupted"] and measured["same_entries"] else 1)


if __name__ == "__main__":
    main()
