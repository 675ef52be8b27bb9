"""Replay: every entry of a corpus predicted and run again, on each processor that it names, in batches."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.comparison.behind import rows_in_words
from vmfuzz.comparison.case import Case, is_memory
from vmfuzz.comparison.compare import Comparison
from vmfuzz.comparison.errata import Erratum
from vmfuzz.comparison.processor import Processor, fingerprint
from vmfuzz.comparison.trial import DEVIATION, MISMATCH, MOST_COLUMNS, Observation, Trial
from vmfuzz.corpus.entries import CAPABILITIES, Entry, Result
from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.execute.base import Executor
from vmfuzz.execute.kinds import BOCHS, MODEL, is_the_processor_there, open_executor, word_of
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.files import write_text
from vmfuzz.model.wording import without_formats
from vmfuzz.state.profiles import capabilities as profile_capabilities
from vmfuzz.state.profiles import emulated_names, known_good, profile_names

#: What `executor` of `replay` may be besides the executors: only predict.
PREDICT_ONLY: Final = "none"
_ROWS: Final = 2048


@dataclass(frozen=True)
class Change:
    """One thing that is not as recorded: on which processor, what ("prediction", "violated checks", "outcome", ...), before and now."""

    processor: str
    what: str
    recorded: str
    now: str

    def __str__(self) -> str:
        recorded, now = (without_formats(text) if self.what == "message" else text for text in (self.recorded, self.now))
        return f"{self.processor}: {self.what}: recorded {recorded}; now {now}"


@dataclass
class Replayed:
    """What became of one entry: how many of its records ran, how many were only predicted, and what changed.

    `lacking`: one sentence for each record that did not run since the executor lacks a field that the case sets, or does not let a sequence run.
    """

    path: Path
    entry: Entry
    executed: int = 0
    predicted_only: int = 0
    lacking: list[str] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


@dataclass(frozen=True)
class _Record:
    """One processor's record of one entry."""

    replayed: Replayed
    result: Result
    processor: Processor


@dataclass
class Report:
    """The result of a replay."""

    entries: list[Replayed]
    seconds: float = 0.0

    @property
    def changed(self) -> list[Replayed]:
        """The entries of which something is not as recorded."""
        return [replayed for replayed in self.entries if replayed.changes]

    @property
    def executed(self) -> int:
        """Records that ran."""
        return sum(replayed.executed for replayed in self.entries)

    @property
    def predicted_only(self) -> int:
        """Records that were only predicted, since no executor here is the processor that was recorded."""
        return sum(replayed.predicted_only for replayed in self.entries)

    @property
    def lacking(self) -> Counter[str]:
        """Records that did not run since the executor lacks a field, by the sentence that says so."""
        return Counter(sentence for replayed in self.entries for sentence in replayed.lacking)


def replay(
    entries: Iterable[tuple[Path, Entry]],
    executor: str = "auto",
    place: Path | None = None,
    on_processor: Callable[[str], None] | None = None,
    options: Mapping[str, Any] | None = None,
    errata: Sequence[Erratum] = (),
) -> Report:
    """Predict and run every record again.

    `executor`: "auto" (the emulated CPU for what ran on one, the model for what ran on the model with a stored profile), the name of one as
    `open_executor` takes it, which runs what any executor with its capabilities recorded, or "none" (predict only). Where an entry has a record
    of that executor itself, those of others are only predicted. `place`: the corpus directory, for capabilities that it keeps. `options`: of an
    executor that is the processor there.
    `errata`: deviations known besides the package's; a mismatch that they explain by now is no change.
    Raises EnvironmentUnusable where a named executor cannot be opened; with "auto" its records are only predicted.
    """
    start = time.perf_counter()
    report = Report([Replayed(path, entry) for path, entry in entries])
    by_processor: dict[tuple[str, str], list[_Record]] = {}
    for replayed in report.entries:
        for result in replayed.entry.results:
            for processor in result.processors:
                by_processor.setdefault((processor.capabilities, processor.executor), []).append(_Record(replayed, result, processor))
    # there is one real processor, and opening it may mean a connection
    with open_executor(executor, **(options or {})) if is_the_processor_there(executor) else nullcontext() as real:
        for (content, _), records in sorted(by_processor.items(), key=lambda item: item[0][1]):
            if on_processor is not None:
                on_processor(records[0].processor.executor)
            capabilities = capabilities_of(content, place)
            if capabilities is None:
                for record in records:
                    known = "no profile and no file in the corpus has these capabilities"
                    record.replayed.changes.append(Change(record.processor.executor, "capabilities", content, known))
            else:
                _replay_on(capabilities, records, executor, real, errata)
    report.seconds = time.perf_counter() - start
    return report


