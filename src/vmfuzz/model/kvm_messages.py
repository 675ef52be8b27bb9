"""Which checks each consistency check of KVM's nested VMX stands for: its own word on a failed entry.

Keys are the texts of the tracepoint kvm_nested_vmenter_failed, which are source text: the arguments of the macro CC() in
arch/x86/kvm/vmx/nested.c of Linux 6.1 and 6.12. Where the processor below KVM makes the check, there is no text, or that of `BELOW`.
"""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import Final

from vmfuzz.model.messages import Messages

#: What the tracepoint says where the processor below refused KVM's own VMCS by a VM-instruction error.
BELOW: Final = "hardware VM-instruction error: "
#: What follows there -> the VM-instruction error; Linux has no other names.
BELOW_ERRORS: Final = MappingProxyType(
    {
        "VMLAUNCH_NONCLEAR_VMCS": 4,
        "VMRESUME_NONLAUNCHED_VMCS": 5,
        "VMRESUME_AFTER_VMXOFF": 6,
        "VMENTRY_INVALID_CONTROL_FIELD": 7,
        "VMENTRY_INVALID_HOST_STATE_FIELD": 8,
        "VMENTRY_EVENTS_BLOCKED_BY_MOV_SS": 26,
    }
)

_TABLE: Final[dict[str, tuple[str, ...]]] = {
    # nested_vmx_run
    "!evmptr_is_valid(vmx->nested.hv_evmcs_vmptr) && vmx->nested.current_vmptr == INVALID_GPA": ("basic.current",),
    "!nested_vmx_is_evmptr12_valid(vmx) && vmx->nested.current_vmptr == INVALID_GPA": ("basic.current",),
    "evmptrld_status == EVMPTRLD_VMFAIL": (),
    "vmcs12->hdr.shadow_vmcs": ("basic.shadow",),
    "interrupt_shadow & KVM_X86_SHADOW_INT_MOV_SS": ("basic.movss",),
    "vmcs12->launch_state == launch": ("basic.launch.clear", "basic.resume.launched"),
    # nested_check_vm_execution_controls
    "!vmx_control_verify(vmcs12->pin_based_vm_exec_control, vmx->nested.msrs.pinbased_ctls_low, vmx->nested.msrs.pinbased_ctls_high)": (
        "ctl.pin.allowed*",
    ),
    "!vmx_control_verify(vmcs12->cpu_based_vm_exec_control, vmx->nested.msrs.procbased_ctls_low, vmx->nested.msrs.procbased_ctls_high)": (
        "ctl.prim.allowed*",
    ),
    "!vmx_control_verify(vmcs12->secondary_vm_exec_control, vmx->nested.msrs.secondary_ctls_low, vmx->nested.msrs.secondary_ctls_high)": (
        "ctl.sec.allowed",
    ),
    "vmcs12->cr3_target_count > nested_cpu_vmx_misc_cr3_count(vcpu)": ("ctl.cr3target.count",),
    "!page_address_valid(vcpu, vmcs12->io_bitmap_a)": ("ctl.iobitmap.*.a",),
    "!page_address_valid(vcpu, vmcs12->io_bitmap_b)": ("ctl.iobitmap.*.b",),
    "!page_address_valid(vcpu, vmcs12->msr_bitmap)": ("ctl.msrbitmap.*",),
    "!page_address_valid(vcpu, vmcs12->virtual_apic_page_addr)": ("ctl.vapic.*",),
    "!page_address_valid(vcpu, vmcs12->apic_access_addr)": ("ctl.apicaccess.*",),
    "nested_cpu_has_virt_x2apic_mode(vmcs12) && nested_cpu_has2(vmcs12, SECONDARY_EXEC_VIRTUALIZE_APIC_ACCESSES)": (
        "ctl.x2apic.vs-apicaccess",
    ),
    "nested_cpu_has_vid(vmcs12) && !nested_exit_on_intr(vcpu)": ("ctl.vid.needs-extint",),
    "!nested_cpu_has_vid(vmcs12)": ("ctl.pir.needs-vid",),
    "!nested_exit_intr_ack_set(vcpu)": ("ctl.pir.needs-ackint",),
    "(vmcs12->posted_intr_nv & 0xff00)": ("ctl.pir.vector",),
    "!kvm_vcpu_is_legal_aligned_gpa(vcpu, vmcs12->posted_intr_desc_addr, 64)": ("ctl.pir.desc.*",),
    "!nested_cpu_has(vmcs12, CPU_BASED_TPR_SHADOW)": (
        "ctl.x2apic.needs-tprshadow",
        "ctl.apicreg.needs-tprshadow",
        "ctl.vid.needs-tprshadow",
    ),
    "!nested_cpu_has_nmi_exiting(vmcs12) && nested_cpu_has_virtual_nmis(vmcs12)": ("ctl.nmi.virtual",),
    "!nested_cpu_has_virtual_nmis(vmcs12) && nested_cpu_has(vmcs12, CPU_BASED_NMI_WINDOW_EXITING)": ("ctl.nmi.window",),
    "!nested_cpu_has_ept(vmcs12)": ("ctl.pml.needs-ept", "ctl.vmfunc.eptpsw.needs-ept"),
    "!page_address_valid(vcpu, vmcs12->pml_address)": ("ctl.pml.align", "ctl.pml.width"),
    "nested_cpu_has2(vmcs12, SECONDARY_EXEC_UNRESTRICTED_GUEST) && !nested_cpu_has_ept(vmcs12)": ("ctl.ug.needs-ept",),
    "nested_cpu_has2(vmcs12, SECONDARY_EXEC_MODE_BASED_EPT_EXEC) && !nested_cpu_has_ept(vmcs12)": ("ctl.mbec.needs-ept",),
    "!page_address_valid(vcpu, vmcs12->vmread_bitmap)": ("ctl.shadow.vmread.*",),
    "!page_address_valid(vcpu, vmcs12->vmwrite_bitmap)": ("ctl.shadow.vmwrite.*",),
    "nested_cpu_has_vpid(vmcs12) && !vmcs12->virtual_processor_id": ("ctl.vpid.nonzero",),
    "!(vmx->nested.msrs.ept_caps & VMX_EPTP_UC_BIT)": ("ctl.eptp.memtype",),
    "!(vmx->nested.msrs.ept_caps & VMX_EPTP_WB_BIT)": ("ctl.eptp.memtype",),
    "!(vmx->nested.msrs.ept_caps & VMX_EPT_PAGE_WALK_5_BIT)": ("ctl.eptp.walk",),
    "!(vmx->nested.msrs.ept_caps & VMX_EPT_PAGE_WALK_4_BIT)": ("ctl.eptp.walk",),
    "kvm_vcpu_is_illegal_gpa(vcpu, new_eptp) || ((new_eptp >> 7) & 0x1f)": ("ctl.eptp.reserved*", "ctl.eptp.sss*"),
    "!kvm_vcpu_is_legal_gpa(vcpu, new_eptp) || ((new_eptp >> 7) & 0x1f)": ("ctl.eptp.reserved*", "ctl.eptp.sss*"),
    "!(vmx->nested.msrs.ept_caps & VMX_EPT_AD_BIT)": ("ctl.eptp.ad",),
    "!nested_vmx_check_eptp(vcpu, vmcs12->ept_pointer)": ("ctl.eptp.*",),
    "vmcs12->vm_function_control & ~vmx->nested.msrs.vmfunc_controls": ("ctl.vmfunc.allowed",),
    "!page_address_valid(vcpu, vmcs12->eptp_list_address)": ("ctl.vmfunc.eptplist.*",),
    # nested_check_vm_exit_controls
    "!vmx_control_verify(vmcs12->vm_exit_controls, vmx->nested.msrs.exit_ctls_low, vmx->nested.msrs.exit_ctls_high)": (
        "ctl.exit.allowed*",
    ),
    "nested_vmx_check_msr_switch(vcpu, vmcs12->vm_exit_msr_load_count, vmcs12->vm_exit_msr_load_addr)": ("ctl.exit.msrload.*",),
    "nested_vmx_check_msr_switch(vcpu, vmcs12->vm_exit_msr_store_count, vmcs12->vm_exit_msr_store_addr)": ("ctl.exit.msrstore.*",),
    "nested_vmx_check_exit_msr_switch_controls(vcpu, vmcs12)": ("ctl.exit.msrload.*", "ctl.exit.msrstore.*"),
    # nested_check_vm_entry_controls
    "!vmx_control_verify(vmcs12->vm_entry_controls, vmx->nested.msrs.entry_ctls_low, vmx->nested.msrs.entry_ctls_high)": (
        "ctl.entry.allowed*",
        "ctl.entry.smm.*",
    ),
    "intr_type == INTR_TYPE_RESERVED": ("ctl.inject.type.reserved",),
    "intr_type == INTR_TYPE_OTHER_EVENT && !nested_cpu_supports_monitor_trap_flag(vcpu)": ("ctl.inject.type.other",),
    "intr_type == INTR_TYPE_NMI_INTR && vector != NMI_VECTOR": ("ctl.inject.vector.nmi",),
    "intr_type == INTR_TYPE_HARD_EXCEPTION && vector > 31": ("ctl.inject.vector.hwexc",),
    "intr_type == INTR_TYPE_OTHER_EVENT && vector != 0": ("ctl.inject.vector.other",),
    "has_error_code != should_have_error_code": ("ctl.inject.errcode.required*", "ctl.inject.errcode.forbidden.*"),
    "has_error_code && vmcs12->vm_entry_exception_error_code & GENMASK(31, 16)": ("ctl.inject.errcode.value",),
    "intr_info & INTR_INFO_RESVD_BITS_MASK": ("ctl.inject.reserved", "ctl.inject.nested"),
    "vmcs12->vm_entry_instruction_len > 15": ("ctl.inject.instrlen",),
    "vmcs12->vm_entry_instruction_len == 0 && CC(!nested_cpu_has_zero_length_injection(vcpu))": ("ctl.inject.instrlen",),
    "!nested_cpu_has_zero_length_injection(vcpu)": ("ctl.inject.instrlen",),
    "nested_vmx_check_msr_switch(vcpu, vmcs12->vm_entry_msr_load_count, vmcs12->vm_entry_msr_load_addr)": ("ctl.entry.msrload.*",),
    # nested_vmx_check_address_space_size
    "!!(vmcs12->vm_exit_controls & VM_EXIT_HOST_ADDR_SPACE_SIZE) != !!(vcpu->arch.efer & EFER_LMA)": (
        "host.as.lma*.exit",
        "host.as.no64.exit",
    ),
    # nested_vmx_check_host_state
    "!nested_host_cr0_valid(vcpu, vmcs12->host_cr0)": ("host.cr0.fixed.*",),
    "!nested_host_cr4_valid(vcpu, vmcs12->host_cr4)": ("host.cr4.fixed.*",),
    "vmcs12->host_cr4 & X86_CR4_CET && !(vmcs12->host_cr0 & X86_CR0_WP)": ("host.cr4.cet-wp",),
    "!kvm_pat_valid(vmcs12->host_ia32_pat)": ("host.pat",),
    "!kvm_valid_perf_global_ctrl(vcpu_to_pmu(vcpu), vmcs12->host_ia32_perf_global_ctrl)": ("host.perfglobal",),
    "!(vmcs12->host_cr4 & X86_CR4_PAE)": ("host.as.64.pae",),
    "vmcs12->vm_entry_controls & VM_ENTRY_IA32E_MODE": ("host.as.ia32e", "host.as.no64.entry", "host.as.lma0.entry"),
    "vmcs12->host_cr4 & X86_CR4_PCIDE": ("host.as.32.pcide",),
    "(vmcs12->host_rip) >> 32": ("host.as.32.rip",),
    "vmcs12->host_cs_selector == 0": ("host.sel.cs.null",),
    "vmcs12->host_tr_selector == 0": ("host.sel.tr.null",),
    "vmcs12->host_ss_selector == 0 && !ia32e": ("host.sel.ss.null",),
    "!kvm_valid_efer(vcpu, vmcs12->host_ia32_efer)": ("host.efer.reserved",),
    # one text for the host's IA32_EFER and the guest's
    "ia32e != !!(vmcs12->host_ia32_efer & EFER_LMA)": ("host.efer.lma",),
    "ia32e != !!(vmcs12->host_ia32_efer & EFER_LME)": ("host.efer.lme",),
    # nested_vmx_check_guest_state
    "!nested_guest_cr0_valid(vcpu, vmcs12->guest_cr0)": ("guest.cr0.fixed.*",),
    "!nested_guest_cr4_valid(vcpu, vmcs12->guest_cr4)": ("guest.cr4.fixed.*",),
    "vmcs12->guest_cr4 & X86_CR4_CET && !(vmcs12->guest_cr0 & X86_CR0_WP)": ("guest.cr4.cet-wp",),
    "!kvm_dr7_valid(vmcs12->guest_dr7)": ("guest.dr7",),
    "!vmx_is_valid_debugctl(vcpu, vmcs12->guest_ia32_debugctl, false)": ("guest.debugctl*",),
    "!vmx_is_valid_debugctl(vcpu, debugctl, false)": ("guest.debugctl*",),
    "!kvm_pat_valid(vmcs12->guest_ia32_pat)": ("guest.pat",),
    "!page_address_valid(vcpu, vmcs12->vmcs_link_pointer)": ("guest.link.align", "guest.link.width"),
    "kvm_gfn_to_hva_cache_init(vcpu->kvm, ghc, vmcs12->vmcs_link_pointer, VMCS12_SIZE)": ("guest.link.revision", "guest.link.shadow"),
    "kvm_read_guest_offset_cached(vcpu->kvm, ghc, &hdr, offsetof(struct vmcs12, hdr), sizeof(hdr))": (
        "guest.link.revision",
        "guest.link.shadow",
    ),
    "hdr.revision_id != VMCS12_REVISION": ("guest.link.revision",),
    "hdr.shadow_vmcs != nested_cpu_has_shadow_vmcs(vmcs12)": ("guest.link.shadow",),
    "!kvm_valid_perf_global_ctrl(vcpu_to_pmu(vcpu), vmcs12->guest_ia32_perf_global_ctrl)": ("guest.perfglobal",),
    "(vmcs12->guest_cr0 & (X86_CR0_PG | X86_CR0_PE)) == X86_CR0_PG": ("guest.cr0.pg-pe",),
    "ia32e && !(vmcs12->guest_cr4 & X86_CR4_PAE)": ("guest.ia32e.pae",),
    "ia32e && !(vmcs12->guest_cr0 & X86_CR0_PG)": ("guest.ia32e.pg",),
    "!kvm_valid_efer(vcpu, vmcs12->guest_ia32_efer)": ("guest.efer.reserved",),
    "ia32e != !!(vmcs12->guest_ia32_efer & EFER_LMA)": ("guest.efer.lma",),
    "((vmcs12->guest_cr0 & X86_CR0_PG) && ia32e != !!(vmcs12->guest_ia32_efer & EFER_LME))": ("guest.efer.lme",),
    "is_noncanonical_address(vmcs12->guest_bndcfgs & PAGE_MASK, vcpu)": ("guest.bndcfgs.canonical",),
    "is_noncanonical_msr_address(vmcs12->guest_bndcfgs & PAGE_MASK, vcpu)": ("guest.bndcfgs.canonical",),
    "(vmcs12->guest_bndcfgs & MSR_IA32_BNDCFGS_RSVD)": ("guest.bndcfgs.reserved",),
    "vmcs12->guest_activity_state != GUEST_ACTIVITY_ACTIVE && vmcs12->guest_activity_state != GUEST_ACTIVITY_HLT && "
    "vmcs12->guest_activity_state != GUEST_ACTIVITY_WAIT_SIPI": ("guest.activity.range",),
    # prepare_vmcs02: without unrestricted guest, all of the guest's segments and RFLAGS at once
    "from_vmentry && !vmx_guest_state_valid(vcpu)": ("guest.*",),  # _WHOLE_STATE
    # nested_vmx_load_cr3
    "kvm_vcpu_is_illegal_gpa(vcpu, cr3)": ("guest.cr3.reserved*", "host.cr3.reserved"),
    "!kvm_vcpu_is_legal_cr3(vcpu, cr3)": ("guest.cr3.reserved*", "host.cr3.reserved"),
    "!load_pdptrs(vcpu, cr3)": ("guest.pdpte.memory.*",),
    "!load_pdptrs(vcpu, vcpu->arch.cr3)": ("guest.pdpte.memory.*",),
    # nested_vmx_load_msr
    "e->index == MSR_FS_BASE": ("msrload.fsgs.*",),
    "e->index == MSR_GS_BASE": ("msrload.fsgs.*",),
    "e->index == MSR_IA32_SMM_MONITOR_CTL": ("msrload.smm.*",),
    "e->index == MSR_IA32_SMBASE": (),
    "vcpu->arch.apic_base & X2APIC_ENABLE && e->index >> 8 == 0x8": ("msrload.x2apic.*",),
    "e->index == MSR_IA32_UCODE_WRITE": ("msrload.wrmsr.*",),
    "e->index == MSR_IA32_UCODE_REV": ("msrload.wrmsr.*",),
    "e->reserved != 0": ("msrload.reserved.*",),
}
for _register in ("cs", "ss", "ds", "es", "fs", "gs", "tr"):
    _TABLE[f"vmcs12->host_{_register}_selector & (SEGMENT_RPL_MASK | SEGMENT_TI_MASK)"] = (f"host.sel.{_register}.rpl-ti",)
