"""The keys of KVM's and Xen's VMCS dumps: which section each is printed in and which field it shows.

Keys of one section only tell where in the dump a line stands, even when the headings are lost; the keys in `SHARED` are printed for guest
and host alike and say nothing without a neighbour that does.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from vmfuzz.patterns import deferred

GUEST, HOST, CONTROL = "guest", "host", "control"
SECTIONS: Final = (GUEST, HOST, CONTROL)
HEADINGS: Final = MappingProxyType({"guest state": GUEST, "host state": HOST, "control state": CONTROL})

#: Keys of one section: key -> field. In keys a space stands for any number of spaces.
_GUEST: Final = {
    "PDPTR0": "guest_pdpte0",
    "PDPTR1": "guest_pdpte1",
    "PDPTR2": "guest_pdpte2",
    "PDPTR3": "guest_pdpte3",
    "PDPTE0": "guest_pdpte0",
    "PDPTE1": "guest_pdpte1",
    "PDPTE2": "guest_pdpte2",
    "PDPTE3": "guest_pdpte3",
    "EFER(VMCS)": "guest_ia32_efer",
    "RFLAGS": "guest_rflags",
    "DR7": "guest_dr7",
    "DebugCtl": "guest_ia32_debugctl",
    "DebugExceptions": "guest_pending_debug_exceptions",
    "BndCfgS": "guest_ia32_bndcfgs",
    "Interruptibility": "guest_interruptibility_state",
    "ActivityState": "guest_activity_state",
    "InterruptStatus": "guest_interrupt_status",
    "Guest PAT": "guest_ia32_pat",
    "PreemptionTimer": "vmx_preemption_timer_value",
    "SM Base": "guest_smbase",
    "DeadlinePhy": "guest_deadline",
    "DeadlineVir": "guest_deadline_shadow",
    "GuestApicTimerVector": "virtual_timer_vector",
}
_HOST: Final = {
    "Host PAT": "host_ia32_pat",
    "FSBase": "host_fs_base",
    "GSBase": "host_gs_base",
    "TRBase": "host_tr_base",
    "GDTBase": "host_gdtr_base",
    "IDTBase": "host_idtr_base",
}
_CONTROL: Final = {
    "PinBased": "pin_based_controls",
    "CPUBased": "primary_processor_based_controls",
    "SecondaryExec": "secondary_processor_based_controls",
    "TertiaryExec": "tertiary_processor_based_controls",
    "EntryControls": "vm_entry_controls",
    "ExitControls": "vm_exit_controls",
    "SecondaryExitControls": "secondary_vm_exit_controls",
    "SecondaryVmExit": "secondary_vm_exit_controls",
    "ExceptionBitmap": "exception_bitmap",
    "PFECmask": "page_fault_error_code_mask",
    "PFECmatch": "page_fault_error_code_match",
    "reason": "exit_reason",
    "qualification": "exit_qualification",
    "TSC Offset": "tsc_offset",
    "TSC Multiplier": "tsc_multiplier",
    "TPR Threshold": "tpr_threshold",
    "virt-APIC addr": "virtual_apic_address",
    "APIC-access addr": "apic_access_address",
    "PostedIntrVec": "posted_interrupt_notification_vector",
    "EPT pointer": "eptp",
    "EPTP index": "eptp_index",
    "CR3 target0": "cr3_target_value_0",
    "CR3 target1": "cr3_target_value_1",
    "CR3 target2": "cr3_target_value_2",
    "CR3 target3": "cr3_target_value_3",
    "target0": "cr3_target_value_0",
    "target1": "cr3_target_value_1",
    "target2": "cr3_target_value_2",
    "target3": "cr3_target_value_3",
    "target_count": "cr3_target_count",
    "PLE Gap": "ple_gap",
    "Virtual processor ID": "vpid",
    "VMfunc controls": "vm_function_controls",
    "VE info address": "virtualization_exception_information",
}
#: Keys of one section.
OWN: Final = MappingProxyType({GUEST: _GUEST, HOST: _HOST, CONTROL: _CONTROL})

#: Keys of the control section that Xen before 4.6 prints in the guest's.
APART: Final = frozenset({"tsc_offset", "cr3_target_count", *(f"cr3_target_value_{index}" for index in range(4))})

#: Keys printed for guest and host: the ending of the field's name.
SHARED: Final = MappingProxyType(
    {
        "RSP": "rsp",
        "RIP": "rip",
        "EFER": "ia32_efer",
        "PAT": "ia32_pat",
        "PerfGlobCtl": "ia32_perf_global_ctrl",
        "Sysenter RSP": "ia32_sysenter_esp",
        "S_CET": "ia32_s_cet",
        "SSP": "ssp",
        "SSP TABLE": "ia32_interrupt_ssp_table_addr",
        "INTR SSP TABLE": "ia32_interrupt_ssp_table_addr",
        "SSP_TABLE": "ia32_interrupt_ssp_table_addr",
        "PKRS": "ia32_pkrs",
        "CR3": "cr3",
    }
)
#: Keys that stand for no field of the VMCS; what they show is kept beside it.
BESIDE: Final = MappingProxyType({"EFER(MSR LL)": "efer in the MSR-load list"})

#: "VMEntry:", "VMExit:" and "IDTVectoring:" open a group; the keys in it -> field.
GROUPS: Final = MappingProxyType(
    {
        "VMEntry": {
            "intr_info": "vm_entry_interruption_info",
            "errcode": "vm_entry_exception_error_code",
            "ilen": "vm_entry_instruction_length",
        },
        "VMExit": {
            "intr_info": "vm_exit_interruption_info",
            "errcode": "vm_exit_interruption_error_code",
            "ilen": "vm_exit_instruction_length",
        },
        "IDTVectoring": {"info": "idt_vectoring_info", "errcode": "idt_vectoring_error_code"},
        "PLE Gap": {"Window": "ple_window"},
    }
)
#: The parts of "CR0: actual=..., shadow=..., gh_mask=..."; {} is cr0 or cr4.
CR_PARTS: Final = MappingProxyType(
    {"actual": "guest_{}", "shadow": "{}_read_shadow", "gh_mask": "{}_guest_host_mask", "mask": "{}_guest_host_mask"}
)
#: The parts of "CS: sel=..., attr=..., limit=..., base=...".
SEGMENT_PARTS: Final = MappingProxyType({"sel": "selector", "attr": "access_rights", "limit": "limit", "base": "base"})
SEGMENT_KEYS: Final = ("CS", "DS", "SS", "ES", "FS", "GS", "LDTR", "TR", "GDTR", "IDTR")
#: "CS=0010 SS=0018 ... TR=0040" of the host section.
HOST_SELECTORS: Final = ("CS", "SS", "DS", "ES", "FS", "GS", "TR")
#: What a mail client may leave at the beginning of the line after a break.
CONTINUES: Final = deferred(
    r"(?:, ?)?(?:actual|shadow|gh_mask|mask|base|limit|attr|sel|intr_info|info|msr)=|(?:= ?)?(?:x?[0-9a-fA-F]{1,16}|0x[0-9a-fA-F]+)(?:\s|,|$)|=$|"
    r"TRBase=|CR4=|CS:RIP=|PFECmatch=|SecondaryExec=|TertiaryExec=|ExitControls=|ilen=|errcode=|PAT =|SSP|RIP =|RSP ?=|DR7 =|qualification=|"
    r"\((?:0x|effective|autoload|[\w./]+#\w+\))|"
    r"Window=|virt-APIC|TPR|EPTP index|TSC Mult|value=|DebugExc|(?:[C-GS]S|TR)=[0-9a-fA-F]{4}\b|"
    r"(?:TABLE|SSP TABLE|addr|Threshold|pointer|index|Offset|Multiplier|Gap|(?:processor )?ID|controls|target\d) ?="
)
