"""Prints a VMCS as the programs do that `vmfuzz check` reads: KVM's and Xen's dumps, names, encodings, JSON, what `vmfuzz dump-code` prints.

Each printer returns the text and the fields that are in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.answer.render import render
from vmfuzz.explain.reading import read_text
from vmfuzz.state.vmcs import Vmcs

SEGMENTS: Final = ("cs", "ds", "ss", "es", "fs", "gs")
#: What the processor writes on a VM exit; a state says nothing of it.
_EXIT: Final = {
    "exit_reason": 0x1E,
    "vm_exit_interruption_info": 0,
    "vm_exit_interruption_error_code": 0,
    "vm_exit_instruction_length": 3,
    "exit_qualification": 0,
    "idt_vectoring_info": 0,
    "idt_vectoring_error_code": 0,
}
Fields = Mapping[str, int]


def fields_of(state: Vmcs, exit_reason: int = 0x1E) -> dict[str, int]:
    """The fields of a state as a hypervisor would read them after a VM exit with this reason."""
    values = {name: state[name] for name in FIELDS if name in state}
    return {**values, **{name: value for name, value in {**_EXIT, "exit_reason": exit_reason}.items() if name in FIELDS}}


_TERTIARY: Final = " TertiaryExec=0x{tertiary_processor_based_controls:016x}"


class _Template:
    """A text with the fields in it as `{field:format}`; lines of a field that the state does not have are left out."""

    def __init__(self, text: str) -> None:
        self._lines = text.strip("\n").split("\n")

    def fill(self, fields: Fields) -> tuple[str, frozenset[str]]:
        """(the text, the fields in it)."""
        used: set[str] = set()
        out = []
        for line in self._lines:
            seen = _Seen(fields)
            if "tertiary_processor_based_controls" not in fields:
                line = line.replace(_TERTIARY, "")
            try:
                out.append(line.format_map(seen))
            except KeyError:
                continue
            used |= seen.used
        return "\n".join(out) + "\n", frozenset(used)


class _Seen(dict[str, int]):
    def __init__(self, fields: Fields) -> None:
        super().__init__(fields)
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> int:
        self.used.add(name)
        return super().__getitem__(name)


_HOST_SELECTORS = " ".join(f"{name.upper()}={{host_{name}_selector:04x}}" for name in ("cs", "ss", "ds", "es", "fs", "gs", "tr"))
_HOST = (
    f"""
*** Host State ***
RIP = 0x{{host_rip:016x}}  RSP = 0x{{host_rsp:016x}}
{_HOST_SELECTORS}
"""
    + """\
FSBase={host_fs_base:016x} GSBase={host_gs_base:016x} TRBase={host_tr_base:016x}
GDTBase={host_gdtr_base:016x} IDTBase={host_idtr_base:016x}
CR0={host_cr0:016x} CR3={host_cr3:016x} CR4={host_cr4:016x}
Sysenter RSP={host_ia32_sysenter_esp:016x} CS:RIP={host_ia32_sysenter_cs:04x}:{host_ia32_sysenter_eip:016x}
"""
)
_EVENT = """
ExceptionBitmap={exception_bitmap:08x} PFECmask={page_fault_error_code_mask:08x} PFECmatch={page_fault_error_code_match:08x}
VMEntry: intr_info={vm_entry_interruption_info:08x} errcode={vm_entry_exception_error_code:08x} ilen={vm_entry_instruction_length:08x}
VMExit: intr_info={vm_exit_interruption_info:08x} errcode={vm_exit_interruption_error_code:08x} ilen={vm_exit_instruction_length:08x}
        reason={exit_reason:08x} qualification={exit_qualification:016x}
