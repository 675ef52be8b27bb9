"""The condition algebra: what each operator means, what is refused when a check is declared, and that equal nodes are one."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmfuzz.arch.registers import CR0
from vmfuzz.errors import ModelError, UnknownNameError
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.evaluate import evaluate, fold
from vmfuzz.model.expr import FALSE, MASK64, TRUE, Bits, Cond, Node, all_of, any_of, capability, lift, operand
from vmfuzz.model.operands import aligned, canonical, cap, has, identical_above, live, memory, vmcs

X = operand("guest_cr0", 64)
Y = operand("guest_cr4", 64)
HALF = operand("cr3_target_count", 32)

words = st.integers(0, MASK64) | st.sampled_from([0, 1, MASK64, 1 << 63, (1 << 47) - 1, 1 << 47])


def value_of(node: Node, x: int = 0, y: int = 0) -> Any:
    return evaluate(node, {"guest_cr0": x, "guest_cr4": y, "cr3_target_count": x & 0xFFFFFFFF}.__getitem__, {})


@given(words, words)
def test_operators_compute_on_64_bits(x: int, y: int) -> None:
    results: list[tuple[Node, Any]] = [
        (X & Y, x & y),
        (X | Y, x | y),
        (X + Y, (x + y) & MASK64),
        (X >> 5, x >> 5),
        (X << 5, x << 5 & MASK64),
        (X[15:8], x >> 8 & 0xFF),
        (X[63:0], x),
        (X == Y, x == y),
        (X != Y, x != y),
        (X <= Y, x <= y),
        (X >= Y, x >= y),
        (X[7], bool(x >> 7 & 1)),
        (~X[7], not x >> 7 & 1),
        (X[3:0].one_of(1, 7, 9), x & 15 in (1, 7, 9)),
        ((X == 0) & Y[0], x == 0 and bool(y & 1)),
        ((X == 0) | Y[0], x == 0 or bool(y & 1)),
        (X[0].implies(Y[0]), not x & 1 or bool(y & 1)),
        (X[0].iff(Y[0]), x & 1 == y & 1),
    ]
    for node, expected in results:
        got = value_of(node, x, y)
        assert got == expected
        assert isinstance(got, bool if isinstance(node, Cond) else int)


@given(words, st.integers(33, 57))
def test_canonical_is_sign_extension_from_the_linear_address_width(address: int, width: int) -> None:
    facts = {
        "canonical_bias": 1 << (width - 1),
        "canonical_limit": (1 << width) - 1,
        "identical_low_maximum": (1 << width) - 1,
        "identical_high_minimum": MASK64 & ~((1 << width) - 1),
    }
    assert value_of(fold(canonical(X), facts.__getitem__, {}), address) == (address >> (width - 1) in (0, MASK64 >> (width - 1)))
    assert value_of(fold(identical_above(X), facts.__getitem__, {}), address) == (address >> width in (0, MASK64 >> width))


@pytest.mark.parametrize(("address", "truth"), [(0x1000, True), (0x1FF0, False), (0xFFF, False), (0, True)])
def test_aligned_means_that_the_low_bits_are_0(address: int, truth: bool) -> None:
    assert value_of(aligned(X, 12), address) is truth


@pytest.mark.parametrize(
    ("misuse", "sentence"),
    [
        (lambda: bool(X == 0), "a condition has no truth value of its own"),
        (lambda: (X == 0) and (Y == 0), "a condition has no truth value of its own"),
        (lambda: not X[0], "a condition has no truth value of its own"),
        (lambda: bool(X), "a value has no truth: compare it"),
        (lambda: 0 <= X <= 5, "a condition has no truth value of its own"),
        (lambda: X == MASK64 + 1, "expected a value or a constant from 0 to 2"),
        (lambda: X == -1, "-1: expected a value or a constant"),
        (lambda: X == True, "True: expected a value or a constant"),  # noqa: E712
        (lambda: X == "0", "'0': expected a value or a constant"),
        (lambda: X & ~0xFFF, "expected a value or a constant"),
        (lambda: HALF == 1 << 32, "constant 100000000H is wider than the 32 bits it is compared with"),
        (lambda: HALF <= 1 << 40, "is wider than the 32 bits"),
        (lambda: X[3:0] == 16, "constant 10H is wider than the 4 bits it is compared with"),
        (lambda: X[3:0].one_of(1, 16), "constant 10H is wider than the 4 bits"),
        (lambda: (X & 0xFF) == 0x100, "constant 100H is wider than the 8 bits"),
        (lambda: HALF[32], "bit 32 of a value of 32 bits"),
        (lambda: X[64], "bit 64 of a value of 64 bits"),
        (lambda: X[-1], "bit -1 of a value"),
        (lambda: X[3:0][4], "bit 4 of a value of 4 bits"),
        (lambda: X[0:3], r"bits 0:3: expected \[high:low\] within 63:0"),
        (lambda: X[64:0], r"bits 64:0: expected"),
        (lambda: X[5:], r"bits 5:None: expected"),
        (lambda: all_of(X), "expected a condition"),  # type: ignore[arg-type]
        (lambda: any_of(TRUE, True), "True: expected a condition"),  # type: ignore[arg-type]
    ],
)
def test_misuse_is_refused_when_the_expression_is_built(misuse: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        misuse()


def test_a_slice_beyond_the_values_width_is_refused() -> None:
    with pytest.raises(ModelError):
        HALF[63:32]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: vmcs.guest_cr00, "unknown VMCS field 'guest_cr00'; did you mean guest_cr0"),
        (lambda: live.smmm, "unknown live condition 'live_smmm'; did you mean live_smm"),
        (lambda: memory.vtprr, "unknown memory operand 'memory_vtprr'; did you mean memory_vtpr"),
        (lambda: cap.revison, "unknown capability fact 'revison'; did you mean revision"),
        (lambda: has("pcidd"), "unknown CPUID feature 'pcidd'; did you mean pcid"),
    ],
    ids=["field", "live", "memory", "capability", "feature"],
)
def test_a_misspelt_leaf_is_refused_with_what_is_near(wrong: Callable[[], object], sentence: str) -> None:
    with pytest.raises(UnknownNameError, match=sentence):
        wrong()


def test_equal_expressions_are_one_object() -> None:
    assert (X & 0xFFF) is (operand("guest_cr0", 64) & 0xFFF)
    assert (X == 5) is (X == 5)
    assert all_of(X[0], Y[0]) is all_of(X[0], Y[0])
    assert X[0] is not X[1]
    assert (X & Y) is not (Y & X)
    assert vmcs.guest_cr0 is X
    assert lift(5) is lift(5)


def test_a_bits_label_does_not_change_its_meaning() -> None:
    assert X[CR0.PE].args[:2] == X[0].args[:2]
    assert value_of(X[CR0.PE], 1) is value_of(X[0], 1) is True


def test_constants_settle_conjunctions_and_disjunctions() -> None:
    assert all_of() is TRUE
    assert any_of() is FALSE
    assert all_of(X[0], TRUE) is X[0]
    assert all_of(X[0], FALSE) is FALSE
    assert any_of(X[0], FALSE) is X[0]
    assert any_of(X[0], TRUE) is TRUE
    assert ~TRUE is FALSE
    assert ~~X[0] is X[0]
    assert all_of(all_of(X[0], X[1]), X[1], X[2]) is all_of(X[0], X[1], X[2])


def test_reads_and_caps_name_all_that_is_below() -> None:
    condition = all_of(X[0], (Y & cap.cr4_must_be_1) == capability("cr0_must_be_1"))
    assert condition.reads == {"guest_cr0", "guest_cr4"}
    assert condition.caps == {"cr4_must_be_1", "cr0_must_be_1"}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_the_conditions_of_a_check_survive_pickling_as_the_same_objects(check: Any) -> None:
    for condition in (check.requires, check.when, check.must, check.known):
        assert pickle.loads(pickle.dumps(condition)) is condition


@pytest.mark.parametrize(
    ("bits", "width"),
    [(X, 64), (HALF, 32), (X[11:4], 8), (X & 0xFF, 8), (HALF >> 8, 24), (HALF << 8, 64), (HALF + 1, 64), (lift(0x1FF), 9), (X | 1, 64)],
    ids=["operand", "32-bit operand", "slice", "and", "shr", "shl", "add", "constant", "or"],
)
def test_width_says_how_many_low_bits_may_be_set(bits: Bits, width: int) -> None:
    assert bits.width == width
