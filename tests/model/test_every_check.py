"""Every check once: a state that violates it, found from a known-good state with the generator's own boundary edits.

The search goes over the check's conditions: where an atom has the wrong truth, each boundary edit of each operand that it reads (then each
single bit) is tried until it has the right one. Other checks that the state then violates are repaired in the same way, so that the state
found violates the check alone wherever that can be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Any

import pytest

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.cpuid_features import FEATURES
from vmfuzz.arch.outcomes import Kind
from vmfuzz.generate.boundary import edits_of
from vmfuzz.model.checks import BY_ID, CHECKS
from vmfuzz.model.checks.wrmsr import IA32_SYSENTER_CS
from vmfuzz.model.evaluate import evaluate
from vmfuzz.model.expr import FALSE, Cond, Node, all_of, any_of
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import KNOWN_SUFFIX, MEMORY_OPERANDS, MSR_LOAD_ENTRIES, operand_width
from vmfuzz.model.predict import CompiledCheck, Model, model_of, predict
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

#: Checks that no state violates alone: id -> why.
NEVER_ALONE: dict[str, str] = {
    "ctl.entry.smm.outside.entry": '"entry to SMM" demands blocking by SMI, which outside SMM there must not be: the guest state fails as well',
    "ctl.inject.vector.other.ia32e": "guest CR4.FRED = 1 outside IA-32e mode violates guest.cr4.fred as well",
    "host.as.lma0.entry": '"IA-32e mode guest" = 1 in legacy mode: a 64-bit host violates host.as.lma0.exit, any other host.as.ia32e',
    "host.as.ia32e": "a 32-bit host with a 64-bit guest: violates host.as.lma1.exit in IA-32e mode and host.as.lma0.entry outside it",
}

#: Checks of which the model never knows whether they fail: id -> why.
NEVER_KNOWN = {
    **{f"msrload.wrmsr.{number}.other": "what a WRMSR of an MSR outside the model's table refuses" for number in range(1, 5)},
    "msrload.wrmsr.beyond": "what lies beyond the entries that the model reads",
}


# Processors: the stored profiles, and made-up ones with what no emulated CPU has


def with_features(base: Capabilities, name: str, *, on: tuple[str, ...] = (), off: tuple[str, ...] = ()) -> Capabilities:
    """The same processor with CPUID features turned on and off."""
    leaves = {key: list(registers) for key, registers in base.cpuid.items()}
    for feature in (*on, *off):
        leaf, subleaf, register, bit = FEATURES[feature]
        registers = leaves.setdefault((leaf, subleaf), [0, 0, 0, 0])
        registers[register] = registers[register] | 1 << bit if feature in on else registers[register] & ~(1 << bit)
    return Capabilities(name, base.msrs, {key: (a, b, c, d) for key, (a, b, c, d) in leaves.items()})


def with_everything(base: Capabilities) -> Capabilities:
    """A processor that allows every control with a name and reports every feature."""
    msrs = dict(base.msrs)
    for word in CONTROL_WORDS.values():
        named = sum(1 << bit for bit in word.bits)
        for number in filter(None, (word.msr, word.true_msr)):
            msrs[number] = msrs.get(number, 0) | (named if word.only_allowed_1 else named << 32)
    msrs[0x48C] = 0xF01_0673_4141 | 1 << 7 | 1 << 23
    msrs[0x489] |= 1 << 32 | 0x3FF_FFFF  # CR4.FRED and all that is below UINTR
    msrs[0x982] = 0  # no key identifiers: high bits of an address are certain
    return with_features(Capabilities(base.name, msrs, base.cpuid), "everything", on=tuple(FEATURES))


def with_msr(base: Capabilities, name: str, number: int, value: int) -> Capabilities:
    return Capabilities(name, {**base.msrs, number: value}, base.cpuid)


@cache
def processors() -> tuple[Capabilities, ...]:
    stored = [
        capabilities(name) for name in ("corei7_skylake_x", "arrow_lake", "core2_penryn_t9600", "corei5_lynnfield_750", "sapphire_rapids")
    ]
    newest = capabilities("arrow_lake")
    everything = with_everything(newest)
    return (
        *stored,
        everything,
        with_features(everything, "everything but CET", off=("cet_ss", "cet_ibt")),
        with_msr(everything, "error codes by vector", 0x480, everything.msr(0x480) & ~(1 << 56)),
        with_msr(
            with_features(everything, "", off=("cet_ss", "cet_ibt")), "error codes, no CET", 0x480, everything.msr(0x480) & ~(1 << 56)
        ),
        with_features(newest, "no Intel 64", off=("intel64",)),
        with_msr(with_features(everything, "", off=("stibp",)), "key identifiers, no STIBP", 0x982, 1 | 2 << 32),
    )


# The search


def holds(condition: Cond, state: Vmcs) -> bool:
    return bool(evaluate(condition, OperandValues(VmcsBatch(state, {}, count=1)), {}))


def word_address(operand: str, state: Vmcs) -> int:
    place = MEMORY_OPERANDS[operand.removesuffix(KNOWN_SUFFIX)]
    return (((state.get(place.address_field) or 0) & place.address_mask) + place.offset) & ~7


def written(state: Vmcs, operand: str, value: int) -> Vmcs:
    """The state with an operand given a value: a field, a live condition, or memory."""
    if operand.endswith(KNOWN_SUFFIX):
        return state.with_memory({word_address(operand, state): 0})
    if operand in MEMORY_OPERANDS:
        place, address = MEMORY_OPERANDS[operand], word_address(operand, state)
        shift, mask = 8 * (place.offset % 8), (1 << place.width) - 1
        return state.with_memory({address: state.memory.get(address, 0) & ~(mask << shift) | value << shift})
    return state.replace(**{operand: value})


def current(state: Vmcs, operand: str) -> int:
    value = OperandValues(VmcsBatch(state, {}, count=1))(operand)
    assert isinstance(value, int)
    return value


def changes(atom: Cond, state: Vmcs) -> Iterator[Vmcs]:
    """The state with one operand of the atom edited: boundary edits, values of the atom's other operands, values just under the lowest bit
    of a mask and just under 2^64 (where sums carry) also with a 2 in the other operand, single bits.
    """
    for operand in sorted(atom.reads):
        value = current(state, operand)
        for keep, set_bits in edits_of(atom, operand):
            yield written(state, operand, value & keep | set_bits)
    edges = [(mask & -mask) - 16 for mask in constants(atom) if mask & -mask > 16] + [(1 << 64) - 16]
    for operand in sorted(atom.reads):
        full = (1 << operand_width(operand)) - 1
        for value in [current(state, other) for other in sorted(atom.reads - {operand})] + edges:
            yield written(state, operand, value & full)
        for other in sorted(atom.reads - {operand}):
            for value in edges:
                yield written(written(state, operand, value & full), other, 2)
        for bit in range(operand_width(operand)):
            yield written(state, operand, current(state, operand) ^ 1 << bit)


def constants(node: Node) -> list[int]:
    own = [node.args[0]] if node.op == "const" else []
    return own + [value for child in node.children for value in constants(child)]


def satisfy(condition: Cond, wanted: bool, state: Vmcs) -> Iterator[Vmcs]:
    """States near `state` in which the condition has the wanted truth."""
    op, args = condition.op, condition.args
    if op == "not":
        yield from satisfy(args[0], not wanted, state)
    elif op in ("true", "false"):
        if (op == "true") == wanted:
            yield state
    elif op == ("any" if wanted else "all"):
        for part in reversed(args):  # what must hold before its premise: a check is repaired rather than switched off
            yield from satisfy(part, wanted, state)
    elif op in ("all", "any"):
        if holds(condition, state) == wanted:
            yield state
        yield from (found for found in in_turn(args, wanted, state) if holds(condition, found) == wanted)
    elif holds(condition, state) == wanted:
        yield state
    else:
        yield from (changed for changed in changes(condition, state) if holds(condition, changed) == wanted)


#: Of a condition with more parts than this, those that have the wanted truth already are left as they are: their other ways would multiply.
MOST_PARTS = 8


def in_turn(parts: tuple[Cond, ...], wanted: bool, state: Vmcs) -> Iterator[Vmcs]:
    if len(parts) > MOST_PARTS:
        parts = tuple(part for part in parts if holds(part, state) != wanted)
    if not parts:
        yield state
        return
    for found in satisfy(parts[0], wanted, state):
        yield from in_turn(parts[1:], wanted, found)


@dataclass(frozen=True)
class Found:
    capabilities: Capabilities
    state: Vmcs
    others: tuple[str, ...]


def trouble(compiled: CompiledCheck) -> Cond:
    """The check fails, or may fail because the case does not say enough."""
    return any_of(compiled.violated, compiled.unknown)


def troubles(model: Model, target: CompiledCheck | None, state: Vmcs) -> list[CompiledCheck]:
    """The other checks that the state violates, or may violate."""
    values = OperandValues(VmcsBatch(state, {}, count=1))
    memo: dict[int, Any] = {}
    return [compiled for compiled in model.compiled if compiled is not target and evaluate(trouble(compiled), values, memo)]


#: Of the ways to repair one trouble, so many are compared: one number of a long list may be the only one that makes no new trouble.
MOST_OPTIONS = 40


def repaired(model: Model, target: CompiledCheck | None, kept: list[Cond], state: Vmcs) -> tuple[Vmcs, list[CompiledCheck]]:
    """`state` with troubles repaired one after the other while the conditions in `kept` go on to hold; and those that are left."""
    kept = list(kept)
    for _ in range(24):
        bad = troubles(model, target, state)
        for other in bad:
            near = islice(satisfy(trouble(other), False, state), 400)
            options = list(islice((option for option in near if all(holds(condition, option) for condition in kept)), MOST_OPTIONS))
            if options:
                state = min(options, key=lambda option: len(troubles(model, target, option)))
                kept.append(~trouble(other))
                break
        else:
            return state, bad
    return state, troubles(model, target, state)


@cache
def start_of(caps: Capabilities) -> Vmcs:
    """The processor's known-good state; where it lacks Intel 64, that state made 32-bit.

    Its MSR-load area has entries that every processor loads, for searches that make the list longer: of an MSR that a search makes up itself,
    it would have to find a value as well.
    """
    state = known_good(caps)
    first = state["vm_entry_msr_load_address"]
    entries = {first + 16 * number + offset: word for number in range(MSR_LOAD_ENTRIES) for offset, word in ((0, IA32_SYSENTER_CS), (8, 0))}
    return repaired(model_of(caps), None, [], state.with_memory(entries))[0]


@cache
def find(id: str) -> Found | None:
    """A state that violates the check, alone if that can be; the first processor on which one is found decides."""
    best: Found | None = None
    for caps in processors():
        model = model_of(caps)
        target = next((compiled for compiled in model.compiled if compiled.check.id == id), None)
        if target is None or target.violated is FALSE:
            continue
        known = model.fold(target.check.known)
        wanted = target.violated if known is FALSE else all_of(target.violated, known)
        for state in islice(satisfy(wanted, True, start_of(caps)), 6):
            state, bad = repaired(model, target, [wanted], state)
            found = Found(caps, state, tuple(other.check.id for other in bad))
            if best is None or len(found.others) < len(best.others):
                best = found
            if not found.others:
                return best
        if best is not None and id in NEVER_ALONE:
            return best
    return best


@pytest.mark.parametrize("caps", processors(), ids=lambda caps: caps.name)
def test_the_search_starts_from_a_state_that_violates_nothing(caps: Capabilities) -> None:
    prediction = predict(start_of(caps), caps)
    assert [violation.check.id for violation in prediction.violations] == []
    assert prediction.enters
    assert not prediction.not_modelled


@pytest.mark.parametrize("id", [check.id for check in CHECKS])
def test_a_state_that_violates_the_check_is_predicted_to_fail_as_it_says(id: str) -> None:
    found = find(id)
    assert found is not None, "no violating state was found"
    check, prediction = BY_ID[id], predict(found.state, found.capabilities)
    listed = [violation.check.id for violation in prediction.violations]
    if id in NEVER_KNOWN:
        assert prediction.not_modelled
    else:
        assert id in listed
    if id in NEVER_ALONE and check.ambiguity is not None:
        assert set(check.fails.outcomes) <= prediction.outcomes
        return
    failures = {outcome for outcome in prediction.outcomes if outcome.kind is not Kind.EXIT}
    assert failures == set(check.fails.outcomes)
    assert prediction.enters == (check.ambiguity is not None or id in NEVER_KNOWN)
    if id not in NEVER_ALONE:
        assert set(listed) <= {id}


@pytest.mark.parametrize("id", NEVER_ALONE)
def test_what_is_listed_as_never_alone_is_not_found_alone(id: str) -> None:
    found = find(id)
    assert found is not None
    assert found.others
