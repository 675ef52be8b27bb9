"""Which of the outcomes that a text and its fields tell is believed, and what a person should know of the others.

In order: a failure by its number, then fields and phrases by which of them is the newer one, then words, then failures that are none of an entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import Reading, Warned
from vmfuzz.explain.outcomes.heard import AMD, Heard
from vmfuzz.explain.outcomes.numbered import KVM_FAIL_ENTRY, NO_BIT_31
from vmfuzz.explain.reported import (
    ENTRY_ERRORS,
    FAILED_ENTRY,
    FAILURE_REASONS,
    Doubtful,
    Reported,
    Spoken,
    Unnumbered,
    possible,
)
from vmfuzz.hexadecimal import hexadecimal

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
_OF_AMD: Final = "this looks like AMD's VMRUN (a VMCB); vmfuzz knows Intel's VMCS only"
_ENTRY_INFO: Final = "vm_entry_interruption_info"
_EXIT_INFO: Final = "vm_exit_interruption_info"
#: A text with more fields than these was printed field by field, by VMREADs that leave an error of their own.
_MANY_FIELDS: Final = 20
#: VM-instruction errors are smaller than this.
_ERRORS: Final = 64


@dataclass(frozen=True)
class Choice:
    """The outcome that is believed, values that stand beside the VMCS, and warnings."""

    reported: Reported | None = None
    beside: Mapping[str, Reading] = field(default_factory=dict)
    warned: tuple[Warned, ...] = ()

    def but(self, reported: Reported | None, *warned: str) -> Choice:
        """The same with another outcome."""
        return Choice(reported, self.beside, (*self.warned, *(Warned(0, text) for text in warned)))


@dataclass(frozen=True)
class _Told:
    """What fields and phrases tell: by the exit reason, by the VM-instruction error, in words."""

    by_reason: Reported | None
    by_error: Reported | None
    words: Reported | None


class _Fields:
    """The fields that hold an outcome."""

    def __init__(self, readings: Mapping[str, Reading]) -> None:
        self._readings = readings
        self.count = len(readings)

    def exact(self, name: str) -> Reading | None:
        """The reading of a field, None if there is none or only some bits of it are known (the text contradicts itself)."""
        reading = self._readings.get(name)
        return reading if reading is not None and reading.partial.within(FIELDS[name].width).exact else None

    def is_valid(self, info: str) -> bool | None:
        """Bit 31 of an interruption information, None where the text does not say."""
        reading = self.exact(info)
        return None if reading is None or reading.assumed else bool(reading.value >> 31 & 1)

    @property
    def shows_a_vmcs(self) -> bool:
        """Whether control words are given."""
        return any(name.endswith("_controls") for name in self._readings)


def choose(heard: Heard, readings: Mapping[str, Reading]) -> Choice:
    """The outcome of a text that says what was `heard` and gives these fields."""
    fields = _Fields(readings)
    controls = tuple(heard.refused_controls())
    choice = Choice(
        beside={f"VMX ctrl {hexadecimal(one.msr)}": Reading(one.value, one.text, 0) for one in controls},
        warned=tuple(Warned(0, one.means) for one in controls),
    )
    reason = fields.exact("exit_reason")
    if reason is not None and not possible(reason.value):
        text = f"exit reason {hexadecimal(reason.value)} is none that a processor reports; it is not used"
        choice, reason = replace(choice, warned=(*choice.warned, Warned(reason.line, text))), None
    if reason is not None and reason.value == KVM_FAIL_ENTRY and heard.without_number:
        reason = None
    choice = _of_fields_and_phrases(heard, fields, reason, choice)
    if heard.without_number and (choice.reported is None or (choice.reported.entered and reason is None)):
        choice = _without_number(heard.without_number, fields, choice)
    if KVM_EXIT not in choice.beside:
        choice = _with_others(heard, fields, choice)
    return choice.but(None, _OF_AMD) if choice.reported is None and AMD.search(heard.text) else choice


def _of_fields_and_phrases(heard: Heard, fields: _Fields, reason: Reading | None, choice: Choice) -> Choice:
    told = _Told(_by_reason(reason, heard), _by_error(heard, fields), heard.in_words)
    told, left_over = _without_what_is_left_over(told, heard, fields)
    failed = heard.numbered.failed
    if failed is not None and (failed.error is not None or reason is None):
        reported: Reported | None = failed
    elif told.by_reason is None and told.by_error is None:
        reported = failed or told.words
    else:
        reported = newer(told.by_reason, told.by_error, heard)
    qualification = fields.exact("exit_qualification")
    if reported is not None and reported.exit_reason is not None and reported.qualification is None and qualification is not None:
        reported = replace(reported, qualification=qualification.value)
    return choice.but(reported, *left_over)


def _by_reason(reason: Reading | None, heard: Heard) -> Reported | None:
    """What the exit reason says: the field's, a number's that stands alone, a phrase's."""
    phrases, words = heard.numbered, heard.in_words
    failed = phrases.failed or phrases.alone or (words if words is not None and words.exit_reason else None)
    if reason is not None:
        return _from_field(reason.value, failed or phrases.ran, failed)
    named = words is not None and bool(words.exit_reason) and not isinstance(words, Spoken)
    if words is not None and not words.entered and (phrases.in_a_sentence or named):
        return phrases.alone  # what people tell of exits elsewhere is not how the entry ended of which a program says that it failed
    return phrases.alone or phrases.ran


