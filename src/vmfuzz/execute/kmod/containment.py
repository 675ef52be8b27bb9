"""Which candidates the kernel module runs: its predicate (kmod/containment.c) a second time, for whole batches.

The module decides; this one lets the generator and the reports know beforehand. A test compares the two on random candidates. The reasons
are in containment.c. Rules apply in order, the first that refuses a candidate names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.execute.containment.poison import is_poisoned
from vmfuzz.execute.containment.view import Mask, Refusals, View, as_mask
from vmfuzz.execute.kmod.abi import kmod_constants
from vmfuzz.execute.wire.family import Arena
from vmfuzz.state.batch import Column, VmcsBatch
from vmfuzz.state.vmcs import Vmcs

#: What each rule says, by its number in containment.h.
RULES: Final = (
    "not refused",
    "refused: entry to SMM or deactivation of the dual-monitor treatment",
    "refused: a control that the kernel module does not know",
    "refused: host_cr0 would be loaded and is not the host's",
    "refused: host_cr3 would be loaded and is not the host's",
    "refused: host_cr4 would be loaded and is not the host's",
    "refused: a host selector would be loaded and is not the host's",
    "refused: a host base address would be loaded and is not the host's",
    "refused: a host SYSENTER register would be loaded and is not the host's",
    "refused: host_rsp would be loaded and is not the host's",
    "refused: host_rip would be loaded and is not the exit handler",
    "refused: host IA32_PAT would be loaded and is not the host's",
    "refused: host IA32_EFER would be loaded and is not the host's",
    "refused: host IA32_PERF_GLOBAL_CTRL would be loaded and is not the host's",
    "refused: host CET state would be loaded and is not the host's",
    "refused: host IA32_PKRS would be loaded and is not the host's",
    "refused: secondary VM-exit controls",
    "refused: the entry loads an MSR that the exit does not give back",
    "refused: the guest would trace into the host's memory",
    "refused: a VM-exit MSR-store list would be processed",
    "refused: a VM-exit MSR-load list would be processed",
    "refused: a VM-entry MSR-load list would be processed",
    "refused: the guest would run code (neither EPT nor page table stops it)",
    "refused: another EPT than the empty one",
    "refused: an address through which the processor writes is outside the arena",
    "refused: vmcs_link_pointer is outside the arena",
    "refused: the guest would not leave its activity state",
    "refused: the guest would take an interrupt meant for the host",
    "refused: risk level safe needs a VMX-preemption timer of 0, or both EPT and page table where no timer works",
    "refused: EPT or VPID on a processor that cannot invalidate all translations",
)
SAFE: Final = 0
BOLD: Final = 1

_PAGE: Final = np.uint64(0xFFF)
_WALL_BYTES: Final = 2 * 4096
_ALL_ONES: Final = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
#: CPUID.1:EAX, without its reserved bits, of processors whose VMX-preemption timer has an erratum (containment.c names them).
BROKEN_TIMERS: Final = (0x206E6, 0x20652, 0x20655, 0x106E5, 0x106A0, 0x106A1, 0x106A4, 0x106A5, 0x306A8)
_SIGNATURE: Final = 0x0FFF_3FFF
#: Control bits whose effect is thought through, by control word.
_UNDERSTOOD: Final = {"pin": 0xE9, "primary": 0xFBFB9E8C, "secondary": 0xDFFFFFFF, "tertiary": 0x5F, "exit": 0xFFFC9204, "entry": 0x7FEE04}
_SELECTORS: Final = ("es", "cs", "ss", "ds", "fs", "gs", "tr")
_BASES: Final = ("host_fs_base", "host_gs_base", "host_tr_base", "host_gdtr_base", "host_idtr_base")
#: (control word, bit, address field that the processor may write through when it is 1)
_WRITES: Final = (
    ("primary", 21, "virtual_apic_address"),
    ("secondary", 0, "virtual_apic_address"),
    ("secondary", 4, "virtual_apic_address"),
    ("secondary", 8, "virtual_apic_address"),
    ("secondary", 9, "virtual_apic_address"),
    ("tertiary", 4, "virtual_apic_address"),
    ("pin", 7, "virtual_apic_address"),
    ("pin", 7, "posted_interrupt_descriptor"),
    ("secondary", 0, "apic_access_address"),
    ("secondary", 13, "eptp_list_address"),
    ("secondary", 17, "pml_address"),
    ("secondary", 18, "virtualization_exception_information"),
    ("secondary", 23, "sub_page_permission_table_pointer"),
    ("tertiary", 1, "hlat_pointer"),
    ("tertiary", 4, "pid_pointer_table"),
)
#: (entry control, exit control, guest field, host field) of MSRs whose value may also be the host's already
_LEAKS: Final = (
    (13, 12, "guest_ia32_perf_global_ctrl", "host_ia32_perf_global_ctrl"),
    (14, 19, "guest_ia32_pat", "host_ia32_pat"),
    (15, 21, "guest_ia32_efer", "host_ia32_efer"),
    (22, 29, "guest_ia32_pkrs", "host_ia32_pkrs"),
)
#: (entry control, exit control) of those for which only the exit control helps
_LEAKS_ALWAYS: Final = ((16, 23), (18, 25), (19, 27), (20, 28), (21, 26))
#: MSRs that every processor stores at an exit; those of them that hold an address.
_STORED: Final = np.array([0x174, 0x175, 0x176, 0x277, 0xC000_0102], np.uint64)
_ADDRESSES: Final = np.array([0x175, 0x176, 0xC000_0102], np.uint64)
_SYSENTER_CS: Final = np.uint64(0x174)
#: Bits of CR4 that the image's exit handler survives: 28:0 without LA57.
_CR4_SURVIVED: Final = np.uint64(0x1FFF_EFFF)
#: Bits of IA32_S_CET that are reserved.
_S_CET_RESERVED: Final = np.uint64(0x3C0)
#: MSRs that exits load or the module gives back whatever the controls say; PAT and EFER only where the exit loads the host's.
_GIVEN_BACK: Final = np.array([0x174, 0x175, 0x176, 0xC000_0102], np.uint64)
_PAT: Final = np.uint64(0x277)
_EFER: Final = np.uint64(0xC000_0080)
_EPT_VPID_CAP: Final = 0x48C
#: The MSR lists, by what the names of their fields begin with.
_STORE_LIST: Final = "vm_exit_msr_store"
_LOAD_LIST: Final = "vm_exit_msr_load"
_ENTRY_LIST: Final = "vm_entry_msr_load"


def features(capabilities: Capabilities) -> int:
    """What the rules may count on: VMFUZZ_HAS_TIMER, VMFUZZ_HAS_INVEPT and VMFUZZ_HAS_INVVPID of containment.h, or'ed."""
    constants = kmod_constants()
    signature = capabilities.cpuid.get((1, 0), (0, 0, 0, 0))[0] & _SIGNATURE
    types = capabilities.msrs.get(_EPT_VPID_CAP, 0)
    found = constants["HAS_TIMER"] * (capabilities.preemption_timer and signature not in BROKEN_TIMERS)
    found |= constants["HAS_INVEPT"] * (types >> 20 & types >> 26 & 1)
    return found | constants["HAS_INVVPID"] * (types >> 32 & types >> 42 & 1)


