"""SDM Vol. 3C, "VM-Entry Control Fields" (checks on VMX controls): all fail with VMfailValid, error 7."""

from vmfuzz.arch.controls import Entry, Primary
from vmfuzz.arch.registers import CR4, EVENT, INTERRUPTION_INFO
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.checks.event_injection import (
    CONTROL_PROTECTION,
    DELIVERS_ERROR_CODE,
    ERROR_CODE_VECTORS,
    INFO,
    REAL_MODE,
    TYPE,
    VALID,
    VECTOR,
    injects,
)
from vmfuzz.model.checks.msr_areas import check_msr_area
from vmfuzz.model.expr import all_of, any_of
from vmfuzz.model.operands import cap, enabled, has, live, may_be_1, vmcs

entry_controls = Section("VM-Entry Control Fields", Fails.CONTROLS)

entry_controls.check(
    "ctl.entry.allowed0",
    "Every VM-entry control that must be 1 on this processor must be 1.",
    must=(vmcs.vm_entry_controls & cap.entry_must_be_1) == cap.entry_must_be_1,
)
entry_controls.check(
    "ctl.entry.allowed1",
    "Every VM-entry control that may not be 1 on this processor must be 0.",
    must=(vmcs.vm_entry_controls | cap.entry_may_be_1) == cap.entry_may_be_1,
)

# Event injection; nothing is checked unless the valid bit is 1

