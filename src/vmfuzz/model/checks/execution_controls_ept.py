"""SDM Vol. 3C, "VM-Execution Control Fields", second half: EPT and what rests on it, VM functions, PT, HLAT; VMfailValid, error 7."""

from vmfuzz.arch.controls import Entry, Exit, Primary, Secondary, Tertiary, VmFunction
from vmfuzz.arch.registers import EPTP, RTIT_CTL
from vmfuzz.model.checks.execution_controls import VIRTUAL_INTERRUPT_DELIVERY, execution
from vmfuzz.model.expr import all_of, any_of
from vmfuzz.model.operands import aligned, cap, enabled, has, live, vmcs, within_physical_width

# Extended page tables and what depends on them

EPT = enabled(Secondary.ENABLE_EPT)
execution.check(
    "ctl.eptp.memtype",
    'If "enable EPT" is 1, the EPT memory type (EPTP[2:0]) must be one that the processor supports: 0 (UC) or 6 (WB).',
    when=EPT,
    must=any_of(
        all_of(vmcs.eptp[2:0] == 0, (cap.ept_vpid_cap & 1 << 8) != 0),
        all_of(vmcs.eptp[2:0] == 6, (cap.ept_vpid_cap & 1 << 14) != 0),
    ),
)
execution.check(
    "ctl.eptp.walk",
    'If "enable EPT" is 1, EPTP[5:3] must be one less than an EPT page-walk length that the processor supports: 3, or 4 with 5-level EPT.',
    when=EPT,
    must=any_of(
        all_of(vmcs.eptp[5:3] == 3, (cap.ept_vpid_cap & 1 << 6) != 0),
        all_of(vmcs.eptp[5:3] == 4, (cap.ept_vpid_cap & 1 << 7) != 0),
    ),
)
execution.check(
    "ctl.eptp.ad",
    'If "enable EPT" is 1 and the processor does not support accessed and dirty flags for EPT, EPTP[6] must be 0.',
    requires=(cap.ept_vpid_cap & 1 << 21) == 0,
    when=EPT,
    must=~vmcs.eptp[EPTP.ACCESSED_DIRTY],
)
execution.check(
    "ctl.eptp.sss",
    'If "enable EPT" is 1 and the processor does not support supervisor shadow-stack control, EPTP[7] must be 0.',
    requires=(cap.ept_vpid_cap & 1 << 23) == 0,
    when=EPT,
    must=~vmcs.eptp[EPTP.SUPERVISOR_SHADOW_STACK],
)
execution.check(
    "ctl.eptp.sss.text",
    'If "enable EPT" is 1, EPTP[7] must be 0: the check\'s sentence lists bits 11:7 as reserved even where the processor supports '
    "supervisor shadow-stack control and the field's table defines bit 7.",
    requires=(cap.ept_vpid_cap & 1 << 23) != 0,
    when=EPT,
    must=~vmcs.eptp[EPTP.SUPERVISOR_SHADOW_STACK],
    ambiguity="eptp-bit-7",
)
execution.check(
    "ctl.eptp.reserved",
    'If "enable EPT" is 1, EPTP[11:8] must be 0.',
    when=EPT,
    must=vmcs.eptp[11:8] == 0,
)
execution.check(
    "ctl.eptp.reserved.width",
    'If "enable EPT" is 1, the EPTP must not set bits beyond the physical-address width.',
    when=EPT,
    must=within_physical_width(vmcs.eptp),
)
execution.check(
    "ctl.pml.needs-ept",
    'If "enable PML" is 1, "enable EPT" must be 1.',
    when=enabled(Secondary.ENABLE_PML),
    must=EPT,
)
execution.check(
    "ctl.pml.align",
    'If "enable PML" is 1, bits 11:0 of the PML address must be 0.',
    when=enabled(Secondary.ENABLE_PML),
    must=aligned(vmcs.pml_address, 12),
)
execution.check(
    "ctl.pml.width",
    'If "enable PML" is 1, the PML address must not set bits beyond the physical-address width.',
    when=enabled(Secondary.ENABLE_PML),
    must=within_physical_width(vmcs.pml_address),
)
for id, control, name in (
    ("ug", Secondary.UNRESTRICTED_GUEST, "unrestricted guest"),
    ("mbec", Secondary.MODE_BASED_EXECUTE_CONTROL_FOR_EPT, "mode-based execute control for EPT"),
    ("spp", Secondary.SUB_PAGE_WRITE_PERMISSIONS, "sub-page write permissions for EPT"),
    ("pt", Secondary.PT_USES_GUEST_PHYSICAL_ADDRESSES, "Intel PT uses guest physical addresses"),
    ("pebs", Tertiary.PEBS_USES_GUEST_PHYSICAL_ADDRESSES, "PEBS uses guest physical addresses"),
    ("hlat", Tertiary.ENABLE_HLAT, "enable HLAT"),
    ("eptpw", Tertiary.EPT_PAGING_WRITE_CONTROL, "EPT paging-write control"),
    ("gpv", Tertiary.GUEST_PAGING_VERIFICATION, "guest-paging verification"),
):
    execution.check(
        f"ctl.{id}.needs-ept",
        f'If "{name}" is 1, "enable EPT" must be 1.',
        when=enabled(control),
        must=EPT,
    )
