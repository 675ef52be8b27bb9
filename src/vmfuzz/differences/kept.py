"""Differences of two processors as entries of a corpus, so that they can be shown, minimized, exported and replayed like any finding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from vmfuzz.comparison.processor import processor_of
from vmfuzz.corpus.entries import Entry, save
from vmfuzz.corpus.replay import keep_capabilities
from vmfuzz.differences.difference import Difference, Pairing, shown_case

#: Who departs from the manual, in words.
DEPARTS: Final = {
    "first": "the first departs from the manual",
    "second": "the second departs from the manual",
    "both": "both depart from the manual",
    "neither": "the manual allows either",
}


def keep(pairing: Pairing, directory: Path) -> list[Path]:
    """Write each difference into `directory` as an entry with what either processor does, and the capabilities of both; returns the files.

    Raises EnvironmentUnusable where one cannot be written.
    """
    for trial in (pairing.trial, pairing.trial.other):
        keep_capabilities(directory, trial.model.capabilities)
    return [save(directory, entry) for entry in entries_of(pairing)]


def entries_of(pairing: Pairing) -> Iterator[Entry]:
    """An entry for each difference whose case either processor can have alone."""
    for difference in pairing.result.ordered():
        case = shown_case(difference)
        if pairing.trial.applies(case) and pairing.trial.other.applies(case):
            yield _entry(pairing, difference)


def _entry(pairing: Pairing, difference: Difference) -> Entry:
    case, result = shown_case(difference), pairing.result
    shown = pairing.trial.observe_alone(case)
    main = shown[1] if difference.judgement == "second" else shown[0]
    reason = f"{result.first} and {result.other} differ: {DEPARTS[difference.judgement]}"
    entry = Entry(case, main.kind, main.checks, "open", reason, (), minimized=difference.minimal is not None)
    # a candidate that both ran was seen once by either
    for observation, trial in zip(shown, (pairing.trial, pairing.trial.other), strict=True):
        entry = entry.with_observation(observation, replace(processor_of(trial.executor), seen=difference.count))
    return entry