def _bad_memory_type(pat: Column) -> Mask:
    """Values of IA32_PAT with a type that there is not."""
    hit = np.zeros(len(pat), np.bool_)
    for shift in range(0, 64, 8):
        kind = pat >> np.uint64(shift) & np.uint64(0xFF)
        hit |= as_mask(kind > 7) | as_mask(kind == 2) | as_mask(kind == 3)
    return hit


class KmodContainment:
    """The module's rules for one processor, relative to the VMCS that it captured.

    `virtual`: the machine is a virtual one that nobody else uses, and may be reset (limits.virtual; at BOLD only).
    """

    def __init__(
        self, capabilities: Capabilities, known_good: Vmcs, arena: Arena, risk: int = SAFE, poison: bool = False, virtual: bool = False
    ) -> None:
        self._poison = poison
        self._virtual = virtual and risk == BOLD
        self._capabilities = capabilities
        self._known = known_good
        self._arena = arena
        self._bold = risk == BOLD
        found, constants = features(capabilities), kmod_constants()
        self._has_timer = bool(found & constants["HAS_TIMER"])
        self._has_invept = bool(found & constants["HAS_INVEPT"])
        self._has_invvpid = bool(found & constants["HAS_INVVPID"])
        self._list_most = constants["LIST_MOST"]
        self._physical_bits = np.uint64(capabilities.physical_address_width)
        self._linear_shift = np.int64(64 - capabilities.linear_address_width)

    def refused(self, batch: VmcsBatch) -> Refusals:
        """Apply every rule to every candidate; `rule` is -1 where none refuses, else an index in RULES."""
        rule = np.full(len(batch), -1, np.int32)
        view = View(batch)
        for number, hit in self._rules(view):
            rule[hit & (rule < 0)] = number
        return Refusals(rule, RULES)

    def _rules(self, view: View) -> Iterator[tuple[int, Mask]]:
        entry = view["vm_entry_controls"]
        yield 1, as_mask(entry & np.uint64(3 << 10))
        yield 2, self._unknown_control(view)
        yield 16, self._secondary_exit(view)
        yield from self._host_registers(view)
        yield from self._host_msrs(view)
        yield 17, self._leaks(view)
        traced = view.bit("vm_entry_controls", 18) & view.bit("guest_ia32_rtit_ctl", 0)
        yield 18, traced | view.bit("vm_entry_controls", 2) & as_mask(view["guest_ia32_debugctl"] & np.uint64(0x1C0))
        yield from self._memory(view)
        yield from self._guest(view)

    def _changed(self, view: View, name: str) -> Mask:
        return as_mask(view[name] != np.uint64(self._known.get(name) or 0))

    def _canonical(self, value: Column) -> Mask:
        signed = value.astype(np.int64)
        return as_mask(signed << self._linear_shift >> self._linear_shift == signed)

    def _too_wide(self, value: Column) -> Mask:
        return as_mask(value >> self._physical_bits)

    def _unknown_control(self, view: View) -> Mask:
        hit = view.none()
        for key, understood in _UNDERSTOOD.items():
            must, may = self._capabilities.allowed_settings(key)
            hit |= as_mask(view[CONTROL_WORDS[key].field] & np.uint64(may & ~must & ~understood))
        return hit

    def _secondary_exit(self, view: View) -> Mask:
        if not self._capabilities.allowed_settings("exit")[1] >> 31 & 1:
            return view.none()
        return view.bit("vm_exit_controls", 31) & as_mask(view["secondary_vm_exit_controls"])

    def _host_cr3(self, view: View) -> Mask:
        lam = np.uint64(3 << 61)
        return self._changed(view, "host_cr3") & ~self._too_wide(view["host_cr3"] & ~lam)

    def _host_rip(self, view: View) -> Mask:
        return self._changed(view, "host_rip") & self._canonical(view["host_rip"])

    def _host_registers_virtual(self, view: View) -> Iterator[tuple[int, Mask]]:
        """All but what takes away the exit handler's code or page tables."""
        must, may = (np.uint64(bits) for bits in self._capabilities.cr4_fixed)
        cr4 = view["host_cr4"]
        yield 4, self._host_cr3(view)
        lost = as_mask((cr4 ^ np.uint64(self._known.get("host_cr4") or 0)) & ~_CR4_SURVIVED)
        yield 5, lost & ~as_mask(must & ~cr4) & ~as_mask(cr4 & ~may)
        yield 10, self._host_rip(view)

    def _host_registers(self, view: View) -> Iterator[tuple[int, Mask]]:
        if self._virtual:
            yield from self._host_registers_virtual(view)
            return
        for number, name, fixed in ((3, "host_cr0", self._capabilities.cr0_fixed), (5, "host_cr4", self._capabilities.cr4_fixed)):
            value = view[name]
            fails = as_mask(np.uint64(fixed[0]) & ~value) | as_mask(value & ~np.uint64(fixed[1]))
            if number == 5:  # in the order of numbers
                yield 4, self._host_cr3(view)
            yield number, self._changed(view, name) & ~fails
        for register in _SELECTORS:
            name = f"host_{register}_selector"
            fails = as_mask(view[name] & np.uint64(7))
            if register in ("cs", "tr"):
                fails |= as_mask(view[name] == 0)
            yield 6, self._changed(view, name) & ~fails
        for name in _BASES:
            yield 7, self._changed(view, name) & self._canonical(view[name])
        yield 8, self._changed(view, "host_ia32_sysenter_cs")
        for name in ("host_ia32_sysenter_esp", "host_ia32_sysenter_eip"):
            yield 8, self._changed(view, name) & self._canonical(view[name])
        yield 9, self._changed(view, "host_rsp")
        yield 10, self._host_rip(view)

    def _plain_host_msrs(self, view: View) -> Iterator[tuple[int, Mask]]:
        """Those that the exit handler survives, and the driver gives back."""
        efer = view["host_ia32_efer"]
        bad_efer = as_mask(efer & ~np.uint64(0xD01)) | as_mask(efer & np.uint64(0x500) != 0x500)
        yield 11, view.bit("vm_exit_controls", 19) & self._changed(view, "host_ia32_pat") & ~_bad_memory_type(view["host_ia32_pat"])
        yield 12, view.bit("vm_exit_controls", 21) & self._changed(view, "host_ia32_efer") & ~bad_efer
        reserved = as_mask(view["host_ia32_perf_global_ctrl"] >> np.uint64(49))
        yield 13, view.bit("vm_exit_controls", 12) & self._changed(view, "host_ia32_perf_global_ctrl") & ~(self._poisoned(view) & reserved)

    def _host_msrs(self, view: View) -> Iterator[tuple[int, Mask]]:
        if not self._virtual:
            yield from self._plain_host_msrs(view)
        cet = [self._changed(view, name) for name in ("host_ia32_s_cet", "host_ssp", "host_ia32_interrupt_ssp_table_addr")]
        pkrs, poisoned = view["host_ia32_pkrs"], self._poisoned(view)
        yield 14, view.bit("vm_exit_controls", 28) & (cet[0] | cet[1] | cet[2]) & ~(poisoned & self._idle_cet(view))
        yield 15, view.bit("vm_exit_controls", 29) & self._changed(view, "host_ia32_pkrs") & ~as_mask(pkrs >> np.uint64(32))

    def _poisoned(self, view: View) -> Mask:
        """Rows in which RFLAGS excuses what docs/bare-metal.md lists: none where the executor was not opened for that."""
        return is_poisoned(view) if self._poison else view.none()

    def _idle_cet(self, view: View) -> Mask:
        """Each CET value that is not the host's fails for certain, and would do nothing if it were loaded."""
        s_cet, ssp, table = (view[name] for name in ("host_ia32_s_cet", "host_ssp", "host_ia32_interrupt_ssp_table_addr"))
        meaning = as_mask((s_cet ^ np.uint64(self._known.get("host_ia32_s_cet") or 0)) & ~_S_CET_RESERVED)
        return (
            ~meaning
            & (~self._changed(view, "host_ia32_s_cet") | as_mask(s_cet & _S_CET_RESERVED))
            & (~self._changed(view, "host_ssp") | as_mask(ssp & np.uint64(3)))
            & (~self._changed(view, "host_ia32_interrupt_ssp_table_addr") | ~self._canonical(table))
        )

    def _given_back(self, view: View, msr: Column) -> Mask:
        """MSRs that come back with their value, should a processor load them all the same."""
        pat = view.bit("vm_exit_controls", 19) & ~self._changed(view, "host_ia32_pat")
        efer = view.bit("vm_exit_controls", 21) & ~self._changed(view, "host_ia32_efer")
        return np.isin(msr, _GIVEN_BACK) | as_mask(msr == _PAT) & pat | as_mask(msr == _EFER) & efer

    def _exit_takes(self, msr: Column, value: Column) -> Mask:
        """MSRs that every processor reads, and loads with this value: what an exit cannot store or load shuts the processor down."""
        return np.isin(msr, _STORED) & ~(
            as_mask(msr == _SYSENTER_CS) & as_mask(value >> np.uint64(16))
            | np.isin(msr, _ADDRESSES) & ~self._canonical(value)
            | as_mask(msr == _PAT) & _bad_memory_type(value)
        )

    def _entry_is_harmless(self, view: View, area: str, word: Column, value: Column) -> Mask:
        """One entry of a list, by its two words."""
        if area == _ENTRY_LIST:
            return ~view.none() if self._virtual else self._given_back(view, word & np.uint64(0xFFFF_FFFF))
        return self._exit_takes(word, value if area == _LOAD_LIST else np.zeros_like(value))

    def _harmless_list(self, view: View, area: str) -> Mask:
        """Whether an MSR list is short, lies in the arena and not in its walls, and does only what comes back."""
        count, address = view[f"{area}_count"], view[f"{area}_address"]
        harmless = as_mask(count <= np.uint64(self._list_most)) & ~as_mask(address & np.uint64(15))
        words: dict[int, Column | np.uint64] = {at: np.uint64(word) for at, word in view.batch.base.memory.items()}
        words |= view.batch.memory_columns
        for number in range(self._list_most):
            entry = address + np.uint64(16 * number)
            msr, value = np.zeros(len(entry), np.uint64), np.zeros(len(entry), np.uint64)
            for at, word in words.items():
                msr = np.where(entry == np.uint64(at), word, msr)
                value = np.where(entry + np.uint64(8) == np.uint64(at), word, value)
            good = self._harmless(entry) & ~self._too_wide(entry) & self._entry_is_harmless(view, area, msr, value)
            harmless &= good | as_mask(count <= np.uint64(number))
        return harmless

    def _leaks(self, view: View) -> Mask:
        hit = view.none()
        for loads, gives_back, guest, host in _LEAKS:
            differs = as_mask(view[guest] != np.uint64(self._known.get(host) or 0))
            hit |= view.bit("vm_entry_controls", loads) & ~view.bit("vm_exit_controls", gives_back) & differs
        for loads, gives_back in _LEAKS_ALWAYS:
            hit |= view.bit("vm_entry_controls", loads) & ~view.bit("vm_exit_controls", gives_back)
        return hit

    def _harmless(self, address: Column) -> Mask:
        start = np.uint64(self._arena.base + _WALL_BYTES)
        return self._too_wide(address) | as_mask(address - start <= np.uint64(self._arena.size - _WALL_BYTES - 4096))

    def _memory(self, view: View) -> Iterator[tuple[int, Mask]]:
        for number, area in ((19, _STORE_LIST), (20, _LOAD_LIST), (21, _ENTRY_LIST)):
            address = view[f"{area}_address"]
            fails = as_mask(address & np.uint64(15)) | self._too_wide(address)
            hit = as_mask(view[f"{area}_count"]) & ~fails
            excused = ~view.none() if self._virtual else self._poisoned(view) if area == _ENTRY_LIST else view.none()
            yield number, hit & ~(excused & self._harmless_list(view, area)) if (hit & excused).any() else hit
        ept, vpid = view.bit("secondary_processor_based_controls", 1), view.bit("secondary_processor_based_controls", 5)
        if not self._has_invept:
            yield 29, ept
        if not self._has_invvpid:
            yield 29, vpid
        intact = ~self._changed_page(view, "eptp") & self._untouched(view, 1)
        yield 23, ept & ~self._too_wide(view["eptp"]) & ~intact
        hit = view.none()
        for word, bit, name in _WRITES:
            hit |= view.bit(CONTROL_WORDS[word].field, bit) & ~self._harmless(view[name])
        yield 24, hit
        link = view["vmcs_link_pointer"]
        yield 25, as_mask(link != _ALL_ONES) & ~self._harmless(link)

    def _changed_page(self, view: View, name: str) -> Mask:
        return as_mask((view[name] ^ np.uint64(self._known.get(name) or 0)) & ~_PAGE)

    def _untouched(self, view: View, page: int) -> Mask:
        """Whether the request puts no word into a page of the arena: the same for all candidates."""
        start = self._arena.base + page * 4096
        words = (*view.batch.base.memory, *view.batch.memory_columns)
        return ~view.none() if not any(start <= word < start + 4096 for word in words) else view.none()

    def _guest(self, view: View) -> Iterator[tuple[int, Mask]]:
        cannot_enter = ~view.bit("guest_rflags", 1)
        timer = view.bit("pin_based_controls", 6) & ~as_mask(view["vmx_preemption_timer_value"])
        if not self._has_timer:
            timer = view.none()
        ept = view.secondary(1) & ~self._changed_page(view, "eptp") & self._untouched(view, 1)
        paging = view.bit("guest_cr0", 31) & view.bit("guest_cr0", 0) & ~view.bit("tertiary_processor_based_controls", 1)
        paging = paging & ~self._changed_page(view, "guest_cr3") & self._untouched(view, 0)
        yield 22, ~ept & ~paging
        activity = view["guest_activity_state"]
        never = as_mask(activity == 2) | as_mask(activity == 3)
        yield 26, never & ~(self._poisoned(view) & timer) | as_mask(activity == 1) & ~timer
        notified = as_mask(view["posted_interrupt_notification_vector"] & np.uint64(0xFF) >= 32)
        yield 27, ~cannot_enter & view.bit("pin_based_controls", 7) & notified
        taken = ~view.bit("pin_based_controls", 0) | ~view.bit("pin_based_controls", 3) | view.bit("vm_exit_controls", 15)
        yield 27, ~cannot_enter & ~timer & taken
        if not self._bold:
            yield 28, ~cannot_enter & ~timer & (~(ept & paging) | self._has_timer)