IDTVectoring: info={idt_vectoring_info:08x} errcode={idt_vectoring_error_code:08x}
"""
_HEAD = """
*** Guest State ***
CR0: actual=0x{guest_cr0:016x}, shadow=0x{cr0_read_shadow:016x}, gh_mask={cr0_guest_host_mask:016x}
CR4: actual=0x{guest_cr4:016x}, shadow=0x{cr4_read_shadow:016x}, gh_mask={cr4_guest_host_mask:016x}
CR3 = 0x{guest_cr3:016x}
"""
_KVM_SEGMENTS = "\n".join(
    f"{name.upper()}:   sel=0x{{guest_{name}_selector:04x}}, attr=0x{{guest_{name}_access_rights:05x}}, limit=0x{{guest_{name}_limit:08x}}, "
    f"base=0x{{guest_{name}_base:016x}}"
    for name in SEGMENTS
)
_KVM = _Template(
    f"""
VMCS 00000000c0ffee11, last attempted VM-entry on CPU 2
{_HEAD.strip()}
PDPTR0 = 0x{{guest_pdpte0:016x}}  PDPTR1 = 0x{{guest_pdpte1:016x}}
PDPTR2 = 0x{{guest_pdpte2:016x}}  PDPTR3 = 0x{{guest_pdpte3:016x}}
RSP = 0x{{guest_rsp:016x}}  RIP = 0x{{guest_rip:016x}}
RFLAGS=0x{{guest_rflags:08x}}         DR7 = 0x{{guest_dr7:016x}}
Sysenter RSP={{guest_ia32_sysenter_esp:016x}} CS:RIP={{guest_ia32_sysenter_cs:04x}}:{{guest_ia32_sysenter_eip:016x}}
{_KVM_SEGMENTS}
GDTR:                           limit=0x{{guest_gdtr_limit:08x}}, base=0x{{guest_gdtr_base:016x}}
LDTR: sel=0x{{guest_ldtr_selector:04x}}, attr=0x{{guest_ldtr_access_rights:05x}}, limit=0x{{guest_ldtr_limit:08x}}, base=0x{{guest_ldtr_base:016x}}
IDTR:                           limit=0x{{guest_idtr_limit:08x}}, base=0x{{guest_idtr_base:016x}}
TR:   sel=0x{{guest_tr_selector:04x}}, attr=0x{{guest_tr_access_rights:05x}}, limit=0x{{guest_tr_limit:08x}}, base=0x{{guest_tr_base:016x}}
EFER= 0x{{guest_ia32_efer:016x}}
PAT = 0x{{guest_ia32_pat:016x}}
DebugCtl = 0x{{guest_ia32_debugctl:016x}}  DebugExceptions = 0x{{guest_pending_debug_exceptions:016x}}
PerfGlobCtl = 0x{{guest_ia32_perf_global_ctrl:016x}}
BndCfgS = 0x{{guest_ia32_bndcfgs:016x}}
Interruptibility = {{guest_interruptibility_state:08x}}  ActivityState = {{guest_activity_state:08x}}
InterruptStatus = {{guest_interrupt_status:04x}}
S_CET = 0x{{guest_ia32_s_cet:016x}}, SSP = 0x{{guest_ssp:016x}}, SSP TABLE = 0x{{guest_ia32_interrupt_ssp_table_addr:016x}}
{_HOST.strip()}
EFER= 0x{{host_ia32_efer:016x}}
PAT = 0x{{host_ia32_pat:016x}}
PerfGlobCtl = 0x{{host_ia32_perf_global_ctrl:016x}}
S_CET = 0x{{host_ia32_s_cet:016x}}, SSP = 0x{{host_ssp:016x}}, SSP TABLE = 0x{{host_ia32_interrupt_ssp_table_addr:016x}}
*** Control State ***
CPUBased=0x{{primary_processor_based_controls:08x}} SecondaryExec=0x{{secondary_processor_based_controls:08x}}{_TERTIARY}
PinBased=0x{{pin_based_controls:08x}} EntryControls={{vm_entry_controls:08x}} ExitControls={{vm_exit_controls:08x}}
{_EVENT.strip(chr(10))}
TSC Offset = 0x{{tsc_offset:016x}}
TSC Multiplier = 0x{{tsc_multiplier:016x}}
TPR Threshold = 0x{{tpr_threshold:02x}}
APIC-access addr = 0x{{apic_access_address:016x}} virt-APIC addr = 0x{{virtual_apic_address:016x}}
PostedIntrVec = 0x{{posted_interrupt_notification_vector:02x}}
EPT pointer = 0x{{eptp:016x}}
PLE Gap={{ple_gap:08x}} Window={{ple_window:08x}}
Virtual processor ID = 0x{{vpid:04x}}
"""
)
_XEN_SEGMENTS = "\n".join(
    f"  {name.upper()}: {{guest_{name}_selector:04x}} {{guest_{name}_access_rights:05x}} {{guest_{name}_limit:08x}} {{guest_{name}_base:016x}}"
    for name in SEGMENTS
)
_XEN = _Template(
    f"""
