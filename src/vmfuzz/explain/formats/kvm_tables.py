"""What Linux KVM (`dump_vmcs`) and Xen (`vmcs_dump_vcpu`) print of a VMCS, line by line, and what follows from that: the numbers with their
places in the print order, how lines begin, and how the rest of a broken one does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from types import MappingProxyType
from typing import Final, NamedTuple

from vmfuzz.arch.fields import FIELDS
from vmfuzz.patterns import deferred

#: The lines of all versions, in the order in which they are printed; {field} is a number, {+name} one that stands beside the VMCS, and of several
#: names before a line each has one of its own. Behind 0x a number has that mark, behind # none and all its digits: a line that begins otherwise is of
#: another program. Before a line stands ~ where not all versions print it there, and & where it may change places with the line above, or stand for it.
_LINES: Final = {
    "guest": """
        CR0: actual={guest_cr0}, shadow={cr0_read_shadow}, gh_mask={cr0_guest_host_mask}
      ~ CR0: actual={guest_cr0}, shadow={cr0_read_shadow}, mask={cr0_guest_host_mask}
        CR4: actual={guest_cr4}, shadow={cr4_read_shadow}, gh_mask={cr4_guest_host_mask}
      ~ CR4: actual={guest_cr4}, shadow={cr4_read_shadow}, mask={cr4_guest_host_mask}
        CR3 = 0x{guest_cr3}
      & CR3: actual={guest_cr3}
      ~ target_count={cr3_target_count}
      ~ target0={cr3_target_value_0}, target1={cr3_target_value_1}
      ~ target2={cr3_target_value_2}, target3={cr3_target_value_3}
      ~ PDPTR0 = {guest_pdpte0}  PDPTR1 = {guest_pdpte1}
      ~ PDPTR2 = {guest_pdpte2}  PDPTR3 = {guest_pdpte3}
      ~ PDPTE0 = {guest_pdpte0}  PDPTE1 = {guest_pdpte1}
      ~ PDPTE2 = {guest_pdpte2}  PDPTE3 = {guest_pdpte3}
        RSP = 0x{guest_rsp}  RIP = 0x{guest_rip}
        RFLAGS=0x{guest_rflags}  DR7 = {guest_dr7}
        Sysenter RSP={guest_ia32_sysenter_esp} CS:RIP={guest_ia32_sysenter_cs}:{guest_ia32_sysenter_eip}
        CS DS SS ES FS GS: sel={guest_@_selector}, attr={guest_@_access_rights}, limit={guest_@_limit}, base={guest_@_base}
        GDTR: limit={guest_@_limit}, base={guest_@_base}
        LDTR: sel={guest_@_selector}, attr={guest_@_access_rights}, limit={guest_@_limit}, base={guest_@_base}
        IDTR: limit={guest_@_limit}, base={guest_@_base}
        TR: sel={guest_@_selector}, attr={guest_@_access_rights}, limit={guest_@_limit}, base={guest_@_base}
      ~ EFER = 0x{guest_ia32_efer}  PAT = 0x{guest_ia32_pat}
      ~ EFER(VMCS) = {guest_ia32_efer}  PAT = 0x{guest_ia32_pat}
      ~ EFER(MSR LL) = {+efer in the MSR-load list}  PAT = 0x{guest_ia32_pat}
      ~ Guest PAT = 0x{guest_ia32_pat}
      ~ PAT = 0x{guest_ia32_pat}
      ~ TSC Offset = {tsc_offset}
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
    "host": """
        RIP = 0x{host_rip}  RSP = 0x{host_rsp}
      & RSP = 0x{host_rsp}  RIP = 0x{host_rip}
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
    "control": """
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
      ~ SVI|RVI = {guest_interrupt_status}
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
      ~ S_CET = 0x{host_ia32_s_cet}, SSP = 0x{host_ssp}, SSP TABLE = 0x{host_ia32_interrupt_ssp_table_addr}
      ~ INTR SSP TABLE = 0x{host_ia32_interrupt_ssp_table_addr}
      ~ SSP_TABLE = 0x{host_ia32_interrupt_ssp_table_addr}
    """,
}
_NUMBER: Final = re.compile(r"(?P<key>[^={},]+?)(?P<sign> ?=)(?P<mark> ?(?:0x|#)?)\{(?P<field>[^}]+)\}(?::\{(?P<second>\w+)\})?")


class Slot(NamedTuple):
    """A number of a declared line: its place in the print order, what is printed before it, and what it is."""

    #: the declared line, and the number's place in it
    line: int
    place: int
    #: 1, 3, 5 for the guest's, the host's and the control section, before which their headings are
    section: int
    #: the place of the line among those that all versions print in the same order; `fixed`: it is one of these
    rank: int
    fixed: bool
    #: what stands before the whole line ("CS", "VMEntry"), the number's key, what stands between that and the number
    head: str
    key: str
    sign: str
    field: str
    #: behind a colon: the second number of this key
    second: bool = False


def _declared() -> Iterator[list[Slot]]:
    """The numbers of each line."""
    line, rank = 0, 0
    for section, text in enumerate(_LINES.values()):
        for declared in text.strip().splitlines():
            body = declared.strip(" ~&")
            heads, colon, rest = body.partition(": ")
            for head in heads.split() if colon and "@" in rest else (heads,) if colon else ("",):
                line, rank = line + 1, rank + (declared.strip() == body)
                slots = list[Slot]()
                for one in _NUMBER.finditer(rest.replace("@", head.lower()) if colon else body):
                    for field in filter(None, (one["field"], one["second"])):
                        place = line, len(slots), 2 * section + 1, rank, not declared.strip().startswith("~")
                        slots.append(
                            Slot(*place, head, one["key"].strip(), (one["sign"] + one["mark"]).rstrip(), field, field == one["second"])
                        )
                yield slots


DECLARED: Final = tuple(_declared())


class May(NamedTuple):
    """What a number, or a heading, may be."""

    slots: tuple[Slot, ...]
    #: the field, or "+name"; "" if there is a choice
    field: str = ""
    #: the place in the print order; 0 if there is a choice, or none that all versions share
    rank: int = 0
    #: the first and the last section in which it may be; None where there is a choice of fields
    bounds: tuple[int, int] | None = None


def may_be(slots: Iterable[Slot]) -> May:
    """One of these."""
    slots = tuple(slots)
    if len({slot.field for slot in slots}) != 1:
        return May(slots)
    ranks = {slot.rank for slot in slots if slot.fixed}
    sections = [slot.section for slot in slots]
    return May(slots, slots[0].field, ranks.pop() if len(ranks) == 1 else 0, (min(sections), max(sections)))


def without_blanks(key: str) -> str:
    """A key as `NUMBERS` has it."""
    return re.sub(r"\s", "", key)


def _numbers() -> dict[tuple[str, str], tuple[May, ...]]:
    found: dict[tuple[str, str], tuple[list[Slot], list[Slot]]] = {}
    for slot in (slot for line in DECLARED for slot in line):
        found.setdefault((slot.head, without_blanks(slot.key)), ([], []))[slot.second].append(slot)
    return {key: tuple(may_be(slots) for slots in both if slots) for key, both in found.items()}


#: What stands before the line ("" if nothing does) and a key without its blanks -> what its number may be, or both its numbers.
NUMBERS: Final = MappingProxyType(_numbers())
#: The registers that have parts.
SEGMENTS: Final = tuple(head for head, key in NUMBERS if key == "limit")


def usual_digits(field: str) -> int:
    """How many digits KVM and Xen print for a field at least."""
    if field not in FIELDS or field in ("tpr_threshold", "posted_interrupt_notification_vector"):
        return 2
    if field.endswith("access_rights"):
        return 5
    return 8 if field == "guest_rflags" else FIELDS[field].width // 4


def _spelled(slot: Slot) -> str:
    """The pattern of a line's beginning: up to what shows that its first number is of this program."""
    key = re.escape(slot.key).replace(r"\ ", r"\s*")
    if slot.head:
        return rf"{slot.head}:\s+(?:sel|attr|limit|base)=" if slot.head in SEGMENTS else rf"{slot.head}:\s*{key}"
    digits = FIELDS[slot.field].width // 4 if slot.sign == "=#" else 0
    return key + {"=": "=", " =": " ?=", "=0x": "= ?0x", " = 0x": r" ?=\s+0x", "=#": rf"= ?[0-9a-fA-F]{{{digits}}}\b"}[slot.sign]


