"""The outcome that a text reports: "KVM: entry failed, hardware error 0x80000021", "VMLAUNCH error: 0x7", "exit reason 33", a bare number."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import INSTRUCTION_ERRORS
from vmfuzz.explain.dump import Dump, Reading, Reported
from vmfuzz.explain.outcomes import asides
from vmfuzz.explain.outcomes.identifiers import identified
from vmfuzz.explain.outcomes.languages import Spoken, in_languages
from vmfuzz.explain.outcomes.negation import is_negated
from vmfuzz.explain.outcomes.outcome_words import ENTRY_ERRORS, FAILED_ENTRY, around, in_words, is_listed, of_another_instruction
from vmfuzz.explain.outcomes.said import KVM_FAIL_ENTRY, OTHER_ENTRY, QUALIFICATION, Said, from_field, possible, said
from vmfuzz.explain.text.numbers import to_unsigned
from vmfuzz.model.wording import bit_name
from vmfuzz.patterns import deferred

#: An entry failed, and the program does not say with which number: its registers may still show why. A line of source does not say so.
_NO_NUMBER: Final = deferred(
    r"^(?![^\n]*(?:\bcase\s|#\s*define\b|\bif\s*\(|\bconst\s|[!=]=))[^\n]*?\b(?P<name>(?:KVM_EXIT_)?FAIL_ENTRY)\b(?! *(?:=|,\n))"
    r"|\b(?:kvm|hvm)_run: (?P<words>failed entry(?:, reason \d+)?)",
    re.MULTILINE,
)
_CUT_AMD: Final = "65535 is the end of FFFFFFFFH: AMD's VMRUN gives that for a VMCB that it refuses, and no Intel processor gives it"
#: Under which name `Dump.beside` has it.
KVM_EXIT: Final = "KVM exit reason"
_LAUNCH: Final = r"(?:VMLAUNCH|VMRESUME|VM[- ]?entry|VM[- ]?enter)"
#: That VMLAUNCH or VMRESUME failed, apart from what the fields of the VMCS hold.
_LAUNCH_FAILED: Final = deferred(
    rf"\b(?:{_LAUNCH}|launch)\b[^\n]{{0,20}}\bfail(?:ed|s|ure|ing)?\b(?! due to)|\bfailed to (?:execute |run )?(?:VMLAUNCH|VMRESUME)\b|"
    r"\bVM_?fail_?Invalid\b|__vmx_vm(?:launch|resume)\b[^\n]{0,20}\b(?:returns?|returned|status|=|:)[ :=]*1\b",
    re.IGNORECASE,
)
#: The same as a line of a program's own, not within a sentence.
_PROGRAM_FAILED: Final = deferred(
    rf"^\W{{0,4}}(?:[\w.]{{1,30}}(?:\(\w*\))?: *){{0,3}}(?:the )?{_LAUNCH}(?: instruction)?[ :]{{1,3}}fail(?:ed|ure)\b"
    r"(?: (?:on|in|for|at) [\w #-]{1,20})?[\s.!:)\]]*$",
    re.IGNORECASE | re.MULTILINE,
)
#: Above KVM's dump of a VMCS; a dump that is whole tells the exit reason.
_ATTEMPTED: Final = "last attempted VM-entry"
_NEGATED: Final = deferred(r"\b(?:no|not|never|without|if|when)\b", re.IGNORECASE)
#: So far before the words a negation is looked for.
_NEAR: Final = 20
_ENTRY_INFO: Final = "vm_entry_interruption_info"
_EXIT_INFO: Final = "vm_exit_interruption_info"
#: A text with more fields than these was printed field by field, by VMREADs that leave an error of their own.
_MANY_FIELDS: Final = 20
#: ACRN's word on a control that it wanted and cannot have.
_REFUSED_CONTROL: Final = deferred(
    r"VMX ctrl (?P<msr>0x[0-9a-f]+) not fully enabled: request (?P<wanted>0x[0-9a-f]+) but get ?(?P<got>0x[0-9a-f]+)", re.IGNORECASE
)
#: Names of the exit reason in programs; in a whole text they may be a list of constants, given alone they are meant.
_NAMED: Final = deferred(r"INVALID_?(?:GUEST)?_?STATE|invalid guest state", re.IGNORECASE)
#: What AMD's VMRUN reports for a VMCB that it refuses.
AMD: Final = deferred(
    r"VMEXIT_INVALID|\bVMRUN\b|(?:hardware error|exit code)\W+0xf{8}(?:f{8})?\b|^\s*(?:0xf{8}(?:f{8})?|-1)\s*$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Doubtful(Reported):
    """A VM-instruction error beside an exit reason, of which one is left over from another time: the text does not tell which."""

    other: Reported | None = None


@dataclass(frozen=True)
class Unnumbered(Reported):
    """A failed entry of which the program gives no number."""


@dataclass(frozen=True)
class Attempted(Reported):
    """KVM's dump of a VMCS, of which the end with the exit reason is cut off: the entry failed, or an exit came that KVM does not expect."""


