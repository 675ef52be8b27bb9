"""What runs besides where the machine may be lost (the image at risk bold): both predicates agree, and it is what docs/hypervisors.md says."""

from __future__ import annotations

import ctypes
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predicate_in_c import InC

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.execute.kmod.containment import BOLD, RULES, SAFE, KmodContainment
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

CR4_FIXED1: Final = 0x489
SYSENTER_CS, SYSENTER_EIP, PAT, LSTAR, KERNEL_GS_BASE = 0x174, 0x176, 0x277, 0xC000_0082, 0xC000_0102
PAT_VALUE: Final = 0x0007_0406_0007_0406
#: In the arena, behind its walls.
LISTED: Final = 0x1000_8000
Pair = tuple[InC, KmodContainment]


@pytest.fixture(scope="module")
def sides(library: ctypes.CDLL) -> tuple[dict[str, Pair], Vmcs]:
    """Both predicates, for a processor that has every field: at bold, where the machine may be lost, where that is said at safe, and with poison."""
    with BochsExecutor("arrow_lake") as executor:
        msrs = executor.capabilities().msrs
        more = {**msrs, CR4_FIXED1: msrs[CR4_FIXED1] | 1 << 12 | 1 << 32}  # LA57, FRED
        facts = (Capabilities("more", more, executor.capabilities().cpuid), executor.known_good(), executor.arena)
        modes: dict[str, dict[str, Any]] = {
            "bold": {"risk": BOLD},
            "virtual": {"risk": BOLD, "virtual": True},
            "safe": {"risk": SAFE, "virtual": True},
            "poison": {"risk": BOLD, "virtual": True, "poison": True},
        }
        return {name: (InC(library, *facts, **mode), KmodContainment(*facts, **mode)) for name, mode in modes.items()}, facts[1]


def rules(pair: Pair, batch: VmcsBatch) -> list[int]:
    """The rule of each row, on which both sides agree; 0 for none."""
    in_c, in_python = pair[0].rules(batch), pair[1].refused(batch).rule
    for row, (one, other) in enumerate(zip(in_c, np.maximum(in_python, 0), strict=True)):
        assert one == other, f"C: {RULES[one]}; Python: {RULES[other]}; row {dict(batch.row(row))}, {dict(batch.row(row).memory)}"
    return [int(rule) for rule in in_c]


#: (rule that refuses it elsewhere, changes of the known-good VMCS); control words get more bits
RUNS: Final = (
    (3, {"host_cr0": 0x8001_0033}),
    (5, {"host_cr4": 0x26F0}),
    (6, {"host_cs_selector": 0x1000}),
    (6, {"host_tr_selector": 0x40}),
    (7, {"host_gs_base": 1 << 20}),
    (7, {"host_gdtr_base": 0}),
    (7, {"host_tr_base": 8}),
    (8, {"host_ia32_sysenter_cs": 1}),
    (8, {"host_ia32_sysenter_eip": 1}),
    (9, {"host_rsp": 8}),
    (11, {"vm_exit_controls": 1 << 19, "host_ia32_pat": 0}),
    (12, {"vm_exit_controls": 1 << 21, "host_ia32_efer": 0x501}),
    (13, {"vm_exit_controls": 1 << 12, "host_ia32_perf_global_ctrl": 1}),
)
REMAINS: Final = (
    (1, {"vm_entry_controls": 1 << 10}),
    (4, {"host_cr3": 0x1000}),
    (5, {"host_cr4": 0x3020}),
    (5, {"host_cr4": 1 << 32 | 0x2020}),
    (10, {"host_rip": 8}),
    (14, {"vm_exit_controls": 1 << 28, "host_ssp": 8}),
    (15, {"vm_exit_controls": 1 << 29, "host_ia32_pkrs": 4}),
    (17, {"vm_entry_controls": 1 << 16}),
    (22, {"secondary_processor_based_controls": 0, "guest_cr3": 0x1000}),
    (23, {"eptp": 0x1018}),
    (24, {"pin_based_controls": 1 << 7, "posted_interrupt_descriptor": 1 << 30}),
    (25, {"vmcs_link_pointer": 0x5000}),
    (26, {"guest_activity_state": 2}),
    (26, {"guest_activity_state": 3}),
)


