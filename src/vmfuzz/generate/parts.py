"""The parts that known-good states are composed of: modes, and features on top of them (events: generate/events.py).

Each part is a function of a state and the capabilities that returns the changed state, or None where the processor lacks what it needs. The fields
that exist are those of the captured state: VMWRITE took them there.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.controls import Control, Entry, Exit, Pin, Primary, Secondary, VmFunction, word_of
from vmfuzz.arch.registers import CR0, CR4, RFLAGS
from vmfuzz.generate.events import Part
from vmfuzz.model.checks.wrmsr import IA32_EFER, IA32_KERNEL_GS_BASE, IA32_PAT
from vmfuzz.state.vmcs import Vmcs

_DATA_SEGMENTS: Final = ("ss", "ds", "es", "fs", "gs")
_SIX: Final = ("cs", *_DATA_SEGMENTS)
#: Pages of the executor's arena, counted from that of I/O bitmap A on, that no captured field points to.
_LINK_PAGE: Final = 15
_PDPT_PAGE: Final = 16


def _page(vmcs: Vmcs, number: int) -> int:
    return (vmcs["io_bitmap_a"] & ~0xFFF) + number * 4096


def set_controls(vmcs: Vmcs, caps: Capabilities, *controls: Control, on: bool = True) -> Vmcs | None:
    """The state with these controls (and those that activate their words) at 1, or at 0; None if one may not be so, or has no field."""
    values: dict[str, int] = {}
    for control in controls:
        word = word_of(control)
        if word.field not in vmcs or (not caps.may_be_1(control) if on else caps.must_be_1(control)):
            return None
        current = values.get(word.field, vmcs.get(word.field) or 0)
        values[word.field] = current | 1 << control if on else current & ~(1 << control)
        if on and word.activated_by is not None:
            activated = set_controls(vmcs.replace(**values), caps, word.activated_by)
            if activated is None:
                return None
            values[word_of(word.activated_by).field] = activated[word_of(word.activated_by).field]
    return vmcs.replace(**values)


def _with_allowed(vmcs: Vmcs, caps: Capabilities, *controls: Control) -> Vmcs:
    """The state with those of the controls at 1 that may be 1."""
    for control in controls:
        vmcs = set_controls(vmcs, caps, control) or vmcs
    return vmcs


# Modes


def _captured(vmcs: Vmcs, _caps: Capabilities) -> Vmcs:
    return vmcs


def _without(cr4: int, *bits: CR4) -> int:
    """CR4 with these bits at 0."""
    return cr4 & ~sum(1 << bit for bit in bits)


def _compatibility(vmcs: Vmcs, _caps: Capabilities) -> Vmcs:
    # with FRED there is no compatibility mode at CPL 0
    return vmcs.replace(guest_cs_access_rights=0xC09B, guest_cr4=_without(vmcs["guest_cr4"], CR4.FRED))


def _legacy(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    """Outside IA-32e mode: 32-bit code segment, no LMA, no LME, no PCIDE, no FRED."""
    legacy = set_controls(vmcs, caps, Entry.IA32E_MODE_GUEST, on=False)
    if legacy is None:
        return None
    # IA32_EFER is not loaded, so that turning on "IA-32e mode guest" is one change
    legacy = set_controls(legacy, caps, Entry.LOAD_IA32_EFER, on=False) or legacy
    if "guest_ia32_efer" in legacy:
        legacy = legacy.replace(guest_ia32_efer=legacy["guest_ia32_efer"] & ~0x500)
    return _pdpte_fields(legacy).replace(guest_cs_access_rights=0xC09B, guest_cr4=_without(legacy["guest_cr4"], CR4.PCIDE, CR4.FRED))


def _pae(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    legacy = _legacy(vmcs, caps)
    return None if legacy is None else _pdptes(legacy)


def _pdptes(vmcs: Vmcs) -> Vmcs:
    """Page-directory-pointer-table entries, present, where PAE paging would look for them: in memory and in fields. They map nothing."""
    table, empty = _page(vmcs, _PDPT_PAGE), _page(vmcs, _LINK_PAGE)
    words = {table + 8 * index: empty | 1 for index in range(4)}
    return _pdpte_fields(vmcs).replace(guest_cr3=table).with_memory(words)


def _pdpte_fields(vmcs: Vmcs) -> Vmcs:
    """The fields for page-directory-pointer-table entries present (so that a reserved bit is one change); they map nothing."""
    empty = _page(vmcs, _LINK_PAGE)
    return vmcs.replace(**{f"guest_pdpte{index}": empty | 1 for index in range(4) if f"guest_pdpte{index}" in vmcs})


def _paging_32(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    legacy = _legacy(vmcs, caps)
    return None if legacy is None else legacy.replace(guest_cr4=legacy["guest_cr4"] & ~(1 << CR4.PAE))


def _no_paging(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    legacy = _legacy(vmcs, caps)
    free = legacy and set_controls(legacy, caps, Secondary.UNRESTRICTED_GUEST, Secondary.ENABLE_EPT)
    return free and free.replace(guest_cr0=free["guest_cr0"] & ~(1 << CR0.PG))


def _real(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    free = _no_paging(vmcs, caps)
    if free is None:
        return None
    values = {f"guest_{segment}_limit": 0xFFFF for segment in _SIX}
    values.update({f"guest_{segment}_access_rights": 0x93 for segment in _SIX})
    return free.replace(guest_cr0=free["guest_cr0"] & ~(1 << CR0.PE), **values)


def _virtual_8086(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    # PAE paging without EPT would look for page-directory-pointer-table entries in memory
    legacy = (_legacy if caps.may_be_1(Secondary.ENABLE_EPT) else _paging_32)(vmcs, caps)
    return legacy and _in_virtual_8086(legacy)


def _virtual_8086_no_paging(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    free = _no_paging(vmcs, caps)
    return free and _in_virtual_8086(free)


def _in_virtual_8086(legacy: Vmcs) -> Vmcs:
    """Segments as virtual-8086 mode has them; the low bits of selectors are no RPL there, so those of SS and CS may differ."""
    legacy = legacy.replace(guest_ss_selector=legacy["guest_ss_selector"] ^ 1)
    values = {f"guest_{segment}_limit": 0xFFFF for segment in _SIX}
    values.update({f"guest_{segment}_access_rights": 0xF3 for segment in _SIX})
    values.update({f"guest_{segment}_base": legacy[f"guest_{segment}_selector"] << 4 for segment in _SIX})
    return legacy.replace(guest_rflags=legacy["guest_rflags"] | 1 << RFLAGS.VM, **values)


def _ring_3(vmcs: Vmcs, _caps: Capabilities) -> Vmcs:
    """CPL 3 in 64-bit mode."""
    values = {f"guest_{segment}_selector": vmcs[f"guest_{segment}_selector"] | 3 for segment in _SIX}
    values.update({f"guest_{segment}_access_rights": vmcs[f"guest_{segment}_access_rights"] | 0x60 for segment in _SIX})
    return vmcs.replace(**values)


def _conforming(vmcs: Vmcs, _caps: Capabilities) -> Vmcs:
    """A conforming code segment, a usable LDTR, a readable code segment in DS, an unusable ES."""
    return vmcs.replace(
        guest_cs_access_rights=0xA09F,
        guest_ldtr_selector=0x20,
        guest_ldtr_access_rights=0x82,
        guest_ldtr_limit=0xFFF,
        # an operating system may have left the selectors null and the limits 0
        guest_ds_limit=0xFFFF_FFFF,
        guest_ds_access_rights=0xC09B,
        guest_es_access_rights=0x1C093,
    )


def _conforming_data(vmcs: Vmcs, _caps: Capabilities) -> Vmcs:
    """Conforming, readable code segments in all data-segment registers but SS."""
    segments = [segment for segment in _DATA_SEGMENTS if segment != "ss"]
    values = {f"guest_{segment}_access_rights": 0xC09F for segment in segments}
    return vmcs.replace(**values, **{f"guest_{segment}_limit": 0xFFFF_FFFF for segment in segments})


MODES: Final[Mapping[str, Part]] = MappingProxyType(
    {
        "64-bit": _captured,
        "64-bit-ring-3": _ring_3,
        "64-bit-segments": _conforming,
        "64-bit-conforming": _conforming_data,
        "compatibility": _compatibility,
        "pae": _pae,
        "32-bit": _paging_32,
        "no-paging": _no_paging,
        "real": _real,
        "virtual-8086": _virtual_8086,
        "virtual-8086-no-paging": _virtual_8086_no_paging,
    }
)

# Features


def _loads(vmcs: Vmcs, caps: Capabilities) -> Vmcs:
    """Everything that VM entry and VM exit can load and save, with valid values."""
    entry = (bit for bit in Entry if bit.name.startswith("LOAD_") and bit is not Entry.LOAD_IA32_RTIT_CTL)
    exits = (bit for bit in Exit if bit.name.startswith(("LOAD_", "SAVE_", "CLEAR_")) and bit is not Exit.SAVE_VMX_PREEMPTION_TIMER)
    return _with_allowed(vmcs, caps, *entry, *exits)


def _memory_managed(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    """EPT and all that rests on it, VM functions, shadowing."""
    with_ept = set_controls(vmcs, caps, Secondary.ENABLE_EPT)
    return with_ept and _with_allowed(
        with_ept.replace(**({"tsc_multiplier": 1} if "tsc_multiplier" in vmcs else {})),
        caps,
        Secondary.ENABLE_VPID,
        Secondary.UNRESTRICTED_GUEST,
        Secondary.ENABLE_PML,
        Secondary.EPT_VIOLATION_VE,
        Secondary.MODE_BASED_EXECUTE_CONTROL_FOR_EPT,
        Secondary.SUB_PAGE_WRITE_PERMISSIONS,
        Secondary.ENABLE_VM_FUNCTIONS,
        Secondary.USE_TSC_SCALING,
        VmFunction.EPTP_SWITCHING,
    )


def _no_ept(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    return set_controls(vmcs, caps, Secondary.ENABLE_EPT, on=False)


def _no_ept_pdptes(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    without = _no_ept(vmcs, caps)
    return without and _pdptes(without)


def _inactive_secondary(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    """All secondary controls at 1 and not activated: each counts as 0, and "activate secondary controls" is one change from giving them a say."""
    word = word_of(Secondary.ENABLE_EPT)
    inactive = set_controls(vmcs, caps, Primary.ACTIVATE_SECONDARY_CONTROLS, on=False) if word.field in vmcs else None
    return inactive and inactive.replace(**{word.field: 0xFFFF_FFFF})


def _tpr_shadow(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    shadowed = set_controls(vmcs, caps, Primary.USE_TPR_SHADOW)
    return shadowed and _with_allowed(shadowed, caps, Primary.USE_IO_BITMAPS, Primary.USE_MSR_BITMAPS).with_memory(
        {shadowed["virtual_apic_address"] + 0x80: 0x50}
    )


def _apic_accesses(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    shadowed = _tpr_shadow(vmcs, caps)
    return shadowed and set_controls(shadowed, caps, Secondary.VIRTUALIZE_APIC_ACCESSES)


def _virtual_interrupts(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    shadowed = _tpr_shadow(vmcs, caps)
    delivering = shadowed and set_controls(
        shadowed, caps, Pin.EXTERNAL_INTERRUPT_EXITING, Secondary.VIRTUAL_INTERRUPT_DELIVERY, Secondary.VIRTUALIZE_X2APIC_MODE
    )
    return delivering and _with_allowed(delivering, caps, Secondary.APIC_REGISTER_VIRTUALIZATION)


def _posted_interrupts(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    """Posted, where the processor has that."""
    delivering = _virtual_interrupts(vmcs, caps)
    return delivering and (set_controls(delivering, caps, Pin.PROCESS_POSTED_INTERRUPTS, Exit.ACKNOWLEDGE_INTERRUPT_ON_EXIT) or delivering)


def _nmis(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    return set_controls(vmcs, caps, Pin.NMI_EXITING, Pin.VIRTUAL_NMIS)


def _linked(vmcs: Vmcs, caps: Capabilities) -> Vmcs:
    """A VMCS link pointer, to a VMCS region of the right revision that is no shadow."""
    page = _page(vmcs, _LINK_PAGE)
    return vmcs.replace(vmcs_link_pointer=page).with_memory({page: caps.revision})


def _shadowing(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    shadowing = set_controls(vmcs, caps, Secondary.VMCS_SHADOWING)
    return shadowing and _linked(shadowing, caps).with_memory({_page(vmcs, _LINK_PAGE): caps.revision | 1 << 31})


def _msr_list(*indices: int) -> Part:
    """MSRs to load at VM entry, with valid values."""

    def part(vmcs: Vmcs, _caps: Capabilities) -> Vmcs:
        ia32e = vmcs["vm_entry_controls"] >> Entry.IA32E_MODE_GUEST & 1
        value = {IA32_PAT: 0x0007_0406_0007_0406, IA32_EFER: 0x500 if ia32e else 0}
        address = vmcs["vm_entry_msr_load_address"]
        words = [word for index in indices for word in (index, value.get(index, 0))]
        return vmcs.replace(vm_entry_msr_load_count=len(indices)).with_memory({address + 8 * i: word for i, word in enumerate(words)})

    return part


def _resume(vmcs: Vmcs, _caps: Capabilities) -> Vmcs:
    return vmcs.replace(live_launch_instruction=1, live_launch_state=1)


def _x2apic_mode(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    """MSRs to load while the local APIC is in x2APIC mode, where the executor brings that about (live_x2apic_mode)."""
    if "live_x2apic_mode" not in vmcs or not caps.has("x2apic"):
        return None
    return _msr_list(IA32_PAT, IA32_KERNEL_GS_BASE)(vmcs.replace(live_x2apic_mode=1), caps)


def _save_timer(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    return set_controls(vmcs, caps, Pin.ACTIVATE_VMX_PREEMPTION_TIMER, Exit.SAVE_VMX_PREEMPTION_TIMER)


def _cet_pks(vmcs: Vmcs, caps: Capabilities) -> Vmcs | None:
    """What CR4 can turn on: PCID (64-bit guests), CET, PKS; host and guest."""
    bits = 0
    for bit in (CR4.PCIDE, CR4.CET, CR4.PKS, CR4.SMEP, CR4.PGE):
        if caps.cr4_fixed[1] >> bit & 1 and (bit is not CR4.PCIDE or (vmcs["vm_entry_controls"] >> Entry.IA32E_MODE_GUEST & 1)):
            bits |= 1 << bit
    return _loads(vmcs, caps).replace(guest_cr4=vmcs["guest_cr4"] | bits) if bits else None


FEATURES: Final[Mapping[str, Part]] = MappingProxyType(
    {
        "plain": _captured,
        "loads": _loads,
        "ept-features": _memory_managed,
        "no-ept": _no_ept,
        "inactive-secondary": _inactive_secondary,
        "tpr-shadow": _tpr_shadow,
        "apic-accesses": _apic_accesses,
        "virtual-interrupts-unposted": _virtual_interrupts,
        "virtual-interrupts": _posted_interrupts,
        "virtual-nmis": _nmis,
        "link-pointer": _linked,
        "shadowing": _shadowing,
        "msr-load-1": _msr_list(IA32_KERNEL_GS_BASE, IA32_PAT, IA32_EFER, IA32_KERNEL_GS_BASE),
        "msr-load-2": _msr_list(IA32_PAT, IA32_EFER, IA32_KERNEL_GS_BASE, IA32_PAT),
        "msr-load-3": _msr_list(IA32_EFER, IA32_KERNEL_GS_BASE, IA32_PAT, IA32_EFER),
        "x2apic-mode": _x2apic_mode,
        "vmresume": _resume,
        "save-timer": _save_timer,
        "pdptes": _no_ept_pdptes,
        "cr4-features": _cet_pks,
    }
)
