"""A campaign on each emulated CPU model, and the pages that come from it: docs/agreement.md, docs/checks.md, docs/report/, and their sum in README.md.

    python tools/campaigns.py run STATE [-n 50M] [--side-by-side 2] [--cpu CPU ...]
    python tools/campaigns.py pages

`run` keeps each campaign in a directory of STATE with its log beside it. Stopped at any moment, also by kill -9, it goes on where it was when
started again; a campaign that was shorter is made longer. When the last one is done, all summaries are copied to docs/report/summaries and the
pages are written. `pages` writes them again from the summaries there, after a change of what pages look like.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Final

from agreement_page import agreement_page
from checks_page import checks_page
from vmfuzz.campaign.stored import has_campaign
from vmfuzz.cli.run import Count
from vmfuzz.errors import EXIT_AGREEMENT, EXIT_FOUND
from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.files import write_text

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
SUMMARIES: Final = DOCS / "report" / "summaries"
VMFUZZ: Final = (sys.executable, "-c", "from vmfuzz.cli.main import main; main()")
#: A campaign ends with its starter, whatever ended that: two must never work in one directory.
TIED: Final = ("setpriv", "--pdeathsig", "KILL", "--")
#: What decides a campaign's figures; a change here while campaigns run would mix two programs in one table.
CODE: Final = ("kmod/engine.*", *(f"src/vmfuzz/{part}/**/*" for part in ("arch", "model", "state", "generate", "execute")))
SAY_EVERY: Final = 60.0


def summary_file(state: Path, cpu: str) -> Path:
    """Where the summary of a model's campaign lies."""
    return state / f"{cpu}.json"


def load(path: Path) -> dict[str, Any] | None:
    """A stored summary; None where there is none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def fingerprint() -> str:
    """A digest of the code that decides a campaign's figures."""
    digest = hashlib.sha256()
    for path in sorted(
        path for pattern in CODE for path in ROOT.glob(pattern) if path.suffix in (".py", ".c", ".h") and "_native" not in path.parts
    ):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def require_same_code(state: Path) -> None:
    """Raises SystemExit where the campaigns in `state` were begun by another version of the code."""
    kept = state / "code"
    if kept.read_text(encoding="utf-8").strip() != fingerprint():
        raise SystemExit(f"{state}: model, generation or execution changed since these campaigns began; begin anew in another directory")


def campaign(cpu: str, candidates: int, state: Path, seed: int) -> str:
    """Bring a model's campaign to `candidates`; returns a line to print."""
    require_same_code(state)
    directory, path = state / cpu, summary_file(state, cpu)
    go_on = ["--resume"] if has_campaign(directory) else ["--cpu", cpu, "--seed", str(seed)]
    command = [*TIED, *VMFUZZ, "run", "-n", str(candidates), "--directory", str(directory), "--summary", str(path), *go_on]
    with (state / f"{cpu}.log").open("a", encoding="utf-8") as log:
        done = subprocess.run(command, check=False, stdout=log, stderr=log)
    summary = load(path)
    if done.returncode not in (EXIT_AGREEMENT, EXIT_FOUND) or summary is None or summary["candidates"] < candidates:
        raise SystemExit(f"{cpu}: the campaign ended with {done.returncode}, see {log.name}; start this again to go on")
    rate, found = summary["candidates_per_second"], len(summary["findings"])
    return f"{cpu}: {summary['candidates']:,} candidates, {rate:,}/s, {found} findings"


def last_line(log: Path) -> str:
    """The last line of a log, or "" where there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return lines[-1].strip() if lines else ""


def run(state: Path, candidates: int, side_by_side: int, seed: int, cpus: Iterable[str]) -> None:
    """Run what is missing, `side_by_side` campaigns at a time; raises SystemExit where one of them does not end well."""
    state.mkdir(parents=True, exist_ok=True)
    if not (state / "code").exists():
        write_text(state / "code", fingerprint() + "\n")
    require_same_code(state)
    os.nice(10)
    missing = [cpu for cpu in cpus if (load(summary_file(state, cpu)) or {"candidates": 0})["candidates"] < candidates]
    print(f"campaigns of {candidates:,} candidates still to run: {len(missing)}", flush=True)
    pool = ThreadPoolExecutor(side_by_side)
    # models whose capabilities are the same would run the same candidates with the same seed
    running = {pool.submit(campaign, cpu, candidates, state, seed + tuple(CPU_MODELS).index(cpu)): cpu for cpu in missing}
    try:
        while running:
            done, _ = wait(running, timeout=SAY_EVERY, return_when=FIRST_COMPLETED)
            for future in done:
                del running[future]
                print(future.result(), flush=True)
            if not done:
                for future, cpu in running.items():
                    if future.running():
                        print(f"{time.strftime('%H:%M:%S')} {cpu}: {last_line(state / f'{cpu}.log')}", flush=True)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def publish(state: Path, candidates: int) -> None:
    """Copy the summaries to docs/ and write the pages, if every model has its campaign."""
    summaries = {cpu: load(summary_file(state, cpu)) for cpu in CPU_MODELS}
    missing = [cpu for cpu, summary in summaries.items() if summary is None or summary["candidates"] < candidates]
    if missing:
        print(f"no pages yet: {', '.join(missing)} did not run")
        return
    SUMMARIES.mkdir(parents=True, exist_ok=True)
    for cpu in CPU_MODELS:
        shutil.copyfile(summary_file(state, cpu), SUMMARIES / f"{cpu}.json")
    pages()


def published() -> list[dict[str, Any]]:
    """The summaries in docs/report, in the order of the CPU models."""
    return [json.loads((SUMMARIES / f"{cpu}.json").read_text(encoding="utf-8")) for cpu in CPU_MODELS]


def pages() -> None:
    """Write the pages from docs/report/summaries."""
    summaries = published()
    write_text(DOCS / "agreement.md", agreement_page(summaries))
    write_text(DOCS / "checks.md", checks_page(summaries))
    millions = sum(summary["candidates"] for summary in summaries) / 1e6
    readme = ROOT / "README.md"
    write_text(
        readme, re.sub(r"a page of [\d,.]+ million candidates", f"a page of {millions:,.0f} million candidates", readme.read_text("utf-8"))
    )
    files = [str(SUMMARIES / f"{cpu}.json") for cpu in CPU_MODELS]
    subprocess.run([*VMFUZZ, "report", *files, "--html", str(DOCS / "report" / "index.html")], check=True)
    print("wrote docs/agreement.md, docs/checks.md, docs/report/index.html")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run", help="run what is missing, then write the pages")
    runs.add_argument("state", type=Path, help="directory of the campaigns' state")
    runs.add_argument("-n", default="50M", type=lambda text: Count().convert(text, None, None), help="candidates on each model (50M)")
    runs.add_argument("--side-by-side", type=int, default=os.cpu_count() or 1, help="campaigns at a time (as many as there are processors)")
    runs.add_argument("--seed", type=int, default=0, help="the first model's seed; each model after it has the next (0)")
    runs.add_argument("--cpu", action="append", choices=CPU_MODELS, help="this model only; may be repeated (all)")
    commands.add_parser("pages", help="write the pages again from docs/report/summaries")
    arguments = parser.parse_args()
    if arguments.command == "pages":
        pages()
        return
    try:
        run(arguments.state, arguments.n, arguments.side_by_side, arguments.seed, arguments.cpu or CPU_MODELS)
    except KeyboardInterrupt:
        sys.exit("stopped; run the same command again to go on")
    publish(arguments.state, arguments.n)


if __name__ == "__main__":
    main()
