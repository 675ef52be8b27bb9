"""One VMCS: immutable, with unwritten fields kept apart from fields written as 0."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.live import LIVE
from vmfuzz.errors import FieldValueError, UnknownNameError, UsageError
from vmfuzz.state.vmcs import Vmcs

_MASKS = {**{name: field.mask for name, field in FIELDS.items()}, **{name: live.mask for name, live in LIVE.items()}}

values = st.sets(st.sampled_from(sorted(_MASKS)), max_size=12).flatmap(
    lambda names: st.fixed_dictionaries({name: st.integers(0, _MASKS[name]) for name in sorted(names)})
)
memories = st.dictionaries(st.integers(0, (1 << 61) - 1).map(lambda index: 8 * index), st.integers(0, (1 << 64) - 1), max_size=4)
states = st.builds(Vmcs, values, memories)


def test_an_unwritten_field_is_not_a_field_written_as_0() -> None:
    unwritten, zero = Vmcs(), Vmcs({"guest_gs_access_rights": 0})
    assert unwritten != zero
    assert "guest_gs_access_rights" not in unwritten
    assert "guest_gs_access_rights" in zero
    assert unwritten.get("guest_gs_access_rights") == zero.get("guest_gs_access_rights") == 0
    assert unwritten.get("guest_gs_access_rights", None) is None
    with pytest.raises(KeyError):
        unwritten["guest_gs_access_rights"]
    assert unwritten.differences(zero) == {"guest_gs_access_rights": (None, 0)}


def test_live_conditions_that_are_not_given_have_their_ordinary_value() -> None:
    state = Vmcs()
    assert state["live_efer"] == 0x500
    assert state.get("live_smm") == 0
    assert "live_smm" not in state
    assert state.replace(live_smm=1)["live_smm"] == 1


def test_replace_without_and_with_memory_make_copies() -> None:
    state = Vmcs({"vpid": 1}, {0x1000: 5})
    assert state.replace(vpid=2, guest_rip=3) == Vmcs({"vpid": 2, "guest_rip": 3}, {0x1000: 5})
    assert state.without("vpid") == Vmcs({}, {0x1000: 5})
    assert state.without("guest_rip") == state
    assert state.with_memory({0x1000: 6, 0x1008: 7}) == Vmcs({"vpid": 1}, {0x1000: 6, 0x1008: 7})
    assert state == Vmcs({"vpid": 1}, {0x1000: 5})


def test_a_state_cannot_be_changed_in_place() -> None:
    given_values = {"vpid": 1}
    state = Vmcs(given_values)
    given_values["vpid"] = 2
    assert state["vpid"] == 1
    with pytest.raises(TypeError):
        state["vpid"] = 2  # type: ignore[index]
    with pytest.raises(TypeError):
        state.memory[0] = 1  # type: ignore[index]
    with pytest.raises(AttributeError):
        state.anything = 1  # type: ignore[attr-defined]


@given(states)
def test_json_and_pickle_give_an_equal_state_back(state: Vmcs) -> None:
    for copy in (Vmcs.from_json(json.loads(json.dumps(state.to_json()))), pickle.loads(pickle.dumps(state))):
        assert copy == state
        assert hash(copy) == hash(state)
        assert set(copy) == set(state)


@given(states, states)
def test_states_are_equal_exactly_if_nothing_differs(one: Vmcs, other: Vmcs) -> None:
    same = not one.differences(other) and dict(one.memory) == dict(other.memory) and set(one) == set(other)
    assert (one == other) == same
    if one == other:
        assert hash(one) == hash(other)


@given(states, states)
def test_replacing_what_differs_makes_the_values_equal(one: Vmcs, other: Vmcs) -> None:
    replaced = one.replace(**dict(other))
    assert all(replaced[name] == other[name] for name in other)
    assert all(replaced[name] == one[name] for name in one if name not in other)


def test_equality_does_not_depend_on_the_order_of_writing() -> None:
    assert Vmcs({"vpid": 1, "guest_rip": 2}) == Vmcs({"guest_rip": 2, "vpid": 1})
    assert hash(Vmcs({"vpid": 1, "guest_rip": 2})) == hash(Vmcs({"guest_rip": 2, "vpid": 1}))
    assert Vmcs({"vpid": 1}) != {"vpid": 1}


def test_json_lists_fields_in_order_of_encoding_in_hexadecimal() -> None:
    data = Vmcs({"guest_rip": 0x10, "vpid": 1, "live_smm": 1}, {0x2000: 3}).to_json()
    assert list(data["fields"].items()) == [("vpid", "0x1"), ("guest_rip", "0x10"), ("live_smm", "0x1")]
    assert data["memory"] == {"0x2000": "0x3"}
    assert "memory" not in Vmcs().to_json()


@pytest.mark.parametrize("name", ["guest_gs_access_right", "live_sm", "guest_rp"])
@pytest.mark.parametrize("use", ["construct", "replace", "get", "index", "without"])
def test_a_name_that_does_not_exist_is_refused_with_what_is_near(name: str, use: str) -> None:
    uses: dict[str, Any] = {
        "construct": lambda: Vmcs({name: 0}),
        "replace": lambda: Vmcs().replace(**{name: 0}),
        "get": lambda: Vmcs().get(name),
        "index": lambda: Vmcs()[name],
        "without": lambda: Vmcs().without(name),
    }
    with pytest.raises(UnknownNameError, match=rf"^unknown VMCS field '{name}'; "):
        uses[use]()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("vpid", 0x10000, "vpid = 10000H: expected 0 to FFFFH"),
        ("guest_gs_access_rights", 1 << 32, "guest_gs_access_rights = 100000000H: expected 0 to FFFFFFFFH"),
        ("guest_rip", 1 << 64, "guest_rip = 10000000000000000H: expected 0 to FFFFFFFFFFFFFFFFH"),
        ("guest_rip", -1, "guest_rip = -1: expected 0 to"),
        ("guest_rip", True, "guest_rip = True: expected an integer"),
        ("guest_rip", "0x10", "guest_rip = '0x10': expected an integer"),
        ("live_smm", 2, "live_smm = 2: expected an integer from 0 to 1"),
        ("live_smm", False, "live_smm = False: expected an integer"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(name: str, value: Any, sentence: str) -> None:
    with pytest.raises(FieldValueError) as caught:
        Vmcs({name: value})
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("memory", "sentence"),
    [
        ({4: 0}, "memory address 4: expected a physical address divisible by 8"),
        ({-8: 0}, "memory address -8: expected"),
        ({1 << 64: 0}, "memory address 10000000000000000H: expected"),
        ({8: 1 << 64}, "memory word at 8 = 10000000000000000H: expected a 64-bit value"),
        ({8: -1}, "memory word at 8 = -1: expected a 64-bit value"),
    ],
)
def test_memory_that_cannot_be_is_refused(memory: dict[int, int], sentence: str) -> None:
    with pytest.raises(FieldValueError) as caught:
        Vmcs({}, memory)
    assert str(caught.value).startswith(sentence)


SCHEMA = {"schema": "vmfuzz-vmcs-1"}


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (None, "not a VMCS: expected a JSON object"),
        ([], "not a VMCS: expected a JSON object"),
        ({}, "not a VMCS: expected a JSON object"),
        ({"schema": "other", "fields": {}}, 'not a VMCS: expected a JSON object with "schema": "vmfuzz-vmcs-1"'),
        ({**SCHEMA, "fields": []}, "not a VMCS"),
        ({**SCHEMA, "fields": {"vpid": "zz"}}, "vpid = 'zz': expected an integer or a string"),
        ({**SCHEMA, "fields": {"vpid": 1.5}}, "vpid = 1.5: expected an integer or a string"),
        ({**SCHEMA, "fields": {"vpid": True}}, "vpid = True: expected an integer or a string"),
        ({**SCHEMA, "fields": {"vpid": None}}, "vpid = None: expected an integer or a string"),
        ({**SCHEMA, "fields": {"vpid": "0x10000"}}, "vpid = 10000H: expected 0 to"),
        ({**SCHEMA, "fields": {"vpdi": "0x1"}}, "unknown VMCS field 'vpdi'"),
        ({**SCHEMA, "fields": {}, "memory": []}, '"memory" must be a JSON object'),
        ({**SCHEMA, "fields": {}, "memory": {"x": "0x1"}}, "memory address = 'x': expected"),
        ({**SCHEMA, "fields": {}, "memory": {"0x8": "x"}}, "memory 0x8 = 'x': expected"),
        ({**SCHEMA, "fields": {}, "memory": {"0x9": "0x1"}}, "memory address 9: expected"),
    ],
    ids=str,
)
def test_malformed_json_is_refused_with_what_is_wrong(data: object, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        Vmcs.from_json(data)
    assert sentence in str(caught.value)


def test_numbers_in_json_may_be_hexadecimal_decimal_or_integers() -> None:
    data = {**SCHEMA, "fields": {"vpid": "0x1f", "guest_rip": "31", "cr3_target_count": 31}}
    assert Vmcs.from_json(data) == Vmcs({"vpid": 31, "guest_rip": 31, "cr3_target_count": 31})


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "cannot read"), ("{", "is not JSON"), ("[]", "not a VMCS")], ids=["missing", "truncated", "a list"]
)
def test_a_file_that_cannot_be_loaded_is_refused(tmp_path: Path, content: str | None, sentence: str) -> None:
    path = tmp_path / "state.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=sentence):
        Vmcs.load(path)