def keep_capabilities(place: Path, capabilities: Capabilities) -> None:
    """Keep a processor's capabilities with the entries in the directory `place`, if no stored profile has them.

    Raises EnvironmentUnusable where they cannot be written.
    """
    content = fingerprint(capabilities)
    path = place / CAPABILITIES / f"{content}.json"
    if content not in _profiles() and not path.exists():
        write_text(path, json.dumps(capabilities.to_json(), indent=1) + "\n")


def capabilities_of(content: str, place: Path | None) -> Capabilities | None:
    """The capabilities with this content: a stored profile's, or those that the corpus `place` (or one of its entries) keeps."""
    if content in _profiles():
        return profile_capabilities(_profiles()[content])
    if place is not None:
        directory = place if place.is_dir() else place.parent
        for path in (parent / CAPABILITIES / f"{content}.json" for parent in (directory, *directory.resolve().parents)):
            if path.is_file():
                return Capabilities.load(path)
    return None


@cache
def _profiles() -> dict[str, str]:
    return {fingerprint(profile_capabilities(name)): name for name in profile_names()}


def _replay_on(
    capabilities: Capabilities, records: Sequence[_Record], executor: str, real: Executor | None, errata: Sequence[Erratum]
) -> None:
    content, recorded_on = records[0].processor.capabilities, records[0].processor.executor
    if real is not None:
        if fingerprint(real.capabilities()) == content:
            _run(Trial(real, errata=errata), records)
            return
    elif executor == MODEL or (executor == "auto" and content in _profiles() and word_of(recorded_on) == MODEL):
        _run(Trial(ModelExecutor(capabilities, known_good(capabilities)), errata=errata), records)
        return
    elif (
        executor != PREDICT_ONLY and _profiles().get(content) in emulated_names() and (executor != "auto" or word_of(recorded_on) == BOCHS)
    ):
        try:
            with open_executor(executor, cpu=_profiles()[content]) as opened:
                if fingerprint(opened.capabilities()) == content:
                    _run(Trial(opened, errata=errata), records)
                    return
        except EnvironmentUnusable:
            if executor != "auto":
                raise
    stand_in = ModelExecutor(capabilities, known_good(capabilities))
    _predict(Trial(stand_in), records)


def _groups(trial: Trial, records: Sequence[_Record], case: Case | None = None) -> Iterator[list[_Record]]:
    """Records that fit into one batch: the same base, not too many columns; those that do not apply are noted and left out.

    `case`: what has to apply in place of a record's own case.

    A field that the executor lacks is no change of what was recorded: a hypervisor of the same capabilities may lack one.
    """
    by_base: dict[str, list[_Record]] = {}
    for record in records:
        applying = case or record.replayed.entry.case
        if lacking := trial.lacking(applying):
            record.replayed.lacking.append(f"{trial.executor.name} lacks {', '.join(lacking)}")
        elif trial.applies(applying):
            by_base.setdefault(record.replayed.entry.case.base, []).append(record)
        else:
            now = "the processor lacks the base or an operand"
            record.replayed.changes.append(Change(record.processor.executor, "case", record.replayed.entry.case.base, now))
    for group in by_base.values():
        part: list[_Record] = []
        columns: set[str] = set()
        # cases that set memory or live conditions make a batch slower: they come together
        for record in sorted(group, key=lambda each: sorted((not is_memory(key), key) for key in each.replayed.entry.case.mutation)):
            keys = set(record.replayed.entry.case.mutation)
            if part and (len(columns | keys) > MOST_COLUMNS or len(part) >= _ROWS):
                yield part
                part, columns = [], set()
            part.append(record)
            columns |= keys
        yield part


