"""Which of the outcomes that a text and its fields tell is believed, and what a person should know of the others.

In order: a failure by its number, then fields and phrases by which of them is the newer one, then words, then failures that are none of an entry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import Reading, Warned
from vmfuzz.explain.outcomes import others
from vmfuzz.explain.outcomes.heard import ERRORS, KVM_FAIL_ENTRY, NO_BIT_31, Heard
from vmfuzz.explain.outcomes.words import OF_A_PROGRAM
from vmfuzz.explain.reported import FAILED_ENTRY, FAILURE_REASONS, Doubtful, Refused, Reported, Unnumbered, possible
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.patterns import deferred

#: Under which name `Dump.beside` has the exit reason of KVM.
KVM_EXIT: Final = "KVM exit reason"
_CUT_AMD: Final = "65535 is the end of FFFFFFFFH: AMD's VMRUN gives that for a VMCB that it refuses, and no Intel processor gives it"
_OTHER_ENTRY: Final = (
    "The text also says '{}'. That was another entry, or this dump was made before it: make one right after the failed entry, before "
    "another VM exit writes these fields"
)
_LEFT_OVER: Final = (
    "exit reason {} is left over from an exit before, and says nothing of this entry: every VM exit clears bit 31 of the "
    "VM-entry interruption information, which is 1 here. So the last entry failed, or the dump was made before it"
)
_NEW_VMCS: Final = (
    "exit reason 0 is what a new VMCS holds: an exit for it makes bit 31 of the VM-exit interruption information 1, which is 0 here"
)
_OF_A_VMREAD: Final = (
    "VM-instruction error {} is no error of a VM entry: another instruction left it, mostly the VMREAD of a field that this "
    "processor does not have, and it says nothing of the entry"
)
_OF_ANOTHER: Final = (
    "VM-instruction error {} is no error of a VM entry: another instruction left it, and a VM exit does not change that field"
)
_OF_AMD: Final = "this looks like AMD's VMRUN (a VMCB); vmfuzz knows Intel's VMCS only"
#: What AMD's VMRUN reports for a VMCB that it refuses.
AMD: Final = deferred(
    r"VMEXIT_INVALID|\bVMRUN\b|(?:hardware error|exit code)\W+0xf{8}(?:f{8})?\b|^\s*(?:0xf{8}(?:f{8})?|-1)\s*$",
    re.IGNORECASE,
)
#: A text with more fields than these was printed field by field, by VMREADs that leave an error of their own.
_MANY_FIELDS: Final = 20


@dataclass(frozen=True)
class Choice:
    """The outcome that is believed, values that stand beside the VMCS, and warnings."""

    reported: Reported | None = None
    beside: Mapping[str, Reading] = field(default_factory=dict)
    warned: tuple[Warned, ...] = ()


class _Fields:
    """The fields that hold an outcome, and what is said of them."""

    def __init__(self, readings: Mapping[str, Reading]) -> None:
        self._readings = readings
        self.count, self.controls = len(readings), any(name.endswith("_controls") for name in readings)
        self.said: list[Warned] = []
        self.reason = self.exact("exit_reason")
        if self.reason is not None and not possible(self.reason.value):
            self.say(f"exit reason {hexadecimal(self.reason.value)} is none that a processor reports; it is not used", self.reason.line)
            self.reason = None

    def say(self, text: str, line: int = 0) -> None:
        """Warn of something."""
        self.said.append(Warned(line, text))

    def exact(self, name: str) -> Reading | None:
        """The reading of a field, None if there is none or only some bits of it are known (the text contradicts itself)."""
        reading = self._readings.get(name)
        return reading if reading is not None and reading.partial.within(FIELDS[name].width).exact else None

    def is_valid(self, info: str) -> bool | None:
        """Bit 31 of an interruption information, None where the text does not say."""
        reading = self.exact(info)
        return None if reading is None or reading.assumed else bool(reading.value >> 31 & 1)


def choose(heard: Heard, readings: Mapping[str, Reading]) -> Choice:
    """The outcome of a text that says what was `heard` and gives these fields."""
    fields = _Fields(readings)
    nameless = heard.without_number
    if nameless and fields.reason is not None and fields.reason.value == KVM_FAIL_ENTRY:
        fields.reason = None
    reported = _of_entry(heard, fields)
    if nameless and (reported is None or (reported.entered and fields.reason is None)):
        if fields.count:  # any check that they violate may be the cause
            return Choice(None, {KVM_EXIT: Reading(KVM_FAIL_ENTRY, nameless, 0)}, tuple(fields.said))
        reported = Unnumbered(nameless, error=0, remark=_CUT_AMD if nameless.endswith("65535") else "")
    reported = _or_other(reported, heard, fields)
    if reported is None and AMD.search(heard.text):
        fields.say(_OF_AMD)
    return Choice(reported, warned=tuple(fields.said))


def _of_entry(heard: Heard, fields: _Fields) -> Reported | None:
    """How the entry ended, by numbers or by words."""
    failed = heard.failed
    by_reason, by_error = _without_left_overs(_by_reason(heard, fields), _by_error(heard, fields), fields)
    if failed is not None and (failed.error is not None or fields.reason is None):
        reported: Reported | None = failed
    else:
        reported = _newer(by_reason, by_error, heard.words) or failed or heard.words
    qualification = fields.exact("exit_qualification")
    if reported is None or reported.exit_reason is None or reported.qualification is not None or qualification is None:
        return reported
    return replace(reported, qualification=qualification.value)


def _without_left_overs(by_reason: Reported | None, by_error: Reported | None, fields: _Fields) -> tuple[Reported | None, Reported | None]:
    """Without what other fields show to be of another time, or of another instruction."""
    if by_reason is not None and by_reason.entered and fields.is_valid("vm_entry_interruption_info"):
        fields.say(_LEFT_OVER.format(by_reason.exit_reason))
        by_reason = None
    if by_reason is not None and by_reason.exit_reason == 0 and fields.is_valid("vm_exit_interruption_info") is False:
        fields.say(_NEW_VMCS)
        by_reason = None
    if by_error is not None and by_error.of_another_instruction and not by_reason and fields.count > _MANY_FIELDS:
        fields.say(_OF_A_VMREAD.format(by_error.error))
        by_error = None
    return by_reason, by_error


def _by_reason(heard: Heard, fields: _Fields) -> Reported | None:
    """What the exit reason says: the field's (many monitors print its low 16 bits only), a number's that stands alone, a phrase's."""
    words = heard.words
    if fields.reason is None:
        return heard.alone or (heard.ran if words is None else None)  # an exit of which words tell is not how the entry ended that failed
    named = words if words is not None and words.exit_reason else None
    failed = heard.failed or heard.alone or named
    also, value = failed or heard.ran or Reported(""), fields.reason.value
    reported = Reported(f"exit reason {hexadecimal(value)} in the dump", value, None, also.qualification, also.msr_entry)
    if value in FAILURE_REASONS:
        return replace(reported, exit_reason=FAILED_ENTRY | value, remark=NO_BIT_31)
    if failed is not None and not value >> 31:
        return Reported(reported.text, value, remark=_OTHER_ENTRY.format(failed.text))
    return reported