entry_controls.check(
    "ctl.inject.type.reserved",
    "If an event is injected, its interruption type must not be 1 (reserved).",
    when=VALID,
    must=TYPE != EVENT.RESERVED,
)
entry_controls.check(
    "ctl.inject.type.other",
    'If an event is injected and the processor does not allow "monitor trap flag" to be 1 (nor supports FRED), its interruption type must '
    "not be 7 (other event).",
    requires=all_of(~may_be_1(Primary.MONITOR_TRAP_FLAG), ~has("fred")),
    when=VALID,
    must=TYPE != EVENT.OTHER_EVENT,
)
entry_controls.check(
    "ctl.inject.vector.nmi",
    "If an NMI is injected, the vector must be 2.",
    when=injects(EVENT.NMI),
    must=VECTOR == 2,
)
entry_controls.check(
    "ctl.inject.vector.hwexc",
    "If a hardware exception is injected, the vector must be at most 31.",
    when=injects(EVENT.HARDWARE_EXCEPTION),
    must=VECTOR <= 31,
)
entry_controls.check(
    "ctl.inject.vector.other",
    "If an event of type 7 (other event) is injected, the vector must be 0 (pending MTF VM exit; with FRED only if the processor allows "
    '"monitor trap flag" to be 1), or 1 or 2 with FRED and guest CR4.FRED = 1.',
    when=injects(EVENT.OTHER_EVENT),
    must=any_of(
        all_of(VECTOR == 0, any_of(may_be_1(Primary.MONITOR_TRAP_FLAG), ~has("fred"))),
        all_of(has("fred"), VECTOR.one_of(1, 2), vmcs.guest_cr4[CR4.FRED]),
    ),
)
entry_controls.check(
    "ctl.inject.vector.other.ia32e",
    'If an event of type 7 (other event) with vector 1 or 2 is injected and guest CR4.FRED is 1, "IA-32e mode guest" must be 1.',
    requires=has("fred"),
    when=all_of(injects(EVENT.OTHER_EVENT), VECTOR.one_of(1, 2), vmcs.guest_cr4[CR4.FRED]),
    must=enabled(Entry.IA32E_MODE_GUEST),
    ambiguity="fred-outside-ia32e",
)
MAY_HAVE_ERROR_CODE = all_of(VALID, TYPE == EVENT.HARDWARE_EXCEPTION)
entry_controls.check(
    "ctl.inject.errcode.required",
    "If a hardware exception with a vector that has an error code (8, 10-14, 17) is injected and the guest is not in real-address mode, "
    "the deliver-error-code bit must be 1.",
    requires=cap.error_code_optional == 0,
    when=all_of(MAY_HAVE_ERROR_CODE, VECTOR.one_of(*ERROR_CODE_VECTORS), ~REAL_MODE),
    must=DELIVERS_ERROR_CODE,
)
entry_controls.check(
    "ctl.inject.errcode.required.cp",
    "If a control-protection exception (vector 21) is injected and the guest is not in real-address mode, the deliver-error-code bit "
    "must be 1.",
    requires=all_of(cap.error_code_optional == 0, has("cet_ss") | has("cet_ibt")),
    when=all_of(MAY_HAVE_ERROR_CODE, VECTOR == CONTROL_PROTECTION, ~REAL_MODE),
    must=DELIVERS_ERROR_CODE,
    ambiguity="cp-error-code",
)
entry_controls.check(
    "ctl.inject.errcode.forbidden.type",
    "If an event other than a hardware exception is injected, the deliver-error-code bit must be 0.",
    when=all_of(VALID, TYPE != EVENT.HARDWARE_EXCEPTION),
    must=~DELIVERS_ERROR_CODE,
)
entry_controls.check(
    "ctl.inject.errcode.forbidden.realmode",
    'If an event is injected, "unrestricted guest" is 1 and guest CR0.PE is 0, the deliver-error-code bit must be 0.',
    when=all_of(VALID, REAL_MODE),
    must=~DELIVERS_ERROR_CODE,
)
entry_controls.check(
    "ctl.inject.errcode.forbidden.vector",
    "If a hardware exception with a vector that has no error code (not 8, 10-14, 17) is injected, the deliver-error-code bit must be 0.",
    requires=cap.error_code_optional == 0,
    when=all_of(MAY_HAVE_ERROR_CODE, ~VECTOR.one_of(*ERROR_CODE_VECTORS, CONTROL_PROTECTION)),
    must=~DELIVERS_ERROR_CODE,
)
entry_controls.check(
    "ctl.inject.errcode.forbidden.cp",
    "If a control-protection exception (vector 21) is injected, the deliver-error-code bit must be 0 (vector 21 is not among those that the "
    "SDM lists as having an error code here).",
    requires=all_of(cap.error_code_optional == 0, has("cet_ss") | has("cet_ibt")),
    when=all_of(MAY_HAVE_ERROR_CODE, VECTOR == CONTROL_PROTECTION),
    must=~DELIVERS_ERROR_CODE,
    ambiguity="cp-error-code",
)
entry_controls.check(
    "ctl.inject.errcode.forbidden.vector21",
    "If a hardware exception with vector 21 is injected on a processor without CET, the deliver-error-code bit must be 0.",
    requires=all_of(cap.error_code_optional == 0, ~(has("cet_ss") | has("cet_ibt"))),
    when=all_of(MAY_HAVE_ERROR_CODE, VECTOR == CONTROL_PROTECTION),
    must=~DELIVERS_ERROR_CODE,
)
entry_controls.check(
    "ctl.inject.reserved",
    "If an event is injected, bits 30:14 and bit 12 of the interruption information must be 0.",
    when=VALID,
    must=(INFO & 0x7FFFD000) == 0,
)
entry_controls.check(
    "ctl.inject.nested",
    "If an event is injected, the nested-exception bit (bit 13) must be 0 unless the event is a hardware exception and IA32_VMX_BASIC[58] "
    "is 1.",
    when=VALID,
    must=any_of(
        ~INFO[INTERRUPTION_INFO.NESTED_EXCEPTION],
        all_of(TYPE == EVENT.HARDWARE_EXCEPTION, cap.nested_exception == 1),
    ),
)
entry_controls.check(
    "ctl.inject.errcode.value",
    "If an event is injected with an error code, bits 31:16 of the VM-entry exception error code must be 0.",
    when=all_of(VALID, DELIVERS_ERROR_CODE),
    must=vmcs.vm_entry_exception_error_code[31:16] == 0,
)
entry_controls.check(
    "ctl.inject.errcode.value.bit15",
    "If an event is injected with an error code, bit 15 of the VM-entry exception error code must be 0 (older editions).",
    when=all_of(VALID, DELIVERS_ERROR_CODE),
    must=~vmcs.vm_entry_exception_error_code[15],
    ambiguity="error-code-bit-15",
)
entry_controls.check(
    "ctl.inject.instrlen",
    "If a software interrupt, software exception or privileged software exception is injected, the VM-entry instruction length must be 1 to "
    "15, or 0 where IA32_VMX_MISC[30] is 1.",
    when=injects(EVENT.SOFTWARE_INTERRUPT, EVENT.PRIVILEGED_SOFTWARE_EXCEPTION, EVENT.SOFTWARE_EXCEPTION),
    must=all_of(
        vmcs.vm_entry_instruction_length >= cap.instruction_length_minimum,
        vmcs.vm_entry_instruction_length <= 15,
    ),
)
entry_controls.check(
    "ctl.inject.instrlen.other",
    "If an event of type 7 (other event) with vector 1 or 2 is injected, the VM-entry instruction length must be at most 15 (0 is allowed).",
    requires=has("fred"),
    when=all_of(injects(EVENT.OTHER_EVENT), VECTOR.one_of(1, 2)),
    must=vmcs.vm_entry_instruction_length <= 15,
)

# The MSR-load area, entries to and from SMM

check_msr_area(
    entry_controls,
    "ctl.entry.msrload",
    "VM-entry MSR-load",
    vmcs.vm_entry_msr_load_count,
    vmcs.vm_entry_msr_load_address,
)
OUTSIDE_SMM = live.smm == 0
entry_controls.check(
    "ctl.entry.smm.outside.entry",
    'If the processor is not in SMM, "entry to SMM" must be 0.',
    when=OUTSIDE_SMM,
    must=~enabled(Entry.ENTRY_TO_SMM),
)
entry_controls.check(
    "ctl.entry.smm.outside.deactivate",
    'If the processor is not in SMM, "deactivate dual-monitor treatment" must be 0.',
    when=OUTSIDE_SMM,
    must=~enabled(Entry.DEACTIVATE_DUAL_MONITOR_TREATMENT),
)
entry_controls.check(
    "ctl.entry.smm.both",
    '"Entry to SMM" and "deactivate dual-monitor treatment" must not both be 1.',
    when=enabled(Entry.ENTRY_TO_SMM),
    must=~enabled(Entry.DEACTIVATE_DUAL_MONITOR_TREATMENT),
)
