"""What is believed of all that the readers found: the one place that decides, in the order in which `settled` reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from vmfuzz.explain.dump import Dump, Warned
from vmfuzz.explain.evidence import OF_STATES, Evidence, Found, Standing
from vmfuzz.explain.settle.believe import believe, believe_msrs
from vmfuzz.explain.settle.ends import OUTCOME, without_cut_end, without_garbled, without_torn_head
from vmfuzz.explain.settle.order import judge_places
from vmfuzz.explain.settle.states import of_one_state
from vmfuzz.explain.text.lines import Ends, Line

#: So many fields given in two ways are those of two structures.
_SAME: Final = 3
#: So many names a warning lists.
_SHOWN: Final = 6
_IN_SENTENCE: Final = "given in a sentence, not in a dump"
#: What KVM's structures show is the guest's view; KVM adds to these before they reach the VMCS.
_VIEWED: Final = ("guest_cr0", "guest_cr3", "guest_cr4", "guest_ia32_efer")


@dataclass(frozen=True)
class Circumstances:
    """What of the text as a whole decides what is believed."""

    #: the lines that are of no known program
    lines: Sequence[Line] = ()
    ends: Ends = field(default_factory=Ends)
    garbled: frozenset[int] = frozenset()
    #: a program of KVM's shows the registers as the guest sees them, not the VMCS
    viewed: bool = False


def settled(found: Found, name: str, around: Circumstances) -> Dump:
    """The dump, from all that was found of it."""
    dump = Dump(
        name,
        warned=list(found.warnings),
        beside=dict(found.beside),
        definitions=list(found.definitions),
        written=dict(found.written),
        unread=list(found.unread),
        zeroed=found.zeroed,
        hm_error=found.hm_error,
    )
    whole = without_garbled(found.evidence, found.msrs, around.garbled)
    evidence, torn = without_torn_head(whole.evidence, around.lines, around.ends)
    cut = without_cut_end(evidence, whole.msrs, around.ends.unfinished)
    dump.warned += [*whole.warnings, *torn, *cut.warnings]
    _trace(dump, "lines that are not whole", found.evidence, cut.evidence)
    told = [one for one in cut.evidence if one.standing is Standing.SENTENCE]
    shown = [one for one in cut.evidence if one.standing is not Standing.SENTENCE]
    evidence = _without_members(shown, dump)
    _trace(dump, "members of a program's structure", shown, evidence)
    every = _without_computed(evidence, found)
    _trace(dump, "what a program computes", evidence, every)
    evidence, chosen = of_one_state(every, found.failed)
    dump.warned += chosen
    _trace(dump, "other states of the same fields", every, evidence)
    believe(evidence, dump)
    believe_msrs(cut.msrs, dump)
    telling = _telling(told, dump)
    _trace(dump, "sentences on fields that are shown", told, telling)
    believe(telling, dump)
    count = len(dump.readings)
    judge_places(found.places, dump, every)
    _sum_up_calls(found, dump)
    if around.viewed:
        _set_views_aside(dump)
    if len(dump.readings) != count:
        dump.trace.append(f"not believed: {count - len(dump.readings)} fields whose place, or whose view, does not tell enough")
    dump.trace.append(
        f"believed: {len(dump.readings)} fields and {len(dump.msrs)} capability MSRs of {len(found.evidence) + len(found.msrs)} places"
    )
    return dump


def _trace(dump: Dump, what: str, before: Sequence[Evidence], after: Sequence[Evidence]) -> None:
    """Note which places a step does without."""
    if len(after) == len(before):
        return
    kept = {(one.name, one.line) for one in after}
    gone = [f"{one.name} (line {one.line})" for one in before if (one.name, one.line) not in kept]
    if gone:
        dump.trace.append(f"not believed, {what}: {', '.join(gone)}")


def _without_members(evidence: list[Evidence], dump: Dump) -> list[Evidence]:
    """What a path through a program's structures names is not of the VMCS that the text shows without one, if both give the same fields."""
    members = [one for one in evidence if one.standing is Standing.MEMBER]
    others = [one for one in evidence if one.standing is not Standing.MEMBER]
    direct = {one.name for one in others if one.standing in OF_STATES}
    if len({one.name for one in members} & direct) >= _SAME:
        dump.warn("the members of a program's structure are not used, since the text shows a VMCS beside it", members[0].line)
        return others
    return [*others, *(replace(one, standing=Standing.NAMED) for one in members)]


def _without_computed(evidence: list[Evidence], found: Found) -> list[Evidence]:
    """A field that program text also gives something that is no constant: which of the two it holds, the text does not show."""
    computed = {one.name for one in found.computed}
    return [one for one in evidence if not (one.standing is Standing.CALL and one.name in computed)]


def _telling(told: Sequence[Evidence], dump: Dump) -> list[Evidence]:
    """What a sentence says of a field counts only where no dump shows the field."""
    counting = []
    for one in told:
        reading = dump.readings.get(one.name)
        if reading is None:
            counting.append(replace(one, assumed=one.assumed or ("" if one.name in OUTCOME else _IN_SENTENCE)))
        elif (reading.value ^ one.value) & reading.known & one.known:
            text = f"{one.label} = {one.value:#x} stands in a sentence; line {reading.line} says {reading.value:#x}, and that is used"
            dump.warned.append(Warned(one.line, text))
    return counting


def _are_from_calls(evidence: Sequence[Evidence]) -> bool:
    """Whether a call is the first to give a field."""
    first = {one.name: one.standing for one in reversed(evidence) if one.standing not in (Standing.MEMBER, Standing.SENTENCE)}
    return Standing.CALL in first.values()


def _sum_up_calls(found: Found, dump: Dump) -> None:
    """Say which fields the program computes."""
    computed = {one.name: one.line for one in reversed(found.computed) if one.name not in dump.readings}
    if computed and (_are_from_calls(found.evidence) or not dump.readings):  # (a dump shows what has become of them)
        names = [name for name in dict.fromkeys(one.name for one in found.computed) if name in computed]
        listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        dump.warn(f"the program computes what it writes to {listed}: not given by this text", min(computed.values()))


def _set_views_aside(dump: Dump) -> None:
    """What a text of KVM's structures in another form gives as CR0, CR3, CR4 and IA32_EFER is the guest's view too."""
    for name in _VIEWED:
        reading = dump.readings.get(name)
        if reading is not None and not re.search("guest|vmcs", reading.label, re.IGNORECASE):
            dump.beside.setdefault(f"KVM {reading.label}", dump.readings.pop(name))