def find(text: str, dump: Dump) -> None:
    """Set `dump.reported` from the text and from the exit-information fields that were read."""
    phrases = said(text)
    words = _in_any_words(text, spoken=phrases.failed is None)
    _refused_controls(text, dump)
    fail_entry = _fail_entry(text)
    reason = _exit_reason(dump)
    if reason is not None and reason.value == KVM_FAIL_ENTRY and fail_entry:
        reason = None
    by_reason = _by_reason(reason, phrases, words)
    by_error = _by_error(dump, phrases, words)
    if by_reason is not None and by_reason.entered and _event_pending(dump):
        _left_over(by_reason, dump)
        by_reason = None
        pending = _launch_failed(text)
        words = words or (Unnumbered(pending, error=0) if pending else None)
    if by_reason is not None and by_reason.exit_reason == 0 and _is_new(dump):
        dump.warn(
            "exit reason 0 is what a new VMCS holds: an exit for it makes bit 31 of the VM-exit interruption information 1, which is 0 here"
        )
        by_reason = None
    if by_error is not None and of_another_instruction(by_error) and not by_reason and len(dump.readings) > _MANY_FIELDS:
        dump.warn(
            f"VM-instruction error {by_error.error} is no error of a VM entry: another instruction left it, mostly the VMREAD of a field that this "
            "processor does not have, and it says nothing of the entry"
        )
        by_error = None
    if phrases.failed is not None and (phrases.failed.error is not None or reason is None):
        dump.reported = phrases.failed
    elif by_reason is None and by_error is None:
        dump.reported = phrases.failed or words
    else:
        dump.reported = _newer(by_reason, by_error, text)
    dump.reported = _with_qualification(dump.reported, _exact(dump, "exit_qualification"))
    if fail_entry and (dump.reported is None or (dump.reported.entered and reason is None)):
        _without_number(fail_entry["name"] or fail_entry["words"], dump)
    if KVM_EXIT not in dump.beside:
        asides.find(text, dump)
        program = _PROGRAM_FAILED.search(text) if dump.reported is None else None
        dump.reported = Unnumbered(_one_line(program.group(0)), error=0) if program else dump.reported
    if dump.reported is None and AMD.search(text):
        dump.warn("this looks like AMD's VMRUN (a VMCB); vmfuzz knows Intel's VMCS only")


def find_attempt(text: str, dump: Dump) -> None:
    """Set `dump.reported` where nothing but the head of KVM's dump says that something went wrong: the end, with the exit reason, is cut off."""
    if dump.reported is None and _ATTEMPTED in text and "exit_reason" not in dump.readings:
        dump.reported = Attempted(_ATTEMPTED, error=0)


def _in_any_words(text: str, spoken: bool = True) -> Reported | None:
    """The outcome that a text names without a phrase for its number: in a program's words, by an identifier, and if `spoken` in a person's language."""
    found = in_words(text) or identified(text)
    if found is None and spoken and (said_so := in_languages(text)):
        return Unnumbered(said_so.text, error=0) if said_so.error == 0 else said_so
    return found


def _fail_entry(text: str) -> re.Match[str] | None:
    """The place where a program says that an entry failed, without a number."""
    if "FAIL_ENTRY" not in text and "failed entry" not in text:
        return None  # (ten times as fast)
    for match in _NO_NUMBER.finditer(text):
        name = match.start("name") if match["name"] else match.start()
        line, begin = around(text, name, match.end())
        if not is_negated(line, begin, begin + match.end() - name):
            return match
    return None


def _exit_reason(dump: Dump) -> Reading | None:
    """The exit-reason field, where it holds what a processor can report."""
    reason = _exact(dump, "exit_reason")
    if reason is not None and not possible(reason.value):
        dump.warn(f"exit reason {reason.value:#x} is none that a processor reports; it is not used", reason.line)
        return None
    return reason


def _by_reason(reason: Reading | None, phrases: Said, words: Reported | None) -> Reported | None:
    """What the exit reason says: the field's, a number's that stands alone, a phrase's."""
    failed = phrases.failed or phrases.bare or (words if words is not None and words.exit_reason else None)
    if reason is not None:
        return from_field(reason.value, failed or phrases.ran, failed)
    named = words is not None and bool(words.exit_reason) and not isinstance(words, Spoken)
    if words is not None and not words.entered and (phrases.in_a_sentence or named):
        return phrases.bare  # what people tell of exits elsewhere is not how the entry ended of which a program says that it failed
    return phrases.bare or phrases.ran


def _by_error(dump: Dump, phrases: Said, words: Reported | None) -> Reported | None:
    """What the VM-instruction error says: the text's, the field's, or its words', which a program prints for an error of this entry."""
    found, field = phrases.error, _exact(dump, "vm_instruction_error")
    if found is None and field is not None and 0 < field.value < 64:
        found = Reported(f"VM-instruction error {field.value} in the dump", error=field.value)
    if words is not None and words.error and (found is None or found.error not in ENTRY_ERRORS):
        return words
    return found


