"""What VirtualBox logs of a failed entry, as the parts of lines that it prints: the failed check, the guest's registers, refused controls."""

from __future__ import annotations

from typing import Final

from vmfuzz.explain.evidence import Found
from vmfuzz.explain.formats.declared import Declared
from vmfuzz.explain.text.lines import Line
from vmfuzz.patterns import deferred

FORMAT: Final = Declared(
    program="saved",
    source="src/VBox/VMM/VMMR3/HM.cpp",
    words=("={", "CPU[", "EFlags", "Attr ", "HM error", "rcLastExitToR3", "VT-x info", "Real-on-v86", "Guest VMCS active", "HM: Host "),
    lines=(
        "@={{guest_@_selector:4} base={guest_@_base} limit={guest_@_limit} flags={guest_@_access_rights}}",
        "~ cr0={+cr0:8|16} cr2={+cr2:8|16}",
        "~ cr3={+cr3:8|16} cr4={+cr4:8|16}",
        "Attr @ = 0x{+@}",
        "EFlags = 0x{+EFlags}",
        "CPU[{}] PinCtls 0x{pin_based_controls}",
        "CPU[{}] ProcCtls 0x{primary_processor_based_controls}",
        "CPU[{}] ProcCtls2 0x{secondary_processor_based_controls}",
        "CPU[{}] ProcCtls3 0x{tertiary_processor_based_controls}",
        "CPU[{}] EntryCtls 0x{vm_entry_controls}",
        "CPU[{}] ExitCtls 0x{vm_exit_controls}",
        "CPU[{}] Instruction error 0x{vm_instruction_error}",
        "CPU[{}] Exit reason 0x{exit_reason}",
        # what gives no field, and registers of the processor outside VMX operation, which are in no VMCS
        *("HM error =", "rcLastExitToR3", "VT-x info", "Real-on-v86", "Guest VMCS active"),
        *("HM: Host CR{}", "HM: Host EFER", "HM: Host XCR0"),
    ),
    registers=("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr", "CS", "DS", "ES", "FS", "GS", "SS"),
    view="VirtualBox shows the guest's registers, not the VMCS",
    parts=True,
)
_ERROR: Final = deferred(r"HM error +=\s*\(?(0x[0-9a-fA-F]+|\d+)")
_OF_VIRTUAL_8086: Final = deferred(r"Real-on-v86 active *= *true")


def parse_vbox(lines: list[Line], found: Found) -> None:
    """Read what VirtualBox's log says: its number of the failed check and the segments as the guest sees them."""
    virtual_8086 = any(_OF_VIRTUAL_8086.search(line.text) for line in lines)
    if virtual_8086:
        found.warn(
            "VirtualBox runs this guest's real mode as virtual-8086 mode: the VMCS holds virtual-8086 segments, the log shows the guest's own"
        )
    for line in lines:
        if error := _ERROR.match(line.text):
            found.hm_error = int(error[1], 16 if error[1].startswith("0x") else 10) or None  # 0: VirtualBox has noted none
        FORMAT.read(line, found, beside=virtual_8086)
