"""What Linux KVM (`dump_vmcs`) and Xen (`vmcs_dump_vcpu`) print of a VMCS, line by line, and what follows from that: keys, sections, order.

Keys of one section only tell where in the dump a line stands, even when the headings are lost; the keys in `SHARED` are printed for guest
and host alike and say nothing without a neighbour that does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import MappingProxyType
from typing import Final, NamedTuple

from vmfuzz.arch.fields import FIELDS
from vmfuzz.patterns import deferred

GUEST, HOST, CONTROL = "guest", "host", "control"
SECTIONS: Final = (GUEST, HOST, CONTROL)
HEADINGS: Final = MappingProxyType({"guest state": GUEST, "host state": HOST, "control state": CONTROL})
#: In the order in which they are printed.
SEGMENT_KEYS: Final = ("CS", "DS", "SS", "ES", "FS", "GS", "GDTR", "LDTR", "IDTR", "TR")

#: The lines of all versions, in the order in which they are printed; {field} is a number, and a line with @ is printed for each segment
#: register. Behind 0x a number has that mark, behind # none and all its digits: a line that begins otherwise is of another program. Before a line
#: stands ~ where versions print it at different places, and & where it may change places with the line above.
_LINES: Final = {
    GUEST: """
        CR0: actual={guest_cr0}, shadow={cr0_read_shadow}, gh_mask={cr0_guest_host_mask}
      ~ CR0: actual={guest_cr0}, shadow={cr0_read_shadow}, mask={cr0_guest_host_mask}
        CR4: actual={guest_cr4}, shadow={cr4_read_shadow}, gh_mask={cr4_guest_host_mask}
        CR3 = 0x{guest_cr3}
      ~ CR3: actual={guest_cr3}
      ~ PDPTR0 = {guest_pdpte0}  PDPTR1 = {guest_pdpte1}
      ~ PDPTR2 = {guest_pdpte2}  PDPTR3 = {guest_pdpte3}
      ~ PDPTE0 = {guest_pdpte0}  PDPTE1 = {guest_pdpte1}
      ~ PDPTE2 = {guest_pdpte2}  PDPTE3 = {guest_pdpte3}
        RSP = 0x{guest_rsp}  RIP = 0x{guest_rip}
        RFLAGS=0x{guest_rflags}  DR7 = {guest_dr7}
        Sysenter RSP={guest_ia32_sysenter_esp} CS:RIP={guest_ia32_sysenter_cs}:{guest_ia32_sysenter_eip}
        @: sel={guest_@_selector}, attr={guest_@_access_rights}, limit={guest_@_limit}, base={guest_@_base}
      ~ EFER = 0x{guest_ia32_efer}  PAT = 0x{guest_ia32_pat}
      ~ EFER(VMCS) = {guest_ia32_efer}
      ~ Guest PAT = 0x{guest_ia32_pat}
      ~ PAT = 0x{guest_ia32_pat}
      ~ PreemptionTimer = {vmx_preemption_timer_value}  SM Base = {guest_smbase}
        DebugCtl = {guest_ia32_debugctl}  DebugExceptions = {guest_pending_debug_exceptions}
      ~ PerfGlobCtl = 0x{guest_ia32_perf_global_ctrl}  BndCfgS = {guest_ia32_bndcfgs}
        Interruptibility = {guest_interruptibility_state}  ActivityState = {guest_activity_state}
      ~ InterruptStatus = {guest_interrupt_status}
      ~ S_CET = 0x{guest_ia32_s_cet}, SSP = 0x{guest_ssp}, SSP TABLE = 0x{guest_ia32_interrupt_ssp_table_addr}
      ~ INTR SSP TABLE = 0x{guest_ia32_interrupt_ssp_table_addr}
      ~ SSP_TABLE = 0x{guest_ia32_interrupt_ssp_table_addr}
      ~ PKRS = 0x{guest_ia32_pkrs}
    """,
    HOST: """
        RIP = 0x{host_rip}  RSP = 0x{host_rsp}
        CS=#{host_cs_selector} SS={host_ss_selector} DS={host_ds_selector}
      & ES={host_es_selector} FS={host_fs_selector} GS={host_gs_selector} TR={host_tr_selector}
        FSBase={host_fs_base} GSBase={host_gs_base} TRBase={host_tr_base}
        GDTBase={host_gdtr_base} IDTBase={host_idtr_base}
        CR0=#{host_cr0} CR3={host_cr3} CR4={host_cr4}
        Sysenter RSP={host_ia32_sysenter_esp} CS:RIP={host_ia32_sysenter_cs}:{host_ia32_sysenter_eip}
      ~ EFER = 0x{host_ia32_efer}  PAT = 0x{host_ia32_pat}
      ~ Host PAT = 0x{host_ia32_pat}
      ~ PerfGlobCtl = 0x{host_ia32_perf_global_ctrl}
      ~ S_CET = 0x{host_ia32_s_cet}, SSP = 0x{host_ssp}, SSP TABLE = 0x{host_ia32_interrupt_ssp_table_addr}
      ~ INTR SSP TABLE = 0x{host_ia32_interrupt_ssp_table_addr}
      ~ SSP_TABLE = 0x{host_ia32_interrupt_ssp_table_addr}
      ~ PKRS = 0x{host_ia32_pkrs}
    """,
    CONTROL: """
        PinBased={pin_based_controls} CPUBased={primary_processor_based_controls} SecondaryExec={secondary_processor_based_controls}
      ~ CPUBased={primary_processor_based_controls}
      ~ SecondaryExec={secondary_processor_based_controls}
      ~ TertiaryExec={tertiary_processor_based_controls}
      & EntryControls={vm_entry_controls} ExitControls={vm_exit_controls}
      ~ ExitControls={vm_exit_controls} SecondaryExitControls={secondary_vm_exit_controls} SecondaryVmExit={secondary_vm_exit_controls}
        ExceptionBitmap={exception_bitmap} PFECmask={page_fault_error_code_mask} PFECmatch={page_fault_error_code_match}
        VMEntry: intr_info={vm_entry_interruption_info} errcode={vm_entry_exception_error_code} ilen={vm_entry_instruction_length}
        VMExit: intr_info={vm_exit_interruption_info} errcode={vm_exit_interruption_error_code} ilen={vm_exit_instruction_length}
        reason=#{exit_reason} qualification={exit_qualification}
        IDTVectoring: info={idt_vectoring_info} errcode={idt_vectoring_error_code}
        TSC Offset = {tsc_offset}
      & TSC Multiplier = {tsc_multiplier}
        TPR Threshold = {tpr_threshold}
      & APIC-access addr = {apic_access_address}
      & virt-APIC addr = {virtual_apic_address}
      & PostedIntrVec = {posted_interrupt_notification_vector}
        EPT pointer = {eptp}  EPTP index = {eptp_index}
      ~ CR3 target0={cr3_target_value_0} target1={cr3_target_value_1}
      ~ CR3 target1={cr3_target_value_1}
      ~ CR3 target2={cr3_target_value_2} target3={cr3_target_value_3}
      ~ CR3 target3={cr3_target_value_3}
      ~ target_count={cr3_target_count}
      ~ target0={cr3_target_value_0} target1={cr3_target_value_1}
      ~ target2={cr3_target_value_2} target3={cr3_target_value_3}
        PLE Gap={ple_gap} Window={ple_window}
        Virtual processor ID = {vpid} VMfunc controls = {vm_function_controls}
      ~ VMfunc controls = {vm_function_controls}
      ~ VE info address = {virtualization_exception_information}
      ~ DeadlinePhy = {guest_deadline}  DeadlineVir = {guest_deadline_shadow}
      ~ GuestApicTimerVector = {virtual_timer_vector}
    """,
}
#: Keys of the control section that Xen before 4.6 prints in the guest's.
APART: Final = frozenset({"tsc_offset", "cr3_target_count", *(f"cr3_target_value_{index}" for index in range(4))})
#: Keys that stand for no field of the VMCS; what they show is kept beside it.
BESIDE: Final = MappingProxyType({"EFER(MSR LL)": "efer in the MSR-load list"})
_NUMBER: Final = re.compile(r"(?P<key>[^={},]+?)(?P<sign> ?=)(?P<mark> ?(?:0x|#)?)\{(?P<field>\w+)\}")


class _Number(NamedTuple):
    """A number of a line: what stands before the whole line ("CS", "VMEntry"), its key, what stands behind that, its mark, the field."""

    section: str
    head: str
    key: str
    sign: str
    mark: str
    field: str


def _bodies() -> Iterator[tuple[str, str, str]]:
    """(section, the sign before it, the line) of each line, once for each segment register."""
    for section, text in _LINES.items():
        for declared in text.strip().splitlines():
            line = declared.strip(" ~&")
            place = declared.strip().removesuffix(line).strip()
            for segment in SEGMENT_KEYS if "@" in line else ("",):
                parts = "limit" if segment in ("GDTR", "IDTR") else ""
                body = line.replace("@:", f"{segment}:").replace("@", segment.lower())
                yield section, place, body.partition(": ")[0] + ": " + body[body.index(parts) :] if parts else body


def _numbers(section: str, body: str) -> list[_Number]:
    head, colon, rest = body.partition(": ")
    found = _NUMBER.finditer(rest if colon else body)
    return [_Number(section, head if colon else "", one["key"].strip(), one["sign"], one["mark"], one["field"]) for one in found]


#: (the sign before it, the numbers that have a key, all fields) of each line.
_DECLARED: Final = tuple((place, _numbers(section, body), re.findall(r"\{(\w+)\}", body)) for section, place, body in _bodies())
_NUMBERS: Final = tuple(number for _, numbers, _ in _DECLARED for number in numbers)
#: Numbers that have a name of their own (those of the host's selectors, CR0 and CR4 are other ones with a colon).
_NAMED: Final = tuple(
    number for number in _NUMBERS if not number.head and ":" not in number.key and number.key not in (*SEGMENT_KEYS, "CR0", "CR4")
)
#: Keys printed for guest and host: the ending of the field's name.
SHARED: Final = MappingProxyType(
    {
        number.key: number.field.removeprefix("guest_")
        for number in _NAMED
        if any(number.key == other.key and (number.section, other.section) == (GUEST, HOST) for other in _NAMED)
    }
)
#: Keys of one section: key -> field. In keys a blank stands for any number of blanks.
OWN: Final = MappingProxyType(
    {
        section: {number.key: number.field for number in _NAMED if number.section == section and number.key not in SHARED}
        for section in SECTIONS
    }
)
#: "CS=0010 SS=0018 ... TR=0040" of the host section.
HOST_SELECTORS: Final = tuple(number.key for number in _NUMBERS if number.section == HOST and number.key in SEGMENT_KEYS)
#: The parts of "CR0: actual=..., shadow=..., gh_mask=..."; {} is cr0 or cr4.
CR_PARTS: Final = MappingProxyType({number.key: number.field.replace("cr0", "{}") for number in _NUMBERS if number.head == "CR0"})
#: The parts of "CS: sel=..., attr=..., limit=..., base=...".
SEGMENT_PARTS: Final = MappingProxyType({number.key: number.field.removeprefix("guest_cs_") for number in _NUMBERS if number.head == "CS"})
#: "VMEntry:", "VMExit:" and "IDTVectoring:" open a group; the keys in it -> field.
GROUPS: Final = MappingProxyType(
    {
        head: {number.key: number.field for number in _NUMBERS if number.head == head}
        for head in dict.fromkeys(number.head for number in _NUMBERS if number.section == CONTROL and number.head)
    }
)


def _ranks() -> Iterator[tuple[str, int]]:
    rank = 0
    for place, _, fields in _DECLARED:
        rank += place == ""
        yield from ((field, rank) for field in fields if place != "~")


#: The place of each field in the order of printing; without those that versions print at different places.
RANKS: Final = MappingProxyType(dict(_ranks()))


def _spelled(number: _Number) -> str:
    """The pattern of a line's beginning: up to what shows that its first number is of this program."""
    key = re.escape(number.key).replace(r"\ ", r"\s*")
    if number.head in SEGMENT_KEYS:
        return rf"{number.head}:\s+(?:{'|'.join(SEGMENT_PARTS)})="
    if number.head:
        return rf"{number.head}:\s*{key}"
    digits = rf" ?[0-9a-fA-F]{{{FIELDS[number.field].width // 4}}}\b"
    return key + number.sign.replace(" ", " ?") + {" 0x": r"\s+0x", "0x": " ?0x", "#": digits}.get(number.mark, "")