************* VMCS Area **************
{_HEAD.strip()}
PDPTE0 = 0x{{guest_pdpte0:016x}}  PDPTE1 = 0x{{guest_pdpte1:016x}}
PDPTE2 = 0x{{guest_pdpte2:016x}}  PDPTE3 = 0x{{guest_pdpte3:016x}}
RSP = 0x{{guest_rsp:016x}} (0x{{guest_rsp:016x}})  RIP = 0x{{guest_rip:016x}} (0x{{guest_rip:016x}})
RFLAGS=0x{{guest_rflags:08x}} (0x{{guest_rflags:08x}})  DR7 = 0x{{guest_dr7:016x}}
Sysenter RSP={{guest_ia32_sysenter_esp:016x}} CS:RIP={{guest_ia32_sysenter_cs:04x}}:{{guest_ia32_sysenter_eip:016x}}
       sel  attr  limit   base
{_XEN_SEGMENTS}
GDTR:            {{guest_gdtr_limit:08x}} {{guest_gdtr_base:016x}}
LDTR: {{guest_ldtr_selector:04x}} {{guest_ldtr_access_rights:05x}} {{guest_ldtr_limit:08x}} {{guest_ldtr_base:016x}}
IDTR:            {{guest_idtr_limit:08x}} {{guest_idtr_base:016x}}
  TR: {{guest_tr_selector:04x}} {{guest_tr_access_rights:05x}} {{guest_tr_limit:08x}} {{guest_tr_base:016x}}
EFER(VMCS) = 0x{{guest_ia32_efer:016x}}  PAT = 0x{{guest_ia32_pat:016x}}
DebugCtl = 0x{{guest_ia32_debugctl:016x}}  DebugExceptions = 0x{{guest_pending_debug_exceptions:016x}}
PerfGlobCtl = 0x{{guest_ia32_perf_global_ctrl:016x}}  BndCfgS = 0x{{guest_ia32_bndcfgs:016x}}
Interruptibility = {{guest_interruptibility_state:08x}}  ActivityState = {{guest_activity_state:08x}}
{_HOST.strip()}
EFER = 0x{{host_ia32_efer:016x}}  PAT = 0x{{host_ia32_pat:016x}}
PerfGlobCtl = 0x{{host_ia32_perf_global_ctrl:016x}}
*** Control State ***
PinBased={{pin_based_controls:08x}} CPUBased={{primary_processor_based_controls:08x}} SecondaryExec={{secondary_processor_based_controls:08x}}
EntryControls={{vm_entry_controls:08x}} ExitControls={{vm_exit_controls:08x}}
{_EVENT.strip(chr(10))}
TSC Offset = 0x{{tsc_offset:016x}}  TSC Multiplier = 0x{{tsc_multiplier:016x}}
TPR Threshold = 0x{{tpr_threshold:02x}}  PostedIntrVec = 0x{{posted_interrupt_notification_vector:02x}}
EPT pointer = 0x{{eptp:016x}}  EPTP index = 0x{{eptp_index:04x}}
PLE Gap={{ple_gap:08x}} Window={{ple_window:08x}}
Virtual processor ID = 0x{{vpid:04x}} VMfunc controls = {{vm_function_controls:016x}}
**************************************
"""
)


def kvm(fields: Fields) -> tuple[str, frozenset[str]]:
    """As Linux KVM prints, each line with the module's name."""
    text, used = _KVM.fill(fields)
    return "".join(f"[  417.{index:06}] kvm_intel: {line}\n" for index, line in enumerate(text.splitlines())), used


