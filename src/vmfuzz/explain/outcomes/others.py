"""What programs report beside the outcome of a VM entry: a VMX instruction that failed, KVM's own checks and errors, the exits of a trace."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING
from vmfuzz.explain.names.spoken import spoken
from vmfuzz.explain.outcomes.context import has_happened, is_code, is_prose, place_of
from vmfuzz.explain.reported import ENTRY_ERRORS, OtherFailure, Refused, Reported
from vmfuzz.explain.text.numbers import to_unsigned
from vmfuzz.hexadecimal import encoded
from vmfuzz.model.kvm_messages import BELOW, BELOW_ERRORS
from vmfuzz.patterns import deferred

#: Linux's names of exit reasons in trace events.
_TRACE_NAMES: Final = {
    "EXCEPTION_NMI": 0, "EXTERNAL_INTERRUPT": 1, "TRIPLE_FAULT": 2, "INIT_SIGNAL": 3, "SIPI_SIGNAL": 4, "INTERRUPT_WINDOW": 7,
    "PENDING_INTERRUPT": 7, "NMI_WINDOW": 8, "TASK_SWITCH": 9, "CPUID": 10, "HLT": 12, "INVD": 13, "INVLPG": 14, "RDPMC": 15, "RDTSC": 16,
    "VMCALL": 18, "VMCLEAR": 19, "VMLAUNCH": 20, "VMPTRLD": 21, "VMPTRST": 22, "VMREAD": 23, "VMRESUME": 24, "VMWRITE": 25, "VMOFF": 26,
    "VMON": 27, "CR_ACCESS": 28, "DR_ACCESS": 29, "IO_INSTRUCTION": 30, "MSR_READ": 31, "MSR_WRITE": 32, "MWAIT_INSTRUCTION": 36,
    "MONITOR_TRAP_FLAG": 37, "MONITOR_INSTRUCTION": 39, "PAUSE_INSTRUCTION": 40, "TPR_BELOW_THRESHOLD": 43, "APIC_ACCESS": 44,
    "EOI_INDUCED": 45, "GDTR_IDTR": 46, "LDTR_TR": 47, "EPT_VIOLATION": 48, "EPT_MISCONFIG": 49, "INVEPT": 50, "RDTSCP": 51,
    "PREEMPTION_TIMER": 52, "INVVPID": 53, "WBINVD": 54, "XSETBV": 55, "APIC_WRITE": 56, "RDRAND": 57, "INVPCID": 58, "VMFUNC": 59,
    "ENCLS": 60, "RDSEED": 61, "PML_FULL": 62, "XSAVES": 63, "XRSTORS": 64, "UMWAIT": 67, "TPAUSE": 68, "BUS_LOCK": 74, "NOTIFY": 75,
}  # fmt: skip
_TRACED: Final = deferred(r"\breason\s+(?P<name>[A-Z][A-Z_]{2,30})\s+rip\b")
_NESTED_CHECK: Final = deferred(
    r"kvm_nested_vmenter_failed:\s*(?:CC\((?P<wrapped>.*)\)|(?P<check>[^\n]{1,200}?))\s*(?:\berr:\s*(?P<error>[^\n]{1,60}))?$", re.MULTILINE
)
_INSTRUCTION: Final = deferred(
    r"\b(?P<name>vm_?(?:write|read|ptrld|clear)|vmxon)\b(?P<between>[^\n]{0,60}?)\b(?P<verb>fail(?:ed|ure|s)?|error)\b(?P<rest>[^\n]{0,60})",
    re.IGNORECASE,
)
_FIELD: Final = deferred(r"\b(?:field|reg|encoding)\b[ =:]*(?:0x)?0*([0-9a-f]{1,4})\b|\((?:0x)?([0-9a-f]{4})\b", re.IGNORECASE)
_ERROR: Final = deferred(r"\b(?:err(?:or)?|code)\b[ =:#]*(0x[0-9a-f]{1,4}|\d{1,5})\b", re.IGNORECASE)
_INTERNAL: Final = deferred(
    r"KVM internal error\. Suberror: (?P<number>\d{1,5})|\bKVM_EXIT_INTERNAL_ERROR\b|^emulation failure$", re.MULTILINE
)
#: What KVM means by the number of its internal error.
_SUBERRORS: Final = {
    1: "it had to emulate an instruction, and could not",
    2: "two exceptions came up at once",
    3: "a VM exit came up while an event was delivered",
    4: "a VM exit came up that it does not expect",
}
#: VM-instruction errors are smaller than this.
_ERRORS: Final = 29
_NO_VMXON: Final = (
    "The processor is not in VMX operation, and no VM entry has been tried. See CR4.VMXE, IA32_FEATURE_CONTROL and the VMXON region."
)
_NO_CURRENT: Final = (
    "there was no current VMCS, or not the one that was meant: VMPTRLD did not make it current on this processor, or VMCLEAR took it away"
)
_NO_FIELD: Final = 12
#: What errors of VMREAD and VMWRITE mean, and another one, or none.
_OF_FIELDS: Final = {
    0: f"Error 0 is none: {_NO_CURRENT}.",
    _NO_FIELD: "Error 12: this processor, or the hypervisor below that plays it, does not have that field; the value was not written.",
    13: "Error 13: the field is read-only on this processor (IA32_VMX_MISC bit 29 is 0).",
}
_OF_NO_NUMBER: Final = f"Either this processor does not have the field (VM-instruction error 12), or {_NO_CURRENT}."
_NO_ERROR: Final = f"{{}} is no VM-instruction error. One that is read without a current VMCS means nothing; then {_NO_CURRENT}."
_NOT_VALID, _OF_VMXON = "The cause: the address is not valid.", "The cause: the address is that of the VMXON region."
#: What errors of VMCLEAR and VMPTRLD mean.
_OF_REGIONS: Final = {
    2: _NOT_VALID, 3: _OF_VMXON, 9: _NOT_VALID, 10: _OF_VMXON,
    11: "The cause: bits 30:0 of the region's first word are not the VMCS revision identifier, or bit 31 is 1.",
}  # fmt: skip
_LOOK_AT_THE_REGION: Final = (
    "See that the address is aligned to 4 KBytes and within the processor's physical addresses, and that the region's first word holds the VMCS "
    "revision identifier of IA32_VMX_BASIC."
)


def traced(text: str) -> Reported | None:
    """The first exit that a trace event names."""
    for match in _TRACED.finditer(text):
        if match["name"] in _TRACE_NAMES:
            return Reported(" ".join(match.group(0).split()[:2]), _TRACE_NAMES[match["name"]], remark="the first exit of the trace")
    return None


def refused(text: str) -> Reported | None:
    """The check of KVM's own by which it refused an entry of a nested guest, or the error that it passes on from the processor below."""
    match = _NESTED_CHECK.search(text) if "kvm_nested_vmenter_failed" in text else None
    if match is None:
        return None
    check, error = (match["wrapped"] or match["check"]).strip(), (match["error"] or "0").strip()
    if check.startswith(BELOW.strip()):
        below = check.removeprefix(BELOW.strip()).strip()
        return Reported(check, error=BELOW_ERRORS.get(below, to_unsigned(below)) if below else None)  # none where it had no current VMCS
    return Refused(check, error=0, remark=f"KVM's number for it: {error}" if error != "0" else "")