#: How the lines of a dump begin.
STARTS: Final = deferred(
    r"\*\*\* ?(?:Guest|Host|Control) State|EFER\(|SVI\|RVI|MSR (?:guest|host) auto|\d+: msr=|ve_info:|sel\s+attr\s+limit\s+base|"
    r"(?:[CDSEFG]S|LDTR|TR):\s+[0-9a-fA-F]{4}\s+[0-9a-fA-F]{4,8}\s+[0-9a-fA-F]{8}\s|[GI]DTR:\s+[0-9a-fA-F]{4,8}\s+[0-9a-fA-F]{8,16}|"
    + "|".join(dict.fromkeys(_spelled(numbers[0]) for _, numbers, _ in _DECLARED))
)
#: What may begin the line after a break: a later number of a line, or the end of a key.
CONTINUES: Final = deferred(
    r"(?:, ?)?(?:actual|msr|value)=|(?:= ?)?(?:x?[0-9a-fA-F]{1,16}|0x[0-9a-fA-F]+)(?:\s|,|$)|=$|\((?:0x|effective|autoload|[\w./]+#\w+\))|(?:, ?)?(?:"
    + "|".join(
        dict.fromkeys(
            re.escape(ending) + number.sign.replace(" ", " ?")
            for _, numbers, _ in _DECLARED
            for index, number in enumerate(numbers)
            for ending in (number.key.split(" ", at)[-1] for at in range(0 if index or number.head else 1, number.key.count(" ") + 1))
        )
    )
    + ")"
)
