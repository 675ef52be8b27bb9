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
from vmfuzz.state.vmcs import Vmcs

NO_MEMORY: Final = "refused: KVM would look for memory where there is none (docs/kvm.md)"
_PAGE: Final = 0xFFF


class KvmContainment(Containment):
    """The rules, for a virtual machine whose memory is the arena and the region around the known-good host_cr3."""

    def __init__(self, capabilities: Capabilities, known_good: Vmcs, arena: Arena) -> None:
        super().__init__(capabilities, known_good)
        self._arena = arena
        #: whether addresses without memory may run: in sequences at risk "bold"
        self.lets_memory_lack = False

    @cached_property
    def _rules(self) -> tuple[tuple[str, Rule, Rule], ...]:
        """Those of every executor, then KVM's, which looks for memory before anything fails.

        Poison excuses nothing where the guest would sleep: KVM enters HLT and wait-for-SIPI without the processor's checks (docs/kvm.md).
        """

        def unless_asleep(rule: Rule, remains: Rule) -> Rule:
            return lambda view: np.where(_sleeps(view), rule(view), remains(view))

        common = tuple((words, rule, unless_asleep(rule, remains)) for words, rule, remains in super()._rules)
        return (*common, (NO_MEMORY, self._no_memory, self._no_memory))

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
        hit = view.none()
        for name, (active, free) in used.items():
            value = view[name]
            # what is not aligned, or beyond the physical width, fails a check for certain
            legal = as_mask(value & np.uint64(_PAGE & ~free) == 0) & as_mask(value < np.uint64(1 << self._physical_bits))
            hit |= active & legal & ~self._in_memory(value)
        return hit

    def _in_memory(self, value: np.typing.NDArray[np.uint64]) -> Mask:
        harness = (self._known.get("host_cr3") or 0) & ~0x3FF_FFFF
        places = ((self._arena.base, self._arena.size), (harness, constants()["EMU_BYTES"]))
        return as_mask(np.logical_or.reduce([value - np.uint64(start) < np.uint64(size) for start, size in places]))


def _sleeps(view: View) -> Mask:
    """The rows whose guest enters HLT or wait-for-SIPI."""
    return as_mask(np.isin(view["guest_activity_state"], (1, 3)))
