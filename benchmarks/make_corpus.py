"""The project's own corpus, from real runs: a guard for each check that some emulated CPU decides alone, each known deviation, each reading taken.

    python benchmarks/make_corpus.py [--corpus corpus] [--seconds 60] [--seed 0] [CPU ...]

On each CPU model families directed at the checks are drawn until everything that can be seen was seen or the seconds are over. A row in which a
check decides alone (or a deviation shows, or a reading of an ambiguity) is minimized; the case is then run on every CPU model that has
its base and operands, and all of them are recorded in one entry. Entries that are there already are kept, with the records of this run added.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.campaign.case import Case, mutation_between
from vmfuzz.campaign.compare import AlteredModel, Comparison, Verdict, compare
from vmfuzz.campaign.corpus import Entry, entry_files, load, save
from vmfuzz.campaign.minimize import Minimizer
from vmfuzz.campaign.tally import violations_per_stage
from vmfuzz.campaign.triage import entry_of, processor_of, repeats
from vmfuzz.campaign.trial import Goal, Trial
from vmfuzz.execute.base import open_executor
from vmfuzz.execute.bochs import CPU_MODELS
from vmfuzz.generate.draws import draw
from vmfuzz.generate.families import Block, FamilyPlan
from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.known_deviations import DEVIATIONS
from vmfuzz.model.outcome_codes import ENTERED

_FAMILY = 512
_CHUNK = 64
#: What an entry is about: ("check", id), ("deviation", id) or ("ambiguity", "id strict" or "id lenient").
Subject = tuple[str, str]


def alone(comparison: Comparison, index: int, strict: bool = True) -> npt.NDArray[np.bool_]:
    """Rows in which check `index` alone is violated, in a stage that is reached, and its outcome came (`strict`) or the entry succeeded."""
    prediction = comparison.prediction
    compiled = prediction.model.compiled[index]
    truth = prediction.violated.get(index, False)
    if truth is False or compiled.step not in prediction.reached:
        return np.zeros(len(prediction), np.bool_)
    total = sum(violations_per_stage(prediction).values(), np.zeros(len(prediction), np.uint16))
    actual = np.uint64(1) << comparison.bits.astype(np.uint64)
    came = actual & np.uint64(compiled.outcomes if strict else ENTERED) != 0
    agrees = comparison.verdict == Verdict.AGREES
    return np.asarray(truth & agrees & (total == 1) & prediction.reached[compiled.step] & came, np.bool_)


def subjects(trial: Trial, comparison: Comparison, wanted: set[Subject]) -> Iterator[tuple[Subject, Goal, int]]:
    """What the rows of a comparison show of what is wanted, with the goal that keeps it and the row with the fewest changes."""
    for index in comparison.prediction.violated:
        compiled = trial.model.compiled[index]
        readings = (True,) if compiled.certain else (True, False)
        for strict in readings:
            ambiguity = compiled.check.ambiguity
            reading = f"{ambiguity} {'strict' if strict else 'lenient'} {compiled.check.id}"
            subject = ("check", compiled.check.id) if ambiguity is None else ("ambiguity", reading)
            rows = np.flatnonzero(alone(comparison, index, strict)).tolist() if subject in wanted else []
            if rows:
                yield subject, partial(alone, index=index, strict=strict), rows[0]
    if not (comparison.verdict == Verdict.DEVIATION).any():
        return
    for deviation in trial.deviations:
        if ("deviation", deviation.id) in wanted:
            goal = explained_by(alone_altered(trial.model.capabilities, deviation.id))
            rows = np.flatnonzero(goal(comparison)).tolist()
            if rows:
                yield ("deviation", deviation.id), goal, rows[0]


@lru_cache(maxsize=512)
def alone_altered(capabilities: Capabilities, id: str) -> AlteredModel:
    """The model with one deviation only."""
    return AlteredModel(capabilities, [deviation for deviation in DEVIATIONS if deviation.id == id])


def explained_by(altered: AlteredModel) -> Goal:
    """The goal of a known deviation: it explains the mismatch without the others."""

    def goal(tried: Comparison) -> npt.NDArray[np.bool_]:
        rows = tried.verdict == Verdict.DEVIATION
        only = compare(tried.prediction, tried.outcomes, altered)
        return np.asarray(rows & (only.verdict == Verdict.DEVIATION), np.bool_)

    return goal


def everything(trial: Trial) -> set[Subject]:
    """All that this processor could show."""
    wanted: set[Subject] = {("deviation", deviation.id) for deviation in trial.deviations}
    for compiled in trial.model.compiled:
        ambiguity = compiled.check.ambiguity
        if ambiguity is None:
            wanted.add(("check", compiled.check.id))
        else:
            wanted |= {("ambiguity", f"{ambiguity} {reading} {compiled.check.id}") for reading in ("strict", "lenient")}
    return wanted


def entry_for(trial: Trial, subject: Subject, case: Case, goal: Goal) -> Entry | None:
    """The minimized entry of a case, or None where it does not repeat."""
    minimized = Minimizer(trial, goal, 10.0).run(case)
    if not minimized or not repeats(trial, minimized[0].case):
        return None
    kind, id = subject
    verdict, reason = "regression-guard", f"{id} alone decides: processor and model agree"
    if kind == "ambiguity":
        name, reading, check = id.split()
        verdict = f"ambiguity:{name}"
        reason = f"{reading} reading of {check}: {getattr(AMBIGUITIES[name], reading)}"
    elif kind == "deviation":
        verdict = f"deviation:{id}"
        reason = next(deviation.title for deviation in trial.deviations if deviation.id == id)
    shown = trial.observe(minimized[0].case)
    if kind != "deviation":
        check = id.split()[-1]
        shown = replace(shown, checks=(check,))
    return entry_of(minimized[0], shown, processor_of(trial.executor), 1, verdict, reason)


def merged(one: Entry, other: Entry) -> Entry:
    """One entry for two subjects of the same case; the verdict that says more is kept."""
    ranks = [("deviation", "ambiguity", "regression-guard").index(entry.verdict.partition(":")[0]) for entry in (one, other)]
    first, second = (one, other) if ranks[0] <= ranks[1] else (other, one)
    reason = first.reason if second.reason in first.reason else f"{first.reason}; {second.reason}"
    return replace(first, reason=reason, checks=tuple(dict.fromkeys((*first.checks, *second.checks))))


def subjects_of(entry: Entry) -> set[Subject]:
    """What an existing entry is there for."""
    kind, _, id = entry.verdict.partition(":")
    found: set[Subject] = {("check", check) for check in entry.checks}
    if kind == "deviation":
        found = {(kind, id)}
    for check in entry.checks if kind == "ambiguity" else ():
        found |= {(kind, f"{id} {reading} {check}") for reading in ("strict", "lenient") if f"{reading} reading of {check}" in entry.reason}
    return found


def gather(trial: Trial, missing: set[Subject], seconds: float, seed: int, entries: dict[Subject, Entry]) -> None:
    """Draw families until nothing is missing or the seconds are over; adds entries by subject."""
    generator = trial.generator
    deadline, number = time.monotonic() + seconds, 0
    index_of = {compiled.check.id: index for index, compiled in enumerate(trial.model.compiled)}
    while missing and time.monotonic() < deadline:
        ids = {id.split()[-1] for kind, id in missing if kind != "deviation"}
        ids |= {id for deviation in trial.deviations if ("deviation", deviation.id) in missing for id in deviation.skips}
        targets = [index for id, index in index_of.items() if id in ids and index in generator.reachable] or list(generator.reachable)
        for i, choice in enumerate(draw(generator.choices(), seed * 1_000_003 + number, _CHUNK)):
            target = int(targets[(number * _CHUNK + i) % len(targets)])
            applicable = np.flatnonzero(generator.applicable[target])
            base_name = (
                generator.bases.samples()[int(applicable[i % len(applicable)])]
                if len(applicable)
                else generator.bases.nearest(*choice.parts)
            )
            plan = FamilyPlan(base_name, choice.seed, _FAMILY, blocks=(Block(target, _FAMILY, number * _CHUNK + i),))
            comparison = trial.compare_batch(generator.expand(plan))
            base = generator.base_of(plan)
            for subject, goal, row in list(subjects(trial, comparison, missing)):
                case = Case(plan.base, mutation_between(base, comparison.prediction.batch.row(row)))
                entry = entry_for(trial, subject, case, goal) if trial.applies(case) else None
                if entry is not None:
                    entries[subject] = entry
                    missing.discard(subject)
            if time.monotonic() > deadline:
                break
        number += 1


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path("corpus"))
    parser.add_argument("--seconds", type=float, default=60.0, help="a CPU model, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("cpus", nargs="*", metavar="CPU")
    arguments = parser.parse_args()
    cpus = arguments.cpus or ["sapphire_rapids", "corei7_skylake_x", *(cpu for cpu in CPU_MODELS)]
    entries: dict[Subject, Entry] = {}
    existing: dict[str, tuple[Path, Entry]] = {}
    if arguments.corpus.is_dir() and any(arguments.corpus.rglob("*.json")):
        existing = {path.stem: (path, load(path)) for path in entry_files(arguments.corpus)}
    wanted: set[Subject] = set()
    there = {subject for _, entry in existing.values() for subject in subjects_of(entry)}
    for cpu in dict.fromkeys(cpus):
        with open_executor("bochs", cpu=cpu) as executor:
            trial = Trial(executor)
            missing = everything(trial) - set(entries) - there
            wanted |= everything(trial)
            before = len(entries)
            gather(trial, missing, arguments.seconds, arguments.seed, entries)
            print(f"{cpu}: {len(entries) - before} entries, {len(missing)} not seen", flush=True)
    cases: dict[str, Entry] = {}
    for entry in [*(entry for _, entry in existing.values()), *entries.values()]:
        cases[entry.id] = merged(cases[entry.id], entry) if entry.id in cases else entry
    for cpu in CPU_MODELS:
        with open_executor("bochs", cpu=cpu) as executor:
            trial = Trial(executor)
            for id, entry in cases.items():
                if trial.applies(entry.case) and (shown := trial.observe(entry.case)) == trial.observe(entry.case):
                    cases[id] = entry.with_observation(shown, processor_of(executor))
    for id, entry in cases.items():
        save(arguments.corpus, entry, existing[id][0] if id in existing else None)
    print(f"{len(cases)} entries in {arguments.corpus}; not seen anywhere:")
    for kind, id in sorted(wanted - set(entries) - there):
        print(f"  {kind} {id}")


if __name__ == "__main__":
    main()
