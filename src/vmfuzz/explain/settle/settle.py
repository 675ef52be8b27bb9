"""Decides which of the places that the readers found are believed; `_stepped` lists the steps in their order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from vmfuzz.explain.dump import ALL, Dump, Reading, Standing, Warned
from vmfuzz.explain.evidence import MSR_NUMBERS, OUTCOME, Found, Kept
from vmfuzz.explain.settle.believe import believed
from vmfuzz.explain.settle.order import in_order, of_one_state
from vmfuzz.explain.settle.views import CHANGED, SEEN, as_viewed
from vmfuzz.explain.text.lines import Ends, Line
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.patterns import deferred

_NO_TEXT: Final = "there are characters in it that are no text"
#: A warning lists at most this many names.
_SHOWN: Final = 6
#: The label of a value that stands beside nothing but an encoding.
_ENCODED: Final = deferred(r"[0-9A-F]{3,4}H")


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
    steps: tuple[tuple[str, Callable[[Sequence[Reading]], Kept]], ...] = (
        ("characters that are no text", lambda places: _without(places, lambda one: one.line in garbled, _NO_TEXT)),
        ("the text begins within the line", lambda places: _without_torn_head(places, ends)),
        ("the text ends within the line", lambda places: _without_cut_end(places, ends.unfinished)),
        # (which of the two a field holds that program text also gives something that is no constant, the text does not show)
        (
            "what a program computes",
            lambda places: _without(places, lambda one: one.standing is Standing.CALL and one.name in found.computed),
        ),
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
    """Without what the first line gives, if the text begins within it: the line shows it, or has an encoding where all others have a name.

    A known program's reader has looked at its lines itself.
    """
    others = [one.label for one in places if one.line != ends.first]
    torn = ends.torn or (bool(others) and not any(map(_ENCODED.fullmatch, others)))

    def is_torn(one: Reading) -> bool:
        if one.line != ends.first or one.standing is Standing.SHOWN or one.name in OUTCOME:
            return False
        return ends.torn or (torn and _ENCODED.fullmatch(one.label) is not None)

    return _without(places, is_torn, "the text may begin within this line")


def _without_cut_end(places: Sequence[Reading], end: Line | None) -> Kept:
    """The text ends with the line `end` and has no line end there: if its last number is shorter than its like, it has been cut.

    How long the number of a capability MSR is, nobody knows; and another half may have followed.
    """
    mine = [one for one in places if end is not None and one.line == end.number and one.written]
    if end is None or not mine:
        return list(places), []
    last, kind = mine[-1], mine[-1].name.rpartition("_")[2]  # another base, limit, selector
    like = max(len(one.written) for one in places if one.name.rpartition("_")[2] == kind)
    is_last = end.text.endswith(last.written)
    if last.name in MSR_NUMBERS or (is_last and len(last.written) < like):
        return _without(places, lambda one: one in mine and one.label == last.label, "the text ends within this line")
    doubt = f"the text ends with {last.name} = {last.written}; if it has been cut there, the value is wrong"
    return list(places), [Warned(end.number, doubt)] * is_last


def _computed(found: Found, readings: Mapping[str, Reading]) -> list[Warned]:
    """Which fields the program computes."""
    computed = {name: line for name, line in found.computed.items() if name not in readings}
    if not computed or (readings and not any(one.standing is Standing.CALL for one in found.evidence)):
        return []  # (a dump shows what has become of them)
    names = list(computed)
    listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return [Warned(min(computed.values()), f"the program computes what it writes to {listed}: not given by this text")]
