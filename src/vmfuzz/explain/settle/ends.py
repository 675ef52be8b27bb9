"""Lines that may not be whole: the first and the last of a text, and lines with characters that no program prints."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vmfuzz.arch.capabilities import FACT_MSRS
from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import Warned
from vmfuzz.explain.evidence import Evidence, MsrEvidence, Standing
from vmfuzz.explain.text.lines import Ends, Line
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.patterns import deferred

#: So many lines (numbers) that look alike are no accident.
_ALIKE: Final = 4
_AREA: Final = deferred(r"guest|host|ctrl|control|vmcs|exit|entry", re.IGNORECASE)
#: The label of a line that has no name, but an encoding.
_ENCODING: Final = deferred(r"[0-9A-F]{4}H")
#: Fields that people write above a dump, in words that are no others' end.
OUTCOME: Final = frozenset({"exit_reason", "vm_instruction_error", "exit_qualification"})


@dataclass(frozen=True)
class Whole:
    """The evidence of whole lines, and what is said of the others."""

    evidence: list[Evidence]
    msrs: list[MsrEvidence]
    warnings: list[Warned]


def without_garbled(evidence: Sequence[Evidence], msrs: Sequence[MsrEvidence], numbers: frozenset[int]) -> Whole:
    """Nothing is believed of the lines with these numbers: there are characters in them that are no text."""
    if not numbers:
        return Whole(list(evidence), list(msrs), [])
    why = "there are characters in it that are no text, so that"
    warnings = [Warned(one.line, f"{why} {one.label} = {hexadecimal(one.value)} is not used") for one in evidence if one.line in numbers]
    warnings += [Warned(one.line, f"{why} its capability MSR is not used") for one in msrs if one.line in numbers]
    return Whole([one for one in evidence if one.line not in numbers], [one for one in msrs if one.line not in numbers], warnings)


def without_torn_head(evidence: Sequence[Evidence], lines: Sequence[Line], ends: Ends) -> tuple[list[Evidence], list[Warned]]:
    """A text may begin within a line: what its first line gives is not used if that line lacks what all that follow begin with."""
    if not lines:
        return list(evidence), []
    first = lines[0]
    others = list({one.name: one.label for one in evidence if one.line != first.number}.values())
    named, nameless = _habits(others, len(lines))
    kept, warnings = list[Evidence](), list[Warned]()
    for one in evidence:
        of_first = one.line == first.number and one.name not in OUTCOME
        if of_first and (first is ends.torn or _lacks(one, named, nameless)):
            warnings.append(
                Warned(first.number, f"the text may begin within this line, so that {one.label} = {hexadecimal(one.value)} is not used")
            )
        else:
            kept.append(one)
    return kept, warnings


def _habits(labels: Sequence[str], count: int) -> tuple[bool, bool]:
    """(whether nearly all of these labels of `count` lines name an area, whether none of them is an encoding)."""
    if len(labels) < _ALIKE:
        return False, False
    named = count > _ALIKE and sum(bool(_AREA.search(label)) for label in labels) * 10 >= len(labels) * 9
    return named, not any(_ENCODING.fullmatch(label) for label in labels)


def _lacks(one: Evidence, named: bool, nameless: bool) -> bool:
    """Whether a label lacks what all others have: the name of an area, or a name at all."""
    if named and not _AREA.search(one.label) and one.name.startswith(("guest", "host")):
        return True
    return nameless and _ENCODING.fullmatch(one.label) is not None


def without_cut_end(evidence: Sequence[Evidence], msrs: Sequence[MsrEvidence], end: Line | None) -> Whole:
    """The text ends with the line `end` and has no line end there: if its number is shorter than its like, it has been cut."""
    everything = Whole(list(evidence), list(msrs), [])
    if end is None:
        return everything
    written = [one for one in evidence if one.written]
    last = max(enumerate(written), key=lambda pair: (pair[1].line, pair[0]), default=(0, None))[1]
    last_msr = max((one for one in msrs if one.written), key=lambda one: one.line, default=None)
    if last_msr is not None and last_msr.line == end.number and (last is None or last.line <= last_msr.line):
        text = f"the text ends with {FACT_MSRS[last_msr.number]} = {last_msr.written}, which may have been cut there; the value is not used"
        return Whole(everything.evidence, [one for one in msrs if one.number != last_msr.number], [Warned(end.number, text)])
    if last is None or last.line != end.number or not end.text.rstrip().endswith(last.written):
        return everything
    if not _is_short(last, written):
        doubt = f"the text ends with {last.name} = {last.written}; if it has been cut there, the value is wrong"
        return Whole(everything.evidence, everything.msrs, [Warned(end.number, doubt)])
    kept = [one for one in evidence if one.line != end.number or (one.name != last.name and one.label != last.label)]
    return Whole(kept, everything.msrs, [Warned(end.number, f"the text ends within {last.name} = {last.written}; the value is not used")])


def _is_short(last: Evidence, written: Sequence[Evidence]) -> bool:
    """Whether a number has fewer digits than all others of its width, or than another of its kind."""
    whole = [one for one in written if one.standing is not Standing.BITS]
    width, kind = _width(last), last.name.rpartition("_")[2]
    usual = Counter(len(one.written) for one in whole if one is not last and _width(one) == width)
    longest = max((len(one.written) for one in whole if one.name.rpartition("_")[2] == kind), default=0)
    alike = len(usual) == 1 and sum(usual.values()) >= _ALIKE and len(last.written) < max(usual)
    return alike or len(last.written) < longest


def _width(one: Evidence) -> int:
    return FIELDS[one.name].width if one.name in FIELDS else 0
