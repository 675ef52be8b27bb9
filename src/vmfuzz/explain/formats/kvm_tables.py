"""What Linux KVM (`dump_vmcs`) and Xen (`vmcs_dump_vcpu`) print of a VMCS, line by line, and what follows from that: the numbers with their
places in the print order, how lines begin, which no other program prints, and how the rest of a broken one begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.formats.declared import HOLE
from vmfuzz.patterns import deferred

#: The lines of all versions, in the order in which they are printed; numbers are declared as in declared.py, with the digits that are printed at
#: least where these are not those of the field. Where a version begins a new line or prints another key stands ";", and of several names before a
#: line each has one of its own. What begins a line, and has 0x before its number, has that mark, and with # another key of its line follows: else it
#: is of another program. Before a line stands ~ where not all versions print it there, & where it may change places with the line above, or stand
#: for it, and ! where no other program prints one like it.
_LINES: Final = {
    "guest": """
      ! CR0: actual={guest_cr0}, shadow={cr0_read_shadow}, gh_mask={cr0_guest_host_mask}
      ! CR4: actual={guest_cr4}, shadow={cr4_read_shadow}, gh_mask={cr4_guest_host_mask}
        CR3 = 0x{guest_cr3}
     !& CR3: actual={guest_cr3}
      ~ target_count={cr3_target_count}; target0={cr3_target_value_0}, target1={cr3_target_value_1}
        ; target2={cr3_target_value_2}, target3={cr3_target_value_3}
      ~ PDPTR0 = {guest_pdpte0}  PDPTR1 = {guest_pdpte1}; PDPTR2 = {guest_pdpte2}  PDPTR3 = {guest_pdpte3}
      ~ PDPTE0 = {guest_pdpte0}  PDPTE1 = {guest_pdpte1}; PDPTE2 = {guest_pdpte2}  PDPTE3 = {guest_pdpte3}
        RSP = 0x{guest_rsp}  RIP = 0x{guest_rip}
        RFLAGS=0x{guest_rflags:8}  DR7 = {guest_dr7}
      ! Sysenter RSP={guest_ia32_sysenter_esp} CS:RIP={guest_ia32_sysenter_cs}:{guest_ia32_sysenter_eip}
        CS DS SS ES FS GS: sel={guest_@_selector}, attr={guest_@_access_rights:5}, limit={guest_@_limit}, base={guest_@_base}
        GDTR: limit={guest_@_limit}, base={guest_@_base}
        LDTR: sel={guest_@_selector}, attr={guest_@_access_rights:5}, limit={guest_@_limit}, base={guest_@_base}
        IDTR: limit={guest_@_limit}, base={guest_@_base}
        TR: sel={guest_@_selector}, attr={guest_@_access_rights:5}, limit={guest_@_limit}, base={guest_@_base}
      ~ EFER = 0x{guest_ia32_efer}; EFER(VMCS) = {guest_ia32_efer}; EFER(MSR LL) = {+efer in the MSR-load list:2}
        ; Guest PAT = 0x{guest_ia32_pat}; PAT = 0x{guest_ia32_pat}
      ~ TSC Offset = {tsc_offset}
      ~ PreemptionTimer = {vmx_preemption_timer_value}  SM Base = {guest_smbase}
        DebugCtl = {guest_ia32_debugctl}  DebugExceptions = {guest_pending_debug_exceptions}
      ~ PerfGlobCtl = 0x{guest_ia32_perf_global_ctrl}  BndCfgS = {guest_ia32_bndcfgs}
        Interruptibility = {guest_interruptibility_state}  ActivityState = {guest_activity_state}
      ~ InterruptStatus = {guest_interrupt_status}
      ~ S_CET = 0x{guest_ia32_s_cet}, SSP = 0x{guest_ssp}, SSP TABLE = 0x{guest_ia32_interrupt_ssp_table_addr}
        ; INTR SSP TABLE = 0x{guest_ia32_interrupt_ssp_table_addr}; SSP_TABLE = 0x{guest_ia32_interrupt_ssp_table_addr}
      ~ PKRS = 0x{guest_ia32_pkrs}
    """,
    "host": """
        RIP = 0x{host_rip}  RSP = 0x{host_rsp}
        CS=#{host_cs_selector} SS={host_ss_selector} DS={host_ds_selector}; ES=#{host_es_selector} FS={host_fs_selector}
        ; GS=#{host_gs_selector} SS={host_ss_selector} TR={host_tr_selector}
      ! FSBase={host_fs_base} GSBase={host_gs_base} TRBase={host_tr_base}
      ! GDTBase={host_gdtr_base} IDTBase={host_idtr_base}
        CR0=#{host_cr0} CR3={host_cr3} CR4={host_cr4}
      ! Sysenter RSP={host_ia32_sysenter_esp} CS:RIP={host_ia32_sysenter_cs}:{host_ia32_sysenter_eip}
      ~ EFER = 0x{host_ia32_efer}; Host PAT = 0x{host_ia32_pat}; PAT = 0x{host_ia32_pat}
      ~ PerfGlobCtl = 0x{host_ia32_perf_global_ctrl}
      ~ S_CET = 0x{host_ia32_s_cet}, SSP = 0x{host_ssp}, SSP TABLE = 0x{host_ia32_interrupt_ssp_table_addr}
        ; INTR SSP TABLE = 0x{host_ia32_interrupt_ssp_table_addr}; SSP_TABLE = 0x{host_ia32_interrupt_ssp_table_addr}
      ~ PKRS = 0x{host_ia32_pkrs}
    """,
    "control": """
      ! PinBased=#{pin_based_controls}; CPUBased=#{primary_processor_based_controls}; SecondaryExec=#{secondary_processor_based_controls}
        ; TertiaryExec=#{tertiary_processor_based_controls}; EntryControls=#{vm_entry_controls}; ExitControls=#{vm_exit_controls}
        ; SecondaryExitControls=#{secondary_vm_exit_controls}; SecondaryVmExit=#{secondary_vm_exit_controls}
      ! ExceptionBitmap=#{exception_bitmap} PFECmask={page_fault_error_code_mask} PFECmatch={page_fault_error_code_match}
        VMEntry: intr_info={vm_entry_interruption_info} errcode={vm_entry_exception_error_code} ilen={vm_entry_instruction_length}
        VMExit: intr_info={vm_exit_interruption_info} errcode={vm_exit_interruption_error_code} ilen={vm_exit_instruction_length}
        reason=#{exit_reason} qualification={exit_qualification}
      ! IDTVectoring: info={idt_vectoring_info} errcode={idt_vectoring_error_code}
      ~ TSC Offset = {tsc_offset}; TSC Multiplier = {tsc_multiplier}
      ~ SVI|RVI = {guest_interrupt_status}
      ~ TPR Threshold = {tpr_threshold:2}; PostedIntrVec = {posted_interrupt_notification_vector:2}
      ~ APIC-access addr = {apic_access_address}; virt-APIC addr = {virtual_apic_address}
      ~ EPT pointer = {eptp}  EPTP index = {eptp_index}
      ~ CR3 target0={cr3_target_value_0} target1={cr3_target_value_1}; CR3 target2={cr3_target_value_2} target3={cr3_target_value_3}
     !~ PLE Gap={ple_gap} Window={ple_window}
      ~ Virtual processor ID = {vpid}; VMfunc controls = {vm_function_controls}
      ~ VE info address = {virtualization_exception_information}
      ~ DeadlinePhy = {guest_deadline}  DeadlineVir = {guest_deadline_shadow}
      ~ GuestApicTimerVector = {virtual_timer_vector}
      ~ S_CET = 0x{host_ia32_s_cet}, SSP = 0x{host_ssp}, SSP TABLE = 0x{host_ia32_interrupt_ssp_table_addr}
        ; INTR SSP TABLE = 0x{host_ia32_interrupt_ssp_table_addr}; SSP_TABLE = 0x{host_ia32_interrupt_ssp_table_addr}
    """,
}
_LINE: Final = re.compile(r"^ *(?P<signs>[~&!]*) *(?:(?P<heads>[\w ]+): )?(?P<numbers>[^\s;].*(?:\n *;.*)*)$", re.MULTILINE)


class Slot(NamedTuple):
    """A number of a declared line: its place in the print order, what is printed before it, and what it is."""

    #: the declared line, and the number's place in it
    line: int
    place: int
    #: 3, 5, 7 for the guest's, the host's and the control section; the heading before it has one less
    section: int
    #: the place of the line among those that all versions print in the same order; 0: it is none of these
    rank: int
    #: what stands before the whole line ("CS", "VMEntry"), the number's key, what stands before its digits
    head: str
    key: str
    mark: str
    #: "+name" for what is no field; "" for a heading
    field: str
    #: how many digits it has at least; 1 for the second number of a key, behind a colon
    digits: int = 0
    part: int = 0
    #: whether a line may begin with it: ";", or "!" where that line is of no other program
    begins: str = ""


def _declared() -> Iterator[tuple[Slot, ...]]:
    """The numbers of each line."""
    line, rank = 0, 0
    for section, declared in ((2 * index + 3, one) for index, text in enumerate(_LINES.values()) for one in _LINE.finditer(text)):
        signs = declared["signs"]
        for head in (declared["heads"] or "").split() or [""]:
            line, rank = line + 1, rank + (not set("~&") & set(signs))
            slots: list[Slot] = []
            for place, (before, field, digits) in enumerate(HOLE.findall(declared["numbers"].replace("@", head.lower()))):
                begins = ("!" if "!" in signs else ";") if not place or ";" in before else ""
                key, _, mark = (slots[-1].key, "", "") if before == ":" else map(str.strip, before.strip(";, \n").rpartition("="))
                width = int(digits or FIELDS[field].width // 4)
                slots.append(
                    Slot(line, place, section, rank * ("~" not in signs), head, key, mark, field, width, int(before == ":"), begins)
                )
            yield tuple(slots)


DECLARED: Final = tuple(_declared())
#: The headings, each as the one number of a line before its section.
HEADINGS: Final = {name.title(): Slot(0, 0, 2 * index + 2, 0, "", "***", "", "") for index, name in enumerate(_LINES)}
#: The registers that have parts.
SEGMENTS: Final = tuple(line[0].head for line in DECLARED if line[-1].key == "base")
#: What stands before the line ("" if nothing does) and a key without its blanks -> what its number may be, or its numbers.
NUMBERS: Final[dict[tuple[str, str], list[Slot]]] = {}
for _slot in chain(*DECLARED):
    NUMBERS.setdefault((_slot.head, "".join(_slot.key.split())), []).append(_slot)


def alternatives(keys: Iterable[str]) -> str:
    """The pattern of one of these keys; where it has a blank, a mail program may have broken the line."""
    return "|".join(map(re.escape, sorted(set(keys), key=lambda key: (-len(key), key)))).replace(r"\ ", r"\s*")


def _signed(*keys: str) -> str:
    return rf"(?:{alternatives(keys)})\s*="


_HEX: Final = "[0-9a-fA-F]"
_SLOTS: Final = tuple(chain(*DECLARED))
_PARTS: Final = _signed(*(slot.key for slot in _SLOTS if slot.head))
#: Headings, and Xen's columns.
_HEADINGS: Final = (
    r"\*\*\* ?(?:Guest|Host|Control) State|VMCS [0-9a-fA-Fx]+, last attempted|sel\s+attr\s+limit\s+base|MSR (?:guest|host) auto|RSP = 0x\w+ \(0x"
    rf"|(?:{'|'.join(SEGMENTS)}):\s+(?:{_HEX}{{4,8}}\s+){{1,3}}{_HEX}{{8,16}}\b"
)


def _beginning(slot: Slot, end: str) -> str:
    """The pattern of a line that begins with this number, up to what shows that it is of these programs; `end`: where the line may end before that."""
    if slot.head:
        return rf"{slot.head}:(?:\s*{_PARTS}{end})"
    if slot.mark == "#" and not (end and slot.begins == "!"):
        return rf"{_signed(slot.key)}\s*\S+(?:\s+{_signed(*(one.key for one in _SLOTS if one.line == slot.line))}{end})"
    return rf"{_signed(slot.key)}\s*{slot.mark.strip('#')}"


#: Lines that no other program prints.
OWN: Final = deferred("|".join([_HEADINGS, *(_beginning(slot, "") for slot in _SLOTS if slot.begins == "!")]))
#: How the lines of a dump begin.
STARTS: Final = deferred("|".join([_HEADINGS, r"\d+: msr=", *(_beginning(slot, "|$") for slot in _SLOTS if slot.begins)]))
#: What may begin the line after a break: a number, what stands between numbers, a key or its end.
CONTINUES: Final = deferred(
    r"(?:= ?)?(?:0?x)?[0-9a-fA-F]{1,16}(?:[\s,|]|$)|=$|value=|\((?:0x|effective|autoload)|(?:, ?)?"
    + _signed(
        *(slot.key for slot in _SLOTS if slot.place or slot.head), *(slot.key.partition(" ")[2] for slot in _SLOTS if " " in slot.key)
    )
)
