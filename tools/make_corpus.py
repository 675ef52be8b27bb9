"""The project's own corpus, from real runs: a guard for each check that some emulated CPU decides alone, each known deviation, each reading taken.

    python tools/make_corpus.py [--corpus corpus] [--seconds 60] [--seed 0] [CPU ...]

On each CPU model families directed at the checks are drawn until everything that can be seen was seen or the seconds are over. A row in which a
check decides alone (or a deviation shows, or a reading of an ambiguity) is minimized; the case is then run on every CPU model that has
its base and operands, and all of them are recorded in one entry. Entries that are there already are kept, with the records of this run added.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.campaign.tally import violations_per_stage
from vmfuzz.comparison.case import Case, base_value, mutation_between, width_of
from vmfuzz.comparison.compare import AlteredModel, Comparison, Verdict, compare
from vmfuzz.comparison.processor import processor_of
from vmfuzz.comparison.trial import Goal, Trial
from vmfuzz.corpus.entries import Entry, entry_files, load, save
from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.execute.kinds import open_executor
from vmfuzz.findings.minimize import Minimized, Minimizer
from vmfuzz.findings.triage import entry_of, repeats
from vmfuzz.generate.draws import draw
from vmfuzz.generate.families import Block, FamilyPlan
from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.known_deviations import DEVIATIONS
from vmfuzz.model.outcome_codes import ENTERED
from vmfuzz.state.vmcs import Vmcs

_FAMILY = 512
_CHUNK = 64


def _injected(information: int) -> dict[str, tuple[int, int]]:
    """An event that is injected with interrupts enabled."""
    return {"vm_entry_interruption_info": (_ALL, information), "guest_rflags": (0, 1 << 9)}


def _trapping(pending: int) -> dict[str, tuple[int, int]]:
    """Blocking by MOV SS with RFLAGS.TF and BTF, and these pending debug exceptions."""
    return {
        "guest_interruptibility_state": (_ALL, 2),
        "guest_rflags": (0, 1 << 8),
        "guest_ia32_debugctl": (0, 2),
        "guest_pending_debug_exceptions": (_ALL, pending),
    }


#: Changes of a base as name -> (bits to clear, bits to set).
Changes = Mapping[str, tuple[int, int]]
_ALL: Final = (1 << 64) - 1
#: In place of bits to set: the address of the current VMCS, which is the same on all emulated CPUs.
_CURRENT: Final = -1
_32_BIT_HOST: Final[Changes] = {"vm_exit_controls": (1 << 9, 0), "host_ia32_efer": (_ALL, 0)}
_ENTRY_TO_SMM: Final = 1 << 10
_DEACTIVATE: Final = 1 << 11
_PLAIN: Final = "64-bit/plain/nothing"
#: DDPD_U of IA32_SPEC_CTRL, loaded by the exit.
_SPEC_CTRL: Final[Changes] = {"vm_exit_controls": (0, 1 << 31), "secondary_vm_exit_controls": (0, 4), "host_ia32_spec_ctrl": (0, 1 << 8)}
_V86: Final[Changes] = {"guest_cr0": (1 << 31 | 1, 0), "secondary_processor_based_controls": (0, 1 << 7 | 1 << 1)}
_FOUR: Final[Changes] = {"vm_entry_msr_load_count": (_ALL, 4)}
#: The known-good state whose MSR-load area has N entries, and what makes its list reach entry N -> (base, changes).
_ENTRIES: Final = {
    **{n: (f"64-bit/msr-load-{n}/nothing", {}) for n in (1, 2, 3)},
    4: ("64-bit/msr-load-3/nothing", _FOUR),
}


def _loading(number: int, rule: str, msr: int, value: int = 0) -> tuple[str, str, Changes]:
    """Entry `number` of the MSR-load area loads an MSR with this value."""
    base, changes = _ENTRIES[number]
    words = {f"memory_msr_load_{number}_index": (_ALL, msr), f"memory_msr_load_{number}_data": (_ALL, value)}
    return f"msrload.wrmsr.{number}.{rule}", base, {**changes, **words}


#: States that a draw meets rarely, or in which a check is never the only one that is violated: made by hand, run like any other.
BY_HAND: Final[tuple[tuple[str, str, Changes], ...]] = (
    ("host.as.lma1.exit", _PLAIN, _32_BIT_HOST),
    ("host.as.ia32e", _PLAIN, _32_BIT_HOST),
    ("host.as.32.rip", _PLAIN, _32_BIT_HOST),
    ("host.as.32.pcide", _PLAIN, {**_32_BIT_HOST, "host_cr4": (0, 1 << 17)}),
    ("host.sel.ss.null", _PLAIN, {**_32_BIT_HOST, "host_ss_selector": (_ALL, 0)}),
    ("ctl.entry.smm.both", _PLAIN, {"vm_entry_controls": (0, _ENTRY_TO_SMM | _DEACTIVATE)}),
    ("guest.intr.smi-entry", _PLAIN, {"vm_entry_controls": (0, _ENTRY_TO_SMM)}),
    ("host.speccontrol", _PLAIN, _SPEC_CTRL),
    ("guest.link.current", _PLAIN, {"vmcs_link_pointer": (_ALL, _CURRENT)}),
    ("guest.intr.nmi-sti", _PLAIN, {"guest_interruptibility_state": (_ALL, 1), **_injected(0x8000_0202)}),
    ("guest.rflags.vm.pe", "virtual-8086/plain/nothing", _V86),
    ("guest.pdbg.rtm.reserved", _PLAIN, {"guest_pending_debug_exceptions": (_ALL, 0x11001)}),
    ("guest.pdbg.rtm.enabled", _PLAIN, {"guest_pending_debug_exceptions": (_ALL, 0x10000)}),
    (
        "guest.pdbg.rtm.movss",
        _PLAIN,
        {"guest_pending_debug_exceptions": (_ALL, 0x11000), "guest_interruptibility_state": (_ALL, 2)},
    ),
    ("guest.pdbg.bs.must0.btf", "64-bit/loads/nothing", _trapping(0x4000)),
    ("guest.pdbg.bs.must1.unloaded", _PLAIN, _trapping(0)),
    *((f"msrload.smm.{n}", f"64-bit/msr-load-{n}/nothing", {f"memory_msr_load_{n}_index": (_ALL, 0x9B)}) for n in (1, 3)),
    *((f"msrload.wrmsr.{n}.other", f"64-bit/msr-load-{n}/nothing", {f"memory_msr_load_{n}_index": (_ALL, 0x10)}) for n in (1, 2, 3)),
    ("msrload.smm.4", "64-bit/msr-load-3/nothing", {**_FOUR, "memory_msr_load_4_index": (_ALL, 0x9B)}),
    ("msrload.wrmsr.4.other", "64-bit/msr-load-3/nothing", {**_FOUR, "memory_msr_load_4_index": (_ALL, 0x10)}),
    *(_loading(n, "read-only", 0x345 if n == 2 else 0x480) for n in (1, 2, 3, 4)),
    *(_loading(n, "bits", *((0xC0000084, 1 << 32) if n == 2 else (0x48, 1 << 63))) for n in (1, 2, 3, 4)),
    ("msrload.wrmsr.beyond", "64-bit/msr-load-3/nothing", {"vm_entry_msr_load_count": (_ALL, 5)}),
)
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


def shown_with_others(comparison: Comparison, index: int, like: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
    """Rows that violate check `index` (or rest on it, where it is not modelled) and are `like` (verdict, deviation, outcome, allowed)."""
    verdict, deviation, bit, allowed = like
    same = (comparison.verdict == verdict) & (comparison.deviation == deviation) & (comparison.bits == bit)
    truth = (
        comparison.prediction.violated.get(index, False) if verdict != Verdict.NOT_MODELLED else comparison.prediction.allowed == allowed
    )
    return np.asarray(same & truth, np.bool_)


def by_hand(trial: Trial, missing: set[Subject]) -> Iterator[tuple[Subject, Entry]]:
    """Entries of the states made by hand whose check has none, minimized with the same verdict, deviation and outcome."""
    for id, name, changes in BY_HAND:
        index = next((index for index, compiled in enumerate(trial.model.compiled) if compiled.check.id == id), None)
        base = trial.base(name)
        here = [deviation for deviation in trial.deviations if ("deviation", deviation.id) in missing and id in deviation.skips]
        if index is None or base is None or not (("check", id) in missing or here):
            continue
        case = Case(name, {key: _changed(base, key, clear, put) for key, (clear, put) in changes.items()})
        if not trial.applies(case):
            continue
        seen = trial.compare(base, [case.mutation])
        like = (int(seen.verdict[0]), int(seen.deviation[0]), int(seen.bits[0]), int(seen.prediction.allowed[0]))
        goal = partial(shown_with_others, index=index, like=like)
        if like[0] not in (Verdict.AGREES, Verdict.DEVIATION, Verdict.NOT_MODELLED) or not goal(seen)[0]:
            print(f"  {id}: the state made by hand does not show it ({trial.observation(seen, 0).comparison})")
            continue
        minimized = Minimizer(trial, goal, 10.0).run(case)
        if minimized and repeats(trial, minimized[0].case):
            yield ("check", id), _entry_by_hand(trial, id, minimized[0])


def _changed(base: Vmcs, key: str, clear: int, put: int) -> int:
    put = base["live_current_vmcs_pointer"] if put == _CURRENT else put
    return base_value(base, key) & ~clear | put & (1 << width_of(key)) - 1


def _entry_by_hand(trial: Trial, id: str, minimized: Minimized) -> Entry:
    shown = trial.observe(minimized.case)
    kind, _, deviation = shown.comparison.partition(":")
    verdict, reason = "regression-guard", f"{id} is violated, and the entry fails as it requires"
    others = [other for other in shown.violated if other != id]
    if kind == "deviation":
        verdict = shown.comparison
        reason = f"{next(each.title for each in trial.deviations if each.id == deviation)} ({id})"
    elif shown.comparison == "not modelled":
        reason = f"{id} is not modelled: every outcome that the SDM leaves open is allowed"
        if len(shown.predicted) > 1:
            verdict, reason = "open", f"nobody has decided: {reason}"
    elif others:
        reason += f"; on an emulated CPU it is never violated alone, but with {', '.join(others[:4])}"
    shown = replace(shown, checks=(id, *(other for other in shown.checks if other != id)))
    return entry_of(minimized, shown, processor_of(trial.executor), 1, verdict, reason)


def everything(trial: Trial) -> set[Subject]:
    """All that this processor could show."""
    wanted: set[Subject] = {("deviation", deviation.id) for deviation in trial.deviations}
    for compiled in trial.model.compiled:
        ambiguity = compiled.check.ambiguity
        if ambiguity is None:
            wanted.add(("check", compiled.check.id))
        else:
            if compiled.check.id in {id for id, _, _ in BY_HAND}:
                wanted.add(("check", compiled.check.id))
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
    ranks = [
        ("deviation", "ambiguity", "open", "model-fixed", "regression-guard").index(entry.verdict.partition(":")[0])
        for entry in (one, other)
    ]
    first, second = (one, other) if ranks[0] <= ranks[1] else (other, one)
    longer = max(first.reason, second.reason, key=len)
    same = first.reason in longer and second.reason in longer
    reason = longer if same else f"{first.reason}; {second.reason}"
    return replace(first, reason=reason, checks=tuple(dict.fromkeys((*first.checks, *second.checks))))


def subjects_of(entry: Entry) -> set[Subject]:
    """What an existing entry is there for."""
    kind, _, id = entry.verdict.partition(":")
    found: set[Subject] = {("check", check) for check in entry.checks}
    if kind == "deviation":
        # an entry made by hand names its check in its reason: no other entry has it
        found = {(kind, id)} | {subject for subject in found if f"({subject[1]})" in entry.reason}
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
            for subject, entry in by_hand(trial, missing):
                entries[subject] = entry
                missing -= {subject} | subjects_of(entry)
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
    there |= {subject for entry in entries.values() for subject in subjects_of(entry)}
    print(f"{len(cases)} entries in {arguments.corpus}; not seen anywhere:")
    for kind, id in sorted(wanted - set(entries) - there):
        print(f"  {kind} {id}")


if __name__ == "__main__":
    main()
