"""Ten errors planted in the model are all found, told apart, and each reduced to a difference of which a solver proves that none is smaller."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import z3

from vmfuzz.arch.controls import Pin
from vmfuzz.arch.registers import BITWISE, CR4
from vmfuzz.campaign.loop import Campaign
from vmfuzz.comparison.case import Case, base_value, batch_of
from vmfuzz.comparison.signature import ACCEPTS, REFUSES
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import Entry
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.findings.minimize import cost_of
from vmfuzz.findings.triage import Triage, triage
from vmfuzz.generate.bases import base_rank
from vmfuzz.generate.events import EVENTS
from vmfuzz.generate.parts import FEATURES, MODES
from vmfuzz.generate.solve import Formulas
from vmfuzz.model.check import Check
from vmfuzz.model.checks import BY_ID, CHECKS
from vmfuzz.model.evaluate import evaluate
from vmfuzz.model.expr import FALSE, Cond, all_of, any_of
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import operand_width, vmcs
from vmfuzz.model.predict import Model
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

CAPS = capabilities("corei7_skylake_x")
GOOD = known_good(CAPS)
#: Smaller families than a campaign has: many different plans matter more than many rows of one.
FAMILY_SIZE = 768
FAMILIES = 2_400
#: Wide enough for the sum of two costs: `cost_of` puts the number of bits above bit 63.
COST_BITS = 80


@dataclass(frozen=True)
class Planted:
    """An error of the model: the check that is wrong and how, the kind of finding it makes, and how many operands a relation needs."""

    check: str
    alter: Callable[[Check], Check | None]
    kind: str
    operands: int = 1


def dropped(_: Check) -> None:
    """The model leaves the check out."""


def stricter(extra: Cond) -> Callable[[Check], Check]:
    """The model demands more than the manual."""
    return lambda check: replace(check, must=all_of(check.must, extra))


ERRORS = (
    Planted("guest.gs.p", dropped, REFUSES),
    Planted("ctl.cr3target.count", dropped, REFUSES),
    Planted("host.base.gs", dropped, REFUSES),
    Planted("guest.rflags.reserved.zeros", dropped, REFUSES),
    # weaker than the manual: TI may be 1 where bit 3 is
    Planted("guest.tr.sel.ti", lambda check: replace(check, must=any_of(check.must, vmcs.guest_tr_selector[3])), REFUSES),
    # a relation of two controls of one field: "NMI exiting" 0 and "virtual NMIs" 1
    Planted("ctl.nmi.virtual", dropped, REFUSES),
    Planted("guest.dr7", lambda check: replace(check, must=vmcs.guest_dr7[63:16] == 0), ACCEPTS),
    Planted("guest.cr4.fixed.zeros", stricter(~vmcs.guest_cr4[CR4.DE]), ACCEPTS),
    Planted("host.sel.tr.null", stricter(vmcs.host_tr_selector <= 0xFF), ACCEPTS),
    # a relation of two fields that the manual does not know: it needs both
    Planted(
        "ctl.pin.allowed1",
        stricter(any_of(vmcs.pin_based_controls[Pin.EXTERNAL_INTERRUPT_EXITING], ~vmcs.cr3_target_count[0])),
        ACCEPTS,
        operands=2,
    ),
)
PLANTED = {error.check: error.alter for error in ERRORS}
TRUE = Model(CAPS, CHECKS)
ALTERED = Model(CAPS, [altered for check in CHECKS if (altered := PLANTED.get(check.id, lambda same: same)(check)) is not None])
TRIAL = Trial(ModelExecutor(CAPS, GOOD), TRUE)


def violated_in(model: Model, check: str) -> Cond:
    """When a model finds the check violated."""
    return next((compiled.violated for compiled in model.compiled if compiled.check.id == check), FALSE)


def shows(error: Planted, case: Case) -> bool:
    """Whether the two models differ in the error's check on a case."""
    base = TRIAL.base(case.base)
    assert base is not None
    values = OperandValues(batch_of(base, [case.mutation]))
    true, altered = (bool(evaluate(violated_in(model, error.check), values, {})) for model in (TRUE, ALTERED))
    return true != altered


@dataclass(frozen=True)
class Smallest:
    """Proves, with a solver, that nothing smaller can show an error.

    An error shows only where the check is violated in the true model and not in the altered one, or the other way round. Where the solver
    finds no such state among all smaller differences, there is none: that is stronger than the absence of a mismatch.
    """

    formulas: Formulas
    differs: Any

    @classmethod
    def of(cls, error: Planted) -> Smallest:
        formulas = Formulas()
        true, altered = (violated_in(model, error.check) for model in (TRUE, ALTERED))
        return cls(formulas, z3.Xor(formulas.of(true), formulas.of(altered)))

    def possible(self, base: Vmcs, free: Collection[str], less_than: int | None = None) -> bool:
        """Whether the error can show in the base with other values of the `free` operands only, at a cost below `less_than`."""
        solver = z3.Solver()
        solver.add(self.differs)
        costs = []
        for name, variable in self.formulas.variables.items():
            if name not in free:
                solver.add(variable == base_value(base, name))
            else:
                costs.append(cost_formula(name, variable, base_value(base, name)))
        if less_than is not None:
            solver.add(z3.ULT(z3.Sum(costs), less_than))
        answer = solver.check()
        assert answer != z3.unknown, solver.reason_unknown()
        return bool(answer == z3.sat)

    def valuation(self, base: Vmcs) -> tuple[int, ...]:
        """What the error can see of a base: two bases that are alike in it are one to the proof."""
        return tuple(base_value(base, name) for name in self.formulas.variables)