def failed_instruction(text: str) -> OtherFailure | None:
    """The first VMREAD, VMWRITE, VMPTRLD, VMCLEAR or VMXON of which a program, not a sentence, says that it failed."""
    for match in _INSTRUCTION.finditer(text):
        place = place_of(text, match.start("verb"), match.end("verb"))
        if has_happened(place, is_code, is_prose):
            return _failed(match)
    return None


def _failed(match: re.Match[str]) -> OtherFailure:
    """The failure of the instruction that the words name."""
    words = f"{match['between']} {match['verb']}{match['rest']}"
    field, error = _FIELD.search(words), _ERROR.search(words)
    name, number = match["name"].upper().replace("_", ""), to_unsigned(error[1]) if error else None
    encoding = int(field[1] or field[2], 16) if field and name in ("VMREAD", "VMWRITE") else None
    what = f"{name}{f' of {_named(encoding)}' if encoding is not None else ''} failed{f' with error {number}' if number else ''}"
    other = number if number is not None and 0 < number < _ERRORS and number not in ENTRY_ERRORS else None
    return OtherFailure(what, error=other, means=_meaning(name, encoding, number))


def _named(encoding: int) -> str:
    field = BY_ENCODING.get(encoding) or BY_ENCODING.get(encoding & ~1)
    return f"{spoken(field.name)} ({encoded(encoding)})" if field else f"field {encoded(encoding)}, which vmfuzz does not know"


def _meaning(name: str, encoding: int | None, error: int | None) -> str:
    if name == "VMXON":
        return _NO_VMXON
    if name in ("VMPTRLD", "VMCLEAR"):
        then = _OF_REGIONS.get(error or 0, _LOOK_AT_THE_REGION)
        return f"After that there is no current VMCS, or another one: VMREAD, VMWRITE and VMLAUNCH fail too, or reach a wrong one. {then}"
    if error is None or (error not in _OF_FIELDS and error < _ERRORS):
        return _OF_NO_NUMBER
    field = BY_ENCODING.get(encoding) if encoding is not None and error == _NO_FIELD else None
    how = f" `vmfuzz fields {encoded(field.encoding)}` says which capability makes it exist." if field and field.gates else ""
    return _OF_FIELDS.get(error, _NO_ERROR.format(error)) + how


def internal_error(text: str) -> OtherFailure | None:
    """KVM's word that it, not the processor, could not go on with the guest."""
    match = _INTERNAL.search(text)
    if match is None:
        return None
    number = int(match["number"]) if match["number"] else 1 if match.group(0).startswith("emulation") else None
    return OtherFailure(
        "an internal error of KVM" + (f" ({_SUBERRORS[number]})" if number in _SUBERRORS else ""),
        means="The guest had run, or KVM had emulated it, when this came up. Look at the instruction at the guest's RIP (QEMU prints it under "
        "`Code=`) and at the kernel's log; no field of a VMCS needs to be wrong.",
        running=True,
    )
