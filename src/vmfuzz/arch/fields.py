"""The VMCS field catalogue (SDM Vol. 3D, Appendix "Field Encoding in VMCS"): one row a field, in order of encoding.

Width, area and access type are not written here: they are decoded from the encoding. The third column of the table names the
controls of which at least one must be allowed to be 1 for the field to exist; without one the field exists on every
processor with VMX. `seam` stands for fields that exist only in SEAM operation, `cr3_targets>N` for fields that exist when the
processor supports more than N CR3-target values.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Final

from vmfuzz.errors import FieldValueError, UnknownNameError
from vmfuzz.hexadecimal import as_wide, hexadecimal

_TABLE: Final = """
# 16-bit control fields
0000H  vpid                                       secondary.enable_vpid
0002H  posted_interrupt_notification_vector       pin.process_posted_interrupts
0004H  eptp_index                                 secondary.ept_violation_ve
0006H  hlat_prefix_size                           tertiary.enable_hlat
0008H  last_pid_pointer_index                     tertiary.ipi_virtualization
000AH  virtual_timer_vector                       tertiary.apic_timer_virtualization
# 16-bit guest-state fields
0800H  guest_es_selector
0802H  guest_cs_selector
0804H  guest_ss_selector
0806H  guest_ds_selector
0808H  guest_fs_selector
080AH  guest_gs_selector
080CH  guest_ldtr_selector
080EH  guest_tr_selector
0810H  guest_interrupt_status                     secondary.virtual_interrupt_delivery
0812H  pml_index                                  secondary.enable_pml
0814H  guest_uinv                                 entry.load_uinv exit.clear_uinv
# 16-bit host-state fields
0C00H  host_es_selector
0C02H  host_cs_selector
0C04H  host_ss_selector
0C06H  host_ds_selector
0C08H  host_fs_selector
0C0AH  host_gs_selector
0C0CH  host_tr_selector
# 64-bit control fields
2000H  io_bitmap_a
2002H  io_bitmap_b
2004H  msr_bitmap                                 primary.use_msr_bitmaps
2006H  vm_exit_msr_store_address
2008H  vm_exit_msr_load_address
200AH  vm_entry_msr_load_address
200CH  executive_vmcs_pointer
200EH  pml_address                                secondary.enable_pml
2010H  tsc_offset
2012H  virtual_apic_address                       primary.use_tpr_shadow
2014H  apic_access_address                        secondary.virtualize_apic_accesses
2016H  posted_interrupt_descriptor                pin.process_posted_interrupts
2018H  vm_function_controls                       secondary.enable_vm_functions
201AH  eptp                                       secondary.enable_ept
201CH  eoi_exit_bitmap_0                          secondary.virtual_interrupt_delivery
201EH  eoi_exit_bitmap_1                          secondary.virtual_interrupt_delivery
2020H  eoi_exit_bitmap_2                          secondary.virtual_interrupt_delivery
2022H  eoi_exit_bitmap_3                          secondary.virtual_interrupt_delivery
2024H  eptp_list_address                          vm_function.eptp_switching
2026H  vmread_bitmap                              secondary.vmcs_shadowing
2028H  vmwrite_bitmap                             secondary.vmcs_shadowing
202AH  virtualization_exception_information       secondary.ept_violation_ve
202CH  xss_exiting_bitmap                         secondary.enable_xsaves_xrstors
202EH  encls_exiting_bitmap                       secondary.enable_encls_exiting
2030H  sub_page_permission_table_pointer          secondary.sub_page_write_permissions
2032H  tsc_multiplier                             secondary.use_tsc_scaling
2034H  tertiary_processor_based_controls          primary.activate_tertiary_controls
2036H  enclv_exiting_bitmap                       secondary.enable_enclv_exiting
2038H  low_pasid_directory                        secondary.pasid_translation
203AH  high_pasid_directory                       secondary.pasid_translation
203CH  shared_ept_pointer                         seam
203EH  pconfig_exiting_bitmap                     secondary.enable_pconfig
2040H  hlat_pointer                               tertiary.enable_hlat
2042H  pid_pointer_table                          tertiary.ipi_virtualization
2044H  secondary_vm_exit_controls                 exit.activate_secondary_controls
204AH  spec_ctrl_mask                             tertiary.virtualize_ia32_spec_ctrl
204CH  spec_ctrl_shadow                           tertiary.virtualize_ia32_spec_ctrl
204EH  guest_deadline_shadow                      tertiary.apic_timer_virtualization
2052H  injected_event_data                        entry.load_ia32_fred
# 64-bit read-only data fields
2400H  guest_physical_address                     secondary.enable_ept
2402H  msr_data                                   tertiary.enable_msrlist
2404H  original_event_data                        entry.load_ia32_fred
# 64-bit guest-state fields
2800H  vmcs_link_pointer
2802H  guest_ia32_debugctl
2804H  guest_ia32_pat                             entry.load_ia32_pat exit.save_ia32_pat
2806H  guest_ia32_efer                            entry.load_ia32_efer exit.save_ia32_efer
2808H  guest_ia32_perf_global_ctrl                entry.load_ia32_perf_global_ctrl
280AH  guest_pdpte0                               secondary.enable_ept
280CH  guest_pdpte1                               secondary.enable_ept
280EH  guest_pdpte2                               secondary.enable_ept
2810H  guest_pdpte3                               secondary.enable_ept
2812H  guest_ia32_bndcfgs                         entry.load_ia32_bndcfgs exit.clear_ia32_bndcfgs
2814H  guest_ia32_rtit_ctl                        entry.load_ia32_rtit_ctl exit.clear_ia32_rtit_ctl
2816H  guest_ia32_lbr_ctl                         entry.load_guest_ia32_lbr_ctl exit.clear_ia32_lbr_ctl
2818H  guest_ia32_pkrs                            entry.load_pkrs
281AH  guest_ia32_fred_config                     entry.load_ia32_fred
281CH  guest_ia32_fred_rsp1                       entry.load_ia32_fred
281EH  guest_ia32_fred_rsp2                       entry.load_ia32_fred
2820H  guest_ia32_fred_rsp3                       entry.load_ia32_fred
2822H  guest_ia32_fred_stklvls                    entry.load_ia32_fred
2824H  guest_ia32_fred_ssp1                       entry.load_ia32_fred
2826H  guest_ia32_fred_ssp2                       entry.load_ia32_fred
2828H  guest_ia32_fred_ssp3                       entry.load_ia32_fred
282EH  guest_ia32_spec_ctrl                       entry.load_ia32_spec_ctrl
2830H  guest_deadline                             tertiary.apic_timer_virtualization
# 64-bit host-state fields
2C00H  host_ia32_pat                              exit.load_ia32_pat
2C02H  host_ia32_efer                             exit.load_ia32_efer
2C04H  host_ia32_perf_global_ctrl                 exit.load_ia32_perf_global_ctrl
2C06H  host_ia32_pkrs                             exit.load_pkrs
2C08H  host_ia32_fred_config                      secondary_exit.load_ia32_fred
2C0AH  host_ia32_fred_rsp1                        secondary_exit.load_ia32_fred
2C0CH  host_ia32_fred_rsp2                        secondary_exit.load_ia32_fred
2C0EH  host_ia32_fred_rsp3                        secondary_exit.load_ia32_fred
2C10H  host_ia32_fred_stklvls                     secondary_exit.load_ia32_fred
2C12H  host_ia32_fred_ssp1                        secondary_exit.load_ia32_fred
2C14H  host_ia32_fred_ssp2                        secondary_exit.load_ia32_fred
2C16H  host_ia32_fred_ssp3                        secondary_exit.load_ia32_fred
2C1AH  host_ia32_spec_ctrl                        secondary_exit.load_ia32_spec_ctrl
# 32-bit control fields
4000H  pin_based_controls
4002H  primary_processor_based_controls
4004H  exception_bitmap
4006H  page_fault_error_code_mask
4008H  page_fault_error_code_match
400AH  cr3_target_count
400CH  vm_exit_controls
400EH  vm_exit_msr_store_count
4010H  vm_exit_msr_load_count
4012H  vm_entry_controls
4014H  vm_entry_msr_load_count
4016H  vm_entry_interruption_info
4018H  vm_entry_exception_error_code
401AH  vm_entry_instruction_length
401CH  tpr_threshold                              primary.use_tpr_shadow
401EH  secondary_processor_based_controls         primary.activate_secondary_controls
4020H  ple_gap                                    secondary.pause_loop_exiting
4022H  ple_window                                 secondary.pause_loop_exiting
4024H  instruction_timeout_control                secondary.instruction_timeout
4026H  seam_guest_key_id                          seam
# 32-bit read-only data fields
4400H  vm_instruction_error
4402H  exit_reason
4404H  vm_exit_interruption_info
4406H  vm_exit_interruption_error_code
4408H  idt_vectoring_info
440AH  idt_vectoring_error_code
440CH  vm_exit_instruction_length
440EH  vm_exit_instruction_info
# 32-bit guest-state fields
4800H  guest_es_limit
4802H  guest_cs_limit
4804H  guest_ss_limit
4806H  guest_ds_limit
4808H  guest_fs_limit
480AH  guest_gs_limit
480CH  guest_ldtr_limit
480EH  guest_tr_limit
4810H  guest_gdtr_limit
4812H  guest_idtr_limit
4814H  guest_es_access_rights
4816H  guest_cs_access_rights
4818H  guest_ss_access_rights
481AH  guest_ds_access_rights
481CH  guest_fs_access_rights
481EH  guest_gs_access_rights
4820H  guest_ldtr_access_rights
4822H  guest_tr_access_rights
4824H  guest_interruptibility_state
4826H  guest_activity_state
4828H  guest_smbase
482AH  guest_ia32_sysenter_cs
482EH  vmx_preemption_timer_value                 pin.activate_vmx_preemption_timer
# 32-bit host-state fields
4C00H  host_ia32_sysenter_cs
# natural-width control fields
6000H  cr0_guest_host_mask
6002H  cr4_guest_host_mask
6004H  cr0_read_shadow
6006H  cr4_read_shadow
6008H  cr3_target_value_0                         cr3_targets>0
600AH  cr3_target_value_1                         cr3_targets>1
600CH  cr3_target_value_2                         cr3_targets>2
600EH  cr3_target_value_3                         cr3_targets>3
# natural-width read-only fields
6400H  exit_qualification
6402H  io_rcx
6404H  io_rsi
6406H  io_rdi
6408H  io_rip
640AH  guest_linear_address
# natural-width guest-state fields
6800H  guest_cr0
6802H  guest_cr3
6804H  guest_cr4
6806H  guest_es_base
6808H  guest_cs_base
680AH  guest_ss_base
680CH  guest_ds_base
680EH  guest_fs_base
6810H  guest_gs_base
6812H  guest_ldtr_base
6814H  guest_tr_base
6816H  guest_gdtr_base
6818H  guest_idtr_base
681AH  guest_dr7
681CH  guest_rsp
681EH  guest_rip
6820H  guest_rflags
6822H  guest_pending_debug_exceptions
6824H  guest_ia32_sysenter_esp
6826H  guest_ia32_sysenter_eip
6828H  guest_ia32_s_cet                           exit.load_cet_state entry.load_cet_state
682AH  guest_ssp                                  exit.load_cet_state entry.load_cet_state
682CH  guest_ia32_interrupt_ssp_table_addr        exit.load_cet_state entry.load_cet_state
# natural-width host-state fields
6C00H  host_cr0
6C02H  host_cr3
6C04H  host_cr4
6C06H  host_fs_base
6C08H  host_gs_base
6C0AH  host_tr_base
6C0CH  host_gdtr_base
6C0EH  host_idtr_base
6C10H  host_ia32_sysenter_esp
6C12H  host_ia32_sysenter_eip
6C14H  host_rsp
6C16H  host_rip
6C18H  host_ia32_s_cet                            exit.load_cet_state
6C1AH  host_ssp                                   exit.load_cet_state
6C1CH  host_ia32_interrupt_ssp_table_addr         exit.load_cet_state
"""


class Width(enum.IntEnum):
    """Width of a field, as bits 14:13 of its encoding say."""

    BITS_16 = 0
    BITS_64 = 1
    BITS_32 = 2
    NATURAL = 3


class Area(enum.IntEnum):
    """What a field belongs to, as bits 11:10 of its encoding say."""

    CONTROL = 0
    READ_ONLY = 1
    GUEST = 2
    HOST = 3


@dataclass(frozen=True)
class Field:
    """One VMCS field: its name in vmfuzz, its encoding, and the controls that make it exist."""

    name: str
    encoding: int
    gates: tuple[str, ...] = ()

    @cached_property
    def width_kind(self) -> Width:
        """Width class decoded from the encoding."""
        return Width(self.encoding >> 13 & 3)

    @cached_property
    def area(self) -> Area:
        """Area decoded from the encoding."""
        return Area(self.encoding >> 10 & 3)

    @cached_property
    def width(self) -> int:
        """Width in bits; natural-width fields have 64 (vmfuzz models processors with Intel 64)."""
        return {Width.BITS_16: 16, Width.BITS_32: 32}.get(self.width_kind, 64)

    @cached_property
    def mask(self) -> int:
        """All ones in the field's width."""
        return (1 << self.width) - 1

    @property
    def writable(self) -> bool:
        """Whether VMWRITE may write the field on every processor (exit-information fields may be writable: IA32_VMX_MISC[29])."""
        return self.area is not Area.READ_ONLY

    def require(self, value: int) -> int:
        """Return `value` when it fits the field, else raise FieldValueError."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise FieldValueError(f"{self.name} = {value!r}: expected an integer")
        if not 0 <= value <= self.mask:
            raise FieldValueError(f"{self.name} = {hexadecimal(value)}: expected 0 to {hexadecimal(self.mask)}")
        return value

    def format(self, value: int) -> str:
        """The value as the SDM writes it: hexadecimal digits of the full width and an H."""
        return as_wide(value, self.width)


def _parse_table() -> dict[str, Field]:
    fields: dict[str, Field] = {}
    for line in _TABLE.strip().splitlines():
        if line.startswith("#"):
            continue
        encoding, name, *gates = line.split()
        fields[name] = Field(name, int(encoding.rstrip("H"), 16), tuple(gates))
    return fields


#: Every field by name, in order of encoding.
FIELDS: Final = MappingProxyType(_parse_table())
#: Every field by its (full) encoding.
BY_ENCODING: Final = MappingProxyType({field.encoding: field for field in FIELDS.values()})


def field_named(name: str) -> Field:
    """The field called `name`; raises UnknownNameError with the nearest names."""
    try:
        return FIELDS[name]
    except KeyError:
        raise UnknownNameError("VMCS field", name, FIELDS) from None