@pytest.mark.parametrize(("rule", "changes", "runs"), [*((*each, True) for each in RUNS), *((*each, False) for each in REMAINS)])
def test_host_state_that_the_exit_handler_survives_runs(
    sides: tuple[dict[str, Pair], Vmcs], rule: int, changes: dict[str, int], runs: bool
) -> None:
    """Only at bold, and only where the machine may be lost."""
    made, known = sides
    values = {name: (known.get(name) or 0) | value if name.endswith("controls") and value else value for name, value in changes.items()}
    batch = VmcsBatch.of([known.replace(**values)])
    assert rules(made["bold"], batch) == rules(made["safe"], batch) == [rule]
    assert rules(made["virtual"], batch) == rules(made["poison"], batch) == [0 if runs else rule]


def listing(known: Vmcs, area: str, *entries: tuple[int, int], address: int = LISTED) -> Vmcs:
    """The known-good VMCS with an MSR list in the arena."""
    words = {address + 16 * number + 8 * part: word for number, entry in enumerate(entries) for part, word in enumerate(entry)}
    state = known.replace(**{f"vm_{area}_count": len(entries), f"vm_{area}_address": address})
    return state.with_memory({at: word for at, word in words.items() if 0x1000_0000 <= at < 0x1002_0000})


ANYTHING: Final = ((LSTAR, 5), (0x1234, 1 << 63), (1 << 40 | PAT, 0))
GOOD: Final = ((SYSENTER_CS, 8), (SYSENTER_EIP, 1 << 46), (PAT, PAT_VALUE), (KERNEL_GS_BASE, 0xFFFF_FFFF_8000_0000))


def test_an_entry_list_may_load_anything(sides: tuple[dict[str, Pair], Vmcs]) -> None:
    """If it is short and lies in the arena, behind its walls."""
    made, known = sides
    batch = VmcsBatch.of([listing(known, "entry_msr_load", *ANYTHING, *GOOD)])
    assert rules(made["bold"], batch) == rules(made["safe"], batch) == [21]
    assert rules(made["virtual"], batch) == [0]
    too_long = known.replace(vm_entry_msr_load_count=9, vm_entry_msr_load_address=LISTED)
    elsewhere = [known.replace(vm_entry_msr_load_count=1, vm_entry_msr_load_address=at) for at in (0x1000_1000, 0x1002_0000, 0x5000)]
    assert rules(made["virtual"], VmcsBatch.of([too_long, *elsewhere])) == [21] * 4


@pytest.mark.parametrize(("area", "rule"), [("exit_msr_store", 19), ("exit_msr_load", 20)])
def test_an_exit_list_may_have_what_every_exit_can(sides: tuple[dict[str, Pair], Vmcs], area: str, rule: int) -> None:
    """What an exit cannot store or load shuts the processor down, and no outcome says so."""
    made, known = sides
    assert rules(made["bold"], VmcsBatch.of([listing(known, area, *GOOD)])) == [rule]
    assert rules(made["virtual"], VmcsBatch.of([listing(known, area, *GOOD)])) == [0]
    for entry in ANYTHING:
        assert rules(made["virtual"], VmcsBatch.of([listing(known, area, *GOOD, entry)])) == [rule]
    bad_values = ((SYSENTER_CS, 1 << 16), (SYSENTER_EIP, 1 << 62), (PAT, 2), (KERNEL_GS_BASE, 1 << 63))
    for entry in bad_values:
        expected = rule if area == "exit_msr_load" else 0
        assert rules(made["virtual"], VmcsBatch.of([listing(known, area, entry)])) == [expected]


_MSRS: Final = st.sampled_from([SYSENTER_CS, SYSENTER_EIP, PAT, KERNEL_GS_BASE, LSTAR, 0, 1 << 32 | PAT])
_VALUES: Final = st.sampled_from([0, 8, 1 << 16, 1 << 46, 1 << 62, PAT_VALUE, 2, 0xFFFF_8000_0000_0000])
_LISTS: Final = st.lists(st.tuples(_MSRS, _VALUES), max_size=4)
_ADDRESSES: Final = st.sampled_from(
    [LISTED, LISTED + 8, 0x1000_0FF0, 0x1000_1FF0, 0x1000_2000, 0x1001_EFF0, 0x1001_F000, 0x1001_F010, 0x5000]
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["entry_msr_load", "exit_msr_load", "exit_msr_store"]), _LISTS, _ADDRESSES), min_size=1, max_size=3),
    st.sampled_from([0, 2]),
)
def test_both_sides_judge_lists_alike(
    sides: tuple[dict[str, Pair], Vmcs], lists: list[tuple[str, list[tuple[int, int]], int]], rflags: int
) -> None:
    """Also where several lie in the same place, and with poison."""
    made, known = sides
    state = known.replace(guest_rflags=rflags)
    for area, entries, address in lists:
        state = listing(state, area, *entries, address=address)
    for pair in made.values():
        rules(pair, VmcsBatch.of([state]))
