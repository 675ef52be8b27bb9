"""Recognises a structure of which the fields stand one or two places off: by trying to move the values back and judging again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.causes.mistakes import Mistake
from vmfuzz.explain.dump import Dump
from vmfuzz.explain.judgement.judge import Verdict, judge, operands_of
from vmfuzz.explain.judgement.processor import Knowledge
from vmfuzz.explain.names.spoken import shown, spoken
from vmfuzz.model.partial import Partial

_ORDERS: Final = (
    ("es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"),
    ("cs", "ds", "ss", "es", "fs", "gs", "ldtr", "tr"),
    ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldtr"),
    ("cs", "ss", "ds", "es", "fs", "gs", "ldtr", "tr"),
)
_PARTS: Final = ("access_rights", "selector", "limit", "base")
#: How many checks must fail before a shift is looked for.
_MANY: Final = 5
#: A shift of segment registers leaves at most one in so many violations; one of whole groups a third, two thirds and at least so many of them become
#: satisfied (and not only undecided).
_LEFT, _MENDED = 4, 4
#: How many places a group of fields may stand off.
_STEPS: Final = (1, -1, 2, -2)
#: the groups within which encodings count up
_GROUPS: Final = {
    "16-bit": tuple(name for name in FIELDS if name.startswith("guest_") and FIELDS[name].encoding >> 10 == 2),
    "32-bit": tuple(name for name in FIELDS if name.startswith("guest_") and FIELDS[name].encoding >> 10 == 0x12),
    "natural-width": tuple(name for name in FIELDS if name.startswith("guest_") and FIELDS[name].encoding >> 10 == 0x1A),
}
#: What people know the usual values of comes first in the examples.
_TELLING: Final = ("guest_cr0", "guest_rip", "guest_cr4", "guest_rflags", "guest_cs_access_rights", "guest_tr_access_rights", "guest_rsp")
_EXAMPLES: Final = 4
_NUMBERS: Final = {1: "one place", 2: "two places"}


def shifted(dump: Dump, knowledge: Knowledge, failing: int) -> Mistake | None:
    """The shift of segment registers or of all guest fields with which (nearly) all violations vanish, or None."""
    if failing < _MANY:
        return None
    return _segments(dump, knowledge, failing) or _groups(dump, knowledge)


@dataclass(frozen=True)
class _Trial:
    """A way to move values back: the places that each group stands off, and how the checks come out."""

    steps: Mapping[str, int]
    violated: frozenset[str]
    satisfied: frozenset[str]


def _groups(dump: Dump, knowledge: Knowledge) -> Mistake | None:
    """The shift of whole groups of guest fields in the order of their encodings, or None."""
    values = operands_of(dump)
    before = _try(dump, knowledge, values, dict.fromkeys(_GROUPS, 0))

    def rank(trial: _Trial) -> tuple[int, int]:
        """What it leaves less what it mends, then the number of groups moved."""
        return len(trial.violated) - len(before.violated & trial.satisfied), sum(map(bool, trial.steps.values()))

    best = before
    for _ in range(2):  # what helps in one group may show only after another group has been moved
        for group in _GROUPS:
            steps = [step for step in (0, *_STEPS) if step != best.steps[group]]
            best = min(best, *(_try(dump, knowledge, values, {**best.steps, group: step}) for step in steps), key=rank)
    mended = len(before.violated & best.satisfied)
    if len(best.violated) * 3 > len(before.violated) or mended < _MENDED or mended * 3 < len(before.violated) * 2:
        return None
    return _mistake(dump, before, best)


def _try(dump: Dump, knowledge: Knowledge, values: Mapping[str, Partial], steps: Mapping[str, int]) -> _Trial:
    moved = dict(values)
    for group, step in steps.items():
        for name, source in _sources(group, step):
            moved.pop(name, None)
            if source in dump.readings:
                moved[name] = values[source].within(FIELDS[name].width)
    checked = judge(dump, knowledge, moved)
    violated, satisfied = (
        frozenset(finding.check.id for finding in checked.of(verdict)) for verdict in (Verdict.VIOLATED, Verdict.SATISFIED)
    )
    return _Trial(steps, violated, satisfied)


def _sources(group: str, step: int) -> Iterator[tuple[str, str]]:
    """Each field of a group, and the field that shows its value if every field shows that of the one `step` places on ("" at the ends)."""
    names = _GROUPS[group]
    for index, name in enumerate(names) if step else ():
        yield name, names[index - step] if 0 <= index - step < len(names) else ""


def _mistake(dump: Dump, before: _Trial, best: _Trial) -> Mistake:
    moved = [
        f"the {group} fields are {_NUMBERS[abs(step)]} off (each holds the value of {'a later' if step > 0 else 'an earlier'} one)"
        for group, step in best.steps.items()
        if step
    ]
    held = {source: name for group, step in best.steps.items() for name, source in _sources(group, step) if source in dump.readings}
    order = [name for name in _TELLING if name in held] + [name for name in held if name not in _TELLING]
    telling = [name for name in order if dump.readings[name].value][:_EXAMPLES]
    examples = "; ".join(
        f"{spoken(name)} holds {shown(name, dump.readings[name].value)}, which belongs in {spoken(held[name])}" for name in telling
    )
    return Mistake(
        f"It looks as if the guest's fields hold each other's values, in the order of the encodings: {', '.join(moved)}.",
        f"{examples[:1].upper()}{examples[1:]}. With the values moved back, the number of violated checks falls from {len(before.violated)} "
        f"to {len(best.violated)}.",
        "compare the structure, the list of encodings or the loop that fills or prints these fields with the order of the encodings",
        True,
    )


def _segments(dump: Dump, knowledge: Knowledge, failing: int) -> Mistake | None:
    """The shift of segment registers with which (nearly) all violations vanish, or None."""
    values = operands_of(dump)
    best: tuple[int, str] | None = None
    for order in _ORDERS:
        for parts in (_PARTS, *((part,) for part in _PARTS)):
            for step in (1, -1):
                moved = dict(values)
                for index, segment in enumerate(order):
                    source = order[(index + step) % len(order)]
                    for part in parts:
                        if f"guest_{source}_{part}" in values:
                            moved[f"guest_{segment}_{part}"] = values[f"guest_{source}_{part}"]
                left = len(judge(dump, knowledge, moved).of(Verdict.VIOLATED))
                if best is None or left < best[0]:
                    what = "access rights, selectors, limits and bases" if len(parts) > 1 else parts[0].replace("_", " ") + "s"
                    what = what.replace("rightss", "rights")
                    where = f"{order[step].upper()}'s in {order[0].upper()}" if step == 1 else f"{order[0].upper()}'s in {order[1].upper()}"
                    best = (
                        left,
                        f"the guest segment registers' {what} are one place off in the order {', '.join(order).upper()} ({where})",
                    )
    if best is None or best[0] > failing // _LEFT:
        return None
    return Mistake(
        f"It looks as if {best[1]}.",
        f"With the values moved by one place, the number of violated checks falls from {failing} to {best[0]}.",
        "compare the structure or the loop that fills these fields with the order of the encodings (ES, CS, SS, DS, FS, GS, LDTR, TR)",
        True,
    )
