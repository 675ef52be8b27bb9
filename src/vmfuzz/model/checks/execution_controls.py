"""SDM Vol. 3C, "VM-Execution Control Fields", first half: allowed settings, bitmaps, APIC virtualization, VPID; VMfailValid, error 7."""

from vmfuzz.arch.controls import Exit, Pin, Primary, Secondary, Tertiary
from vmfuzz.model.check import Fails, Section
from vmfuzz.model.expr import all_of, any_of
from vmfuzz.model.operands import aligned, cap, enabled, may_be_1, memory, vmcs, within_physical_width

execution = Section("VM-Execution Control Fields", Fails.CONTROLS)

# Settings that the capability MSRs allow

for word, field in (("pin", vmcs.pin_based_controls), ("primary", vmcs.primary_processor_based_controls)):
    short = {"pin": "pin", "primary": "prim"}[word]
    title = {"pin": "pin-based", "primary": "primary processor-based"}[word]
    must_be_1 = getattr(cap, f"{word}_must_be_1")
    execution.check(
        f"ctl.{short}.allowed0",
        f"Every {title} VM-execution control that must be 1 on this processor must be 1.",
        must=(field & must_be_1) == must_be_1,
    )
    execution.check(
        f"ctl.{short}.allowed1",
        f"Every {title} VM-execution control that may not be 1 on this processor must be 0.",
        must=(field | getattr(cap, f"{word}_may_be_1")) == getattr(cap, f"{word}_may_be_1"),
    )
execution.check(
    "ctl.sec.allowed",
    'If "activate secondary controls" is 1, every secondary control that may not be 1 on this processor must be 0.',
    requires=may_be_1(Primary.ACTIVATE_SECONDARY_CONTROLS),
    when=enabled(Primary.ACTIVATE_SECONDARY_CONTROLS),
    must=(vmcs.secondary_processor_based_controls | cap.secondary_may_be_1) == cap.secondary_may_be_1,
)
execution.check(
    "ctl.tert.allowed",
    'If "activate tertiary controls" is 1, every tertiary control that may not be 1 on this processor must be 0.',
    requires=may_be_1(Primary.ACTIVATE_TERTIARY_CONTROLS),
    when=enabled(Primary.ACTIVATE_TERTIARY_CONTROLS),
    must=(vmcs.tertiary_processor_based_controls | cap.tertiary_may_be_1) == cap.tertiary_may_be_1,
)
execution.check(
    "ctl.cr3target.count",
    "The CR3-target count must not exceed the number of CR3-target values that the processor supports (IA32_VMX_MISC[24:16]).",
    must=vmcs.cr3_target_count <= cap.cr3_target_limit,
)

# I/O and MSR bitmaps, APIC virtualization

for letter, field in (("a", vmcs.io_bitmap_a), ("b", vmcs.io_bitmap_b)):
    execution.check(
        f"ctl.iobitmap.align.{letter}",
        f'If "use I/O bitmaps" is 1, bits 11:0 of the address of I/O bitmap {letter.upper()} must be 0.',
        when=enabled(Primary.USE_IO_BITMAPS),
        must=aligned(field, 12),
    )
    execution.check(
        f"ctl.iobitmap.width.{letter}",
        f'If "use I/O bitmaps" is 1, the address of I/O bitmap {letter.upper()} must not set bits beyond the physical-address width.',
        when=enabled(Primary.USE_IO_BITMAPS),
        must=within_physical_width(field),
    )
execution.check(
    "ctl.msrbitmap.align",
    'If "use MSR bitmaps" is 1, bits 11:0 of the MSR-bitmap address must be 0.',
    when=enabled(Primary.USE_MSR_BITMAPS),
    must=aligned(vmcs.msr_bitmap, 12),
)
execution.check(
    "ctl.msrbitmap.width",
    'If "use MSR bitmaps" is 1, the MSR-bitmap address must not set bits beyond the physical-address width.',
    when=enabled(Primary.USE_MSR_BITMAPS),
    must=within_physical_width(vmcs.msr_bitmap),
)
TPR_SHADOW = enabled(Primary.USE_TPR_SHADOW)
VIRTUAL_INTERRUPT_DELIVERY = enabled(Secondary.VIRTUAL_INTERRUPT_DELIVERY)
execution.check(
    "ctl.vapic.align",
    'If "use TPR shadow" is 1, bits 11:0 of the virtual-APIC address must be 0.',
    when=TPR_SHADOW,
    must=aligned(vmcs.virtual_apic_address, 12),
)
execution.check(
    "ctl.vapic.width",
    'If "use TPR shadow" is 1, the virtual-APIC address must not set bits beyond the physical-address width.',
    when=TPR_SHADOW,
    must=within_physical_width(vmcs.virtual_apic_address),
)
execution.check(
    "ctl.tpr.threshold.reserved",
    'If "use TPR shadow" is 1 and "virtual-interrupt delivery" is 0, bits 31:4 of the TPR threshold must be 0.',
    when=all_of(TPR_SHADOW, ~VIRTUAL_INTERRUPT_DELIVERY),
    must=vmcs.tpr_threshold[31:4] == 0,
)
execution.check(
    "ctl.tpr.threshold.vtpr",
    'If "use TPR shadow" is 1 and both "virtualize APIC accesses" and "virtual-interrupt delivery" are 0, bits 3:0 of the TPR '
    "threshold must not be greater than bits 7:4 of the VTPR (byte 80H of the virtual-APIC page).",
    when=all_of(
        TPR_SHADOW,
        ~enabled(Secondary.VIRTUALIZE_APIC_ACCESSES),
        ~VIRTUAL_INTERRUPT_DELIVERY,
        aligned(vmcs.virtual_apic_address, 12),
        within_physical_width(vmcs.virtual_apic_address),
    ),
    must=vmcs.tpr_threshold[3:0] <= memory.vtpr[7:4],
    # a threshold of 0 is not greater than anything
    known=any_of(memory.vtpr_known == 1, vmcs.tpr_threshold[3:0] == 0),
)
execution.check(
    "ctl.nmi.virtual",
    'If "NMI exiting" is 0, "virtual NMIs" must be 0.',
    when=~enabled(Pin.NMI_EXITING),
    must=~enabled(Pin.VIRTUAL_NMIS),
)
execution.check(
    "ctl.nmi.window",
    'If "virtual NMIs" is 0, "NMI-window exiting" must be 0.',
    when=~enabled(Pin.VIRTUAL_NMIS),
    must=~enabled(Primary.NMI_WINDOW_EXITING),
)
execution.check(
    "ctl.apicaccess.align",
    'If "virtualize APIC accesses" is 1, bits 11:0 of the APIC-access address must be 0.',
    when=enabled(Secondary.VIRTUALIZE_APIC_ACCESSES),
    must=aligned(vmcs.apic_access_address, 12),
)
execution.check(
    "ctl.apicaccess.width",
    'If "virtualize APIC accesses" is 1, the APIC-access address must not set bits beyond the physical-address width.',
    when=enabled(Secondary.VIRTUALIZE_APIC_ACCESSES),
    must=within_physical_width(vmcs.apic_access_address),
)
for id, control, name in (
    ("x2apic", Secondary.VIRTUALIZE_X2APIC_MODE, "virtualize x2APIC mode"),
    ("apicreg", Secondary.APIC_REGISTER_VIRTUALIZATION, "APIC-register virtualization"),
    ("vid", Secondary.VIRTUAL_INTERRUPT_DELIVERY, "virtual-interrupt delivery"),
    ("ipiv", Tertiary.IPI_VIRTUALIZATION, "IPI virtualization"),
):
    execution.check(
        f"ctl.{id}.needs-tprshadow",
        f'If "use TPR shadow" is 0, "{name}" must be 0.',
        when=~TPR_SHADOW,
        must=~enabled(control),
    )