execution.check(
    "ctl.spp.align",
    'If "sub-page write permissions for EPT" is 1, bits 11:0 of the SPPTP must be 0.',
    when=enabled(Secondary.SUB_PAGE_WRITE_PERMISSIONS),
    must=aligned(vmcs.sub_page_permission_table_pointer, 12),
)
execution.check(
    "ctl.spp.width",
    'If "sub-page write permissions for EPT" is 1, the SPPTP must not set bits beyond the physical-address width.',
    when=enabled(Secondary.SUB_PAGE_WRITE_PERMISSIONS),
    must=within_physical_width(vmcs.sub_page_permission_table_pointer),
)

# VM functions, VMCS shadowing, virtualization exceptions

VM_FUNCTIONS = enabled(Secondary.ENABLE_VM_FUNCTIONS)
EPTP_SWITCHING = enabled(VmFunction.EPTP_SWITCHING)
execution.check(
    "ctl.vmfunc.allowed",
    'If "enable VM functions" is 1, every VM-function control that may not be 1 on this processor must be 0.',
    when=VM_FUNCTIONS,
    must=(vmcs.vm_function_controls | cap.vm_function_may_be_1) == cap.vm_function_may_be_1,
)
execution.check(
    "ctl.vmfunc.eptpsw.needs-ept",
    'If "EPTP switching" is 1, "enable EPT" must be 1.',
    when=EPTP_SWITCHING,
    must=EPT,
)
execution.check(
    "ctl.vmfunc.eptplist.align",
    'If "EPTP switching" is 1, bits 11:0 of the EPTP-list address must be 0.',
    when=EPTP_SWITCHING,
    must=aligned(vmcs.eptp_list_address, 12),
)
execution.check(
    "ctl.vmfunc.eptplist.width",
    'If "EPTP switching" is 1, the EPTP-list address must not set bits beyond the physical-address width.',
    when=EPTP_SWITCHING,
    must=within_physical_width(vmcs.eptp_list_address),
)
for id, field in (("vmread", vmcs.vmread_bitmap), ("vmwrite", vmcs.vmwrite_bitmap)):
    execution.check(
        f"ctl.shadow.{id}.align",
        f'If "VMCS shadowing" is 1, bits 11:0 of the {id.upper()}-bitmap address must be 0.',
        when=enabled(Secondary.VMCS_SHADOWING),
        must=aligned(field, 12),
    )
    execution.check(
        f"ctl.shadow.{id}.width",
        f'If "VMCS shadowing" is 1, the {id.upper()}-bitmap address must not set bits beyond the physical-address width.',
        when=enabled(Secondary.VMCS_SHADOWING),
        must=within_physical_width(field),
    )
