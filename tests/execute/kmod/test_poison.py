"""What poison excuses on a real processor: the predicate in C and in Python agree, and the table of docs/bare-metal.md is what they do."""

from __future__ import annotations

import ctypes
from typing import Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from predicate_in_c import InC

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.execute.kmod.containment import RULES, KmodContainment
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

KERNEL_GS_BASE, SYSENTER_EIP, PAT, EFER, LSTAR = 0xC000_0102, 0x176, 0x277, 0xC000_0080, 0xC000_0082
#: Exit controls that give back IA32_PAT and IA32_EFER.
GIVES_BACK: Final = 1 << 19 | 1 << 21
LISTED: Final = 0x1000_8000


@pytest.fixture(scope="module")
def sides(library: ctypes.CDLL) -> tuple[dict[bool, tuple[InC, KmodContainment]], Vmcs]:
    """Both predicates without poison and with, for a processor that has every field."""
    with BochsExecutor("arrow_lake") as executor:
        facts = (
            Capabilities("more", executor.capabilities().msrs, executor.capabilities().cpuid),
            executor.known_good(),
            executor.arena,
            0,
        )
        made = {poison: (InC(library, *facts, poison), KmodContainment(*facts, poison)) for poison in (False, True)}
        return made, executor.known_good()


def rules(pair: tuple[InC, KmodContainment], batch: VmcsBatch) -> list[int]:
    """The rule of each row, on which both sides agree; 0 for none."""
    in_c, in_python = pair[0].rules(batch), pair[1].refused(batch).rule
    for row, (one, other) in enumerate(zip(in_c, np.maximum(in_python, 0), strict=True)):
        assert one == other, f"C: {RULES[one]}; Python: {RULES[other]}; row {dict(batch.row(row))}, {dict(batch.row(row).memory)}"
    return [int(rule) for rule in in_c]


def listing(known: Vmcs, *indices: int, **changes: int) -> Vmcs:
    """The known-good VMCS with a VM-entry MSR-load list in the arena."""
    words = {LISTED + 16 * number: index for number, index in enumerate(indices)}
    state = known.replace(vm_entry_msr_load_count=len(indices), vm_entry_msr_load_address=LISTED)
    return state.replace(vm_exit_controls=known["vm_exit_controls"] | GIVES_BACK).replace(**changes).with_memory(words)


#: (rule, changes of the known-good VMCS): what poison excuses
EXCUSED: Final = (
    (26, {"guest_activity_state": 2}),
    (26, {"guest_activity_state": 3}),
    (13, {"vm_exit_controls": 1 << 12, "host_ia32_perf_global_ctrl": 1 << 63}),
    (14, {"vm_exit_controls": 1 << 28, "host_ssp": 2}),
    (14, {"vm_exit_controls": 1 << 28, "host_ia32_s_cet": 1 << 6, "host_ia32_interrupt_ssp_table_addr": 1 << 63}),
)
#: and what of the same rules, and of the others, it does not
REMAINS: Final = (
    (26, {"guest_activity_state": 2, "vmx_preemption_timer_value": 1}),
    (26, {"guest_activity_state": 1, "vmx_preemption_timer_value": 1}),
    (13, {"vm_exit_controls": 1 << 12, "host_ia32_perf_global_ctrl": 1 << 48}),
    (14, {"vm_exit_controls": 1 << 28, "host_ssp": 8}),
    (14, {"vm_exit_controls": 1 << 28, "host_ia32_s_cet": 1 << 6 | 1}),
    (14, {"vm_exit_controls": 1 << 28, "host_ssp": 2, "host_ia32_interrupt_ssp_table_addr": 8}),
    (1, {"vm_entry_controls": 1 << 10}),
    (4, {"host_cr3": 0x1000}),
    (7, {"host_gs_base": 1 << 20}),
    (8, {"host_ia32_sysenter_cs": 1}),
    (9, {"host_rsp": 8}),
    (10, {"host_rip": 8}),
    (17, {"vm_entry_controls": 1 << 16}),
    (19, {"vm_exit_msr_store_count": 1}),
    (20, {"vm_exit_msr_load_count": 1}),
    (22, {"secondary_processor_based_controls": 0, "guest_cr3": 0x1000}),
    (23, {"eptp": 0x1018}),
    (24, {"pin_based_controls": 1 << 7, "posted_interrupt_descriptor": 1 << 30}),
    (25, {"vmcs_link_pointer": 0x5000}),
)


