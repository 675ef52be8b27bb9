"""Which of the outcomes that a text and its fields tell is believed, and what a person should know of the others.

The first source of `Source` that a text has, after the rules below have taken away what is of another time, or of another instruction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import Dump, Warned
from vmfuzz.explain.outcomes.heard import Source, heard, numbered
from vmfuzz.explain.outcomes.phrases import Meaning
from vmfuzz.explain.outcomes.programs import named_checks, refused_msr
from vmfuzz.explain.outcomes.words import OF_A_PROGRAM
from vmfuzz.explain.reported import ENTRY_ERRORS, ERRORS, Report, Reported
from vmfuzz.explain.text.lines import Line
from vmfuzz.hexadecimal import hexadecimal

#: Above KVM's dump of a VMCS; a dump that is whole tells the exit reason.
_ATTEMPTED: Final = "last attempted VM-entry"
#: Bits of an exit reason that say more of how the guest ran.
_OF_THE_GUEST: Final = 0x7E00_0000
#: A text with more fields than these was printed field by field, by VMREADs that leave an error of their own.
_MANY_FIELDS: Final = 20
_STALE: Final = "exit reason {0.exit_reason} in the text is left over from an exit before"
_OTHER_ENTRY: Final = (
    "The text also says '{0.text}'. That was another entry, or this dump was made before it: make one right after the failed entry, before "
    "another VM exit writes these fields"
)
_OF_ANOTHER: Final = (
    "VM-instruction error {0.error} is no error of a VM entry, and a VM exit does not change that field: another instruction left it, mostly the "
    "VMREAD of a field that this processor does not have"
)
_UNKNOWN: Final = '{0.program} refused the entry by a check of its own, or by one that is not in the table here: "{0.text}"'


class _Rule(NamedTuple):
    """What `lost` tells is none of this entry beside all these sources, `when` that holds of it, of the first of them, and of the dump.

    `says`: a remark on the first of them, or a warning where there is none.
    """

    lost: Source
    beside: tuple[Source, ...]
    when: Callable[[Reported, Reported, Dump], bool]
    says: str = ""


_RULES: Final = (
    _Rule(
        Source.REASON,
        (),
        lambda lost, _, dump: lost.entered and bool((_exact(dump, "vm_entry_interruption_info") or 0) >> 31),
        "exit reason {0.exit_reason} is left over from an exit before, and says nothing of this entry: every VM exit clears bit 31 of the "
        "VM-entry interruption information, which is 1 here. So the last entry failed, or the dump was made before it",
    ),
    _Rule(
        Source.REASON,
        (),
        lambda lost, _, dump: lost.exit_reason == 0 and (info := _exact(dump, "vm_exit_interruption_info")) is not None and not info >> 31,
        "exit reason 0 is what a new VMCS holds: an exit for it makes bit 31 of the VM-exit interruption information 1, which is 0 here",
    ),
    _Rule(Source.REASON, (Source.ERROR,), lambda lost, *_: lost.exit_reason == 0),
    # a VM exit does not change the error, and a VMfail does not change the exit reason: words tell which of the two is newer
    _Rule(Source.REASON, (Source.ERROR, Source.WORDS), lambda lost, *_: lost.entered, _STALE),
    _Rule(Source.REASON, (Source.CHECK,), lambda lost, *_: lost.entered, _STALE),
    _Rule(Source.REASON, (Source.WORDS,), lambda lost, words, _: lost.entered and bool(OF_A_PROGRAM.fullmatch(words.text)), _STALE),
    _Rule(Source.WORDS, (Source.REASON,), lambda _, reason, __: reason.entered, _OTHER_ENTRY),
    _Rule(Source.FAILED, (Source.REASON,), lambda lost, reason, _: reason.entered and lost.error is None, _OTHER_ENTRY),
    # who prints a VMCS also prints which of its fields cannot be read
    _Rule(Source.INSTRUCTION, (), lambda lost, _, dump: bool(dump.readings) and lost.text.startswith("VMREAD")),
    _Rule(Source.OTHER_ERROR, (), lambda _, __, dump: len(dump.readings) > _MANY_FIELDS, _OF_ANOTHER),
    _Rule(Source.TRACE, (), lambda lost, _, dump: lost.kind is Report.TOLD and any(name.endswith("_controls") for name in dump.readings)),
)
#: What to say of an outcome that is not believed.
_ALSO: Final = {Source.INSTRUCTION: "the text says that {0.text}. {0.means}", Source.OTHER_ERROR: _OF_ANOTHER}


def with_outcome(dump: Dump, lines: Sequence[Line] = (), text: str = "") -> Dump:
    """The dump with the outcome that is believed. `lines`: those of no dump, which may tell it; `text`: all around the dump."""
    told = "\n".join(line.text for line in lines)
    checks = named_checks(lines, told)
    claims = heard(told, checks, not dump.readings)
    said = _add_fields(claims, dump) + _take_away(claims, dump)
    if _ATTEMPTED in text and "exit_reason" not in dump.readings:
        claims[Source.ATTEMPTED] = Reported(_ATTEMPTED, error=0, kind=Report.ATTEMPTED)
    source = min(claims, default=Source.ATTEMPTED)
    reported = claims.pop(source, None)
    said += [Warned(0, _ALSO[other].format(one)) for other, one in claims.items() if other in _ALSO]
    said += [Warned(one.line, _UNKNOWN.format(one)) for one in checks if not one.checks]
    if reported is not None and reported.exit_reason is not None and reported.qualification is None:
        reported = replace(reported, qualification=_exact(dump, "exit_qualification"))
    if source is Source.REASON and Source.ERROR in claims:
        error = claims[Source.ERROR]
        reported = Reported(error.text, error=error.error, kind=Report.DOUBTFUL, other=reported)
    named = tuple(one for one in checks if one.checks)
    return replace(dump.warning(*said), reported=reported, named=named, refused_msr=refused_msr(lines, told))


def _add_fields(claims: dict[Source, Reported], dump: Dump) -> list[Warned]:
    """Add what the fields tell, or what the text tells in their place; returns warnings."""
    reason, error, ran = _exact(dump, "exit_reason"), _exact(dump, "vm_instruction_error"), claims.pop(Source.RAN, None)
    held = ran if claims.keys().isdisjoint((Source.FAILED, Source.WORDS, Source.CHECK, Source.UNNUMBERED)) else None
    warned = list[Warned]()
    if reason is not None:
        shown = f"exit reason {hexadecimal(reason)}"
        held = numbered(f"{shown} in the dump", Meaning.REASON, reason & ~_OF_THE_GUEST)
        if held is None:
            warned.append(Warned(dump.readings["exit_reason"].line, f"{shown} is none that a processor reports; it is not used"))
    if held is not None:
        told = claims.get(Source.FAILED)
        if told is not None and told.exit_reason is not None and told.entered == held.entered:
            del claims[Source.FAILED]  # (the field is of the state that is judged)
            if told.exit_reason == held.exit_reason:
                held = replace(held, qualification=told.qualification, msr_entry=told.msr_entry)
        claims[Source.REASON] = held
    if error in ERRORS and Source.OTHER_ERROR not in claims:  # (a phrase tells it in decimal)
        source = Source.ERROR if error in ENTRY_ERRORS else Source.OTHER_ERROR
        claims.setdefault(source, Reported(f"VM-instruction error {error} in the dump", error=error))
    if Source.ERROR not in claims and Source.WORDS in claims and claims[Source.WORDS].error:
        claims[Source.ERROR] = claims.pop(Source.WORDS)
    return warned


def _take_away(claims: dict[Source, Reported], dump: Dump) -> list[Warned]:
    """Take away what the rules tell is none of this entry; returns warnings."""
    warned = list[Warned]()
    for lost, beside, when, says in _RULES:
        first = (*beside, lost)[0]
        if claims.keys() >= {lost, *beside} and when(claims[lost], claims[first], dump):
            words = says.format(claims.pop(lost))
            if words and beside:
                claims[first] = replace(claims[first], remark=words)
            elif words:
                warned.append(Warned(0, words))
    return warned


def _exact(dump: Dump, name: str) -> int | None:
    """The value of a field, None if there is none or only some bits of it are known (the text contradicts itself)."""
    reading = dump.readings.get(name)
    return reading.value if reading is not None and reading.partial.within(FIELDS[name].width).exact else None