def _by_error(heard: Heard, fields: _Fields) -> Reported | None:
    """What the VM-instruction error says: the text's, the field's, or its words', which a program prints for an error of this entry."""
    found, held, words = heard.error, fields.exact("vm_instruction_error"), heard.words
    if found is None and held is not None and 0 < held.value < ERRORS:
        found = Reported(f"VM-instruction error {held.value} in the dump", error=held.value)
    return words if words is not None and words.error and (found is None or found.of_another_instruction) else found


def _newer(by_reason: Reported | None, by_error: Reported | None, words: Reported | None) -> Reported | None:
    """Which of the two fields tells how the entry ended. A VM exit does not change the error, and a VMfail does not change the exit reason."""
    if by_reason is None:
        return by_error
    stale = f"exit reason {by_reason.exit_reason} in the text is left over from an exit before"
    if by_error is None:
        if words is None or not by_reason.entered or by_reason.remark or (words.error == 0 and not isinstance(words, Unnumbered)):
            return by_reason  # (KVM's 0 leaves it to the exit reason)
        if OF_A_PROGRAM.fullmatch(words.text):
            return Unnumbered(words.text, error=0, remark=stale)
        return replace(by_reason, remark=_OTHER_ENTRY.format(words.text))
    if not by_reason.exit_reason:
        return by_error  # 0 is what a new VMCS holds
    if by_error.of_another_instruction:
        return replace(by_reason, remark="; ".join(filter(None, (by_reason.remark, _OF_ANOTHER.format(by_error.error)))))
    if by_reason.entered and words not in (None, by_error):
        return replace(by_error, remark=stale)
    return Doubtful(by_error.text, error=by_error.error, other=by_reason)


def _or_other(reported: Reported | None, heard: Heard, fields: _Fields) -> Reported | None:
    """What is no outcome of an entry counts where the text has none that tells more, and else is a warning."""
    nested, instruction = others.refused(heard.text), others.failed_instruction(heard.text)
    if nested is not None and (reported is None or reported.error == 0):
        reported = nested
    elif isinstance(nested, Refused):
        fields.say(f"KVM refused an entry of a nested guest, because of {nested.text}")
    # who prints a VMCS also prints which of its fields cannot be read
    if instruction is not None and not (fields.count and instruction.text.startswith("VMREAD")):
        if reported is None or reported.of_another_instruction:
            return instruction
        if not instruction.text.startswith("VMREAD"):
            fields.say(f"the text says that {instruction.text}. {instruction.means}")
    if reported is not None:
        return reported
    return others.internal_error(heard.text) or (None if fields.controls else others.traced(heard.text))
