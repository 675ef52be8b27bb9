"""Evaluation over numbers, over columns and over mixtures: always the same truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_conditions import FACT, NAMES, conditions, rows, values

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.live import LIVE
from vmfuzz.errors import ModelError
from vmfuzz.generate.boundary import edits_of
from vmfuzz.model.evaluate import evaluate, fold
from vmfuzz.model.expr import FALSE, MASK64, TRUE, Cond, Node, all_of, any_of, capability, operand
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import FACTS, MEMORY_OPERANDS, capability_reader, operand_width
from vmfuzz.model.predict import CompiledCheck, Model, model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good, profile_names
from vmfuzz.state.vmcs import Vmcs


def one_by_one(node: Node, states: list[dict[str, int]]) -> list[Any]:
    return [evaluate(node, state.__getitem__, {}) for state in states]


@given(conditions | values, rows, st.sets(st.sampled_from(NAMES)))
def test_columns_give_what_the_rows_give_one_by_one(node: Node, states: list[dict[str, int]], varying: set[str]) -> None:
    folded = fold(node, FACT.__getitem__, {})
    constant = states[0]
    states = [{name: state[name] if name in varying else constant[name] for name in NAMES} for state in states]

    def column(name: str) -> Any:
        return np.array([state[name] for state in states], np.uint64) if name in varying else constant[name]

    result = evaluate(folded, column, {})
    scalar = one_by_one(folded, states)
    if isinstance(result, np.ndarray):
        assert result.dtype == (np.bool_ if isinstance(folded, Cond) else np.uint64)
        assert result.tolist() == scalar
    else:
        assert isinstance(result, bool if isinstance(folded, Cond) else int)
        assert scalar == [result] * len(states)


@given(conditions | values, rows)
def test_folding_capabilities_does_not_change_the_meaning(node: Node, states: list[dict[str, int]]) -> None:
    folded = fold(node, FACT.__getitem__, {})
    assert isinstance(folded, Cond) == isinstance(node, Cond)
    assert not folded.caps
    assert folded.reads <= node.reads
    unfolded = _with_capabilities_as_operands(node)
    assert one_by_one(folded, states) == [evaluate(unfolded, {**state, **FACT}.__getitem__, {}) for state in states]


def _with_capabilities_as_operands(node: Node) -> Node:
    """The same tree, evaluated without folding: capabilities become operands."""
    if node.op == "cap":
        return operand(node.args[0], 64)
    if not node.caps:
        return node
    from vmfuzz.model.expr import make

    args = (_with_capabilities_as_operands(arg) if isinstance(arg, Node) else arg for arg in node.args)
    return make(type(node), node.op, *args)


def test_folding_settles_what_the_capabilities_decide() -> None:
    facts = {"f": 0, "g": 1}
    x = operand("a", 64)
    assert fold((x & capability("f")) == 0, facts.__getitem__, {}) is TRUE
    assert fold(all_of(x[0], capability("g") == 0), facts.__getitem__, {}) is FALSE
    assert fold(any_of(x[0], capability("g") == 0), facts.__getitem__, {}) is x[0]
    assert fold((capability("g") + 4) == 5, facts.__getitem__, {}) is TRUE


def test_a_capability_that_was_not_folded_in_is_an_error() -> None:
    with pytest.raises(ModelError, match="capability f has not been folded in"):
        evaluate(capability("f") == 0, {}.__getitem__, {})


def test_a_scalar_that_settles_a_conjunction_spares_the_rest() -> None:
    asked: list[str] = []

    def operands(name: str) -> int:
        asked.append(name)
        return 0

    assert evaluate(all_of(operand("a", 64)[0], operand("b", 64)[0]), operands, {}) is False
    assert asked == ["a"]


@pytest.mark.parametrize("name", profile_names())
def test_every_fact_is_a_64_bit_number_on_every_profile(name: str) -> None:
    read = capability_reader(capabilities(name))
    assert all(0 <= read(fact) <= MASK64 for fact in FACTS)


# Every check on random states


def batch_for(model: Model, compiled: CompiledCheck, base: Vmcs, rng: np.random.Generator) -> VmcsBatch:
    """Twelve rows that vary all operands of a check: values at the boundaries of its conditions, the base's, and random ones."""
    columns: dict[str, Any] = {}
    memory: dict[int, Any] = {}
    for name in compiled.check.fields:
        place = MEMORY_OPERANDS.get(name)
        if place is not None:
            address = ((base.get(place.address_field) or 0) & place.address_mask) + place.offset & ~7
            memory[address] = rng.choice(
                np.array([0, 1, MASK64, base.memory[address], rng.integers(0, MASK64, dtype=np.uint64)], np.uint64), 12
            )
        elif name in FIELDS or name in LIVE:
            current, full = base.get(name) or 0, (1 << operand_width(name)) - 1
            near = [current & keep | set_bits for keep, set_bits in edits_of(compiled.violated, name)]
            columns[name] = rng.choice(np.array([current, int(rng.integers(0, MASK64, dtype=np.uint64)) & full, *near], np.uint64), 12)
    return VmcsBatch(base, columns, memory, count=12)