def xen(fields: Fields) -> tuple[str, frozenset[str]]:
    """As Xen prints on its console."""
    text, used = _XEN.fill(fields)
    return "".join(f"(XEN) {line}\n" for line in text.splitlines()), used


def _lines(form: Callable[[str, int], str]) -> Callable[[Fields], tuple[str, frozenset[str]]]:
    return lambda fields: ("".join(form(name, value) + "\n" for name, value in fields.items()), frozenset(fields))


def as_json(fields: Fields) -> tuple[str, frozenset[str]]:
    """As vmfuzz writes a VMCS."""
    return json.dumps({"schema": "vmfuzz-vmcs-1", "fields": {name: hex(value) for name, value in fields.items()}}), frozenset(fields)


#: Format -> function that prints fields in it and says which it has printed.
PRINTERS: Final[Mapping[str, Callable[[Fields], tuple[str, frozenset[str]]]]] = {
    "KVM": kvm,
    "Xen": xen,
    "names": _lines(lambda name, value: f"{name.upper()}: {value:#x}"),
    "words": _lines(lambda name, value: f"  {name.replace('_', ' ')} = {value:0{FIELDS[name].width // 4}x}"),
    "encodings": _lines(lambda name, value: f"{FIELDS[name].encoding:#06x} = {value:#x}"),
    "bare encodings": _lines(lambda name, value: f"{FIELDS[name].encoding:04x} {value:016x}"),
    "encoding and name": _lines(lambda name, value: f"haxm_error: {FIELDS[name].encoding:04x} {name.upper()}: {value:x}"),
    "dump-code": _lines(lambda name, value: f"[  417.201113] {name} = {value:#x}"),
    "JSON": as_json,
}


#: What a dump of a known-good state may report: an entry, a failure that its fields cannot explain, nothing (0 for a format without it).
REPORTS: Final = (0x1E, 0x80000021, 0)


def faults(state: Vmcs, capabilities: Capabilities, form: str, exit_reason: int) -> list[str]:
    """What is wrong with the answers to a known-good state printed in this form: fields lost or misread, warnings, accusations."""
    fields = fields_of(state, exit_reason)
    if exit_reason and not exit_reason >> 31:
        fields["vm_entry_interruption_info"] &= (1 << 31) - 1  # every VM exit clears bit 31
    if not exit_reason:
        fields = {name: value for name, value in fields.items() if name not in _EXIT}
    text, printed = PRINTERS[form](fields)
    (dump,) = read_text(text)
    wrong = [
        f"{name} is {fields[name]:#x}, read {'not at all' if reading is None else f'as {reading.value:#x}'}"
        for name in sorted(printed)
        if (reading := dump.readings.get(name)) is None
        or reading.value != fields[name]
        or not reading.partial.within(FIELDS[name].width).exact
    ]
    wrong += [f"{name} is read, but was not printed" for name in dump.readings if name in FIELDS and name not in printed]
    wrong += [f"warning: {text}" for text in dump.warnings]
    for known in (None, capabilities):
        found = answer(dump, known)
        processor = "with the processor's capabilities" if known else "without capabilities"
        wrong += [f"{finding.check.id} is called violated {processor}" for finding in [*found.violated, *found.contradicted]]
        wrong += [f"accused of this {processor}: {mistake.what}" for mistake in [*found.causes, *found.remarks]]
        if exit_reason >> 31 and "cannot be determined" not in render(found):
            wrong.append(f"the failure is not called undecidable {processor}")
    return wrong
