"""A batch of VMCSs as columns: the same candidates whether read as rows or as columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmfuzz.errors import FieldValueError, UnknownNameError, UsageError
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

BASE = Vmcs({"vpid": 1, "guest_rip": 0x1000, "guest_cr0": 0x80000021}, {0x2000: 9})
_NAMES = ("vpid", "guest_es_selector", "host_cs_selector", "live_smm")

candidates = st.lists(
    st.builds(
        lambda values, word: BASE.replace(**values).with_memory({0x2000: word}),
        st.fixed_dictionaries({name: st.integers(0, 1) for name in _NAMES}),
        st.integers(0, 3),
    ),
    min_size=1,
    max_size=6,
)


def test_rows_take_columns_and_memory_columns_and_the_base_for_the_rest() -> None:
    batch = VmcsBatch(BASE, {"vpid": [1, 2, 3]}, {0x2000: [7, 8, 9]})
    assert len(batch) == 3
    assert list(batch) == [BASE.replace(vpid=1 + row).with_memory({0x2000: 7 + row}) for row in range(3)]


@given(candidates)
def test_the_batch_of_some_candidates_has_them_as_rows(vmcss: list[Vmcs]) -> None:
    batch = VmcsBatch.of(vmcss)
    assert list(batch) == vmcss
    assert all(len({vmcs[name] for vmcs in vmcss}) > 1 for name in batch.columns)


def test_candidates_that_have_not_written_the_same_fields_count_as_0() -> None:
    batch = VmcsBatch.of([BASE.without("vpid"), BASE])
    assert [row["vpid"] for row in batch] == [0, 1]


def test_memory_that_only_some_candidates_describe_counts_as_0() -> None:
    batch = VmcsBatch.of([Vmcs(), Vmcs({}, {0x10: 5})])
    assert batch.row(0).memory.get(0x10) == 0
    assert batch.row(1).memory[0x10] == 5


def test_candidates_that_are_equal_need_no_column() -> None:
    batch = VmcsBatch.of([BASE, BASE])
    assert len(batch) == 2
    assert not batch.columns
    assert list(batch) == [BASE, BASE]


@pytest.mark.parametrize(("rows", "expected"), [([2, 0], [3, 1]), ([True, False, True], [1, 3]), ([], [])], ids=["indices", "mask", "none"])
def test_take_picks_rows_by_index_or_mask(rows: list[Any], expected: list[int]) -> None:
    selector = np.array(rows, np.bool_ if rows and isinstance(rows[0], bool) else np.intp)
    taken = VmcsBatch(BASE, {"vpid": [1, 2, 3]}, {0x2000: [1, 2, 3]}).take(selector)
    assert len(taken) == len(expected)
    assert [row["vpid"] for row in taken] == expected
    assert [row.memory[0x2000] for row in taken] == expected


def test_take_keeps_the_count_of_a_batch_without_columns() -> None:
    assert len(VmcsBatch(BASE, {}, count=5).take(np.array([0, 4]))) == 2


def test_columns_are_unsigned_64_bit_and_read_only() -> None:
    batch = VmcsBatch(BASE, {"guest_rip": [0, (1 << 64) - 1]})
    column = batch.columns["guest_rip"]
    assert column.dtype == np.uint64
    with pytest.raises(ValueError, match="read-only"):
        column[0] = 1


def test_changing_the_array_that_a_column_was_made_from_does_not_change_the_batch() -> None:
    values = np.array([1, 2], np.uint64)
    batch = VmcsBatch(BASE, {"vpid": values})
    values = values + np.uint64(1)
    assert [row["vpid"] for row in batch] == [1, 2]


@pytest.mark.parametrize("index", [-1, 2])
def test_a_row_outside_the_batch_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError, match=rf"row {index} of a batch of 2"):
        VmcsBatch(BASE, {"vpid": [1, 2]}).row(index)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"columns": {"vpid": [1, 2], "guest_rip": [1]}}, UsageError, r"columns of a batch must have one length, got \[1, 2\]"),
        ({"columns": {"vpid": [1, 2]}, "count": 3}, UsageError, r"one length, got \[2, 3\]"),
        ({"columns": {"vpid": [1]}, "memory_columns": {8: [1, 2]}}, UsageError, r"one length, got \[1, 2\]"),
        ({"columns": {"vpid": [[1, 2]]}}, UsageError, "column vpid: expected one dimension, got 2"),
        ({"columns": {"vpid": [1, 0x10000]}}, FieldValueError, r"vpid = 10000H \(row 1\): expected 0 to FFFFH"),
        ({"columns": {"live_smm": [2]}}, FieldValueError, r"live_smm = 2 \(row 0\): expected 0 to 1"),
        ({"columns": {"vpdi": [1]}}, UnknownNameError, "unknown VMCS field 'vpdi'; did you mean vpid"),
    ],
    ids=["lengths", "count", "memory length", "two dimensions", "too wide", "live too wide", "unknown name"],
)
def test_columns_that_cannot_be_are_refused(arguments: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        VmcsBatch(BASE, **arguments)


def test_no_candidates_make_no_batch() -> None:
    with pytest.raises(UsageError, match="at least one candidate"):
        VmcsBatch.of([])