def _event_pending(dump: Dump) -> bool:
    """Whether the VMCS holds an event to inject: every VM exit clears bit 31 of that field."""
    info = _exact(dump, _ENTRY_INFO)
    return info is not None and not info.assumed and bool(info.value >> 31 & 1)


def _is_new(dump: Dump) -> bool:
    """Whether the VMCS has seen no exit for exit reason 0, an exception or NMI: that would be in the VM-exit interruption information."""
    info = _exact(dump, _EXIT_INFO)
    return info is not None and not info.assumed and not info.value >> 31 & 1


def _left_over(by_reason: Reported, dump: Dump) -> None:
    """Say that the exit reason tells nothing of the entry that this VMCS was made for."""
    dump.warn(
        f"exit reason {by_reason.exit_reason} is left over from an exit before, and says nothing of this entry: every VM exit clears bit 31 of the "
        f"VM-entry interruption information, which is 1 here. So the last entry failed, or the dump was made before it"
    )


def _without_number(name: str, dump: Dump) -> None:
    """Note a failed entry of which only that is known; where there are values, any check that they violate may be its cause."""
    if dump.readings:
        dump.reported = None
        dump.beside[KVM_EXIT] = Reading(KVM_FAIL_ENTRY, name, 0)
    else:
        dump.reported = Unnumbered(name, error=0, remark=_CUT_AMD if name.endswith("65535") else "")


def _exact(dump: Dump, name: str) -> Reading | None:
    """The reading of a field, None if there is none or only some bits of it are known (the text contradicts itself)."""
    reading = dump.readings.get(name)
    return reading if reading is not None and reading.partial.within(FIELDS[name].width).exact else None


def _with_qualification(reported: Reported | None, reading: Reading | None) -> Reported | None:
    if reported is None or reading is None or reported.exit_reason is None or reported.qualification is not None:
        return reported
    return replace(reported, qualification=reading.value)


def _newer(by_reason: Reported | None, by_error: Reported | None, text: str) -> Reported | None:
    """Which of the two fields tells how the entry ended. A VM exit does not change the error, and a VMfail does not change the exit reason."""
    if by_reason is None:
        return by_error
    stale = f"exit reason {by_reason.exit_reason} in the text is left over from an exit before"
    if by_error is None:
        program = _PROGRAM_FAILED.search(text) if by_reason.entered else None
        if program:
            return Unnumbered(_one_line(program.group(0)), error=0, remark=stale)
        words = _launch_failed(text) if by_reason.entered and not by_reason.remark else ""
        return replace(by_reason, remark=OTHER_ENTRY.format(words)) if words else by_reason
    if by_error.error not in ENTRY_ERRORS:
        left = f"VM-instruction error {by_error.error} is no error of a VM entry: another instruction left it, and a VM exit does not change that field"
        return replace(by_reason, remark="; ".join(filter(None, (by_reason.remark, left)))) if by_reason.exit_reason else by_error
    if not by_reason.exit_reason:
        return by_error  # 0 is what a new VMCS holds
    if by_reason.entered and _launch_failed(text):
        return replace(by_error, remark=stale)
    return Doubtful(by_error.text, error=by_error.error, other=by_reason)


def _launch_failed(text: str) -> str:
    """The words that say that a launch failed, "" if there are none."""
    for match in _LAUNCH_FAILED.finditer(text):
        line, begin = around(text, match.start(), match.end())
        end = begin + match.end() - match.start()
        if not _NEGATED.search(line, max(0, begin - _NEAR), end) and not is_listed(line, begin, end):
            return _one_line(match.group(0))
    return ""


def _one_line(words: str) -> str:
    """The words without line ends, and without the mark at their end."""
    return " ".join(words.split()).rstrip(".!:")


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
            f"the program wanted {', '.join(names)} of the {word.title}, which {FACT_MSRS[number]} ({number:X}H) of this processor does not "
            "allow to be 1; it goes on without"
        )


def from_words(words: str) -> Reported | None:
    """The outcome that a person means by a bare number or a log line; None where it is neither."""
    text = words.strip()
    number = re.match(r"(?P<value>-?(?:0[xX])?[0-9a-fA-F_]+[hH]?)\b(?P<rest>.*)$", text, re.DOTALL)
    if not number or (number["rest"].strip() and not re.match(r"\W*(?:qual|\(|[0-9]$|0x[0-9a-f]$)", number["rest"].strip())):
        named = Reported(text, FAILED_ENTRY | 33) if _NAMED.search(text) else None
        phrases, in_text = said(text), _in_any_words(text)
        by_error = phrases.error or (in_text if in_text is not None and in_text.error else None)
        reported = phrases.failed or _newer(phrases.bare or phrases.ran, by_error, text) or in_text
        if reported is None or of_another_instruction(reported):
            reported = asides.refused(text) or asides.failed_instruction(text) or asides.internal_error(text) or reported
        return reported or named
    value = to_unsigned(number["value"])
    if value is None:
        return None
    found = QUALIFICATION.search(number["rest"]) or re.fullmatch(r"[ ,/:;]*(?P<value>(?:0x)?[0-9a-f])", number["rest"])
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
