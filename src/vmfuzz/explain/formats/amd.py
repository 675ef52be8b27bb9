"""Recognises dumps of AMD's SVM, which looks like VMX to those who meet it first: a VMCB is no VMCS, and its checks are others."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.explain.dump import Dump
from vmfuzz.patterns import deferred

#: Lines that only a VMCB's dump has (Linux KVM's dump_vmcb, Xen's svm_vmcb_dump), and what AMD's own instruction is called there.
_VMCB: Final = deferred(
    r"\bVMCB (?:Control Area|State Save Area)|^\s*(?:\[[^\]]*\] *)?kvm_amd: |last attempted VMRUN|\bvmcb\w*\s*(?:@|->|paddr)|^exitcode = 0x|"
    r"\bnested_cr3:|\bintercepts: +[0-9a-f]{8}",
    re.MULTILINE,
)
#: What programs print of AMD's VMRUN without a VMCB: VirtualBox's names, and the number that KVM gives for an entry that VMRUN refuses.
_VMRUN: Final = deferred(
    r"\bVERR_SVM_\w+|hardware error (?:0xf{8}(?:f{8})?|-1|4294967295)\b|\bhardware_entry_failure_reason\W{1,3}0xf{8}(?:f{8})?\b"
)
_VMRUN_WORDS: Final = ("VERR_SVM_", "hardware error", "hardware_entry")
#: Beside one of these the other processor is an Intel one, and the text is about both.
_INTEL: Final = deferred(r"8000_?00(?:21|22|29)\b|hardware error 0x[1-9a-f]\b|GenuineIntel|VERR_VMX_")
#: Words of which one stands in each of these: looking for them first is ten times as fast.
_VMCB_WORDS: Final = ("VMCB", "vmcb", "kvm_amd", "VMRUN", "exitcode", "nested_cr3", "intercepts")
#: IA32_EFER.SVME: set while AMD's processors run guests, reserved on Intel's.
_SVME: Final = 1 << 12
_IS_VMCB: Final = (
    "This is a dump of an AMD processor (a VMCB, which VMRUN checks). vmfuzz knows the VM entries of Intel processors (a VMCS) only"
)
_IS_SVM: Final = (
    "This comes from an AMD processor: {} is what is printed where AMD's VMRUN fails. vmfuzz knows the VM entries of Intel processors (VMLAUNCH, "
    "VMRESUME) only"
)
_NAMES_AMD: Final = "the text names AMD as the processor's vendor (AuthenticAMD); what follows holds for Intel processors only"
_IS_SVME: Final = (
    "IA32_EFER bit 12 (SVME) is 1, which only AMD processors have: this guest runs under SVM. vmfuzz knows the VM entries of Intel "
    "processors only"
)


def is_vmcb(text: str) -> bool:
    """Whether a text is, or has in it, the dump of a VMCB, or tells of a failed VMRUN."""
    return _has_vmcb(text) or _vmrun(text) is not None


def _has_vmcb(text: str) -> bool:
    return any(word in text for word in _VMCB_WORDS) and _VMCB.search(text) is not None


def _vmrun(text: str) -> re.Match[str] | None:
    """What in a text only a failed VMRUN gives, where nothing in it is an Intel processor's."""
    found = _VMRUN.search(text) if any(word in text for word in _VMRUN_WORDS) else None
    return None if found is None or _INTEL.search(text) else found


def why_foreign(dump: Dump, vmcb: bool, text: str) -> str:
    """Why vmfuzz cannot judge this dump, "" where it can: `vmcb` or what it gives says that it is of an AMD processor."""
    if vmcb:
        vmrun = None if _has_vmcb(text) else _vmrun(text)
        return _IS_VMCB if vmrun is None else _IS_SVM.format(f"`{vmrun.group(0)}`")
    readings = [*dump.readings.items(), *dump.beside.items()]
    efer = [reading for name, reading in readings if name.lower().endswith(("guest_ia32_efer", " efer"))]
    intel = _INTEL.search(text) is not None  # there the bit is reserved: the state of an AMD machine was loaded on an Intel one
    if not intel and any(reading.value & _SVME for reading in efer) and not any(name.endswith("_controls") for name in dump.readings):
        return _IS_SVME
    return ""


def warning_of(text: str) -> str:
    """What to say of a text that only names AMD; "" where it does not."""
    return _NAMES_AMD if "AuthenticAMD" in text else ""