#: How the lines of a dump begin.
STARTS: Final = deferred(
    r"\*\*\* ?(?:Guest|Host|Control) State|VMCS [0-9a-fA-Fx]+, last attempted|EFER\(|MSR (?:guest|host) auto|\d+: msr=|ve_info:|sel\s+attr\s+limit\s+base|"
    r"(?:[CDSEFG]S|LDTR|TR):\s+[0-9a-fA-F]{4}\s+[0-9a-fA-F]{4,8}\s+[0-9a-fA-F]{8}\s|[GI]DTR:\s+[0-9a-fA-F]{4,8}\s+[0-9a-fA-F]{8,16}|"
    + "|".join(dict.fromkeys(_spelled(slots[0]) for slots in DECLARED))
)


@lru_cache(maxsize=1 << 13)
def begins(text: str) -> bool:
    """Whether a line (without prefixes) begins like one of a dump."""
    return STARTS.match(text) is not None


#: What may begin the line after a break: a later number of a line, or the end of a key.
CONTINUES: Final = deferred(
    r"(?:, ?)?(?:actual|msr|value)=|(?:= ?)?(?:x?[0-9a-fA-F]{1,16}|0x[0-9a-fA-F]+)(?:[\s,|]|$)|=$|\((?:0x|effective|autoload|[\w./]+#\w+\))|(?:, ?)?(?:"
    + "|".join(
        dict.fromkeys(
            re.escape(slot.key.split(" ", at)[-1]) + (" ?=" if slot.sign[0] == " " else "=")
            for slots in DECLARED
            for slot in slots
            for at in range(0 if slot.place or slot.head else 1, slot.key.count(" ") + 1)
        )
    )
    + ")"
)
