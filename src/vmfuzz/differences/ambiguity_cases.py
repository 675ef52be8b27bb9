"""The cases that tell the readings of an ambiguity apart, made by the model, and the reading that a processor takes of each.

For a check that the manual leaves open, the witness is the smallest change of the simplest known-good state that violates this check and no
other: a processor that reads the manual strictly fails the VM entry, one that reads it leniently does not. Beside it stands the nearest
state that the check accepts, which must enter under both readings.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.outcomes import Kind
from vmfuzz.comparison.case import Case, base_value, width_of
from vmfuzz.comparison.trial import Trial
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.findings.minimize import cost_of
from vmfuzz.generate.bases import base_rank
from vmfuzz.generate.boundary import edits_of
from vmfuzz.generate.events import EVENTS
from vmfuzz.generate.parts import MODES
from vmfuzz.model.ambiguities import AMBIGUITIES
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.outcome_codes import ENTERED
from vmfuzz.model.predict import CompiledCheck
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

STRICT: Final = "strict"
LENIENT: Final = "lenient"
#: It fails the VM entry, but not as the strict reading says.
OTHERWISE: Final = "strict, another outcome"
#: The checks of each ambiguity, by its id.
CHECKS_OF: Final = {id: tuple(check.id for check in CHECKS if check.ambiguity == id) for id in AMBIGUITIES}
#: At most so many values of an operand are tried together with those of another.
_VALUES_IN_PAIRS: Final = 24
#: Operands of which single bits say little.
_WHOLE: Final = ("vm_entry_interruption_info",)


@dataclass(frozen=True)
class Witness:
    """A case that check `check` alone decides, and the nearest one that it accepts."""

    ambiguity: str
    check: str
    case: Case
    accepted: Case


@dataclass(frozen=True)
class Taken:
    """What a processor did with a witness: the outcome of the witness, of the accepted case, and the reading (STRICT, LENIENT, OTHERWISE or None)."""

    processor: str
    witness: Witness
    outcome: str
    accepted_outcome: str
    reading: str | None


def witnesses(trial: Trial) -> Iterator[Witness]:
    """The witness of each ambiguous check that exists on the processor and that a single or two operands can violate alone."""
    names = sorted(_names(), key=base_rank)
    for number, compiled in enumerate(trial.model.compiled):
        if compiled.check.ambiguity in AMBIGUITIES:
            found = _witness(trial, number, compiled, names)
            if found is not None:
                yield found


def _names() -> set[str]:
    """Known-good states that differ from the simplest in one or two parts."""
    pairs = itertools.product(MODES, ("plain", "loads", "ept-features", "cr4-features"), ("nothing",))
    others = itertools.chain(itertools.product(("64-bit",), ("plain",), EVENTS), [("64-bit", "virtual-interrupts", "nothing")])
    return {"/".join(parts) for parts in itertools.chain(pairs, others)}


def _witness(trial: Trial, number: int, compiled: CompiledCheck, names: list[str]) -> Witness | None:
    keys = [key for key in compiled.check.fields if key in trial.generator.bases.captured]
    for count, name in itertools.product((1, 2), names):
        base = trial.base(name)
        if base is None:
            continue
        mutations = sorted(_mutations(trial, compiled, base, keys, count), key=lambda mutation: (_cost(base, mutation), sorted(mutation)))
        if not mutations:
            continue
        prediction = trial.predict(base, mutations).prediction
        rows = np.flatnonzero(np.broadcast_to(prediction.violated.get(number, False), len(mutations)))
        for row in rows.tolist():
            if prediction.violations_of(row) == [compiled] and int(prediction.allowed[row]) & ENTERED:
                accepted = _accepted(trial, base, compiled, mutations[row])
                if accepted is not None:
                    assert compiled.check.ambiguity is not None
                    return Witness(compiled.check.ambiguity, compiled.check.id, Case(name, mutations[row]), Case(name, accepted))
    return None


def _mutations(trial: Trial, compiled: CompiledCheck, base: Vmcs, keys: list[str], count: int) -> Iterator[dict[str, int]]:
    """Changes of `count` of the operands: single bits flipped, and the values at which some check changes its mind.

    With several operands the values at which this check does come first, also those of two of its conditions together.
    """
    for chosen in itertools.combinations(keys, count):
        values = [_values(trial, base, key) for key in chosen]
        if count > 1:
            own = [_own_values(compiled, base, key) for key in chosen]
            values = [list(dict.fromkeys([*mine, *few]))[:_VALUES_IN_PAIRS] for mine, few in zip(own, values, strict=True)]
        for each in itertools.product(*values):
            yield dict(zip(chosen, each, strict=True))


def _own_values(compiled: CompiledCheck, base: Vmcs, key: str) -> list[int]:
    here = base_value(base, key)
    edits = edits_of(compiled.violated, key)
    once = {here & keep | put for keep, put in edits}
    return sorted(
        (once | {value & keep | put for value in once for keep, put in edits}) - {here}, key=lambda value: cost_of(key, here, value)
    )


def _values(trial: Trial, base: Vmcs, key: str) -> list[int]:
    here = base_value(base, key)
    edges = {here & keep | put for keep, put in trial.generator.edits(key)}
    bits = {here ^ 1 << index for index in range(width_of(key))}
    # what other known-good states have there: a valid event to inject is more than one bit away
    others = {there.get(key) or 0 for there in map(trial.base, sorted(_names())) if there is not None} if key in _WHOLE else set()
    return sorted((edges | bits | others) - {here}, key=lambda value: (cost_of(key, here, value), value))


def _cost(base: Vmcs, mutation: Mapping[str, int]) -> int:
    return sum((base_value(base, key) ^ value).bit_count() for key, value in mutation.items())


def _accepted(trial: Trial, base: Vmcs, compiled: CompiledCheck, mutation: Mapping[str, int]) -> dict[str, int] | None:
    """The nearest case with other values of the operands that violates nothing: one bit or one operand back."""
    nearer = [{**mutation, key: value ^ 1 << index} for key, value in mutation.items() for index in range(width_of(key))]
    nearer += [{key: value for key, value in mutation.items() if key != left} for left in mutation]
    # what the rule itself reads comes first: that is where its edge is
    nearer.sort(key=lambda each: _changed(mutation, each) not in compiled.check.must.reads)
    prediction = trial.predict(base, nearer).prediction
    for row, values in enumerate(nearer):
        if not prediction.violations_of(row) and int(prediction.allowed[row]) & ENTERED:
            return {key: value for key, value in values.items() if value != base_value(base, key)}
    return None


def _changed(one: Mapping[str, int], other: Mapping[str, int]) -> str:
    return next(key for key in one if one[key] != other.get(key))


def taken(trial: Trial, witness: Witness) -> Taken | None:
    """The reading that the trial's processor takes; None where it cannot have the case."""
    if not (trial.applies(witness.case) and trial.applies(witness.accepted)):
        return None
    base = trial.base(witness.case.base)
    assert base is not None
    comparison = trial.compare(base, [witness.case.mutation, witness.accepted.mutation])
    compiled = next((each for each in comparison.prediction.violations_of(0) if each.check.id == witness.check), None)
    outcomes = [trial.observation(comparison, row).actual for row in (0, 1)]
    reading = None
    if compiled is not None:
        bit = 1 << int(comparison.bits[0])
        failed = int(comparison.outcomes.kind[0]) in (Kind.VMFAIL_VALID, Kind.ENTRY_FAILURE)
        reading = LENIENT if bit & ENTERED else STRICT if bit & compiled.outcomes else OTHERWISE if failed else None
    return Taken(trial.executor.name, witness, outcomes[0], outcomes[1], reading)


