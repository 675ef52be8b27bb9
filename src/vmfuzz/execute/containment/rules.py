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
from functools import cached_property, reduce
from operator import or_
from typing import TYPE_CHECKING, Any, Final

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.registers import APIC_BASE, IA32_APIC_BASE
from vmfuzz.execute.containment.candidates import ALL_ONES, Candidates, Single, does_not_hold
from vmfuzz.execute.containment.poison import is_poisoned
from vmfuzz.state.vmcs import Vmcs

if TYPE_CHECKING:
    from vmfuzz.execute.containment.view import Refusals
    from vmfuzz.state.batch import VmcsBatch

_PAGE: Final = 0xFFF
#: The bits of an address that say which page.
_PAGE_NUMBER: Final = ALL_ONES ^ _PAGE
#: Bits 61 and 62 of CR3 (LAM).
_LAM: Final = 3 << 61
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


#: Which candidates a rule refuses.
Rule = Callable[[Any], Any]


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
        import numpy as np  # not before there are columns: see `refusal`

        from vmfuzz.execute.containment.view import Refusals

        rule = np.full(len(batch), -1, np.int32)
        view = self._candidates(batch)
        fails = is_poisoned(view)
        some_fail = view.any(fails)
        for number, (_, applies, remains) in enumerate(self._rules):
            hit = applies(view)
            if some_fail:
                hit = np.where(fails, remains(view), hit)
            if view.any(hit):
                rule[hit & (rule < 0)] = number
        return Refusals(rule, tuple(words for words, _, _ in self._rules))

    def _candidates(self, batch: VmcsBatch) -> Candidates:
        """The batch as the rules see it."""
        from vmfuzz.execute.containment.view import Folded

        return Folded(batch)

    def refusal(self, candidate: Vmcs) -> str | None:
        """What the first rule says that refuses a single candidate; None where it may run. Needs no numpy, nor may a subclass's rules."""
        one = Single(candidate)
        fails = is_poisoned(one)
        return next((words for words, applies, remains in self._rules if (remains if fails else applies)(one)), None)

    @cached_property
    def _rules(self) -> tuple[tuple[str, Rule, Rule], ...]:
        """(what it says, what it refuses, what of that where the candidate is poisoned): a failed entry reaches no guest, but leads to the host."""

        def nothing(view: Candidates) -> Any:
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

    def _host_rip(self, view: Candidates) -> Any:
        if view.is_known("host_rip", self._known):
            return view.none()
        value = view["host_rip"]
        upper = value >> (self._linear_bits - 1)
        canonical = (upper == 0) | (upper == ALL_ONES >> (self._linear_bits - 1))
        return canonical & (value != (self._known.get("host_rip") or 0))

    def _host_cr3(self, view: Candidates) -> Any:
        """LAM bits (61, 62) may be loaded and do not matter; other bits beyond the physical width cannot be."""
        if view.is_known("host_cr3", self._known) and view.is_known("host_cr4", self._known):
            return view.none()
        value, known = view["host_cr3"], self._known.get("host_cr3") or 0
        below = (1 << self._physical_bits) - 1
        fits = (value & (ALL_ONES ^ _LAM)) <= below
        return fits & (value & below & _PAGE_NUMBER != known & below & _PAGE_NUMBER)

    def _host_cet(self, view: Candidates) -> Any:
        """CET on in the host: by the field, or by guest state of any row that no exit takes back."""
        cet = view.bit("host_cr4", 23)
        if not view.any(cet):
            return view.none()
        loads = view.bit("vm_exit_controls", 28)
        from_field = loads & (view["host_ia32_s_cet"] != 0)
        stays = does_not_hold(loads)
        left = view.bit("vm_entry_controls", 20) & stays & (view["guest_ia32_s_cet"] != 0) & does_not_hold(is_poisoned(view))
        return cet & (from_field | stays & view.any(left))

    def _host_pkrs(self, view: Candidates) -> Any:
        pks = view.bit("host_cr4", 24)
        if not view.any(pks):
            return view.none()
        loads = view.bit("vm_exit_controls", 29)
        stays = does_not_hold(loads)
        from_field = loads & (view["host_ia32_pkrs"] & 3 != 0)
        left = view.bit("vm_entry_controls", 22) & stays & (view["guest_ia32_pkrs"] & 3 != 0) & does_not_hold(is_poisoned(view))
        return pks & (from_field | stays & view.any(left))

    def _msr_store(self, view: Candidates) -> Any:
        return self._list_would_be_processed(view, "vm_exit_msr_store")

    def _msr_load(self, view: Candidates) -> Any:
        return self._list_would_be_processed(view, "vm_exit_msr_load")

    def _msr_count(self, view: Candidates) -> Any:
        too_many = view["vm_entry_msr_load_count"] > self._msr_list_maximum
        return too_many & self._list_would_be_processed(view, "vm_entry_msr_load")

    def _list_would_be_processed(self, view: Candidates, area: str) -> Any:
        """The list is not empty and nothing about its address fails the entry for certain.

        Counts from 2^28 on are taken as processed: 16 times the count does not fit 32 bits, and a processor may get its end wrong.
        """
        count, address = view[f"{area}_count"], view[f"{area}_address"]
        limit = 1 << self._physical_bits
        fails = (address & 15 != 0) | (address >= limit)
        ends_beyond = (address < limit) & (address + count * 16 > limit)
        return (count != 0) & does_not_hold(fails | ends_beyond & (count < 1 << 28))

    def _disables_apic(self, view: Candidates) -> Any:
        """Where x2APIC mode counts, an entry that disables the APIC, the one way out of that mode: the candidates behind it would meet another."""
        hit = view.none()
        if not view.condition("live_x2apic_mode"):
            return hit
        for address in view.addresses():
            names_it = view.word(address) & 0xFFFF_FFFF == IA32_APIC_BASE
            hit = hit | names_it & (view.word(address + 8) & (1 << APIC_BASE.EN | 1 << APIC_BASE.EXTD) == 0)
        return hit & (view["vm_entry_msr_load_count"] != 0)

    def _guest_runs(self, view: Candidates) -> Any:
        timer = view.bit("pin_based_controls", 6) & (view["vmx_preemption_timer_value"] == 0)
        eptp, cr3 = ((self._known.get(name) or 0) & _PAGE_NUMBER for name in ("eptp", "guest_cr3"))
        ept = view.secondary(1) & (view["eptp"] & _PAGE_NUMBER == eptp)
        paging = view.bit("guest_cr0", 31) & (view["guest_cr3"] & _PAGE_NUMBER == cr3)
        # Words that a candidate puts in these pages could map something.
        walls = [timer]
        described = {address & _PAGE_NUMBER for address in view.addresses()}
        if eptp not in described:
            walls.append(ept)
        if cr3 not in described:
            walls.append(paging)
        return does_not_hold(reduce(or_, walls))

    def _guest_sleeps(self, view: Candidates) -> Any:
        activity = view["guest_activity_state"]
        timer = view.bit("pin_based_controls", 6) & (view["vmx_preemption_timer_value"] == 0)
        waits = (activity == 1) | (activity == 2)
        # Also with an injected event, which fails the entry: such rows have hung the emulated CPU now and then.
        sipi = activity == 3
        return waits & does_not_hold(timer) | (sipi if self._wait_for_sipi else view.none())

    def _into_harness(self, view: Candidates) -> Any:
        """All memory of the harness lies in the 128 MiB around the known-good host_cr3."""
        start = (self._known.get("host_cr3") or 0) & ~0x3FF_FFFF
        hit = view.none()
        for name in _WRITES_THROUGH:
            if not view.is_known(name, self._known):
                hit = hit | (view[name] - start & ALL_ONES < 0x800_0000)
        return hit
