"""Conditions over columns in C give what `evaluate` gives; so does what stands in where nothing is compiled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_conditions import FACT, NAMES, conditions, rows, words

from vmfuzz.errors import ModelError
from vmfuzz.generate.goals import goals_of
from vmfuzz.model import columns
from vmfuzz.model.columns import ALWAYS_FALSE, ALWAYS_TRUE, NOWHERE, SOMEWHERE, Columns
from vmfuzz.model.evaluate import evaluate, fold
from vmfuzz.model.expr import Cond, capability, operand
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good


@pytest.fixture(params=["compiled", "interpreted"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both ways to evaluate; the compiled one must be there, or nothing of this is tested."""
    if request.param == "compiled":
        assert columns.library() is not None
    else:
        monkeypatch.setattr(columns, "library", lambda: None)
    return request.param


same_way = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@same_way
@given(
    st.lists(conditions.map(lambda condition: fold(condition, FACT.__getitem__, {})), min_size=1, max_size=4),
    rows,
    st.sets(st.sampled_from(NAMES)),
    st.integers(1, 300),
    st.data(),
)
def test_truths_are_those_of_evaluate(
    way: str, asked: list[Cond], states: list[dict[str, int]], varying: set[str], repeated: int, data: st.DataObject
) -> None:
    states = [{name: state[name] if name in varying else states[0][name] for name in NAMES} for state in states] * repeated

    def operands(name: str) -> Any:
        return np.array([state[name] for state in states], np.uint64) if name in varying else states[0][name]

    expected = [evaluate(condition, operands, {}) for condition in asked]
    found = Columns(operands, len(states))
    for truth, right in zip(found.truths(asked), expected, strict=True):
        assert isinstance(truth, bool) is isinstance(right, bool)
        assert np.array_equal(truth, right)
    answers, _ = found.answers(asked)
    for answer, right in zip(answers, expected, strict=True):
        settled = ALWAYS_TRUE if right is True else ALWAYS_FALSE
        assert answer == (settled if isinstance(right, bool) else SOMEWHERE if right.any() else NOWHERE)

    others = [data.draw(st.booleans()) if data.draw(st.booleans()) else np.resize([True, False, True], len(states)) for _ in asked]
    where = [np.resize(data.draw(st.lists(st.booleans(), min_size=1, max_size=7)), len(states)).astype(np.bool_) for _ in asked]
    more, less = found.differences(asked, others, where, [1] * len(asked))
    for at, (right, other, looked) in enumerate(zip(expected, others, where, strict=True)):
        assert more[at] == (looked & right & ~np.asarray(other)).any()
        assert less[at] == (looked & ~np.asarray(right) & other).any()
    together = found.differences(asked, others[:1], where[:1], [len(asked)])
    assert np.array_equal(together, found.differences(asked, others[:1] * len(asked), where[:1] * len(asked), [1] * len(asked)))


@same_way
@given(words, st.lists(words, min_size=1, max_size=9))
def test_a_number_on_either_side_of_a_comparison(way: str, number: int, column: list[int]) -> None:
    a, b = operand("a", 64), operand("b", 64)
    truths = Columns({"a": number, "b": np.array(column, np.uint64)}.__getitem__, len(column)).truths([a <= b, b <= a, a == b, ~(a <= b)])
    assert [np.asarray(truth).tolist() for truth in truths] == [
        [number <= value for value in column],
        [value <= number for value in column],
        [value == number for value in column],
        [number > value for value in column],
    ]


@pytest.mark.parametrize("name", ["arrow_lake", "core2_penryn_t9600"])
def test_every_goal_and_check_on_columns_of_a_batch(name: str) -> None:
    caps = capabilities(name)
    model, base, rng = model_of(caps), known_good(caps), np.random.default_rng(3)
    asked = [each for compiled in model.compiled for each in (compiled.violated, compiled.unknown, compiled.definite)]
    asked += [goal.condition for goal in goals_of(model).all]
    for names in (
        ["guest_cr0", "guest_cr4", "vm_entry_controls"],
        ["secondary_vm_execution_controls", "vmcs_link_pointer", "guest_rflags"],
    ):
        present = [each for each in names if each in base]
        varied = {each: (base[each] ^ (1 << rng.integers(0, 32, 600).astype(np.uint64))) & np.uint64(0xFFFF_FFFF) for each in present}
        batch = VmcsBatch(base, varied)
        found, values, memo = Columns(OperandValues(batch), len(batch), base, present), OperandValues(batch), dict[int, Any]()
        for condition, truth in zip(asked, found.truths(asked), strict=True):
            assert np.array_equal(truth, evaluate(condition, values, memo)), condition


def test_a_capability_that_was_not_folded_in_is_an_error(way: str) -> None:
    with pytest.raises(ModelError, match="capability f has not been folded in"):
        Columns({}.__getitem__, 1).truth(capability("f") == 0)
