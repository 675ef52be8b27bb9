"""Where a report comes from: summaries that `vmfuzz run` wrote, or directories in which it keeps a campaign."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vmfuzz.campaign.loop import Campaign, Summary
from vmfuzz.campaign.stored import restore_stored, stored_facts
from vmfuzz.cluster.store import is_cluster_directory, part_directories
from vmfuzz.comparison.processor import version_of
from vmfuzz.corpus.entries import entry_files, from_json, load_all, to_json
from vmfuzz.errors import UsageError
from vmfuzz.execute.kinds import MODEL, open_executor
from vmfuzz.files import why_not_json

SCHEMA: Final = "vmfuzz-summary-1"
#: The summaries of a campaign on a cluster, one for each processor.
SEVERAL: Final = "vmfuzz-summaries-1"
#: Where a campaign's directory keeps its minimized findings.
_FINDINGS: Final = "findings"
#: What a summary must have, and of which type; the others are looked for and may be missing.
_REQUIRED: Final[Mapping[str, type]] = {
    "executor": str,
    "seed": int,
    "seconds": float,
    "candidates": int,
    "executed": int,
    "verdicts": dict,
    "outcomes": dict,
    "deviations": dict,
    "checks": dict,
    "readings": dict,
    "findings": list,
}
_WORDS: Final = {str: "text", int: "a whole number", float: "a number", dict: "an object", list: "a list"}
_HOW: Final = "write one with: vmfuzz run --summary FILE"


@dataclass(frozen=True)
class Source:
    """One campaign: its name (the file's or directory's) and its summary."""

    name: str
    data: Mapping[str, Any]


def load_all_of(place: Path) -> list[Source]:
    """Like `load`; a campaign on a cluster (its summary or directory) is one of each processor in it."""
    if place.is_dir():
        parts = part_directories(place) if is_cluster_directory(place) else [place]
        if not parts:
            raise UsageError(f"{place}: its campaign has not run on any processor yet")
        return [Source(part.name, _of_directory(part)) for part in parts]
    data = _data_in(place)
    if not isinstance(data, dict) or data.get("schema") != SEVERAL:
        return [load(place)]
    summaries = data.get("summaries")
    if not isinstance(summaries, list) or not summaries:
        raise UsageError(f"{place}: 'summaries' is {_short(summaries)}, expected a list with at least one; {_HOW}")
    for summary in summaries:
        _require_summary(place, summary)
    return [Source(f"{place.stem}-{number}", summary) for number, summary in enumerate(summaries, 1)]


def load(place: Path) -> Source:
    """The summary in a file, or of the campaign in a directory; raises UsageError that says what is wrong with it."""
    if place.is_dir():
        return Source(place.name, _of_directory(place))
    data = _data_in(place)
    _require_summary(place, data)
    return Source(place.stem, data)


def _data_in(place: Path) -> Any:
    try:
        return json.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the summary {place}: {error.strerror}; {_HOW}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place} is not a summary of vmfuzz: it is not JSON ({why_not_json(error)}); {_HOW}") from None


def _require_summary(place: Path, data: object) -> None:
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else type(data).__name__
        raise UsageError(f"{place} is not a summary of vmfuzz: its schema is {str(found)!r}, expected {SCHEMA!r}; {_HOW}")
    for name, kind in _REQUIRED.items():
        if not _is(data.get(name), kind):
            raise UsageError(f"{place}: {name!r} is {_short(data.get(name))}, expected {_WORDS[kind]}; {_HOW}")
    _require_counts(place, data)
    _require_lists(place, data)


def _require_counts(place: Path, data: Mapping[str, Any]) -> None:
    for name, keys in (("checks", ("violated", "decided")), ("readings", ("strict", "lenient"))):
        for id, counts in data[name].items():
            if not isinstance(counts, dict) or not all(_is(counts.get(key), int) for key in keys):
                raise UsageError(f"{place}: {name}[{id!r}] is {_short(counts)}, expected counts named {' and '.join(keys)}; {_HOW}")
    for name in ("verdicts", "outcomes", "deviations"):
        for id, count in data[name].items():
            if not _is(count, int):
                raise UsageError(f"{place}: {name}[{id!r}] is {_short(count)}, expected a whole number; {_HOW}")


def _require_lists(place: Path, data: Mapping[str, Any]) -> None:
    for name in ("findings", "minimized", "history", "errata"):
        if not isinstance(data.get(name, []), list):
            raise UsageError(f"{place}: {name} is {_short(data[name])}, expected a list; {_HOW}")
    for item in data.get("errata", ()):
        if not _is_erratum(item):
            raise UsageError(f"{place}: errata holds {_short(item)}, expected objects with id, title, text and skips; {_HOW}")
    for item in data["findings"]:
        if not _is_finding(item):
            raise UsageError(
                f"{place}: findings holds {_short(item)}, expected objects with id, kind, checks, predicted, differences; {_HOW}"
            )
    for item in data.get("minimized", ()):
        try:
            from_json(item)
        except UsageError as error:
            raise UsageError(f"{place}: minimized holds {_short(item)}: {error}; {_HOW}") from None
    for point in data.get("history", ()):
        if not isinstance(point, list) or len(point) != 4 or not all(_is(value, float) for value in point):
            raise UsageError(f"{place}: history holds {_short(point)}, expected [seconds, candidates, checks decided, findings]; {_HOW}")


def _is_erratum(item: object) -> bool:
    if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in ("id", "title", "text")):
        return False
    skips = item.get("skips")
    return isinstance(skips, list) and all(isinstance(id, str) for id in skips)


def _is_finding(item: object) -> bool:
    if not isinstance(item, dict) or not all(isinstance(item.get(key), str) for key in ("id", "kind", "actual", "base")):
        return False
    lists = [item.get("checks"), item.get("predicted")]
    if not all(isinstance(texts, list) and all(isinstance(text, str) for text in texts) for texts in lists):
        return False
    pairs = [item.get("differences"), item.get("memory_differences", {})]
    if not all(isinstance(values, dict) and all(isinstance(pair, list) and len(pair) == 2 for pair in values.values()) for values in pairs):
        return False
    return _is(item.get("count"), int)


def _is(value: object, kind: type) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _short(value: object) -> str:
    text = "missing" if value is None else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _of_directory(directory: Path) -> dict[str, Any]:
    """The summary of the campaign in a directory as it stands, with its minimized findings."""
    facts = stored_facts(directory)
    option = facts["executor"].split(" ")[0]
    if option not in ("bochs", MODEL):
        raise UsageError(
            f"{directory}: its campaign ran on {facts['executor']}, which this command does not start; give its summary: {_HOW}"
        )
    with open_executor(option, cpu=facts["cpu"]) as executor:
        campaign = Campaign(executor, facts["seed"])
        restore_stored(directory, campaign, facts["jobs"])
        progress = campaign.progress
        progress.wanted = facts["wanted"]
        stopped = progress.tally.candidates < progress.wanted
        summary = Summary(executor.name, campaign.seed, progress, stopped, tuple(sorted(campaign.bases_used)), version=version_of(executor))
    found = directory / _FINDINGS
    entries = [entry for _, entry in load_all(entry_files(found))] if found.is_dir() else []
    return {**summary.to_json(), "minimized": [to_json(entry) for entry in entries], **facts.get("triage", {})}
