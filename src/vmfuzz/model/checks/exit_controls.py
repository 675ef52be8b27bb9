"""SDM Vol. 3C, "VM-Exit Control Fields" (checks on VMX controls): all fail with VMfailValid, error 7."""

from vmfuzz.arch.controls import Exit, Pin
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.checks.msr_areas import check_msr_area
from vmfuzz.model.operands import cap, enabled, may_be_1, vmcs

exit_controls = Section("VM-Exit Control Fields", Fails.CONTROLS)

exit_controls.check(
    "ctl.exit.allowed0",
    "Every primary VM-exit control that must be 1 on this processor must be 1.",
    must=(vmcs.vm_exit_controls & cap.exit_must_be_1) == cap.exit_must_be_1,
)
exit_controls.check(
    "ctl.exit.allowed1",
    "Every primary VM-exit control that may not be 1 on this processor must be 0.",
    must=(vmcs.vm_exit_controls | cap.exit_may_be_1) == cap.exit_may_be_1,
)
exit_controls.check(
    "ctl.exit2.allowed",
    'If "activate secondary controls" is 1, every secondary VM-exit control that may not be 1 on this processor must be 0.',
    requires=may_be_1(Exit.ACTIVATE_SECONDARY_CONTROLS),
    when=enabled(Exit.ACTIVATE_SECONDARY_CONTROLS),
    must=(vmcs.secondary_vm_exit_controls | cap.secondary_exit_may_be_1) == cap.secondary_exit_may_be_1,
)
exit_controls.check(
    "ctl.exit.savetimer",
    'If "activate VMX-preemption timer" is 0, "save VMX-preemption timer value" must be 0.',
    when=~enabled(Pin.ACTIVATE_VMX_PREEMPTION_TIMER),
    must=~enabled(Exit.SAVE_VMX_PREEMPTION_TIMER),
)
check_msr_area(
    exit_controls,
    "ctl.exit.msrstore",
    "VM-exit MSR-store",
    vmcs.vm_exit_msr_store_count,
    vmcs.vm_exit_msr_store_address,
)
check_msr_area(
    exit_controls,
    "ctl.exit.msrload",
    "VM-exit MSR-load",
    vmcs.vm_exit_msr_load_count,
    vmcs.vm_exit_msr_load_address,
)
