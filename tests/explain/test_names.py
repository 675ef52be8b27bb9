"""Labels of other programs find their fields; labels that fit several say so."""

from __future__ import annotations

import pytest

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.names.labels import _index, match_label, match_msr
from vmfuzz.explain.names.tables import ALIASES

NAMES = {
    "GUEST_CS_AR_BYTES": "guest_cs_access_rights",
    "GuestCsArBytes": "guest_cs_access_rights",
    "VMCS_32BIT_GUEST_CS_ACCESS_RIGHTS": "guest_cs_access_rights",
    "VMX_VMCS32_GUEST_CS_ACCESS_RIGHTS": "guest_cs_access_rights",
    "vmcs::guest::CS_ACCESS_RIGHTS": "guest_cs_access_rights",
    "PIN_BASED_VM_EXEC_CONTROL": "pin_based_controls",
    "CPU_BASED_VM_EXEC_CONTROL": "primary_processor_based_controls",
    "VMX_VMCS32_CTRL_PROC_EXEC2": "secondary_processor_based_controls",
    "SECONDARY_VM_EXEC_CONTROL": "secondary_processor_based_controls",
    "VM_ENTRY_INTR_INFO_FIELD": "vm_entry_interruption_info",
    "VM-entry interruption-information field": "vm_entry_interruption_info",
    "IDT_VECTORING_INFO_FIELD": "idt_vectoring_info",
    "GUEST_INTERRUPTIBILITY_INFO": "guest_interruptibility_state",
    "VMX_VMCS32_GUEST_INT_STATE": "guest_interruptibility_state",
    "CR0_GUEST_HOST_MASK": "cr0_guest_host_mask",
    "VMCS_32BIT_CONTROL_EXECUTION_BITMAP": "exception_bitmap",
    "VMCS_64BIT_CONTROL_VMENTRY_MSR_LOAD_ADDR": "vm_entry_msr_load_address",
    "VMCS_CTRL_PROCESSOR_BASED_VM_EXECUTION_CONTROLS": "primary_processor_based_controls",
    "VMCS_CTRL_PRIMARY_VMEXIT_CONTROLS": "vm_exit_controls",
    "primary cpu based controls": "primary_processor_based_controls",
    "vmcs link": "vmcs_link_pointer",
    "dbgctl": "guest_ia32_debugctl",
    "Guest Task Register Selector": "guest_tr_selector",
    "Guest interrupt descriptor table base": "guest_idtr_base",
    "Extended-page-table pointer": "eptp",
    "EFlags": "guest_rflags",
    "HOST_IA32_SYSENTER_CS": "host_ia32_sysenter_cs",
    "VM_EXIT_INFO_QUALIFICATION": "exit_qualification",
    "Virtual processor ID": "vpid",
    "VMfunc controls": "vm_function_controls",
    "G_CR0": "guest_cr0",
    "H_CR0": "host_cr0",
    "g_cr4": "guest_cr4",
    "G_CS_AR": "guest_cs_access_rights",
    "H_TR_BASE": "host_tr_base",
    "idt_vec": "idt_vectoring_info",
    "idt_err": "idt_vectoring_error_code",
    "info_vminstr_error": "vm_instruction_error",
    "info_vmexit_interrupt_error_code": "vm_exit_interruption_error_code",
    "info_IDT_vectoring_error_code": "idt_vectoring_error_code",
    "guest_paddr": "guest_physical_address",
    "info_guest_linear_address": "guest_linear_address",
    "info_IO_RCX": "io_rcx",
    "info_IO_RIP": "io_rip",
    "control_Task_PRivilege_Threshold": "tpr_threshold",
    "control_post_interrupt_notification_vec": "posted_interrupt_notification_vector",
    "control_subpage_permission_table_pointer": "sub_page_permission_table_pointer",
}


@pytest.mark.parametrize(("label", "field"), NAMES.items())
def test_a_label_finds_its_field(label, field):
    assert match_label(label).fields == (field,)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_is_found_by_its_own_name_in_any_spelling(name):
    for label in (name, name.upper(), name.replace("_", " "), name.title().replace("_", "")):
        assert match_label(label).fields == (name,), label


def test_no_set_of_words_stands_for_two_fields_of_one_area():
    assert not {tuple(sorted(words)): names for words, areas in _index().items() for names in areas.values() if len(names) > 1}


def test_aliases_name_existing_fields():
    assert {name for name, _ in ALIASES} <= set(FIELDS)


def test_a_label_without_area_is_guest_state_by_assumption_only():
    assert match_label("cr0").assumed_guest
    assert match_label("cr0", area="host").fields == ("host_cr0",)
    assert not match_label("guest cr0").assumed_guest


@pytest.mark.parametrize("label", ["", "field", "error code", "intr info", "guest host rip", "the quick brown fox jumps over it all again"])
def test_what_names_no_single_field_finds_none(label):
    assert match_label(label).fields == ()


def test_the_high_half_is_told_from_the_field():
    match = match_label("GUEST_IA32_EFER_HIGH")
    assert match.fields == ("guest_ia32_efer",)
    assert match.high


def test_context_completes_a_label():
    assert match_label("intr", ("entry", "state")).fields == ("vm_entry_interruption_info",)
    assert match_label("ilen", ("exit",)).fields == ("vm_exit_instruction_length",)


def test_capability_msrs():
    assert match_msr("ia32_vmx_basic") == 0x480
    assert match_msr("MSR_IA32_VMX_PINBASED_CTLS") == 0x481
    assert match_msr("0x0000048b") == 0x48B
    assert match_msr("msr[480]") == 0x480
    assert match_msr("480") is None
    assert match_msr("guest cr0") is None
    assert match_msr("CR0_FIXED0") == 0x486
    assert match_msr("CR4 fixed1") == 0x489
    assert match_msr("TRUE_PROCBASED") == 0x48E
    assert match_msr("MSR_IA32_VMX_EPT_VPID_CAPS") == 0x48C
