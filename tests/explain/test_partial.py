"""Three-valued evaluation agrees with the two-valued one wherever it decides, and says what would decide where it does not."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmfuzz.model.checks import CHECKS
from vmfuzz.model.evaluate import evaluate
from vmfuzz.model.expr import MASK64, all_of, any_of, capability, lift, operand
from vmfuzz.model.partial import UNKNOWN, Evaluator, Partial

A, B = operand("a", 4), operand("b", 4)
CONDITIONS = [
    A[1],
    ~A[0],
    A == 5,
    A == B,
    (A & 6) == 0,
    (A & B) == B,
    A <= B,
    A.one_of(3, 7),
    A[2:1] == 2,
    (A + B) == 9,
    (A << 1) == 6,
    (A >> 2) == 1,
    (A | B) == 15,
    all_of(A[0], B[0], A != 3),
    any_of(A[3], ~B[3], A == B),
    (A & lift(3)) <= B,
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=range(len(CONDITIONS)))
@given(known=st.tuples(st.integers(0, 15), st.integers(0, 15)), value=st.tuples(st.integers(0, 15), st.integers(0, 15)))
def test_decided_only_where_every_completion_agrees(condition, known, value):
    partial = dict(zip("ab", (Partial(v, k) for v, k in zip(value, known, strict=True)), strict=True))
    checked = Evaluator(partial.get, {}.get).judge(condition)
    completions = []
    for a, b in itertools.product(range(16), repeat=2):
        if not (a ^ value[0]) & known[0] and not (b ^ value[1]) & known[1]:
            completions.append(bool(evaluate(condition, {"a": a, "b": b}.__getitem__, {})))
    if checked.truth is not None:
        assert set(completions) == {checked.truth}
    else:
        assert checked.missing
        assert checked.missing <= condition.reads


def test_exact_values_are_always_decided():
    for condition in CONDITIONS:
        for a, b in itertools.product(range(16), repeat=2):
            values = {"a": Partial(a), "b": Partial(b)}
            assert Evaluator(values.get, {}.get).judge(condition).truth is bool(evaluate(condition, {"a": a, "b": b}.__getitem__, {}))


def test_a_bit_known_to_be_wrong_decides_however_little_else_is_known():
    mask = capability("beyond_physical_width")
    address = operand("guest_cr3", 64)
    facts = {"beyond_physical_width": Partial(0xFFF << 52, 0xFFF << 52)}
    evaluator = Evaluator({"guest_cr3": Partial(1 << 63)}.get, facts.get)
    assert evaluator.judge((address & mask) == 0).truth is False
    open_one = Evaluator({"guest_cr3": Partial(1 << 45)}.get, facts.get).judge((address & mask) == 0)
    assert open_one.truth is None
    assert open_one.facts == {"beyond_physical_width"}


def test_a_mask_contained_in_the_value_is_seen_although_the_mask_is_not_known():
    mask = capability("cr4_must_be_1")
    value = operand("guest_cr4", 64)
    assert Evaluator({"guest_cr4": Partial(MASK64)}.get, {}.get).judge((value & mask) == mask).truth is True
    facts = {"cr4_must_be_1": Partial(0x2000, 0x2000)}
    assert Evaluator({"guest_cr4": Partial(0, 0x2000)}.get, facts.get).judge((value & mask) == mask).truth is False


def test_merge_keeps_what_both_agree_on():
    merged = Partial(0b1100).merge(Partial(0b1010))
    assert merged.known & 0xF == 0b1001
    assert merged.value == 0b1000
    assert UNKNOWN.maximum == MASK64
    assert UNKNOWN.minimum == 0


def test_nothing_known_leaves_every_check_open_or_trivially_true():
    evaluator = Evaluator({}.get, {}.get)
    assert all(evaluator.judge(check.must).truth is not False for check in CHECKS)
