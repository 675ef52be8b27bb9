"""Decides which of the places that the readers found are believed; `_stepped` lists the steps in their order."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.dump import ALL, Dump, Reading, Standing, Warned
from vmfuzz.explain.evidence import MSR_NUMBERS, OUTCOME, Found, Kept
from vmfuzz.explain.settle.believe import believed
from vmfuzz.explain.settle.order import in_order, of_one_state
from vmfuzz.explain.settle.views import CHANGED, SEEN, as_viewed
from vmfuzz.explain.text.lines import Ends, Line
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.patterns import deferred

#: A warning lists at most this many names.
_SHOWN: Final = 6
#: So many labels that look alike are no accident.
_ALIKE: Final = 4
#: What at least so many of ten labels have in common: that of a field with such a name says whose it is; that of any is more than an encoding.
_OF_LABELS: Final = (
    (9, ("guest", "host"), deferred(r"guest|host|ctrl|control|vmcs|exit|entry", re.IGNORECASE)),
    (10, "", deferred(r"^(?![0-9A-F]{4}H$)")),
)


def settled(found: Found, ends: Ends, garbled: Collection[int]) -> Dump:
    """The dump, from all that was found of it.

    `ends`: the lines of the text that may not be whole; `garbled`: the numbers of those with characters that are no text.
    """
    places, warned, trace = _stepped(found, ends, garbled)
    belief = believed(places)
    msrs = {MSR_NUMBERS[one]: reading for one, reading in belief.readings.items() if one in MSR_NUMBERS and reading.known == ALL}
    fields = {one: reading for one, reading in belief.readings.items() if one not in MSR_NUMBERS}
    seen = {one: reading for one, reading in fields.items() if one in CHANGED and reading.assumed == SEEN}
    readings = {one: reading for one, reading in fields.items() if one not in seen}
    trace += [f"not believed, the guest's view: {', '.join(seen)}"] * bool(seen)
    trace.append(f"believed: {len(readings)} fields and {len(msrs)} capability MSRs of {len(found.evidence)} places")
    return Dump(
        readings,
        msrs,
        trace=tuple(trace),
        beside={**{f"KVM {view.label}": view for view in seen.values()}, **found.beside},
        hm_error=found.hm_error,
        program=found,
        warned=(*warned, *belief.warned, *_computed(found, fields)),
        misfits=belief.misfits,
        unread=() if found.viewed else tuple(found.unread),
    )


def _stepped(found: Found, ends: Ends, garbled: Collection[int]) -> tuple[list[Reading], list[Warned], list[str]]:
    """Step by step without the places that are not believed: the others, what to know of these, and for each step which they are."""
    computed = {name for name, _ in found.computed}
    no_text = "there are characters in it that are no text"
    steps: tuple[tuple[str, Callable[[Sequence[Reading]], Kept]], ...] = (
        ("characters that are no text", lambda places: _without(places, lambda one: one.line in garbled, no_text)),
        ("the text begins within the line", lambda places: _without_torn_head(places, ends)),
        ("the text ends within the line", lambda places: _without_cut_end(places, ends.unfinished)),
        # (which of the two a field holds that program text also gives something that is no constant, the text does not show)
        ("what a program computes", lambda places: _without(places, lambda one: one.standing is Standing.CALL and one.name in computed)),
        ("the lines are not in their order", lambda places: in_order(places, found)),
        ("other states of the same fields", lambda places: of_one_state(places, found.failed)),
        ("the guest's view", lambda places: as_viewed(places) if found.viewed else (list(places), [])),
    )
    places, warned, trace = list(found.evidence), list(found.warnings), list[str]()
    for what, step in steps:
        before = places
        places, said = step(before)
        warned += said
        if len(places) < len(before):
            kept = {(one.name, one.line) for one in places}
            gone = [f"{one.name} (line {one.line})" for one in before if (one.name, one.line) not in kept]
            trace.append(f"not believed, {what}: {', '.join(gone)}")
    return places, warned, trace


def _without(places: Sequence[Reading], doubtful: Callable[[Reading], bool], why: str = "") -> Kept:
    """The places that are not doubtful, and a warning for each of the others if there is something to say."""
    gone = [one for one in places if doubtful(one)]
    warned = [Warned(one.line, f"{why}, so that {one.label} = {hexadecimal(one.value)} is not used") for one in gone if why]
    return [one for one in places if not doubtful(one)] if gone else list(places), warned


def _without_torn_head(places: Sequence[Reading], ends: Ends) -> Kept:
    """Without what the first line gives, if the text begins within it: the line shows it, or a label that lacks what nearly all others have.

    A known program's reader has looked at its lines itself.
    """
    labels = {one.name: one.label for one in places if one.line != ends.first and one.name in FIELDS}.values()
    count = max(len(labels), _ALIKE)
    common = [(names, part) for most, names, part in _OF_LABELS if sum(bool(part.search(one)) for one in labels) * 10 >= count * most]

    def is_torn(one: Reading) -> bool:
        """Whether the text begins within the line of a place."""
        if one.line != ends.first or one.standing is Standing.SHOWN or one.name in OUTCOME:
            return False
        return ends.torn or any(one.name.startswith(names) and not part.search(one.label) for names, part in common)

    return _without(places, is_torn, "the text may begin within this line")


def _without_cut_end(places: Sequence[Reading], end: Line | None) -> Kept:
    """The text ends with the line `end` and has no line end there: if its number is shorter than its like, it has been cut.

    How long the number of a capability MSR is, nobody knows; and another half may have followed.
    """
    written = [one for one in places if one.written]
    last = max(reversed(written), key=lambda one: one.line, default=None)
    if end is None or last is None or last.line != end.number:
        return list(places), []
    kind = last.name.rpartition("_")[2]  # another base, limit, selector
    like = (len(one.written) for one in written if one.name.rpartition("_")[2] == kind and one.standing is not Standing.BITS)
    if last.name in MSR_NUMBERS or (end.text.endswith(last.written) and len(last.written) < max(like, default=0)):
        kept = [one for one in places if one.line != end.number or one.label != last.label]
        return kept, [Warned(end.number, f"the text ends within {last.name} = {last.written}; the value is not used")]
    doubt = f"the text ends with {last.name} = {last.written}; if it has been cut there, the value is wrong"
    return list(places), [Warned(end.number, doubt)] * end.text.endswith(last.written)


def _computed(found: Found, readings: Mapping[str, Reading]) -> list[Warned]:
    """Which fields the program computes."""
    computed = {name: line for name, line in reversed(found.computed) if name not in readings}
    if not computed or (readings and not any(one.standing is Standing.CALL for one in found.evidence)):
        return []  # (a dump shows what has become of them)
    names = list(reversed(computed))
    listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return [Warned(min(computed.values()), f"the program computes what it writes to {listed}: not given by this text")]
