"""Lines that may not be whole: the first and the last of a text, and lines with characters that no program prints."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import Warned
from vmfuzz.explain.evidence import MSR_NUMBERS, OUTCOME, Evidence, Kept, Standing
from vmfuzz.explain.text.lines import Ends, Line
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.patterns import deferred

#: So many labels that look alike are no accident.
_ALIKE: Final = 4
_AREA: Final = deferred(r"guest|host|ctrl|control|vmcs|exit|entry", re.IGNORECASE)
#: The label of a place that has no name, but an encoding.
_ENCODING: Final = deferred(r"[0-9A-F]{4}H")


def without_garbled(places: Sequence[Evidence], numbers: Collection[int]) -> Kept:
    """Nothing is believed of the lines with these numbers: there are characters in them that are no text."""
    return _without(places, lambda one: one.line in numbers, "there are characters in it that are no text")


def without_torn_head(places: Sequence[Evidence], ends: Ends) -> Kept:
    """A text may begin within a line: what its first line gives is not used if that line lacks what the others begin with.

    A known program's reader has looked at its lines itself.
    """
    others = {one.name: one.label for one in places if one.line != ends.first and one.name in FIELDS}.values()
    alike = len(others) >= _ALIKE
    named = alike and sum(bool(_AREA.search(label)) for label in others) * 10 >= len(others) * 9
    nameless = alike and not any(map(_ENCODING.fullmatch, others))

    def lacks(one: Evidence) -> bool:
        """Whether a label lacks what all others have: the name of an area, or a name at all."""
        area = named and one.name.startswith(("guest", "host")) and not _AREA.search(one.label)
        return area or (nameless and _ENCODING.fullmatch(one.label) is not None)

    return _without(
        places,
        lambda one: (
            one.line == ends.first
            and one.standing is not Standing.SHOWN
            and one.name not in OUTCOME
            and (ends.torn is not None or lacks(one))
        ),
        "the text may begin within this line",
    )


def _without(places: Sequence[Evidence], doubtful: Callable[[Evidence], bool], why: str) -> Kept:
    """The places that are not doubtful, and a warning for each of the others."""
    warned = [Warned(one.line, f"{why}, so that {one.label} = {hexadecimal(one.value)} is not used") for one in places if doubtful(one)]
    return [one for one in places if not doubtful(one)], warned


def without_cut_end(places: Sequence[Evidence], end: Line | None) -> Kept:
    """The text ends with the line `end` and has no line end there: if its number is shorter than its like, it has been cut.

    How long the number of a capability MSR is, nobody knows; and another half may have followed.
    """
    written = [one for one in places if one.written]
    last = max(reversed(written), key=lambda one: one.line, default=None)
    if end is None or last is None or last.line != end.number:
        return list(places), []
    if last.name not in MSR_NUMBERS:
        if not end.text.rstrip().endswith(last.written):
            return list(places), []
        if not _is_short(last, written):
            doubt = f"the text ends with {last.name} = {last.written}; if it has been cut there, the value is wrong"
            return list(places), [Warned(end.number, doubt)]
    kept = [one for one in places if one.line != end.number or one.label != last.label]
    return kept, [Warned(end.number, f"the text ends within {last.name} = {last.written}; the value is not used")]


def _is_short(last: Evidence, written: Sequence[Evidence]) -> bool:
    """Whether a number has fewer digits than another of its kind: another base, limit, selector."""
    kind = last.name.rpartition("_")[2]
    alike = [one for one in written if one.name.rpartition("_")[2] == kind and one.standing is not Standing.BITS]
    return len(last.written) < max((len(one.written) for one in alike), default=0)
