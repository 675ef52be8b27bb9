"""What programs report beside the outcome of a VM entry: another VMX instruction that failed."""

from __future__ import annotations

import re
from typing import Final

from vmfuzz.arch.fields import BY_ENCODING
from vmfuzz.explain.names.spoken import spoken
from vmfuzz.explain.outcomes.context import has_happened, is_code, is_prose, place_of
from vmfuzz.explain.reported import ENTRY_ERRORS, ERRORS, Report, Reported
from vmfuzz.explain.text.numbers import to_unsigned
from vmfuzz.hexadecimal import encoded
from vmfuzz.patterns import deferred

_INSTRUCTION: Final = deferred(
    r"\b(?P<name>vm_?(?:write|read|ptrld|clear)|vmxon)\b(?P<between>[^\n]{0,60}?)\b(?P<verb>fail(?:ed|ure|s)?|error)\b(?P<rest>[^\n]{0,60})",
    re.IGNORECASE,
)
_FIELD: Final = deferred(r"(?:\b(?:field|reg|encoding)\b[ =:]*(?:0x)?0*|\((?:0x)?(?=[0-9a-f]{4}\b))([0-9a-f]{1,4})\b", re.IGNORECASE)
_ERROR: Final = deferred(r"\b(?:err(?:or)?|code)\b[ =:#]*(0x[0-9a-f]{1,4}|\d{1,5})\b", re.IGNORECASE)
_NO_CURRENT: Final = (
    "there was no current VMCS, or not the one that was meant: VMPTRLD did not make it current on this processor, or VMCLEAR took it away."
)
_OF_A_REGION: Final = (
    "After that there is no current VMCS, or another one: VMREAD, VMWRITE and VMLAUNCH fail too, or reach a wrong one. See that the address is "
    "aligned to 4 KBytes, within the processor's physical addresses and not that of the VMXON region, and that the region's first word holds the "
    "VMCS revision identifier of IA32_VMX_BASIC."
)
#: What a failure of an instruction means; of VMREAD and VMWRITE, by their error.
_MEANS: Final = {
    "VMXON": "The processor is not in VMX operation, and no VM entry has been tried. See CR4.VMXE, IA32_FEATURE_CONTROL and the VMXON region.",
    "VMPTRLD": _OF_A_REGION,
    "VMCLEAR": _OF_A_REGION,
    12: "This processor, or the hypervisor below that plays it, does not have that field; the value was not written.",
    13: "The field is read-only on this processor (IA32_VMX_MISC bit 29 is 0).",
}


def failed_instruction(text: str) -> Reported | None:
    """The first VMREAD, VMWRITE, VMPTRLD, VMCLEAR or VMXON of which a program, not a sentence, says that it failed."""
    happened = (match for match in _INSTRUCTION.finditer(text) if has_happened(place_of(text, *match.span("verb")), is_code, is_prose))
    return next(map(_failed, happened), None)


def _failed(match: re.Match[str]) -> Reported:
    """The failure of the instruction that the words name."""
    words = f"{match['between']} {match['verb']}{match['rest']}"
    name, numbers, errors = match["name"].upper().replace("_", ""), _FIELD.search(words), _ERROR.search(words)
    error = to_unsigned(errors[1]) if errors else None
    what, means = name, _MEANS.get(name, _MEANS.get(error))
    if numbers and name in ("VMREAD", "VMWRITE"):
        encoding = int(numbers[1], 16)
        field = BY_ENCODING.get(encoding & ~1)
        what += (
            f" of {spoken(field.name)} ({encoded(encoding)})" if field else f" of field {encoded(encoding)}, which vmfuzz does not know,"
        )
        if field and field.gates and error == 12:
            means = f"{means} `vmfuzz fields {encoded(encoding)}` says which capability makes it exist."
    if means is None and (error is None or error in ERRORS):
        means = f"Either this processor does not have the field (VM-instruction error 12), or {_NO_CURRENT}"
    return Reported(
        f"{what} failed{f' with error {error}' if error else ''}",
        error=error if error in ERRORS and error not in ENTRY_ERRORS else None,
        kind=Report.INSTRUCTION,
        means=means or f"{error} is no VM-instruction error: {_NO_CURRENT}",
    )