def described(state: Vmcs, caps: Capabilities) -> Vmcs:
    """The state with all memory that operands lie in described, at addresses that are good."""
    state = state.replace(vmcs_link_pointer=0x10009000, vm_entry_msr_load_count=2, guest_cr3=0x10001000)
    addresses = {((state.get(place.address_field) or 0) & place.address_mask) + place.offset & ~7 for place in MEMORY_OPERANDS.values()}
    return state.with_memory({**dict.fromkeys(addresses, 0), 0x10009000: caps.revision})


@pytest.mark.parametrize("name", ["arrow_lake", "core2_penryn_t9600"])
def test_every_check_gives_the_same_truth_by_row_and_by_column(name: str) -> None:
    caps = capabilities(name)
    model = model_of(caps)
    base, rng = described(known_good(caps), caps), np.random.default_rng(7)
    for compiled in model.compiled:
        batch = batch_for(model, compiled, base, rng)
        values = OperandValues(batch)
        by_row = [OperandValues(VmcsBatch(row, {}, count=1)) for row in batch]
        columns: dict[int, Any] = {}
        scalars: list[dict[int, Any]] = [{} for _ in by_row]
        for index in model.checks_reading(*batch.columns, "memory"):
            for condition in (model.compiled[index].violated, model.compiled[index].unknown):
                together = np.broadcast_to(evaluate(condition, values, columns), len(batch)).tolist()
                single = [bool(evaluate(condition, row, memo)) for row, memo in zip(by_row, scalars, strict=True)]
                assert together == single, model.compiled[index].check.id


# Memory operands


@pytest.mark.parametrize("operand_name", MEMORY_OPERANDS)
def test_a_memory_operand_is_read_at_its_address_and_offset(operand_name: str) -> None:
    place = MEMORY_OPERANDS[operand_name]
    address = 0x10005000
    word = 0x1122_3344_5566_7788
    state = Vmcs({place.address_field: address}, {(address + place.offset) & ~7: word})
    values = OperandValues(VmcsBatch(state, {}, count=1))
    assert values(operand_name) == word >> 8 * (place.offset % 8) & ((1 << place.width) - 1)
    assert values(f"{operand_name}_known") == 1
    assert operand_width(operand_name) == place.width
    assert operand_width(f"{operand_name}_known") == 1


def test_memory_that_the_case_does_not_describe_is_0_and_not_known() -> None:
    values = OperandValues(VmcsBatch(Vmcs({"vmcs_link_pointer": 0x5000}), {}, count=1))
    assert values("memory_link_dword") == 0
    assert values("memory_link_dword_known") == 0


def test_memory_is_looked_up_row_by_row_where_the_address_or_the_word_varies() -> None:
    base = Vmcs({}, {0x1000: 1, 0x2000: 2})
    batch = VmcsBatch(base, {"vmcs_link_pointer": [0x1000, 0x2000, 0x3000]}, {0x2000: [7, 8, 9]})
    values = OperandValues(batch)
    value, known = values("memory_link_dword"), values("memory_link_dword_known")
    assert np.asarray(value).tolist() == [1, 8, 0]
    assert np.asarray(known).tolist() == [1, 1, 0]
