"""All that a text says of outcomes, by the way it says so: evidence, of which choose.py believes one. Nothing here looks at the fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Final, NamedTuple

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.arch.controls import CONTROL_WORDS
from vmfuzz.explain.outcomes import others
from vmfuzz.explain.outcomes.context import is_listed, is_negated, place_of
from vmfuzz.explain.outcomes.identifiers import identified
from vmfuzz.explain.outcomes.languages import in_languages
from vmfuzz.explain.outcomes.numbered import Numbered, numbered
from vmfuzz.explain.outcomes.words import in_words
from vmfuzz.explain.reported import OtherFailure, Refused, Reported, Unnumbered
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.model.wording import bit_name
from vmfuzz.patterns import deferred

#: An entry failed, and the program does not say with which number: its registers may still show why. A line of source does not say so.
_NO_NUMBER: Final = deferred(
    r"^(?![^\n]*(?:\bcase\s|#\s*define\b|\bif\s*\(|\bconst\s|[!=]=))[^\n]*?\b(?P<name>(?:KVM_EXIT_)?FAIL_ENTRY)\b(?! *(?:=|,\n))"
    r"|\b(?:kvm|hvm)_run: (?P<words>failed entry(?:, reason \d+)?)",
    re.MULTILINE,
)
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
#: What denies, or supposes, that a launch failed, so near before the words.
_NOT_SO: Final = deferred(r"\b(?:no|not|never|without|if|when)\b", re.IGNORECASE)
_NEAR: Final = 20
#: ACRN's word on a control that it wanted and cannot have.
_REFUSED_CONTROL: Final = deferred(
    r"VMX ctrl (?P<msr>0x[0-9a-f]+) not fully enabled: request (?P<wanted>0x[0-9a-f]+) but get ?(?P<got>0x[0-9a-f]+)", re.IGNORECASE
)
#: What AMD's VMRUN reports for a VMCB that it refuses.
AMD: Final = deferred(
    r"VMEXIT_INVALID|\bVMRUN\b|(?:hardware error|exit code)\W+0xf{8}(?:f{8})?\b|^\s*(?:0xf{8}(?:f{8})?|-1)\s*$",
    re.IGNORECASE,
)


class RefusedControls(NamedTuple):
    """Controls that a program wanted and that the processor does not allow: the MSR and its value, the program's line, what to know."""

    msr: int
    value: int
    text: str
    means: str


class Heard:
    """What a text says of outcomes; each kind is looked for when it is first asked for."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def numbered(self) -> Numbered:
        """By numbers in phrases."""
        return numbered(self.text)

    @cached_property
    def in_words(self) -> Reported | None:
        """In a program's words, by an identifier, or, where no phrase with a number tells of a failure, in a person's language."""
        found = in_words(self.text) or identified(self.text)
        if found is not None or self.numbered.failed is not None:
            return found
        spoken = in_languages(self.text)
        return Unnumbered(spoken.text, error=0) if spoken is not None and spoken.error == 0 else spoken

    @cached_property
    def without_number(self) -> str:
        """The name or the words by which KVM, or a program of its, says that an entry failed, and not with which number; "" for none."""
        if "FAIL_ENTRY" not in self.text and "failed entry" not in self.text:
            return ""  # (ten times as fast)
        for match in _NO_NUMBER.finditer(self.text):
            begin = match.start("name") if match["name"] else match.start()
            if not is_negated(place_of(self.text, begin, match.end())):
                return match["name"] or match["words"]
        return ""

    @cached_property
    def launch_failed(self) -> str:
        """The words that say that a launch failed, "" if there are none."""
        for match in _LAUNCH_FAILED.finditer(self.text):
            place = place_of(self.text, match.start(), match.end())
            if not _NOT_SO.search(place.line, max(0, place.begin - _NEAR), place.end) and not is_listed(place):
                return _one_line(match.group(0))
        return ""

    @cached_property
    def program_failed(self) -> str:
        """A program's line that says so, "" if there is none."""
        match = _PROGRAM_FAILED.search(self.text)
        return _one_line(match.group(0)) if match else ""

    @cached_property
    def refused(self) -> Refused | None:
        """The check of KVM's own by which it refused an entry of a nested guest."""
        return others.refused(self.text)

    @cached_property
    def failed_instruction(self) -> OtherFailure | None:
        """A VMX instruction other than VMLAUNCH and VMRESUME that failed."""
        return others.failed_instruction(self.text)

    def other(self, traced: bool) -> Reported | None:
        """What is no outcome of an entry: an internal error of KVM's; `traced`: or the first exit of a trace."""
        return others.internal_error(self.text) or (others.traced(self.text) if traced else None)

    def refused_controls(self) -> Iterator[RefusedControls]:
        """The controls that ACRN says it cannot have."""
        for match in _REFUSED_CONTROL.finditer(self.text):
            number, got = int(match["msr"], 16), int(match["got"], 16)
            bits = int(match["wanted"], 16) & ~got
            word = next((word for word in CONTROL_WORDS.values() if number in (word.msr, word.true_msr)), None)
            if word is None or not bits or bits >> 64:
                continue
            names = (f"bit {bit} {bit_name(word.field, bit) or ''}".rstrip() for bit in range(bits.bit_length()) if bits >> bit & 1)
            means = (
                f"the program wanted {', '.join(names)} of the {word.title}, which {FACT_MSRS[number]} ({hexadecimal(number)}) of this processor does not "
                "allow to be 1; it goes on without"
            )
            yield RefusedControls(number, got, match.group(0), means)


def _one_line(words: str) -> str:
    """The words without line ends, and without the mark at their end."""
    return " ".join(words.split()).rstrip(".!:")