def cost_formula(name: str, variable: Any, base: int) -> Any:
    """`cost_of` of an operand as a vector wide enough for sums of two."""
    width = operand_width(name)
    value = z3.ZeroExt(COST_BITS - width, variable)
    changed = value ^ base
    if name not in BITWISE:
        return z3.If(z3.ULT(value, base), base - value, value - base)
    ones = z3.Sum([z3.ZeroExt(COST_BITS - 1, z3.Extract(bit, bit, changed)) for bit in range(width)])
    return (ones << 64) | changed


@cache
def bases() -> dict[str, Vmcs]:
    """All known-good states of the processor by name, the simplest first."""
    names = ("/".join(parts) for parts in itertools.product(MODES, FEATURES, EVENTS))
    return {name: base for name in sorted(names, key=base_rank) if (base := TRIAL.base(name)) is not None}


@pytest.fixture(scope="module")
def triaged() -> Triage:
    """What became of the findings of a campaign with all ten errors in its model."""
    return found_and_minimized()


def found_and_minimized() -> Triage:
    """A campaign with all ten errors in its model, its findings minimized. How long it takes: benchmarks/times.py."""
    campaign = Campaign(ModelExecutor(CAPS, GOOD), seed=1, model=ALTERED)
    campaign.family_size = FAMILY_SIZE
    findings = campaign.run(FAMILY_SIZE * FAMILIES).progress.findings
    trial = Trial(campaign.executor, campaign.model, campaign.generator)
    return triage(trial, findings.by_id.values())


def test_the_errors_are_of_checks_that_exist() -> None:
    assert len({error.check for error in ERRORS}) == len(ERRORS) == 10
    assert {error.check for error in ERRORS} <= set(BY_ID)


def test_all_ten_are_found_told_apart_and_nothing_else_is(triaged: Triage) -> None:
    causes = [[error.check for error in ERRORS if shows(error, entry.case)] for entry in triaged.entries.values()]
    assert sorted(causes) == sorted([error.check] for error in ERRORS)
    assert (triaged.unstable, triaged.explained, triaged.left) == ([], [], [])


def found_for(error: Planted, triaged: Triage) -> Entry:
    (entry,) = (entry for entry in triaged.entries.values() if shows(error, entry.case))
    return entry


each_error = pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.check)


@each_error
def test_a_finding_says_what_is_wrong_and_where_the_edge_is(error: Planted, triaged: Triage) -> None:
    entry = found_for(error, triaged)
    assert entry.kind == error.kind
    assert entry.checks == ((error.check,) if error.kind == ACCEPTS else ())
    assert entry.minimized
    for key in entry.case.mutation:
        agreeing = [near.value for near in entry.neighbours if near.operand == key]
        assert agreeing
        assert not any(shows(error, Case(entry.case.base, {**entry.case.mutation, key: value})) for value in agreeing)


@each_error
def test_no_smaller_difference_can_show_it(error: Planted, triaged: Triage) -> None:
    entry, proof = found_for(error, triaged), Smallest.of(error)
    keys = set(entry.case.mutation)
    assert len(keys) == error.operands
    base = bases()[entry.case.base]
    cost = sum(cost_of(key, base_value(base, key), value) for key, value in entry.case.mutation.items())
    # the proof can fail: at the cost of what was found the error shows
    assert proof.possible(base, keys, less_than=cost + 1)
    # fewer operands: in no base
    for other in alike(proof, bases().values()):
        for fewer in subsets(proof, len(keys) - 1):
            assert not proof.possible(other, fewer)
    # a simpler base: as many operands do not suffice there, whichever they are and whatever their values
    simpler = [other for name, other in bases().items() if base_rank(name) < base_rank(entry.case.base)]
    for other in alike(proof, simpler):
        for same in subsets(proof, len(keys)):
            assert not proof.possible(other, same)
    # a smaller change of the same number of operands in the same base
    for same in subsets(proof, len(keys)):
        assert not proof.possible(base, same, less_than=cost)


def alike(proof: Smallest, given: Collection[Vmcs]) -> list[Vmcs]:
    """One base of each kind that the error can tell apart."""
    return list({proof.valuation(base): base for base in given}.values())


def subsets(proof: Smallest, size: int) -> Iterator[tuple[str, ...]]:
    """All sets of so many operands that the error can see; a change of others cannot make it show."""
    return itertools.combinations(sorted(proof.formulas.variables), size)