def changed(known: Vmcs, changes: dict[str, int], rflags: int) -> Vmcs:
    """Control words get more bits, other fields the value."""
    values = {name: (known.get(name) or 0) | value if name.endswith("controls") and value else value for name, value in changes.items()}
    return known.replace(**values, guest_rflags=rflags)


@pytest.mark.parametrize(("rule", "changes", "excused"), [*((*each, True) for each in EXCUSED), *((*each, False) for each in REMAINS)])
def test_what_poison_excuses(
    sides: tuple[dict[bool, tuple[InC, KmodContainment]], Vmcs], rule: int, changes: dict[str, int], excused: bool
) -> None:
    """Only together: the option, and RFLAGS bit 1 = 0."""
    made, known = sides
    states = VmcsBatch.of([changed(known, changes, 2), changed(known, changes, 0)])
    before, after = rules(made[False], states), rules(made[True], states)
    assert before == [rule, rule]
    assert after == [rule, 0 if excused else rule]


@pytest.mark.parametrize(
    ("indices", "changes", "excused"),
    [
        ((KERNEL_GS_BASE, PAT, EFER, KERNEL_GS_BASE), {}, True),
        ((SYSENTER_EIP,) * 8, {}, True),
        ((SYSENTER_EIP,) * 9, {}, False),
        ((KERNEL_GS_BASE | 1 << 32,), {}, True),  # bits 63:32 of an entry's first word are reserved, not part of the index
        ((LSTAR,), {}, False),
        ((KERNEL_GS_BASE, 0), {}, False),
        ((PAT,), {"vm_exit_controls": 1 << 9 | 1 << 21 | 0x36DFF}, False),
        ((EFER,), {"host_ia32_efer": 0xFFFF}, False),
        ((KERNEL_GS_BASE,), {"vm_entry_msr_load_address": 0x1000_0000}, False),  # a wall
        ((KERNEL_GS_BASE,), {"vm_entry_msr_load_address": 0x9000_0000}, False),
        ((KERNEL_GS_BASE,), {"vm_entry_msr_load_count": 2}, False),  # the second word is 0: nobody knows what MSR 0 does
        ((KERNEL_GS_BASE,), {"vm_entry_msr_load_count": 0xFFFF_FFFF}, False),
    ],
)
def test_lists_that_poison_excuses(
    sides: tuple[dict[bool, tuple[InC, KmodContainment]], Vmcs], indices: tuple[int, ...], changes: dict[str, int], excused: bool
) -> None:
    made, known = sides
    states = VmcsBatch.of([listing(known, *indices, **changes), listing(known, *indices, **changes, guest_rflags=0)])
    assert rules(made[False], states) == [21, 21]
    assert rules(made[True], states) == [21, 0 if excused else 21]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_both_sides_agree_on_any_list(sides: tuple[dict[bool, tuple[InC, KmodContainment]], Vmcs], data: st.DataObject) -> None:
    """Rows that differ in the list's words, address, length and in what would give its MSRs back."""
    made, known = sides
    indices = st.sampled_from([KERNEL_GS_BASE, SYSENTER_EIP, PAT, EFER, LSTAR, 0, KERNEL_GS_BASE | 1 << 40])
    states = []
    for _ in range(8):
        chosen = data.draw(st.lists(indices, min_size=1, max_size=9))
        changes = {"guest_rflags": data.draw(st.sampled_from([0, 2, 0x202]))}
        if data.draw(st.booleans()):
            changes["vm_entry_msr_load_address"] = LISTED + 16 * data.draw(st.integers(-2, 3))
        if data.draw(st.booleans()):
            changes["vm_exit_controls"] = known["vm_exit_controls"] & ~(1 << data.draw(st.sampled_from([19, 21])))
        if data.draw(st.booleans()):
            changes["vm_entry_msr_load_count"] = data.draw(st.integers(0, 10))
        states.append(listing(known, *chosen, **changes))
    rules(made[data.draw(st.booleans())], VmcsBatch.of(states, states[0]))