execution.check(
    "ctl.ve.align",
    'If "EPT-violation #VE" is 1, bits 11:0 of the virtualization-exception information address must be 0.',
    when=enabled(Secondary.EPT_VIOLATION_VE),
    must=aligned(vmcs.virtualization_exception_information, 12),
)
execution.check(
    "ctl.ve.width",
    'If "EPT-violation #VE" is 1, the virtualization-exception information address must not set bits beyond the physical-address width.',
    when=enabled(Secondary.EPT_VIOLATION_VE),
    must=within_physical_width(vmcs.virtualization_exception_information),
)

# Processor trace, TSC scaling

execution.check(
    "ctl.pt.trace-vs-load",
    'If the processor is tracing (IA32_RTIT_CTL.TraceEn = 1 at the time of entry), "load IA32_RTIT_CTL" must be 0.',
    requires=has("pt"),
    when=live.rtit_ctl[RTIT_CTL.TRACE_EN],
    must=~enabled(Entry.LOAD_IA32_RTIT_CTL),
)
execution.check(
    "ctl.pt.gpa-needs-load.load",
    'If "Intel PT uses guest physical addresses" is 1, the VM-entry control "load IA32_RTIT_CTL" must be 1.',
    when=enabled(Secondary.PT_USES_GUEST_PHYSICAL_ADDRESSES),
    must=enabled(Entry.LOAD_IA32_RTIT_CTL),
)
execution.check(
    "ctl.pt.gpa-needs-load.clear",
    'If "Intel PT uses guest physical addresses" is 1, the VM-exit control "clear IA32_RTIT_CTL" must be 1.',
    when=enabled(Secondary.PT_USES_GUEST_PHYSICAL_ADDRESSES),
    must=enabled(Exit.CLEAR_IA32_RTIT_CTL),
)
execution.check(
    "ctl.tscscale.nonzero",
    'If "use TSC scaling" is 1, the TSC multiplier must not be 0.',
    when=enabled(Secondary.USE_TSC_SCALING),
    must=vmcs.tsc_multiplier != 0,
)

# Hypervisor-managed linear-address translation, PASID translation, APIC-timer virtualization

execution.check(
    "ctl.hlat.ptr.low",
    'If "enable HLAT" is 1, bits 2:0 and 11:5 of the HLAT pointer must be 0.',
    when=enabled(Tertiary.ENABLE_HLAT),
    must=(vmcs.hlat_pointer & 0xFE7) == 0,
)
execution.check(
    "ctl.hlat.ptr.width",
    'If "enable HLAT" is 1, the HLAT pointer must not set bits beyond the physical-address width.',
    when=enabled(Tertiary.ENABLE_HLAT),
    must=within_physical_width(vmcs.hlat_pointer),
)
for id, field in (("low", vmcs.low_pasid_directory), ("high", vmcs.high_pasid_directory)):
    execution.check(
        f"ctl.pasid.{id}.align",
        f'If "PASID translation" is 1, bits 11:0 of the {id} PASID directory address must be 0.',
        when=enabled(Secondary.PASID_TRANSLATION),
        must=aligned(field, 12),
    )
    execution.check(
        f"ctl.pasid.{id}.width",
        f'If "PASID translation" is 1, the {id} PASID directory address must not set bits beyond the physical-address width.',
        when=enabled(Secondary.PASID_TRANSLATION),
        must=within_physical_width(field),
    )
APIC_TIMER = enabled(Tertiary.APIC_TIMER_VIRTUALIZATION)
execution.check(
    "ctl.apictimer.needs-vid",
    'If "APIC-timer virtualization" is 1, "virtual-interrupt delivery" must be 1.',
    when=APIC_TIMER,
    must=VIRTUAL_INTERRUPT_DELIVERY,
)
execution.check(
    "ctl.apictimer.needs-rdtsc",
    'If "APIC-timer virtualization" is 1, "RDTSC exiting" must be 0.',
    when=APIC_TIMER,
    must=~enabled(Primary.RDTSC_EXITING),
    ambiguity="apic-timer-rdtsc",
)
execution.check(
    "ctl.apictimer.vector",
    'If "APIC-timer virtualization" is 1, bits 15:8 of the virtual timer vector must be 0.',
    when=APIC_TIMER,
    must=vmcs.virtual_timer_vector[15:8] == 0,
)

__all__ = ["execution"]