for _function, _end in (("!kvm_vcpu_is_legal_cr3(vcpu", ")"), ("kvm_vcpu_is_illegal_gpa(vcpu", ")")):
    _TABLE[f"{_function}, vmcs12->host_cr3{_end}"] = ("host.cr3.reserved",)
for _name in ("esp", "eip"):
    for _kind in ("", "_msr"):
        _TABLE[f"is_noncanonical{_kind}_address(vmcs12->host_ia32_sysenter_{_name}, vcpu)"] = (f"host.sysenter.{_name}",)
for _name in ("fs", "gs", "gdtr", "idtr", "tr"):
    for _kind in ("", "_base"):
        _TABLE[f"is_noncanonical{_kind}_address(vmcs12->host_{_name}_base, vcpu)"] = (f"host.base.{_name}",)
for _end in ("", ", 0"):
    _TABLE[f"is_noncanonical_address(vmcs12->host_rip, vcpu{_end})"] = ("host.as.64.rip", "host.as.32.rip")

#: Made by nested_check_vm_execution_controls itself, without a text.
SILENT: Final = frozenset({"ctl.exit.savetimer"})
CONSISTENCY_CHECKS: Final = Messages(_TABLE)

#: The guest state that KVM looks at as a whole, with one text, where the guest is not unrestricted.
_WHOLE_STATE: Final = "from_vmentry && !vmx_guest_state_valid(vcpu)"


@cache
def checks_without_text() -> tuple[str, ...]:
    """Ids of the checks that KVM does not make itself, in the SDM's order: the processor below makes them, or nobody."""
    return tuple(id for id in CONSISTENCY_CHECKS.checks_without({_WHOLE_STATE}) if id not in SILENT)