def _run(trial: Trial, records: Sequence[_Record]) -> None:
    _predict(trial, [record for record in records if _is_anothers(record, trial.executor.name)])
    records = [record for record in records if not _is_anothers(record, trial.executor.name)]
    for record in _sequences(trial, records):
        _run_sequence(trial, record)
    for group in _groups(trial, [record for record in records if record.replayed.entry.behind is None]):
        comparison = _compare(trial, group)
        for row, record in enumerate(group):
            observation = trial.observation(comparison, row)
            if not record.result.is_that_of(observation):
                # in a batch of others; what counts is what the case does alone
                observation = trial.observe(record.replayed.entry.case)
            record.replayed.executed += 1
            record.replayed.changes.extend(_changes(record, observation, trial))


def _is_anothers(record: _Record, name: str) -> bool:
    """Whether a record is of another executor, in an entry that has one of the executor `name` itself: `diff` keeps both sides."""
    own = (each for result in record.replayed.entry.results for each in result.processors if each.executor == name)
    return record.processor.executor != name and any(each.capabilities == record.processor.capabilities for each in own)


def _sequences(trial: Trial, records: Sequence[_Record]) -> Iterator[_Record]:
    """The records of sequences that the processor can have; of the others that is noted."""
    for record in records:
        behind, case = record.replayed.entry.behind, record.replayed.entry.case
        if behind is not None:
            every = Case(case.base, {key: 0 for row in (*behind.before, *behind.otherwise, case.mutation) for key in row})
            if next(_groups(trial, [record], every), None) is not None:
                yield record


def _run_sequence(trial: Trial, record: _Record) -> None:
    """Run a sequence in order in one new machine, and what it is compared with in another."""
    case, behind = record.replayed.entry.case, record.replayed.entry.behind
    assert behind is not None
    shown, why_not = trial.observe_sequence(case.base, [*behind.before, case.mutation])
    other, why_other_not = trial.observe_sequence(case.base, [*behind.otherwise, case.mutation])
    if left_out := why_not or why_other_not:
        record.replayed.lacking.append(f"{trial.executor.name} does not let a candidate of the sequence run: {left_out}")
        return
    record.replayed.executed += 1
    record.replayed.changes.extend(_changes(record, shown, trial))
    if other.actual != behind.actual:
        name = record.processor.executor
        record.replayed.changes.append(Change(name, f"outcome {rows_in_words(behind.otherwise)}", behind.actual, other.actual))


def _predict(trial: Trial, records: Sequence[_Record]) -> None:
    for group in _groups(trial, records):
        base = trial.base(group[0].replayed.entry.case.base)
        assert base is not None
        comparison = trial.predict(base, [record.replayed.entry.case.mutation for record in group])
        for row, record in enumerate(group):
            record.replayed.predicted_only += 1
            record.replayed.changes.extend(_changes(record, trial.observation(comparison, row), None))


def _compare(trial: Trial, group: Sequence[_Record]) -> Comparison:
    base = trial.base(group[0].replayed.entry.case.base)
    assert base is not None
    return trial.compare(base, [record.replayed.entry.case.mutation for record in group])


def _changes(record: _Record, now: Observation, trial: Trial | None) -> Iterator[Change]:
    """What is not as recorded. `trial`: what executed; None where nothing did."""
    name, then = record.processor.executor, record.result
    pairs = [("prediction", then.predicted, now.predicted), ("violated checks", then.violated, now.violated)]
    for what, before, after in pairs:
        if before != after:
            yield Change(name, what, ", ".join(before) or "none", ", ".join(after) or "none")
    if trial is None:
        return
    texts = [("outcome", then.actual, now.actual), ("comparison", then.comparison, now.comparison)]
    if word_of(name) == word_of(trial.executor.name):  # another implementation has other words for the same cause
        texts.append(("message", then.message or "none", now.message or "none"))
    for what, recorded, seen in texts:
        known = what == "comparison" and recorded == MISMATCH and seen in {f"{DEVIATION}{id}" for id in trial.told}
        if recorded != seen and not known:
            yield Change(name, what, recorded, seen)
