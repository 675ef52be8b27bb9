"""The directory of a campaign on a cluster: one campaign's directory for each processor, with the pieces that have come in.

`cluster.json` has what the campaign was started with. Each processor's directory, such as `bochs-tigerlake`, is as `vmfuzz run --directory` keeps it
(for report, findings, minimize, coverage); its `pieces/3.json` is the result of a piece, which is not run again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from vmfuzz.campaign.store import Store
from vmfuzz.cluster.run import ClusterRun, Part
from vmfuzz.errors import UsageError
from vmfuzz.files import why_not_json, write_text

FACTS: Final = "cluster.json"
_SCHEMA: Final = "vmfuzz-cluster-1"
#: What the facts have, and of which type.
_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "iterations": (int,),
    "seed": (int,),
    "jobs": (int, type(None)),
    "executor": (str,),
    "cpu": (str, type(None)),
    "errata": (list,),
}
_PIECES: Final = "pieces"


def is_cluster_directory(directory: Path) -> bool:
    """Whether a campaign on a cluster was started in the directory."""
    return (directory / FACTS).is_file()


def cluster_facts(directory: Path) -> dict[str, Any]:
    """What the campaign on a cluster in a directory was started with; raises UsageError where there is none."""
    try:
        data = json.loads((directory / FACTS).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{directory}: there is no campaign on a cluster to go on with ({error.strerror}); leave out --resume") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{directory / FACTS} is damaged ({why_not_json(error)}); use another directory") from None
    if not isinstance(data, dict) or data.get("schema") != _SCHEMA:
        raise UsageError(f"{directory / FACTS} is not of a campaign of vmfuzz on a cluster; use another directory")
    data.setdefault("errata", [])  # older directories do not say; theirs knew none
    for name, kinds in _KINDS.items():
        if not isinstance(data.get(name), kinds) or isinstance(data.get(name), bool):
            raise UsageError(f"{directory / FACTS} is damaged ({name!r} is {data.get(name)!r:.60}); use another directory")
    return data


def write_facts(directory: Path, facts: Mapping[str, Any]) -> None:
    """Keep what the campaign is started with."""
    write_text(directory / FACTS, json.dumps({"schema": _SCHEMA, **facts}, indent=1) + "\n")


def part_directories(directory: Path) -> list[Path]:
    """The campaigns' directories in that of a campaign on a cluster, sorted."""
    return sorted(path.parent for path in directory.glob("*/campaign.sqlite"))


class ClusterStore:
    """Keeps a campaign on a cluster in `directory` while it runs."""

    def __init__(self, directory: Path, cluster: ClusterRun, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack
        names = [_file_name(name) for name, _, _ in cluster.processors]
        #: the directory of each processor; two of one name have the beginning of their capabilities' fingerprint in it
        self.places = {
            key: directory / (name if names.count(name) == 1 else f"{name}-{key[2][:8]}")
            for name, key in zip(names, cluster.processors, strict=True)
        }
        self._stores = {key: self._opened(place) for key, place in self.places.items()}

    def _opened(self, place: Path) -> Store:
        return self._stack.enter_context(Store(place))

    def pieces(self, key: tuple[str, str, str]) -> int | None:
        """How many pieces the stored campaign of a processor has; None where it is new."""
        stored = self._stores[key].facts.get("jobs")
        return None if stored is None else int(stored)

    def attach(self, part: Part) -> None:
        """Give a part the pieces that have come in before, and keep those that come in."""
        store, place = self._stores[part.processor.key], self.places[part.processor.key] / _PIECES
        store.option = part.processor.option
        store.attach(part.campaign, part.wanted, len(part.shares))
        part.seconds = part.campaign.progress.seconds
        for share in part.shares:
            path = place / f"{share.job}.json"
            data = _piece(path)
            if data is not None and data["iterations"] == share.iterations:
                part.results[share.job] = data["result"]

        def keep(job: int, result: dict[str, Any]) -> None:
            write_text(place / f"{job}.json", json.dumps({"iterations": part.shares[job].iterations, "result": result}))
            self.ends(part)

        part.keep = keep

    def ends(self, part: Part) -> None:
        """Keep what has come in of a part so far."""
        part.merged()
        findings = part.campaign.progress.findings
        findings.touched.update(findings.by_id)
        self._stores[part.processor.key].ends(part.campaign, 0)


def _piece(path: Path) -> dict[str, Any] | None:
    """A stored piece, or None; what cannot be read is run again."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and {"iterations", "result"} <= set(data) else None


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.@+-]+", "-", name).strip("-.")
