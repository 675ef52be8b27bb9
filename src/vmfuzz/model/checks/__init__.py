"""All checks of the SDM's chapter "VM Entries", in its order: one module a section.

`CHECKS` is the list, `BY_ID` finds one, `NOT_APPLICABLE` says which rows of the reference catalogue are no checks here, and why.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from vmfuzz.errors import ModelError, UnknownNameError
from vmfuzz.model.check import Check
from vmfuzz.model.checks.basic import basic
from vmfuzz.model.checks.entry_controls import entry_controls
from vmfuzz.model.checks.execution_controls_ept import execution
from vmfuzz.model.checks.exit_controls import exit_controls
from vmfuzz.model.checks.guest_descriptor_tables import descriptor_tables
from vmfuzz.model.checks.guest_non_register import non_register
from vmfuzz.model.checks.guest_pdptes import pdptes
from vmfuzz.model.checks.guest_registers import guest_registers
from vmfuzz.model.checks.guest_rip_rflags import rip_rflags
from vmfuzz.model.checks.guest_segments import guest_segments
from vmfuzz.model.checks.host_address_space import address_space
from vmfuzz.model.checks.host_registers import host_registers
from vmfuzz.model.checks.host_segments import host_segments
from vmfuzz.model.checks.key_identifiers import check_key_identifiers
from vmfuzz.model.checks.msr_load import msr_load

check_key_identifiers(execution, "ctl.key-bits", "Addresses in the controls", exit_controls, entry_controls)
check_key_identifiers(host_registers, "host.cr3.key-bits", "Host CR3")
check_key_identifiers(guest_registers, "guest.cr3.key-bits", "Guest CR3")
check_key_identifiers(non_register, "guest.link.key-bits", "The VMCS link pointer")
check_key_identifiers(pdptes, "guest.pdpte.key-bits", "PDPTEs")

#: The sections in the SDM's order.
SECTIONS: Final = (
    basic,
    execution,
    exit_controls,
    entry_controls,
    host_registers,
    host_segments,
    address_space,
    guest_registers,
    guest_segments,
    descriptor_tables,
    rip_rflags,
    non_register,
    pdptes,
    msr_load,
)


def _collect() -> tuple[Check, ...]:
    checks = tuple(check for section in SECTIONS for check in section.checks)
    seen: set[str] = set()
    for check in checks:
        if check.id in seen:
            raise ModelError(f"check id {check.id!r} is declared twice")
        seen.add(check.id)
    return checks


#: Every check, in the SDM's order.
CHECKS: Final = _collect()
#: Every check by id.
BY_ID: Final = MappingProxyType({check.id: check for check in CHECKS})

_OUTSIDE = "the processor faults before it looks at a VMCS; executors always execute the instruction at CPL 0 in VMX root operation"
_SMM = "only VM entries that return from SMM under dual-monitor treatment make it; no executor runs in SMM"

#: Rows of the reference catalogue that are not declared as checks: id -> reason.
NOT_APPLICABLE: Final = MappingProxyType(
    {
        "basic.vmxon": _OUTSIDE,
        "basic.mode": _OUTSIDE,
        "basic.nonroot": "the entry becomes a VM exit of an outer hypervisor, which then emulates it; nothing of it is seen here",
        "basic.cpl": _OUTSIDE,
        "ctl.seam.ept": "SEAM operation is out of the reach of software that is not the TDX module",
        "ctl.seam.sharedeptp": "SEAM operation is out of the reach of software that is not the TDX module",
        "guest.rsp": "listed in the catalogue only to say that RSP is not checked",
        "guest.link.executive": _SMM,
        "msrload.model": "the SDM gives no list of model-specific refusals; msrload.wrmsr.N.other counts such entries as not modelled",
        "msrload.count": "no failure is defined: behaviour is undefined above the recommended maximum, so containment refuses it",
        "msrload.speccontrol": "no failure is defined: the SDM says that the result is undefined",
        "late.mce": "a machine check during VM entry cannot be brought about by a VMCS",
        "late.host-msr": "a VMX abort, not a check of VM entry; containment keeps the VM-exit MSR-load area sound",
        "late.host-pdpte": "a VMX abort, not a check of VM entry; executors run with a 64-bit host",
        "smm.exec.align": _SMM,
        "smm.exec.revision": _SMM,
        "smm.exec.launched": _SMM,
        "smm.exec.deactivate": _SMM,
        "smm.exec.controls": _SMM,
        "smm.exec.inject": _SMM,
        "smm.exec.activity": _SMM,
        "smm.exec.savetimer": _SMM,
        "smm.exec.guestctl": _SMM,
    }
)


def check_named(id: str) -> Check:
    """The check with this id; raises UnknownNameError with the nearest ids."""
    try:
        return BY_ID[id]
    except KeyError:
        raise UnknownNameError("check", id, BY_ID) from None
