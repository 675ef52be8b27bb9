"""What is believed of all that the readers found: the one place that decides, in the order in which `settled` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from vmfuzz.explain.dump import Dump, Named, Notes, Origin, Program, Reading, Warned
from vmfuzz.explain.evidence import OF_STATES, Evidence, Found, Standing
from vmfuzz.explain.settle.believe import Belief
from vmfuzz.explain.settle.ends import OUTCOME, without_cut_end, without_garbled, without_torn_head
from vmfuzz.explain.settle.order import of_lines_in_order
from vmfuzz.explain.settle.states import of_one_state
from vmfuzz.explain.text.lines import Ends, Line
from vmfuzz.hexadecimal import hexadecimal

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
    whole = without_garbled(found.evidence, found.msrs, around.garbled)
    evidence, torn = without_torn_head(whole.evidence, around.lines, around.ends)
    cut = without_cut_end(evidence, whole.msrs, around.ends.unfinished)
    told = [one for one in cut.evidence if one.standing is Standing.SENTENCE]
    shown = [one for one in cut.evidence if one.standing is not Standing.SENTENCE]
    of_vmcs, of_members = _without_members(shown)
    constant = _without_computed(of_vmcs, found)
    of_state, chosen = of_one_state(constant, found.failed)
    belief = Belief([*found.warnings, *whole.warnings, *torn, *cut.warnings, *of_members, *chosen])
    belief.add(of_state)
    belief.add_msrs(cut.msrs)
    telling, contradicted = _telling(told, belief.readings)
    belief.warned += contradicted
    belief.add(telling)
    in_order, astray = of_lines_in_order(found, belief.readings, constant)
    readings, views = _without_views(in_order) if around.viewed else (in_order, {})
    trace = [
        *_gone("lines that are not whole", found.evidence, cut.evidence),
        *_gone("members of a program's structure", shown, of_vmcs),
        *_gone("what a program computes", of_vmcs, constant),
        *_gone("other states of the same fields", constant, of_state),
        *_gone("sentences on fields that are shown", told, telling),
    ]
    if unclear := len(belief.readings) - len(readings):
        trace.append(f"not believed: {unclear} fields whose place, or whose view, does not tell enough")
    trace.append(
        f"believed: {len(readings)} fields and {len(belief.msrs)} capability MSRs of {len(found.evidence) + len(found.msrs)} places"
    )
    return Dump(
        Origin(name, trace=tuple(trace)),
        readings,
        belief.msrs,
        belief.msr_lines,
        beside={**views, **found.beside},
        named=Named(hm_error=found.hm_error),
        program=Program(tuple(found.definitions), dict(found.written), found.zeroed),
        notes=Notes((*belief.warned, *astray, *_computed(found, in_order)), tuple(belief.misfits), tuple(found.unread)),
    )


def _gone(what: str, before: Sequence[Evidence], after: Sequence[Evidence]) -> list[str]:
    """Which places a step does without, in a sentence, if there are any."""
    if len(after) == len(before):
        return []
    kept = {(one.name, one.line) for one in after}
    gone = [f"{one.name} (line {one.line})" for one in before if (one.name, one.line) not in kept]
    return [f"not believed, {what}: {', '.join(gone)}"] if gone else []


def _without_members(evidence: list[Evidence]) -> tuple[list[Evidence], list[Warned]]:
    """What a path through a program's structures names is not of the VMCS that the text shows without one, if both give the same fields."""
    members = [one for one in evidence if one.standing is Standing.MEMBER]
    others = [one for one in evidence if one.standing is not Standing.MEMBER]
    direct = {one.name for one in others if one.standing in OF_STATES}
    if len({one.name for one in members} & direct) >= _SAME:
        text = "the members of a program's structure are not used, since the text shows a VMCS beside it"
        return others, [Warned(members[0].line, text)]
    return [*others, *(replace(one, standing=Standing.NAMED) for one in members)], []


def _without_computed(evidence: list[Evidence], found: Found) -> list[Evidence]:
    """A field that program text also gives something that is no constant: which of the two it holds, the text does not show."""
    computed = {name for name, _ in found.computed}
    return [one for one in evidence if not (one.standing is Standing.CALL and one.name in computed)]


def _telling(told: Sequence[Evidence], readings: Mapping[str, Reading]) -> tuple[list[Evidence], list[Warned]]:
    """What a sentence says of a field counts only where no dump shows the field."""
    counting, warnings = list[Evidence](), list[Warned]()
    for one in told:
        reading = readings.get(one.name)
        if reading is None:
            counting.append(replace(one, assumed=one.assumed or ("" if one.name in OUTCOME else _IN_SENTENCE)))
        elif (reading.value ^ one.value) & reading.known & one.known:
            text = f"{one.label} = {hexadecimal(one.value)} stands in a sentence; line {reading.line} says {hexadecimal(reading.value)}, and that is used"
            warnings.append(Warned(one.line, text))
    return counting, warnings


def _are_from_calls(evidence: Sequence[Evidence]) -> bool:
    """Whether a call is the first to give a field."""
    first = {one.name: one.standing for one in reversed(evidence) if one.standing not in (Standing.MEMBER, Standing.SENTENCE)}
    return Standing.CALL in first.values()


def _computed(found: Found, readings: Mapping[str, Reading]) -> list[Warned]:
    """Which fields the program computes."""
    computed = {name: line for name, line in reversed(found.computed) if name not in readings}
    if not computed or not (_are_from_calls(found.evidence) or not readings):
        return []  # (a dump shows what has become of them)
    names = list(reversed(computed))
    listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return [Warned(min(computed.values()), f"the program computes what it writes to {listed}: not given by this text")]


def _without_views(readings: Mapping[str, Reading]) -> tuple[dict[str, Reading], dict[str, Reading]]:
    """(the fields, the guest's view): a text of KVM's structures gives the guest's view as CR0, CR3, CR4 and IA32_EFER in other forms too."""
    views = {name for name in _VIEWED if name in readings and not re.search("guest|vmcs", readings[name].label, re.IGNORECASE)}
    return (
        {name: one for name, one in readings.items() if name not in views},
        {f"KVM {readings[name].label}": readings[name] for name in _VIEWED if name in views},
    )
