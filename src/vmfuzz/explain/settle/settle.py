"""Decides which of the places that the readers found are believed; `settled` lists the steps in their order."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from vmfuzz.explain.dump import ALL, Dump, Named, Notes, Origin, Program, Reading, Warned
from vmfuzz.explain.evidence import MSR_NUMBERS, OUTCOME, Evidence, Found, Kept, Standing
from vmfuzz.explain.settle.believe import believed
from vmfuzz.explain.settle.ends import without_cut_end, without_garbled, without_torn_head
from vmfuzz.explain.settle.order import in_order
from vmfuzz.explain.settle.states import of_one_state
from vmfuzz.explain.text.lines import Ends
from vmfuzz.hexadecimal import hexadecimal

#: A warning lists at most this many names.
_SHOWN: Final = 6
_IN_SENTENCE: Final = "given in a sentence, not in a dump"
#: What KVM's structures show is the guest's view; KVM adds to these before they reach the VMCS.
_VIEWED: Final = ("guest_cr0", "guest_cr3", "guest_cr4", "guest_ia32_efer")


def settled(found: Found, name: str, ends: Ends, garbled: Collection[int]) -> Dump:
    """The dump, from all that was found of it: step by step without the places that are not believed.

    `ends`: the lines of the text that may not be whole; `garbled`: the numbers of those with characters that are no text.
    """
    steps: tuple[tuple[str, Callable[[Sequence[Evidence]], Kept]], ...] = (
        ("characters that are no text", lambda places: without_garbled(places, garbled)),
        ("the text begins within the line", lambda places: without_torn_head(places, ends)),
        ("the text ends within the line", lambda places: without_cut_end(places, ends.unfinished)),
        ("what a program computes", lambda places: _without_computed(places, {name for name, _ in found.computed})),
        ("the lines are not in their order", lambda places: in_order(places, found)),
        ("other states of the same fields", lambda places: of_one_state(places, found.failed)),
        ("sentences on fields that are shown", _without_told),
    )
    places, warned, trace = list(found.evidence), list(found.warnings), list[str]()
    for what, step in steps:
        before = places
        places, said = step(before)
        warned += said
        trace += _gone(what, before, places)
    belief = believed(places)
    msrs = {MSR_NUMBERS[one]: reading for one, reading in belief.readings.items() if one in MSR_NUMBERS and reading.known == ALL}
    fields = {one: reading for one, reading in belief.readings.items() if one not in MSR_NUMBERS}
    views = _views(fields) if found.viewed else {}
    readings = {one: reading for one, reading in fields.items() if one not in views}
    trace += [f"not believed, the guest's view: {', '.join(views)}"] if views else []
    trace.append(f"believed: {len(readings)} fields and {len(msrs)} capability MSRs of {len(found.evidence)} places")
    return Dump(
        Origin(name, trace=tuple(trace)),
        readings,
        {number: reading.value for number, reading in msrs.items()},
        {number: reading.line for number, reading in msrs.items()},
        beside={**{f"KVM {view.label}": view for view in views.values()}, **found.beside},
        named=Named(hm_error=found.hm_error),
        program=Program(tuple(found.definitions), dict(found.written), found.zeroed),
        notes=Notes((*warned, *belief.warned, *_computed(found, fields)), belief.misfits, tuple(found.unread)),
    )


def _gone(what: str, before: Sequence[Evidence], after: Sequence[Evidence]) -> list[str]:
    """Which places a step does without, in a sentence, if there are any."""
    kept = {(one.name, one.line) for one in after}
    gone = [f"{one.name} (line {one.line})" for one in before if (one.name, one.line) not in kept]
    return [f"not believed, {what}: {', '.join(gone)}"] if gone else []


def _without_computed(places: Sequence[Evidence], computed: Collection[str]) -> Kept:
    """A field that program text also gives something that is no constant: which of the two it holds, the text does not show."""
    return [one for one in places if not (one.standing is Standing.CALL and one.name in computed)], []


def _without_told(places: Sequence[Evidence]) -> Kept:
    """What a sentence says of a field counts only where no dump shows the field."""
    shown = {one.name: one for one in places if one.standing is not Standing.SENTENCE}
    kept, warned = list[Evidence](), list[Warned]()
    for one in places:
        other = shown.get(one.name)
        if one.standing is not Standing.SENTENCE:
            kept.append(one)
        elif other is None:
            kept.append(replace(one, assumed=one.assumed or ("" if one.name in OUTCOME else _IN_SENTENCE)))
        elif (other.value ^ one.value) & other.known & one.known:
            text = f"{one.label} = {hexadecimal(one.value)} stands in a sentence; line {other.line} says {hexadecimal(other.value)}, and that is used"
            warned.append(Warned(one.line, text))
    return kept, warned


def _computed(found: Found, readings: Mapping[str, Reading]) -> list[Warned]:
    """Which fields the program computes."""
    computed = {name: line for name, line in reversed(found.computed) if name not in readings}
    if not computed or (readings and not any(one.standing is Standing.CALL for one in found.evidence)):
        return []  # (a dump shows what has become of them)
    names = list(reversed(computed))
    listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return [Warned(min(computed.values()), f"the program computes what it writes to {listed}: not given by this text")]


def _views(readings: Mapping[str, Reading]) -> dict[str, Reading]:
    """The guest's view, which a text of KVM's structures gives as CR0, CR3, CR4 and IA32_EFER in other forms too."""
    found = {name: readings[name] for name in _VIEWED if name in readings}
    return {name: one for name, one in found.items() if not re.search("guest|vmcs", one.label, re.IGNORECASE)}
