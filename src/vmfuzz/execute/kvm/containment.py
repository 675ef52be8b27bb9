"""What KVM's candidates are kept apart by besides the rules of every executor: addresses without memory.

An address that no memory lies behind is a legal value for the SDM, which knows no memory; a hypervisor has to go and look. What KVM then does
(an internal error, EIO, error 7) says nothing about a check, so such candidates do not take part in the comparison.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final

import numpy as np

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.controls import Pin, Primary, Secondary
from vmfuzz.execute.containment.rules import Containment, Rule
from vmfuzz.execute.containment.view import Mask, View, as_mask
from vmfuzz.execute.wire.abi import constants
from vmfuzz.execute.wire.family import Arena
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

NO_MEMORY: Final = "refused: KVM would look for memory where there is none (docs/kvm.md)"
LONG_LIST: Final = "refused: KVM would go through a VM-exit MSR-store list longer than IA32_VMX_MISC[27:25] recommends"
_PAGE: Final = 0xFFF


class KvmContainment(Containment):
    """The rules, for a virtual machine whose memory is the arena and the region around the known-good host_cr3."""

    def __init__(self, capabilities: Capabilities, known_good: Vmcs, arena: Arena) -> None:
        super().__init__(capabilities, known_good)
        self._arena = arena
        #: whether addresses without memory may run: in sequences at risk "bold"
        self.lets_memory_lack = False

    def _candidates(self, batch: VmcsBatch) -> View:
        """KVM's own rules take columns only."""
        return View(batch)

    @cached_property
    def _rules(self) -> tuple[tuple[str, Rule, Rule], ...]:
        """Those of every executor, then KVM's, which looks for memory before anything fails.

        Poison excuses nothing where the guest would sleep: KVM enters HLT and wait-for-SIPI without the processor's checks (docs/kvm.md).
        """

        def unless_asleep(rule: Rule, remains: Rule) -> Rule:
            return lambda view: np.where(_sleeps(view), rule(view), remains(view))

        common = tuple((words, rule, unless_asleep(rule, remains)) for words, rule, remains in super()._rules)
        return (
            *common,
            (NO_MEMORY, self._no_memory, self._no_memory),
            (LONG_LIST, self._long_store_list, self._long_store_list),
        )

    def _no_memory(self, view: View) -> Mask:
        if self.lets_memory_lack:
            return view.none()
        ept = view.secondary(Secondary.ENABLE_EPT)
        used = {
            "eptp": (ept, _PAGE),
            "apic_access_address": (view.secondary(Secondary.VIRTUALIZE_APIC_ACCESSES), 0),
            "virtual_apic_address": (view.bit("primary_processor_based_controls", Primary.USE_TPR_SHADOW), 0),
            "posted_interrupt_descriptor": (view.bit("pin_based_controls", Pin.PROCESS_POSTED_INTERRUPTS), _PAGE),
            # Linux up to 6.12 at least refuses good link pointers after one like this: docs/kvm.md
            "vmcs_link_pointer": (~view.none(), 0),
        }
        hit = self._no_root(view) | self._no_list(view)
        for name, (active, free) in used.items():
            value = view[name]
            # what is not aligned, or beyond the physical width, fails a check for certain
            legal = as_mask(value & np.uint64(_PAGE & ~free) == 0) & as_mask(value < np.uint64(1 << self._physical_bits))
            hit |= active & legal & ~self._in_memory(value)
        return hit

    def _no_root(self, view: View) -> Mask:
        """Without EPT, KVM reads the guest's own paging structures: the one at CR3, and with PAE paging those of the PDPTEs there."""
        paging = view.bit("guest_cr0", 31) & ~view.secondary(Secondary.ENABLE_EPT)
        cr3 = view["guest_cr3"]
        legal = as_mask(cr3 < np.uint64(1 << self._physical_bits))
        hit = paging & legal & ~self._in_memory(cr3)
        pae = paging & legal & view.bit("guest_cr4", 5) & ~view.bit("vm_entry_controls", 9)
        for table in np.unique(cr3[pae & ~hit] & ~np.uint64(0x1F)):
            here = pae & as_mask(cr3 & ~np.uint64(0x1F) == table)
            for number in range(4):
                entry = view.word(int(table) + 8 * number)
                hit |= here & as_mask(entry & np.uint64(1)) & ~self._in_memory(entry & np.uint64((1 << self._physical_bits) - 1 & ~_PAGE))
        return hit

    def _no_list(self, view: View) -> Mask:
        """An MSR-load list of the entry that does not lie in memory, from its first entry to its last."""
        count, address = view["vm_entry_msr_load_count"], view["vm_entry_msr_load_address"]
        last = address + np.uint64(16) * count - np.uint64(1)
        legal = as_mask(address & np.uint64(15) == 0) & as_mask(last < np.uint64(1 << self._physical_bits)) & as_mask(last >= address)
        return as_mask(count != 0) & legal & ~(self._in_memory(address) & self._in_memory(last))

    def _long_store_list(self, view: View) -> Mask:
        """Before KVM enters, it goes through the VM-exit MSR-store list, and no check bounds how long that is."""
        too_many = view["vm_exit_msr_store_count"] > self._msr_list_maximum
        return as_mask(too_many & self._list_would_be_processed(view, "vm_exit_msr_store"))

    def _in_memory(self, value: np.typing.NDArray[np.uint64]) -> Mask:
        harness = (self._known.get("host_cr3") or 0) & ~0x3FF_FFFF
        places = ((self._arena.base, self._arena.size), (harness, constants()["EMU_BYTES"]))
        return as_mask(np.logical_or.reduce([value - np.uint64(start) < np.uint64(size) for start, size in places]))


def _sleeps(view: View) -> Mask:
    """The rows whose guest enters HLT or wait-for-SIPI."""
    return as_mask(np.isin(view["guest_activity_state"], (1, 3)))
