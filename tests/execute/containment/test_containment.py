"""Containment refuses what must not run, and only that; what it lets through runs without losing the emulated
CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from predicate_in_c import RawBatch

from vmfuzz.arch.outcomes import Kind
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.execute.containment.rules import Containment
from vmfuzz.execute.containment.view import View
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

Families = Callable[..., Iterator[VmcsBatch]]
NO_TIMER = ~(1 << 6)


def rule_of(executor: BochsExecutor, vmcs: Vmcs) -> str | None:
    refusals = executor.containment.refused(VmcsBatch.of([vmcs]))
    number = int(refusals.rule[0])
    said = refusals.rules[number] if number >= 0 else None
    assert executor.containment.refusal(vmcs) == said
    return said


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"host_rip": 0x1000}, "host_rip"),
        ({"host_cr3": 0x1000}, "host_cr3"),
        ({"vm_exit_msr_store_count": 1}, "MSR-store"),
        ({"vm_exit_msr_load_count": 1}, "MSR-load"),
        ({"vm_entry_msr_load_count": 1 << 31}, "recommends"),
        ({"guest_activity_state": 3}, "activity state"),
        ({"guest_activity_state": 1, "vmx_preemption_timer_value": 5}, "activity state"),
        ({"virtual_apic_address": 0x95A000000}, "harness"),
    ],
)
def test_refused(bochs: BochsExecutor, changes: dict[str, int], word: str) -> None:
    candidate = bochs.known_good().replace(**changes)
    assert word in (rule_of(bochs, candidate) or "not refused")
    outcomes = bochs.run([bochs.known_good(), candidate])
    assert [Kind(int(kind)) for kind in outcomes.kind] == [Kind.EXIT, Kind.REFUSED]
    assert word in (outcomes.message_of(1) or "")


@pytest.mark.parametrize(
    "changes",
    [
        {"host_rip": 0x8000_0000_0000},  # not canonical: cannot be loaded
        {"host_cr3": 1 << 60},  # beyond the physical width: cannot be loaded
        {"host_rsp": 0},
        {"guest_cr3": 0x1000, "vmx_preemption_timer_value": 0},
        {"guest_activity_state": 1},
    ],
)
def test_not_refused(bochs: BochsExecutor, changes: dict[str, int]) -> None:
    assert rule_of(bochs, bochs.known_good().replace(**changes)) is None


def test_what_vmwrite_makes_of_a_value_is_judged(bochs: BochsExecutor) -> None:
    """The processor drops the bits that guest_activity_state does not have: 1_0000_0003H is wait-for-SIPI."""
    states = np.array([3, 1 << 32 | 3, 1 << 63 | 3, 1 << 32 | 1], np.uint64)
    refusals = bochs.containment.refused(RawBatch(bochs.known_good(), {"guest_activity_state": states}))
    said = [refusals.rules[number] if number >= 0 else None for number in refusals.rule.tolist()]
    assert said == ["refused: the guest would not leave its activity state"] * 3 + [None]


class OnColumns(Containment):
    """The rules on full columns, with nothing folded that all rows have in common."""

    def _candidates(self, batch: VmcsBatch) -> View:
        return View(batch)


def test_a_vmcs_is_judged_the_same_by_itself_and_in_a_batch(each_cpu: BochsExecutor, random_families: Families) -> None:
    refused, good = 0, each_cpu.known_good()
    on_columns = OnColumns(each_cpu.capabilities(), good)
    for batch in random_families(good, seed=8, families=60, rows=100):
        rules = each_cpu.containment.refused(batch).rule
        np.testing.assert_array_equal(rules, on_columns.refused(batch).rule)
        for vmcs in (batch.row(row) for row in range(0, 100, 20)):
            said = rule_of(each_cpu, vmcs)
            pair = each_cpu.containment.refused(VmcsBatch.of([good, vmcs]))
            assert [None if number < 0 else pair.rules[number] for number in pair.rule.tolist()] == [None, said]
            refused += said is not None
    assert 10 < refused < 270


def test_guest_without_any_wall_is_refused(bochs: BochsExecutor) -> None:
    base = bochs.known_good()
    open_guest = base.replace(
        pin_based_controls=base["pin_based_controls"] & NO_TIMER,
        secondary_processor_based_controls=base["secondary_processor_based_controls"] & ~2,
        guest_cr3=0x1000,
    )
    assert "would run code" in (rule_of(bochs, open_guest) or "not refused")


@pytest.mark.parametrize("wall", ["timer", "ept", "page tables"])
def test_each_wall_alone_holds(bochs: BochsExecutor, wall: str) -> None:
    """One of the three means of containment is enough, and each gives its own exit."""
    base = bochs.known_good()
    timer, ept = base["pin_based_controls"], base["secondary_processor_based_controls"]
    candidate = base.replace(
        pin_based_controls=timer if wall == "timer" else timer & NO_TIMER,
        secondary_processor_based_controls=ept if wall == "ept" else ept & ~2,
        guest_cr3=base["guest_cr3"] if wall == "page tables" else 0x1000,
    )
    outcome = bochs.run([candidate])[0]
    assert (outcome.kind, outcome.number) == (Kind.EXIT, {"timer": 52, "ept": 48, "page tables": 0}[wall])


def test_what_is_left_loses_no_cpu(each_cpu: BochsExecutor, random_families: Families) -> None:
    base = each_cpu.known_good()
    for batch in random_families(base, seed=6, families=10, rows=500):
        outcomes = each_cpu.run(batch)
        for row in np.flatnonzero(outcomes.kind == Kind.EXECUTOR_CRASHED):
            differences = base.differences(batch.row(int(row)))
            raise AssertionError(f"{each_cpu.name}: {outcomes.message_of(int(row))}: {differences}")


@pytest.mark.parametrize(
    ("mode", "value", "count", "refused"),
    [
        (1, 0xFEE0_0100, 1, True),  # disables the APIC: candidates behind it would not be in x2APIC mode
        (1, 0xFEE0_0900, 1, False),  # fails
        (1, 0xFEE0_0500, 1, False),  # fails
        (1, 0xFEE0_0D00, 1, False),  # changes nothing
        (1, 0xFEE0_0100, 0, False),
        (0, 0xFEE0_0100, 1, False),
    ],
)
def test_a_batch_in_x2apic_mode_stays_there(bochs: BochsExecutor, mode: int, value: int, count: int, refused: bool) -> None:
    good = bochs.known_good()
    address = good["vm_entry_msr_load_address"]
    candidate = good.replace(live_x2apic_mode=mode, vm_entry_msr_load_count=count).with_memory({address: 0x1B, address + 8: value})
    assert ("x2APIC" in (rule_of(bochs, candidate) or "")) is refused
