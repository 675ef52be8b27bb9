"""Values worth trying, read off the conditions of checks: on the boundary of an atom and just across it."""

from __future__ import annotations

import pytest

from vmfuzz.generate.boundary import edits_of
from vmfuzz.model.evaluate import evaluate
from vmfuzz.model.expr import MASK64, TRUE, Bits, Cond, all_of, any_of
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import memory, operand_width, vmcs
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities
from vmfuzz.state.vmcs import Vmcs

MODEL = model_of(capabilities("arrow_lake"))
#: Checks without a premise that read one field and capabilities only.
ONE_FIELD = [compiled for compiled in MODEL.compiled if compiled.when is TRUE and len(compiled.violated.reads) == 1]


def values(condition: Cond, field: str, start: int = 0) -> set[int]:
    return {start & keep | set_bits for keep, set_bits in edits_of(condition, field)}


def truth(condition: Cond, field: str, value: int) -> bool:
    return bool(evaluate(condition, OperandValues(VmcsBatch(Vmcs({field: value}), {}, count=1)), {}))


@pytest.mark.parametrize(
    ("condition", "field", "start", "expected"),
    [
        (vmcs.vpid == 5, "vpid", 0, {4, 5, 6}),
        (vmcs.vpid == 0, "vpid", 0, {0, 1}),
        (vmcs.cr3_target_count <= 4, "cr3_target_count", 0, {3, 4, 5}),
        (vmcs.cr3_target_count >= 4, "cr3_target_count", 0, {3, 4, 5}),
        (vmcs.guest_cr0[16], "guest_cr0", 0x21, {0x21, 0x8021, 0x10021, 0x20021}),
        (vmcs.eptp[5:3] == 3, "eptp", 0x1000, {0x1010, 0x1018, 0x1020}),
        (vmcs.vpid.one_of(3, 7), "vpid", 0, {2, 3, 4, 6, 7, 8}),
        ((vmcs.guest_cr4 & 0x60) == 0, "guest_cr4", 0x1, {0x1, 0x11, 0x21, 0x41, 0x61}),
        ((vmcs.guest_cr4 & 0x60) == 0x60, "guest_cr4", 0x61, {0x1, 0x21, 0x41, 0x61, 0x71}),
        (all_of(vmcs.vpid == 1, any_of(~(vmcs.vpid == 9))), "vpid", 0, {0, 1, 2, 8, 9, 10}),
        (vmcs.guest_rip + 0x10 <= 0x20, "guest_rip", 0, {0xF, 0x10, 0x11}),
        (vmcs.guest_ss_selector[1:0] == vmcs.guest_cs_selector[1:0], "guest_ss_selector", 0x8, {0x8, 0x9, 0xA, 0xB}),
        (vmcs.guest_tr_limit <= vmcs.guest_cs_limit, "guest_tr_limit", 5, {0, 1, 0xFFFFFFFE, 0xFFFFFFFF}),
        (memory.vtpr[7:4] == 2, "memory_vtpr", 0x0F, {0x1F, 0x2F, 0x3F}),
    ],
    ids=lambda value: "" if isinstance(value, (int, set)) else None,
)
def test_edits_give_the_boundary_and_its_neighbours(condition: Cond, field: str, start: int, expected: set[int]) -> None:
    assert values(condition, field, start) == expected


AREA = vmcs.vm_exit_msr_load_address + (vmcs.vm_exit_msr_load_count << 4) + MASK64
TABLE = vmcs.pid_pointer_table + (vmcs.last_pid_pointer_index << 3)


@pytest.mark.parametrize(
    ("total", "field", "expected"),
    [
        # the count whose bytes fill 32 bits, and beyond; the most
        (AREA, "vm_exit_msr_load_count", {0xFFF_FFFF, 0x1000_0000, 0x1000_0001, 0xFFFF_FFFF}),
        # areas of 0, 1, 2, 2^28 and the most entries that end at the width, and those that end at 32 bits
        (AREA, "vm_exit_msr_load_address", {1 << 46, (1 << 46) - 16, (1 << 46) - 32, (1 << 46) - (1 << 32), (1 << 46) - (1 << 36) + 16}),
        (AREA, "vm_exit_msr_load_address", {1 << 32, (1 << 32) - 16, (1 << 32) - 32, 0, MASK64 - 15}),
        # the end of a table is its last entry's address
        (TABLE, "pid_pointer_table", {(1 << 46) - 8, 1 << 46, (1 << 46) - (0xFFFF << 3) - 8}),
    ],
)
def test_a_sum_is_tried_where_it_or_a_part_of_it_wraps(total: Bits, field: str, expected: set[int]) -> None:
    beyond = MASK64 & ~((1 << 46) - 1)
    assert expected <= values((total & beyond) == 0, field)


def test_a_field_that_the_condition_does_not_read_has_no_edits() -> None:
    assert edits_of(vmcs.vpid == 5, "guest_rip") == ()


@pytest.mark.parametrize("compiled", MODEL.compiled, ids=lambda compiled: compiled.check.id)
def test_an_edit_fits_its_operand(compiled: object) -> None:
    condition: Cond = compiled.violated  # type: ignore[attr-defined]
    for name in condition.reads:
        full = (1 << operand_width(name)) - 1
        assert all(keep & ~full == 0 and set_bits & ~full == 0 and keep & set_bits == 0 for keep, set_bits in edits_of(condition, name))


@pytest.mark.parametrize("compiled", ONE_FIELD, ids=lambda compiled: compiled.check.id)
def test_the_edits_of_a_check_on_one_field_reach_both_sides(compiled: object) -> None:
    condition: Cond = compiled.violated  # type: ignore[attr-defined]
    (field,) = condition.reads
    reached = {
        truth(condition, field, value) for start in (0, (1 << operand_width(field)) - 1) for value in values(condition, field, start)
    }
    assert reached == {False, True}


def test_there_are_many_checks_on_one_field() -> None:
    assert len(ONE_FIELD) > 40
