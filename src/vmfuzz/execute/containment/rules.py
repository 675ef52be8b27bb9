"""Which candidates may run: an accepted one must exit before it executes, and the host must survive its exit.

A candidate is refused when some processor that accepts it would run guest code, never exit, or load host state
with which the exit handler cannot go on. A candidate whose dangerous value fails a check is harmless where that
failure is certain; where it is not certain, it is refused. The rules read fields and capabilities only, never
the model of the checks.

A poisoned candidate (poison.py) fails for certain too, after the control and host checks and before the guest is there. But that failure
loads host state and processes the VM-exit MSR-load list as an exit does: each rule says what of it remains.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Final

import numpy as np

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.registers import APIC_BASE, IA32_APIC_BASE
from vmfuzz.execute.containment.poison import is_poisoned
from vmfuzz.execute.containment.view import Mask, Refusals, View, as_mask
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

_PAGE: Final = 0xFFF
#: Fields through which the processor writes to memory, or finds more addresses to write to.
_WRITES_THROUGH: Final = (
    "virtual_apic_address",
    "apic_access_address",
    "posted_interrupt_descriptor",
    "pml_address",
    "virtualization_exception_information",
    "eptp",
    "eptp_list_address",
    "hlat_pointer",
    "pid_pointer_table",
    "sub_page_permission_table_pointer",
)


Rule = Callable[[View], Mask]


class Containment:
    """The rules for one processor, relative to its known-good VMCS, which is contained."""

    def __init__(self, capabilities: Capabilities, known_good: Vmcs) -> None:
        self._known = known_good
        self._physical_bits = capabilities.physical_address_width
        self._linear_bits = capabilities.linear_address_width
        self._msr_list_maximum = capabilities.msr_list_maximum
        self._wait_for_sipi = bool(capabilities.activity_states >> 3 & 1)

    def refused(self, batch: VmcsBatch) -> Refusals:
        """Apply every rule to every candidate."""
        rule = np.full(len(batch), -1, np.int32)
        view = View(batch)
        fails = is_poisoned(view)
        for number, (_, applies, remains) in enumerate(self._rules):
            hit = applies(view)
            if fails.any():
                hit = np.where(fails, remains(view), hit)
            rule[hit & (rule < 0)] = number
        return Refusals(rule, tuple(words for words, _, _ in self._rules))

    @cached_property
    def _rules(self) -> tuple[tuple[str, Rule, Rule], ...]:
        """(what it says, what it refuses, what of that where the candidate is poisoned): a failed entry reaches no guest, but leads to the host."""

        def nothing(view: View) -> Mask:
            return view.none()

        return (
            ("refused: host_rip would be loaded and is not the exit handler", self._host_rip, self._host_rip),
            ("refused: host_cr3 would be loaded and does not map the exit handler", self._host_cr3, self._host_cr3),
            ("refused: host CET state would stop the exit handler", self._host_cet, self._host_cet),
            ("refused: host IA32_PKRS would take away the exit handler's data", self._host_pkrs, self._host_pkrs),
            ("refused: a VM-exit MSR-store list would be processed", self._msr_store, nothing),
            ("refused: a VM-exit MSR-load list would be processed", self._msr_load, self._msr_load),
            ("refused: the MSR-load list is longer than IA32_VMX_MISC[27:25] recommends", self._msr_count, nothing),
            ("refused: the guest would run code (no timer, EPT or page table stops it)", self._guest_runs, nothing),
            ("refused: the guest would not leave its activity state", self._guest_sleeps, nothing),
            ("refused: an MSR-load entry would take the local APIC out of the x2APIC mode of its batch", self._disables_apic, nothing),
            # what is written there nobody would notice
            ("refused: an address points into the harness", self._into_harness, self._into_harness),
        )

    def _host_rip(self, view: View) -> Mask:
        if view.is_known("host_rip", self._known):
            return view.none()
        value = view["host_rip"]
        signed = value.astype(np.int64) >> (self._linear_bits - 1)
        canonical = (signed == 0) | (signed == -1)
        return as_mask(canonical & (value != np.uint64(self._known.get("host_rip") or 0)))

    def _host_cr3(self, view: View) -> Mask:
        """LAM bits (61, 62) may be loaded and do not matter; other bits beyond the physical width cannot be."""
        if view.is_known("host_cr3", self._known) and view.is_known("host_cr4", self._known):
            return view.none()
        value, known = view["host_cr3"], self._known.get("host_cr3") or 0
        below = np.uint64((1 << self._physical_bits) - 1)
        too_wide = (value & ~np.uint64(3 << 61)) > below
        moved = (value & below & ~np.uint64(_PAGE)) != np.uint64(known & ((1 << self._physical_bits) - 1) & ~_PAGE)
        return as_mask(moved & ~too_wide)

    def _host_cet(self, view: View) -> Mask:
        """CET on in the host: by the field, or by guest state of any row that no exit takes back."""
        cet = view.bit("host_cr4", 23)
        if not cet.any():
            return view.none()
        loads = view.bit("vm_exit_controls", 28)
        from_field = loads & (view["host_ia32_s_cet"] != 0)
        left = view.bit("vm_entry_controls", 20) & ~loads & (view["guest_ia32_s_cet"] != 0) & ~is_poisoned(view)
        return as_mask(cet & (from_field | ~loads & left.any()))

    def _host_pkrs(self, view: View) -> Mask:
        pks = view.bit("host_cr4", 24)
        if not pks.any():
            return view.none()
        loads = view.bit("vm_exit_controls", 29)
        from_field = loads & (view["host_ia32_pkrs"] & np.uint64(3) != 0)
        left = view.bit("vm_entry_controls", 22) & ~loads & (view["guest_ia32_pkrs"] & np.uint64(3) != 0) & ~is_poisoned(view)
        return as_mask(pks & (from_field | ~loads & left.any()))

    def _msr_store(self, view: View) -> Mask:
        return self._list_would_be_processed(view, "vm_exit_msr_store")

    def _msr_load(self, view: View) -> Mask:
        return self._list_would_be_processed(view, "vm_exit_msr_load")

    def _msr_count(self, view: View) -> Mask:
        too_many = as_mask(view["vm_entry_msr_load_count"] > np.uint64(self._msr_list_maximum))
        return too_many & self._list_would_be_processed(view, "vm_entry_msr_load")

    def _list_would_be_processed(self, view: View, area: str) -> Mask:
        """The list is not empty and nothing about its address fails the entry for certain.

        Counts from 2^28 on are taken as processed: 16 times the count does not fit 32 bits, and a processor may get its end wrong.
        """
        count, address = view[f"{area}_count"], view[f"{area}_address"]
        limit = np.uint64(1 << self._physical_bits)
        fails = as_mask(address & np.uint64(15) != 0) | as_mask(address >= limit)
        ends_beyond = as_mask(address < limit) & as_mask(address + count * np.uint64(16) > limit)
        return as_mask(count != 0) & ~(fails | ends_beyond & as_mask(count < np.uint64(1 << 28)))

    def _disables_apic(self, view: View) -> Mask:
        """Where x2APIC mode counts, an entry that disables the APIC, the one way out of that mode: the candidates behind it would meet another."""
        hit = view.none()
        if not view.batch.base["live_x2apic_mode"]:
            return hit
        words = {*view.batch.base.memory, *view.batch.memory_columns}
        for address in words:
            names_it = view.word(address) & np.uint64(0xFFFF_FFFF) == np.uint64(IA32_APIC_BASE)
            hit |= as_mask(names_it) & as_mask(view.word(address + 8) & np.uint64(1 << APIC_BASE.EN | 1 << APIC_BASE.EXTD) == 0)
        return hit & as_mask(view["vm_entry_msr_load_count"] != 0)

    def _guest_runs(self, view: View) -> Mask:
        timer = view.bit("pin_based_controls", 6) & (view["vmx_preemption_timer_value"] == 0)
        ept = view.secondary(1) & (view["eptp"] & ~np.uint64(_PAGE) == np.uint64((self._known.get("eptp") or 0) & ~_PAGE))
        cr3 = (self._known.get("guest_cr3") or 0) & ~_PAGE
        paging = view.bit("guest_cr0", 31) & (view["guest_cr3"] & ~np.uint64(_PAGE) == np.uint64(cr3))
        # Words that a candidate puts in these pages could map something.
        walls = [timer]
        if not _describes(view.batch, self._known.get("eptp") or 0):
            walls.append(as_mask(ept))
        if not _describes(view.batch, cr3):
            walls.append(as_mask(paging))
        return as_mask(~np.logical_or.reduce(walls))

    def _guest_sleeps(self, view: View) -> Mask:
        activity = view["guest_activity_state"]
        timer = view.bit("pin_based_controls", 6) & (view["vmx_preemption_timer_value"] == 0)
        waits = (activity == 1) | (activity == 2)
        # Also with an injected event, which fails the entry: such rows have hung the emulated CPU now and then.
        sipi = activity == 3
        return as_mask(waits & ~timer | (sipi if self._wait_for_sipi else view.none()))

    def _into_harness(self, view: View) -> Mask:
        """All memory of the harness lies in the 128 MiB around the known-good host_cr3."""
        start = (self._known.get("host_cr3") or 0) & ~0x3FF_FFFF
        hit = view.none()
        for name in _WRITES_THROUGH:
            if not view.is_known(name, self._known):
                hit |= as_mask(view[name] - np.uint64(start) < np.uint64(0x800_0000))
        return hit


def _describes(batch: VmcsBatch, address: int) -> bool:
    """Whether a candidate puts anything into the page at `address`."""
    page = address & ~_PAGE
    return any(word & ~_PAGE == page for word in (*batch.base.memory, *batch.memory_columns))