#: What the processors of this repository lack, added to the newest: CPUID bits by leaf and register, and MSR bits.
_CPUID_ADDED: Final = {
    (7, 0): (0, 0, 1 << 7 | 1 << 13 | 1 << 16 | 1 << 24, 1 << 20),
    (7, 1): (1 << 17 | 1 << 26, 0, 0, 0),
    (0x80000008, 0): (9 << 8, 0, 0, 0),  # 48 + 9 linear-address bits
}
_ENTRY_ADDED: Final = 1 << 52 | 1 << 55 | 1 << 56
_MSRS_ADDED: Final = {
    0x484: _ENTRY_ADDED,
    0x490: _ENTRY_ADDED,
    0x483: 1 << 60,
    0x48F: 1 << 60,
    0x489: 1 << 12 | 1 << 23 | 1 << 32,
    0x48C: 1 << 23,
    0x492: 1 << 8,
    0x493: 1 << 1 | 1 << 2,
    0x982: 1 | 2 << 32,
}
#: IA32_VMX_BASIC[56]: processors that have it 1 do not tie error codes to vectors; CPUID.7.0:EDX[27]: STIBP
_MSRS_REMOVED: Final = {0x480: 1 << 56}
_CPUID_REMOVED: Final = {(7, 0): (0, 0, 0, 1 << 27)}


def hypothetical() -> Trial:
    """A trial that only predicts, on a processor that does not exist: the newest profile with CET, LAM, FRED, LA57, bus-lock debug exceptions, supervisor
    shadow-stack control, APIC-timer virtualization, key identifiers and without STIBP, for the ambiguities that no emulated CPU has.
    """
    real = capabilities("arrow_lake")
    msrs = {
        number: (real.msr(number) | _MSRS_ADDED.get(number, 0)) & ~_MSRS_REMOVED.get(number, 0) for number in {*real.msrs, *_MSRS_ADDED}
    }
    none = (0, 0, 0, 0)
    cpuid = {
        key: tuple((register + more) & ~less if key[0] >> 31 else (register | more) & ~less for register, more, less in rows)
        for key, registers in real.cpuid.items()
        if (rows := list(zip(registers, _CPUID_ADDED.get(key, none), _CPUID_REMOVED.get(key, none), strict=True)))
    }
    made = Capabilities("hypothetical", msrs, {key: (value[0], value[1], value[2], value[3]) for key, value in cpuid.items()})
    return Trial(ModelExecutor(made, known_good(made)))