execution.check(
    "ctl.x2apic.vs-apicaccess",
    'If "virtualize x2APIC mode" is 1, "virtualize APIC accesses" must be 0.',
    when=enabled(Secondary.VIRTUALIZE_X2APIC_MODE),
    must=~enabled(Secondary.VIRTUALIZE_APIC_ACCESSES),
)
execution.check(
    "ctl.vid.needs-extint",
    'If "virtual-interrupt delivery" is 1, "external-interrupt exiting" must be 1.',
    when=VIRTUAL_INTERRUPT_DELIVERY,
    must=enabled(Pin.EXTERNAL_INTERRUPT_EXITING),
)

# Posted interrupts, IPI virtualization

POSTED_INTERRUPTS = enabled(Pin.PROCESS_POSTED_INTERRUPTS)
execution.check(
    "ctl.pir.needs-vid",
    'If "process posted interrupts" is 1, "virtual-interrupt delivery" must be 1.',
    when=POSTED_INTERRUPTS,
    must=VIRTUAL_INTERRUPT_DELIVERY,
)
execution.check(
    "ctl.pir.needs-ackint",
    'If "process posted interrupts" is 1, the VM-exit control "acknowledge interrupt on exit" must be 1.',
    when=POSTED_INTERRUPTS,
    must=enabled(Exit.ACKNOWLEDGE_INTERRUPT_ON_EXIT),
)
execution.check(
    "ctl.pir.vector",
    'If "process posted interrupts" is 1, bits 15:8 of the posted-interrupt notification vector must be 0.',
    when=POSTED_INTERRUPTS,
    must=vmcs.posted_interrupt_notification_vector[15:8] == 0,
)
execution.check(
    "ctl.pir.desc.align",
    'If "process posted interrupts" is 1, bits 5:0 of the posted-interrupt descriptor address must be 0.',
    when=POSTED_INTERRUPTS,
    must=aligned(vmcs.posted_interrupt_descriptor, 6),
)
execution.check(
    "ctl.pir.desc.width",
    'If "process posted interrupts" is 1, the posted-interrupt descriptor address must not set bits beyond the physical-address width.',
    when=POSTED_INTERRUPTS,
    must=within_physical_width(vmcs.posted_interrupt_descriptor),
)
IPI_VIRTUALIZATION = enabled(Tertiary.IPI_VIRTUALIZATION)
execution.check(
    "ctl.ipiv.table.align",
    'If "IPI virtualization" is 1, bits 2:0 of the PID-pointer table address must be 0.',
    when=IPI_VIRTUALIZATION,
    must=aligned(vmcs.pid_pointer_table, 3),
)
execution.check(
    "ctl.ipiv.table.width",
    'If "IPI virtualization" is 1, the PID-pointer table address must not set bits beyond the physical-address width.',
    when=IPI_VIRTUALIZATION,
    must=within_physical_width(vmcs.pid_pointer_table),
)
execution.check(
    "ctl.ipiv.table.last",
    'If "IPI virtualization" is 1, the address of the last entry of the PID-pointer table (table address + 8 * last PID-pointer index) '
    "must not set bits beyond the physical-address width.",
    when=IPI_VIRTUALIZATION,
    must=within_physical_width(vmcs.pid_pointer_table + (vmcs.last_pid_pointer_index << 3)),
)
execution.check(
    "ctl.vpid.nonzero",
    'If "enable VPID" is 1, the VPID must not be 0000H.',
    when=enabled(Secondary.ENABLE_VPID),
    must=vmcs.vpid != 0,
)
