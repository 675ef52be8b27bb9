"""Poison: what containment refuses runs with bit 1 of guest_rflags clear where that costs the emulated CPU at worst, and shows what it shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from vmfuzz.arch.outcomes import Kind, Outcome, Outcomes
from vmfuzz.campaign.loop import Campaign
from vmfuzz.comparison.compare import Verdict
from vmfuzz.execute.base import Poisons
from vmfuzz.execute.bochs.executor import DEFAULT_CPU, BochsExecutor
from vmfuzz.execute.containment.poison import FAILS, canary, poisoned, with_twins
from vmfuzz.execute.containment.rules import Containment
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.model.checks import CHECKS
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

CAPS = capabilities(DEFAULT_CPU)
GOOD = known_good(CAPS)
#: The last 16 bytes below the physical-address width, and a count with which an area from there on ends beyond it.
TOP, LONG = (1 << CAPS.physical_address_width) - 16, 1 << 28
OPEN = {
    "pin_based_controls": GOOD["pin_based_controls"] & ~(1 << 6),
    "secondary_processor_based_controls": GOOD["secondary_processor_based_controls"] & ~2,
    "guest_cr3": 0x1000,
}


@pytest.fixture
def bochs() -> Iterator[BochsExecutor]:
    with BochsExecutor() as executor:
        yield executor


@pytest.mark.parametrize(
    ("changes", "remains"),
    [
        ({"vm_exit_msr_store_count": 1}, False),
        ({"vm_entry_msr_load_count": 1 << 20}, False),
        ({"guest_activity_state": 3}, False),
        ({"guest_activity_state": 1, "vmx_preemption_timer_value": 5}, False),
        (OPEN, False),
        ({"vm_exit_msr_store_count": LONG, "vm_exit_msr_store_address": TOP}, False),
        # the failure loads the host-state area, and processes the VM-exit MSR-load list
        ({"vm_exit_msr_load_count": 1}, True),
        # also one that is too long: a processor that gets its end wrong (Bochs does) goes through it until it aborts
        ({"vm_exit_msr_load_count": LONG, "vm_exit_msr_load_address": TOP}, True),
        ({"host_rip": 0x1000}, True),
        ({"host_cr3": 0x1000}, True),
        # and what was overwritten nobody would see
        ({"virtual_apic_address": 0x95A000000}, True),
    ],
)
def test_what_remains_refused(changes: dict[str, int], remains: bool) -> None:
    contained = Containment(CAPS, GOOD)
    batch = VmcsBatch.of([GOOD.replace(**changes)], GOOD)
    assert contained.refused(batch).rule[0] >= 0
    assert bool(contained.refused(poisoned(batch, np.array([0]))).rule[0] >= 0) is remains


def test_twins_take_the_place_of_what_is_refused_and_nothing_else_changes() -> None:
    states = [GOOD, GOOD.replace(guest_activity_state=3), GOOD.replace(host_rip=0x1000), GOOD.replace(guest_gs_access_rights=0)]
    batch = VmcsBatch.of(states, GOOD)
    twins = list(with_twins(batch, Containment(CAPS, GOOD).refused))
    assert twins == [states[0], states[1].replace(guest_rflags=0), states[2], states[3]]
    untouched = VmcsBatch.of([GOOD, states[3]], GOOD)
    assert with_twins(untouched, Containment(CAPS, GOOD).refused) is untouched


def test_the_emulated_cpu_refuses_the_canary_and_runs_twins(bochs: BochsExecutor) -> None:
    assert isinstance(bochs, Poisons)
    assert bochs.run([canary(bochs.known_good())])[0] == FAILS
    states = [
        bochs.known_good().replace(**changes) for changes in ({"guest_activity_state": 3}, {"vm_exit_msr_store_count": 1, "host_cr0": 0})
    ]
    batch = VmcsBatch.of(states, bochs.known_good())
    assert set(bochs.run(batch).kind) == {Kind.REFUSED}
    outcomes = bochs.run(bochs.with_twins(batch))
    assert [outcomes[0], outcomes[1]] == [FAILS, Outcome(Kind.VMFAIL_VALID, 8)]


def test_a_campaign_refuses_only_what_poison_does_not_excuse_and_loses_no_cpu(bochs: BochsExecutor) -> None:
    campaign = Campaign(bochs, seed=2)
    refused: set[str | None] = set()
    rows = plain = 0
    for plan in campaign.plan(0)[::2]:
        comparison = campaign.execute(plan)
        hit = np.flatnonzero(comparison.verdict == Verdict.REFUSED)
        refused |= {comparison.outcomes.message_of(int(row)) for row in hit}
        rows += len(hit)
        plain += int((bochs.containment.refused(campaign.generator.expand(plan)).rule >= 0).sum())
        assert not (comparison.verdict == Verdict.EXECUTOR_CRASHED).any()
        assert not (comparison.verdict == Verdict.MISMATCH).any()
    assert rows < plain / 2
    words = " ".join(map(str, refused))
    assert not [word for word in ("activity state", "run code", "MSR-store", "recommends") if word in words]


class Forgets(ModelExecutor):
    """A processor that makes not all checks, behind containment, with twins or without."""

    twins = True

    def __init__(self, *forgotten: str) -> None:
        super().__init__(CAPS, GOOD, [check for check in CHECKS if check.id not in forgotten])
        self.refused = Containment(CAPS, GOOD).refused

    def with_twins(self, batch: VmcsBatch) -> VmcsBatch:
        return with_twins(batch, self.refused) if self.twins else batch

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        assert isinstance(batch, VmcsBatch)
        outcomes = super().run(batch)
        outcomes.kind[self.refused(batch).rule >= 0] = Kind.REFUSED
        return outcomes


@pytest.mark.parametrize("twins", [True, False])
def test_a_forgotten_control_check_in_a_refused_class_shows_by_poison_alone(twins: bool) -> None:
    """The area's end matters only where the address is good: then a list that long is refused, and without poison the error never shows."""
    made = Forgets("ctl.exit.msrstore.last")
    made.twins = twins
    base = GOOD.replace(vm_exit_msr_store_address=TOP)
    batch = VmcsBatch(base, {"vm_exit_msr_store_count": np.array([LONG, LONG + 1, 0xFFFF_FFFF], np.uint64)})
    outcomes = made.run(made.with_twins(batch))
    assert {Kind(int(kind)) for kind in outcomes.kind} == ({Kind.ENTRY_FAILURE} if twins else {Kind.REFUSED})


def test_a_processor_that_enters_the_canary_gets_no_twins(bochs: BochsExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = VmcsBatch.of([bochs.known_good().replace(guest_activity_state=3)], bochs.known_good())
    entered = bochs.run([bochs.known_good()])
    monkeypatch.setattr(bochs, "run", lambda _batch: entered)
    assert bochs.with_twins(batch) is batch
