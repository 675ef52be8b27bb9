"""Two stored campaigns or corpora side by side: the cases that both have, on processors with equal capabilities, with other outcomes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from vmfuzz.comparison.processor import Processor
from vmfuzz.corpus.entries import Entry, Result


@dataclass(frozen=True)
class StoredDifference:
    """One case on one processor with two recorded outcomes; `entry` is the id that both corpora know it by."""

    entry: str
    processor: str
    predicted: tuple[str, ...]
    first: str
    second: str


@dataclass(frozen=True)
class Stored:
    """What comparing two corpora gave: records compared, those that differ, and entries that only one has.

    `other_capabilities`: entries that both have, but on no two processors whose capabilities are equal. `ids_first`, `ids_second`: the entries
    that only one has, by id.
    """

    compared: int
    differences: tuple[StoredDifference, ...]
    only_first: int
    only_second: int
    other_capabilities: int = 0
    ids_first: tuple[str, ...] = ()
    ids_second: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object for machines; its keys are stable."""
        return {"schema": "vmfuzz-diff-stored-1", **asdict(self)}


def _records(entry: Entry) -> dict[str, tuple[Result, Processor]]:
    """The records of an entry by the content of the processor's capabilities."""
    return {processor.capabilities: (result, processor) for result in entry.results for processor in result.processors}


def compare_stored(first: Iterable[Entry], second: Iterable[Entry]) -> Stored:
    """Compare the records of cases that both corpora have on processors whose capabilities are equal.

    An entry's id is made of its case, so that the same case has the same id wherever it was found.
    """
    here, there = ({entry.id: entry for entry in entries} for entries in (first, second))
    compared = other_capabilities = 0
    differences: list[StoredDifference] = []
    for id in sorted(here.keys() & there.keys()):
        other = _records(there[id])
        other_capabilities += other.keys().isdisjoint(_records(here[id]))
        for content, (result, processor) in sorted(_records(here[id]).items()):
            if content not in other:
                continue
            compared += 1
            if other[content][0].actual != result.actual:
                names = " | ".join(dict.fromkeys((processor.executor, other[content][1].executor)))
                differences.append(StoredDifference(id, names, result.predicted, result.actual, other[content][0].actual))
    mine, yours = tuple(sorted(here.keys() - there.keys())), tuple(sorted(there.keys() - here.keys()))
    return Stored(compared, tuple(differences), len(mine), len(yours), other_capabilities, mine, yours)