def _from_field(value: int, also: Reported | None, failed: Reported | None) -> Reported:
    """The outcome that the exit-reason field holds; many monitors print its low 16 bits only. `also`: what phrases say, `failed`: of a failure."""
    qualification, entry = (also.qualification, also.msr_entry) if also is not None else (None, None)
    text = f"exit reason {hexadecimal(value)} in the dump"
    if value in FAILURE_REASONS:
        return Reported(text, FAILED_ENTRY | value, qualification=qualification, msr_entry=entry, remark=NO_BIT_31)
    if failed is not None and not value >> 31:
        return Reported(text, value, remark=_OTHER_ENTRY.format(failed.text))
    return Reported(text, value, qualification=qualification, msr_entry=entry)


def _by_error(heard: Heard, fields: _Fields) -> Reported | None:
    """What the VM-instruction error says: the text's, the field's, or its words', which a program prints for an error of this entry."""
    found, held, words = heard.numbered.error, fields.exact("vm_instruction_error"), heard.in_words
    if found is None and held is not None and 0 < held.value < _ERRORS:
        found = Reported(f"VM-instruction error {held.value} in the dump", error=held.value)
    if words is not None and words.error and (found is None or found.error not in ENTRY_ERRORS):
        return words
    return found


def _without_what_is_left_over(told: _Told, heard: Heard, fields: _Fields) -> tuple[_Told, list[str]]:
    """Without what other fields show to be of another time, or of another instruction; and what to say of that."""
    said = []
    if told.by_reason is not None and told.by_reason.entered and fields.is_valid(_ENTRY_INFO):
        said.append(_LEFT_OVER.format(told.by_reason.exit_reason))
        pending = Unnumbered(heard.launch_failed, error=0) if heard.launch_failed else None
        told = replace(told, by_reason=None, words=told.words or pending)
    if told.by_reason is not None and told.by_reason.exit_reason == 0 and fields.is_valid(_EXIT_INFO) is False:
        said.append(_NEW_VMCS)
        told = replace(told, by_reason=None)
    if told.by_error is not None and told.by_error.of_another_instruction and not told.by_reason and fields.count > _MANY_FIELDS:
        said.append(_OF_A_VMREAD.format(told.by_error.error))
        told = replace(told, by_error=None)
    return told, said


def newer(by_reason: Reported | None, by_error: Reported | None, heard: Heard) -> Reported | None:
    """Which of the two fields tells how the entry ended. A VM exit does not change the error, and a VMfail does not change the exit reason."""
    if by_reason is None:
        return by_error
    stale = f"exit reason {by_reason.exit_reason} in the text is left over from an exit before"
    if by_error is None:
        return _without_error(by_reason, stale, heard)
    if by_error.error not in ENTRY_ERRORS:
        left = f"VM-instruction error {by_error.error} is no error of a VM entry: another instruction left it, and a VM exit does not change that field"
        return replace(by_reason, remark="; ".join(filter(None, (by_reason.remark, left)))) if by_reason.exit_reason else by_error
    if not by_reason.exit_reason:
        return by_error  # 0 is what a new VMCS holds
    if by_reason.entered and heard.launch_failed:
        return replace(by_error, remark=stale)
    return Doubtful(by_error.text, error=by_error.error, other=by_reason)


def _without_error(by_reason: Reported, stale: str, heard: Heard) -> Reported:
    """An exit reason beside which no error stands, but perhaps words that say that a launch failed."""
    if not by_reason.entered:
        return by_reason
    if heard.program_failed:
        return Unnumbered(heard.program_failed, error=0, remark=stale)
    other = heard.launch_failed if not by_reason.remark else ""
    return replace(by_reason, remark=_OTHER_ENTRY.format(other)) if other else by_reason


def _without_number(name: str, fields: _Fields, choice: Choice) -> Choice:
    """A failed entry of which only that is known; where there are values, any check that they violate may be its cause."""
    if fields.count:
        return replace(choice, reported=None, beside={**choice.beside, KVM_EXIT: Reading(KVM_FAIL_ENTRY, name, 0)})
    return choice.but(Unnumbered(name, error=0, remark=_CUT_AMD if name.endswith("65535") else ""))


def _with_others(heard: Heard, fields: _Fields, choice: Choice) -> Choice:
    """With what is no outcome of an entry: that counts where the text has none that tells more, and else is a warning."""
    nested, instruction = heard.refused, heard.failed_instruction
    if nested is not None and (choice.reported is None or choice.reported.error == 0):
        choice = choice.but(nested)
    elif nested is not None:
        choice = choice.but(choice.reported, f"KVM refused an entry of a nested guest, because of {nested.text}")
    if instruction is not None:
        is_read = instruction.text.startswith("VMREAD")
        nothing_else = choice.reported is None or choice.reported.of_another_instruction
        if nothing_else and not (fields.count and is_read):  # who prints a VMCS also prints which of its fields cannot be read
            choice = choice.but(instruction)
        elif not is_read:
            choice = choice.but(choice.reported, f"the text says that {instruction.text}. {instruction.means}")
    if choice.reported is not None:
        return choice
    other = heard.other(traced=not fields.shows_a_vmcs)
    if other is None and heard.program_failed:
        other = Unnumbered(heard.program_failed, error=0)
    return choice.but(other) if other is not None else choice
