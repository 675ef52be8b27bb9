"""The outcome that a text reports: "KVM: entry failed, hardware error 0x80000021", "VMLAUNCH error: 0x7", "exit reason 33", a bare number."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from vmfuzz.arch.capabilities import CAPABILITY_MSRS
from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import INSTRUCTION_ERRORS
from vmfuzz.explain.dump import Dump, Reading, Reported
from vmfuzz.explain.phrases import spots
from vmfuzz.model.wording import bit_name

FAILED_ENTRY: Final = 1 << 31
#: Basic exit reasons with which an entry can fail.
FAILURE_REASONS: Final = (33, 34, 41)
#: VM-instruction errors of VMLAUNCH and VMRESUME; the others are those of other instructions.
ENTRY_ERRORS: Final = (4, 5, 6, 7, 8, 16, 17, 18, 25, 26)
_NO_BIT_31: Final = "bit 31 is not shown; exit reasons 33, 34 and 41 occur only with it"
_QUALIFICATION: Final = re.compile(r"qual(?:ification)?\b(?: field| is| was| as|[ =:(])*(?P<value>(?:0x)?[0-9a-fA-F]+)\b", re.IGNORECASE)
_OTHER_ENTRY: Final = (
    "The text also says '{}'. That was another entry, or this dump was made before it: make one right after the failed entry, before "
    "another VM exit writes these fields"
)
_TRACED: Final = "the name that Linux's trace events have for it"
#: Outcomes in words, where no number is to be found: (pattern, exit reason, VM-instruction error, remark). Error 0: a failure without its number.
_WORDS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), reason, error, remark)
    for pattern, reason, error, remark in (
        (r"VM[- ]?entry with invalid (?:VM[- ])?control", None, 7, ""),
        (r"VM[- ]?entry with invalid host", None, 8, ""),
        (r"VM[- ]?entry fail\w* due to invalid guest[- ]state", FAILED_ENTRY | 33, None, ""),
        (r"VM[- ]?entry fail\w* due to MSR[- ]load", FAILED_ENTRY | 34, None, ""),
        (
            r"\bINVALID_STATE\s+FAILED_VMENTRY\b|\bkvm_(?:nested_vm)?exit:[^:]{0,60}\breason\s+INVALID_STATE\b",
            FAILED_ENTRY | 33,
            None,
            _TRACED,
        ),
        (r"\bMSR_LOAD_FAIL\s+FAILED_VMENTRY\b", FAILED_ENTRY | 34, None, _TRACED),
        (r"\bMCE_DURING_VMENTRY\s+FAILED_VMENTRY\b", FAILED_ENTRY | 41, None, _TRACED),
        (r"WHvRunVpExitReasonInvalidVpRegisterValue", FAILED_ENTRY | 33, None, "the name that the Windows Hypervisor Platform has for it"),
        (r"VERR_VMX_INVALID_GUEST_STATE", FAILED_ENTRY | 33, None, ""),
        (r"VERR_VMX_UNABLE_TO_START_VM", None, 0, "VBox.log gives the VM-instruction error near this name"),
        (r"^\W*(?:\w+: *)?\w*EXIT_REASON_(?:ERROR_)?INVALID_(?:GUEST_)?STATE\W*$", FAILED_ENTRY | 33, None, ""),
        (r"hardware error (?:0x)?0+\b|hardware_entry_failure_reason\W+(?:0x)?0+\b|FailEntry\(0\b", None, 0, ""),
        (
            r"__vmx_vm(?:launch|resume)\b[^\n]{0,20}\b(?:returns?|returned|status|=|:)[ :=]*1\b",
            None,
            0,
            "1 from the compiler's intrinsic: there is a number",
        ),
        (r"\bVM_?fail_?Invalid\b|\bVM(?:LAUNCH|RESUME)\b[^\n]{0,40}\bCF ?[=:] ?1\b", None, None, ""),
        (
            r"__vmx_vm(?:launch|resume)\b[^\n]{0,20}\b(?:returns?|returned|status|=|:)[ :=]*2\b",
            None,
            None,
            "2 from the compiler's intrinsic",
        ),
    )
)
#: An entry failed, and the program does not say with which number: its registers may still show why. A line of source does not say so.
_NO_NUMBER: Final = re.compile(
    r"^(?![^\n]*(?:\bcase\s|#\s*define\b|\bif\s*\(|\bconst\s|[!=]=))[^\n]*?\b(?P<name>(?:KVM_EXIT_)?FAIL_ENTRY)\b(?! *(?:=|,\n))"
    r"|\b(?:kvm|hvm)_run: (?P<words>failed entry(?:, reason \d+)?)",
    re.MULTILINE,
)
#: What KVM reports to the program that calls it in place of a failed entry's own number.
_KVM_FAIL_ENTRY: Final = 9
_CUT_AMD: Final = "65535 is the end of FFFFFFFFH: AMD's VMRUN gives that for a VMCB that it refuses, and no Intel processor gives it"
_NO_NUMBER_NAME: Final = "FAIL_ENTRY"
#: Under which name `Dump.beside` has it.
KVM_EXIT: Final = "KVM exit reason"
#: What stands before an exit reason that KVM reports to its user (or that a test wants): those numbers are not the processor's.
_OF_KVM: Final = re.compile(
    r"(?:\bKVM[ _-]+|\bKVM_RUN\b[^\n]*|(?:\b|_)run(?:->|\.)|\b(?:wanted|expected|expects)\b(?:(?!\b(?:got|but|not)\b)[^\n])*)$",
    re.IGNORECASE,
)
#: That VMLAUNCH or VMRESUME failed, apart from what the fields of the VMCS hold.
_LAUNCH_FAILED: Final = re.compile(
    r"\b(?:VMLAUNCH|VMRESUME|VM[- ]?entry|launch)\b[^\n]{0,20}\bfail(?:ed|s)\b|\bfailed to (?:execute |run )?(?:VMLAUNCH|VMRESUME)\b|"
    r"__vmx_vm(?:launch|resume)\b[^\n]{0,20}\b(?:returns?|returned|status|=|:)[ :=]*1\b",
    re.IGNORECASE,
)
#: ACRN's word on a control that it wanted and cannot have.
_REFUSED_CONTROL: Final = re.compile(
    r"VMX ctrl (?P<msr>0x[0-9a-f]+) not fully enabled: request (?P<wanted>0x[0-9a-f]+) but get (?P<got>0x[0-9a-f]+)", re.IGNORECASE
)
#: Names of the exit reason in programs; in a whole text they may be a list of constants, given alone they are meant.
_NAMED: Final = re.compile(r"INVALID_?(?:GUEST)?_?STATE|invalid guest state", re.IGNORECASE)
#: What AMD's VMRUN reports for a VMCB that it refuses.
AMD: Final = re.compile(
    r"VMEXIT_INVALID|\bVMRUN\b|(?:hardware error|exit code)\W+0xf{8}(?:f{8})?\b|^\s*(?:0xf{8}(?:f{8})?|-1)\s*$",
    re.IGNORECASE,
)
_XEN_DETAIL: Final = re.compile(r"Invalid guest state \((\d+)\)|MSR loading \(entry (\d+)\)|MSR entry (\d+) loading", re.IGNORECASE)


def to_unsigned(text: str, decimal: bool = False) -> int | None:
    """A number as an unsigned 32-bit value: 0x80000021, 80000021, -2147483615, 2147483681, 0xffffffff80000021; None if it is none."""
    body = text.strip().replace("_", "").lower()
    if body.endswith("h"):
        body = f"0x{body[:-1].removeprefix('0x')}"
    negative, body = body.startswith("-"), body.lstrip("-")
    if not re.fullmatch(r"(?:0x)?[0-9a-f]+", body):
        return None
    if (
        body.startswith("0x")
        or re.search("[a-f]", body)
        or (re.fullmatch(r"8000\d{4}", body) and not decimal)
        or (len(body) == 8 and body.startswith("0"))
    ):
        value = int(body, 16)
    else:
        value = int(body)
    if value >> 32 and value >> 31 != (1 << 33) - 1:
        return None  # neither 32 bits nor 32 bits with their sign extended to 64
    return (-value if negative else value) & 0xFFFFFFFF


@dataclass(frozen=True)
class Doubtful(Reported):
    """A VM-instruction error beside an exit reason, of which one is left over from another time: the text does not tell which."""

    other: Reported | None = None


@dataclass(frozen=True)
class Unnumbered(Reported):
    """A failed entry of which the program gives no number."""


@dataclass(frozen=True)
class _Said:
    """What the phrases of a text say: the first failure; the VM-instruction error field; an exit of a guest that ran."""

    failed: Reported | None = None
    error: Reported | None = None
    ran: Reported | None = None


def find(text: str, dump: Dump) -> None:
    """Set `dump.reported` from the text and from the exit-information fields that were read."""
    said = _said(text)
    _refused_controls(text, dump)
    fail_entry = _NO_NUMBER.search(text) if "FAIL_ENTRY" in text or "failed entry" in text else None  # ten times as fast
    reason, error = _exact(dump, "exit_reason"), _exact(dump, "vm_instruction_error")
    if reason is not None and not possible(reason.value):
        dump.warn(f"line {reason.line}: exit reason {reason.value:#x} is none that a processor reports; it is not used")
        reason = None
    if reason is not None and reason.value == _KVM_FAIL_ENTRY and fail_entry:
        reason = None
    by_error, by_reason = said.error, said.ran
    if by_error is None and error is not None and 0 < error.value < 64:
        by_error = Reported(f"VM-instruction error {error.value} in the dump", error=error.value)
    if reason is not None:
        by_reason = _from_field(reason.value, said)
    if said.failed is not None and (said.failed.error is not None or reason is None):
        dump.reported = said.failed
    elif by_reason is None and by_error is None:
        dump.reported = said.failed or _in_words(text)
    else:
        dump.reported = _newer(by_reason, by_error, text)
    dump.reported = _with_qualification(dump.reported, _exact(dump, "exit_qualification"))
    if fail_entry and (dump.reported is None or (dump.reported.entered and reason is None)):
        _without_number(fail_entry["name"] or fail_entry["words"], dump)
    if dump.reported is None and AMD.search(text):
        dump.warn("this looks like AMD's VMRUN (a VMCB); vmfuzz knows Intel's VMCS only")


def _without_number(name: str, dump: Dump) -> None:
    """Note a failed entry of which only that is known; where there are values, any check that they violate may be its cause."""
    if dump.readings:
        dump.reported = None
        dump.beside[KVM_EXIT] = Reading(_KVM_FAIL_ENTRY, name, 0)
    else:
        dump.reported = Unnumbered(name, error=0, remark=_CUT_AMD if name.endswith("65535") else "")


def _exact(dump: Dump, name: str) -> Reading | None:
    """The reading of a field, None if there is none or only some bits of it are known (the text contradicts itself)."""
    reading = dump.readings.get(name)
    return reading if reading is not None and reading.partial.within(FIELDS[name].width).exact else None


def _from_field(value: int, said: _Said) -> Reported:
    """The outcome that the exit-reason field holds; many monitors print its low 16 bits only."""
    also = said.failed or said.ran
    qualification, entry = (also.qualification, also.msr_entry) if also is not None else (None, None)
    text = f"exit reason {value:#x} in the dump"
    if value in FAILURE_REASONS:
        return Reported(text, FAILED_ENTRY | value, qualification=qualification, msr_entry=entry, remark=_NO_BIT_31)
    if said.failed is not None and not value >> 31:
        return Reported(text, value, remark=_OTHER_ENTRY.format(said.failed.text))
    return Reported(text, value, qualification=qualification, msr_entry=entry)


def _with_qualification(reported: Reported | None, reading: Reading | None) -> Reported | None:
    if reported is None or reading is None or reported.exit_reason is None or reported.qualification is not None:
        return reported
    return replace(reported, qualification=reading.value)


def _newer(by_reason: Reported | None, by_error: Reported | None, text: str) -> Reported | None:
    """Which of the two fields tells how the entry ended. A VM exit does not change the error, and a VMfail does not change the exit reason."""
    if by_reason is None or by_error is None:
        return by_reason or by_error
    if by_error.error not in ENTRY_ERRORS:
        left = f"VM-instruction error {by_error.error} is no error of a VM entry: another instruction left it, and a VM exit does not change that field"
        return replace(by_reason, remark="; ".join(filter(None, (by_reason.remark, left)))) if by_reason.exit_reason else by_error
    if not by_reason.exit_reason:
        return by_error  # 0 is what a new VMCS holds
    if by_reason.entered and _LAUNCH_FAILED.search(text):
        return replace(by_error, remark=f"exit reason {by_reason.exit_reason} in the text is left over from an exit before")
    return Doubtful(by_error.text, error=by_error.error, other=by_reason)


def _refused_controls(text: str, dump: Dump) -> None:
    """Warn of the controls that a program wanted and that the processor does not allow."""
    for match in _REFUSED_CONTROL.finditer(text):
        number, got = int(match["msr"], 16), int(match["got"], 16)
        bits = int(match["wanted"], 16) & ~got
        word = next((word for word in CONTROL_WORDS.values() if number in (word.msr, word.true_msr)), None)
        if word is None or not bits or bits >> 64:
            continue
        names = (f"bit {bit} {bit_name(word.field, bit) or ''}".rstrip() for bit in range(bits.bit_length()) if bits >> bit & 1)
        dump.beside[f"VMX ctrl {number:X}H"] = Reading(got, match.group(0), 0)
        dump.warn(
            f"the program wanted {', '.join(names)} of the {word.title}, which {CAPABILITY_MSRS[number]} ({number:X}H) of this processor does not "
            "allow to be 1; it goes on without"
        )


def possible(reason: int) -> bool:
    """Whether a processor can report this exit reason: bit 31 comes only with the basic exit reasons of a failed entry."""
    return not reason >> 31 & 1 or (reason & 0xFFFF in FAILURE_REASONS and not reason >> 16 & 0x7FFF)


def _in_words(text: str) -> Reported | None:
    for pattern, reason, error, remark in _WORDS:
        match = pattern.search(text)
        if match:
            return Reported(" ".join(match.group(0).split()), reason, error, remark=remark)
    return None


def _said(text: str) -> _Said:
    """The outcomes that a text names: the first failure counts, and the first exit of a guest that ran (a log has many of those)."""
    ran: Reported | None = None
    error: Reported | None = None
    for pattern, meaning, begin, end in spots(text):
        for match in pattern.finditer(text, begin, end):
            value = to_unsigned(match["value"])
            odd = re.fullmatch(r"(?:0x)?f{8}000000(21|22|29)", match["value"], re.IGNORECASE)
            if odd and meaning == "reason":
                words = " ".join(match.group(0).split())
                return _Said(
                    Reported(words, FAILED_ENTRY | int(odd[1], 16), remark="the program printed its bits 63:31 wrongly"), error, ran
                )
            if meaning == "raw":
                value = int(match["value"], 16)
            if value is None or (
                meaning in ("reason", "basic") and value < 256 and _OF_KVM.search(text[_line_at(text, match) : match.start()])
            ):
                continue
            reported = _interpret(match, meaning, value, text)
            if reported is not None and meaning == "field":
                error = error or reported
            elif reported is not None and not reported.entered:
                return _Said(reported, error, ran)
            ran = ran or (reported if meaning != "field" else None)
    return _Said(None, error, ran)


def _line_at(text: str, match: re.Match[str]) -> int:
    """Where the line begins in which a match begins."""
    return text.rfind("\n", 0, match.start()) + 1


def _interpret(match: re.Match[str], meaning: str, value: int, text: str) -> Reported | None:
    said = " ".join(match.group(0).split())
    near = text[match.end() : match.end() + 120]
    found = _QUALIFICATION.search(near)
    qualification = to_unsigned(found["value"]) if found else None
    detail = _XEN_DETAIL.search(near)
    entry = None
    if detail:
        qualification = int(detail[1]) if detail[1] else qualification
        entry = int(detail[2] or detail[3]) + 1 if detail[2] or detail[3] else None
    if meaning == "hardware" and value == 0:
        return None  # VMfail without a number, or nothing known: the exit reason decides
    if value == _KVM_FAIL_ENTRY and _NO_NUMBER_NAME in said.upper():
        return None  # the number that this name has for KVM
    if meaning in ("hardware", "field"):
        meaning = "reason" if value >> 31 and meaning == "hardware" else "error"
    if meaning == "error" and value in FAILURE_REASONS:
        meaning = "reason"  # no VM-instruction error has this number
    if meaning == "error":
        if value >> 31:
            return Reported(said, value, qualification=qualification, msr_entry=entry) if possible(value) else None
        return Reported(said, error=value) if 0 < value < 64 else None
    if meaning == "basic" and value in FAILURE_REASONS:
        return Reported(said, FAILED_ENTRY | value, qualification=qualification, msr_entry=entry)
    if meaning == "reason" and not value >> 31 and value in FAILURE_REASONS:
        return Reported(said, FAILED_ENTRY | value, qualification=qualification, remark=_NO_BIT_31)
    if (value >> 31 and possible(value)) or value < 256:
        return Reported(said, value, qualification=qualification, msr_entry=entry)
    return None


def from_words(words: str) -> Reported | None:
    """The outcome that a person means by a bare number or a log line; None where it is neither."""
    text = words.strip()
    number = re.match(r"(?P<value>-?(?:0[xX])?[0-9a-fA-F_]+[hH]?)\b(?P<rest>.*)$", text, re.DOTALL)
    if not number or (number["rest"].strip() and not re.match(r"\W*(?:qual|\(|[0-9]$|0x[0-9a-f]$)", number["rest"].strip())):
        named = Reported(text, FAILED_ENTRY | 33) if _NAMED.search(text) else None
        said = _said(text)
        return said.failed or _newer(said.ran, said.error, text) or _in_words(text) or named
    value = to_unsigned(number["value"])
    if value is None:
        return None
    found = _QUALIFICATION.search(number["rest"]) or re.fullmatch(r"[ ,/:;]*(?P<value>(?:0x)?[0-9a-f])", number["rest"])
    qualification = to_unsigned(found["value"]) if found else None
    if value >> 31:
        return Reported(text, value, qualification=qualification) if possible(value) else None
    if re.fullmatch(r"(?:0x)?80{3,6}2", number["value"].lower()):
        return Reported(
            text, FAILED_ENTRY | 33, remark="read as 0x80000021: the end seems to be missing (0x80000022 and 0x80000029 begin alike)"
        )
    cut = re.fullmatch(r"(?:0x)?8(0+)(21|22|29)", number["value"].lower())
    if cut:
        return Reported(
            text,
            FAILED_ENTRY | int(cut[2], 16),
            qualification=qualification,
            remark="read as 0x800000" + cut[2] + ": a zero seems to be missing",
        )
    if value in (0x21, 0x22, 0x29):
        basic = FAILED_ENTRY | value
        return Reported(
            text, basic, qualification=qualification, remark=f"read as basic exit reason {value}, which occurs only with bit 31"
        )
    if value in INSTRUCTION_ERRORS:
        return Reported(
            text, error=value, remark="read as a VM-instruction error (as an exit reason it would mean that the entry succeeded)"
        )
    if value < 128:
        return Reported(text, value, qualification=qualification)
    return None
