"""What a Dask worker does for a campaign: say what it executes on, run a piece, say how far it is, minimize findings.

Arguments and results are plain data, and nothing here needs Dask. One piece at a time runs in a process, however many threads the worker has: the
emulated CPU is a process of its own, but drawing and comparing are Python.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from vmfuzz.campaign.as_data import finding_from
from vmfuzz.campaign.jobs import Share, run_share
from vmfuzz.campaign.loop import Campaign
from vmfuzz.comparison.errata import errata_from
from vmfuzz.comparison.processor import version_of
from vmfuzz.corpus.entries import to_json
from vmfuzz.errors import SafetyStop, VmfuzzError
from vmfuzz.execute.kinds import cpu_option, open_executor
from vmfuzz.execute.kmod.device import DEVICE
from vmfuzz.findings.minimize import Step
from vmfuzz.findings.triage import settled

#: The worker's environment variables that say what it executes on, where the campaign leaves it open.
EXECUTOR_VARIABLE: Final = "VMFUZZ_EXECUTOR"
CPU_VARIABLE: Final = "VMFUZZ_CPU"
#: Seconds after which a piece ends about which nobody has asked: the campaign was killed.
ORPHANED_AFTER: Final = 60.0

_ONE_PIECE: Final = threading.Lock()


@dataclass
class _Running:
    """One piece: when somebody last asked about it, whether it is to stop, and its latest result."""

    asked: float = field(default_factory=time.monotonic)
    stop: bool = False
    latest: dict[str, Any] | None = None

    def tell(self, result: dict[str, Any]) -> None:
        """Keep the result so far for who asks."""
        self.latest = result

    def is_over(self) -> bool:
        """Whether the piece is to end."""
        return self.stop or time.monotonic() - self.asked > ORPHANED_AFTER


_RUNNING: Final[dict[str, _Running]] = {}


def chosen(executor: str, cpu: str | None) -> tuple[str, str | None]:
    """(executor, CPU model) of this worker, by what the campaign asks for and, where that is open, by the worker's environment and machine."""
    cpu = cpu or os.environ.get(CPU_VARIABLE) or None
    if executor == "auto":
        executor = os.environ.get(EXECUTOR_VARIABLE) or "auto"
    if executor == "auto":
        executor = "kmod" if cpu is None and DEVICE.exists() else "bochs"
    return executor, cpu


def sources() -> str:
    """A name of vmfuzz's Python sources, made of their content: versions under development all have one number."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:10]


async def describe(executor: str, cpu: str | None, source: str) -> dict[str, Any]:
    """What this worker executes on, found out without holding up its event loop; {"error"} where it cannot, or its sources are others."""
    if sources() != source:
        return {"error": f"has vmfuzz {metadata.version('vmfuzz')} with other sources ({sources()}) than here ({source})"}
    return await asyncio.to_thread(_answer, lambda: _describe(*chosen(executor, cpu)))


def _describe(executor: str, cpu: str | None) -> dict[str, Any]:
    with open_executor(executor, cpu=cpu) as opened:
        return {
            "option": executor,
            "cpu": cpu_option(executor, opened.capabilities().name),
            "name": opened.name,
            "version": version_of(opened),
            "capabilities": opened.capabilities().to_json(),
            "known_good": opened.known_good().to_json(),
        }


def run_piece(key: str, share: dict[str, Any]) -> dict[str, Any]:
    """Run one share of a campaign, its errata as `errata_data` has them; its result, or {"error"}."""
    # Dask's other threads use the random module, which Hypothesis takes for a strategy that does; what it draws does not depend on it
    warnings.filterwarnings("ignore", "Do not use the `random` module inside strategies")
    return _alone(key, lambda running: run_share(Share(**{**share, "errata": errata_from(share["errata"])}), running.tell, running.is_over))


def minimize(
    key: str, option: str, cpu: str | None, findings: list[dict[str, Any]], seconds: float, errata: list[dict[str, Any]]
) -> dict[str, Any]:
    """Run findings again and reduce them within `seconds`: {"entries", and what else a Triage has}, or {"error"}."""

    def work(running: _Running) -> dict[str, Any]:
        def on_step(_step: Step) -> None:
            if running.is_over():
                raise KeyboardInterrupt

        with open_executor(option, cpu=cpu) as executor:
            campaign = Campaign(executor, 0, errata=errata_from(errata))
            found = [finding_from(data, campaign.generator.bases) for data in findings]
            campaign.progress.findings.by_id.update({finding.signature.id: finding for finding in found})
            result = settled(campaign, seconds, on_step)
        entries = [to_json(entry) for entry in result.entries.values()]
        others = {name: getattr(result, name) for name in ("unstable", "explained", "left", "not_kept", "counted", "depends")}
        return {"entries": entries, **others}

    return _alone(key, work)


def look(keys: list[str], stop: bool) -> dict[str, Any]:
    """The latest results of those of the pieces that run here, by key; `stop` ends them. Pieces that nobody asks about end by themselves."""
    here = {key: _RUNNING[key] for key in keys if key in _RUNNING}
    for running in here.values():
        running.asked = time.monotonic()
        running.stop |= stop
    return {key: running.latest for key, running in here.items() if running.latest is not None}


def _alone(key: str, work: Callable[[_Running], dict[str, Any]]) -> dict[str, Any]:
    """What `work` gives once it is the only piece in this process."""
    running = _RUNNING[key] = _Running()
    try:
        while not _ONE_PIECE.acquire(timeout=0.2):
            if running.is_over():
                return {"error": "ended before it began"}
        try:
            return _answer(lambda: work(running))
        finally:
            _ONE_PIECE.release()
    finally:
        del _RUNNING[key]


def _answer(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` gives; an error as data, since not every exception survives the way."""
    try:
        return work()
    except VmfuzzError as error:
        return {"error": str(error), "safety": isinstance(error, SafetyStop)}
