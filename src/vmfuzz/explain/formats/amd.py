"""Recognises dumps of AMD's SVM, which looks like VMX to those who meet it first: a VMCB is no VMCS, and its checks are others."""

from __future__ import annotations

from typing import Final

from vmfuzz.explain.dump import Dump
from vmfuzz.patterns import deferred

#: What only dumps of a VMCB have (Linux KVM's dump_vmcb, Xen's svm_vmcb_dump), and the source of those who print one.
_VMCB: Final = ("kvm_amd: ", "last attempted VMRUN", "VMCB Control Area", "VMCB State Save Area", "nested_cr3:", "exitcode = 0x", "vmcb->")
#: What programs print of AMD's VMRUN without a VMCB: VirtualBox's names, and the number that KVM gives for an entry that VMRUN refuses.
_VMRUN: Final = deferred(
    r"\bVERR_SVM_\w+|\bVMEXIT_INVALID\b|\bfailed entry, reason 65535\b|"  # (the end of FFFFFFFFH)
    r"\bhardware(?: error|_entry_failure_reason)\W{1,3}(?:0xf{8}(?:f{8})?|-1|4294967295)\b"
)
#: Beside one of these the other processor is an Intel one, and the text is about both.
_INTEL: Final = deferred(r"8000_?00(?:21|22|29)\b|hardware error 0x[1-9a-f]\b|GenuineIntel|VERR_VMX_")
#: IA32_EFER.SVME: set while AMD's processors run guests, reserved on Intel's.
_SVME: Final = 1 << 12
_KNOWN: Final = "vmfuzz knows the VM entries of Intel processors (VMLAUNCH, VMRESUME) only"
_IS_VMCB: Final = "This is a dump of an AMD processor (a VMCB, which VMRUN checks)"
_IS_SVM: Final = "This comes from an AMD processor: `{}` is what is printed where AMD's VMRUN fails"
_IS_SVME: Final = "IA32_EFER bit 12 (SVME) is 1, which only AMD processors have: this guest runs under SVM"


def why_foreign(text: str, dump: Dump) -> str:
    """Why vmfuzz cannot judge a text in which a VMCB is dumped, which tells of a failed VMRUN, or has no control words and EFER.SVME = 1; "" where it can.

    Beside an Intel processor's word that bit is a mistake.
    """
    if any(words in text for words in _VMCB):
        return f"{_IS_VMCB}. {_KNOWN}"
    if _INTEL.search(text):
        return ""
    if vmrun := _VMRUN.search(text):
        return f"{_IS_SVM.format(vmrun[0])}. {_KNOWN}"
    readings = [*dump.readings.items(), *dump.beside.items()]
    svme = any(reading.value & _SVME for name, reading in readings if name.lower().endswith(("guest_ia32_efer", " efer")))
    return f"{_IS_SVME}. {_KNOWN}" if svme and not any(name.endswith("_controls") for name in dump.readings) else ""
