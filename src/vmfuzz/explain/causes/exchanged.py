"""Recognises two values that stand in each other's field: by exchanging them and judging again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from vmfuzz.arch.fields import FIELDS
from vmfuzz.explain.causes.mistakes import Mistake
from vmfuzz.explain.causes.segments import SEGMENTS
from vmfuzz.explain.dump import Dump
from vmfuzz.explain.judgement.judge import FAILING, CheckedState, Finding, Verdict, exact, judge, usual
from vmfuzz.explain.judgement.processor import Knowledge
from vmfuzz.explain.names.spoken import shown, spoken, with_encoding
from vmfuzz.explain.repair.search import Repair
from vmfuzz.model.partial import Evaluator, Partial

#: Fields that a program writes one after the other: only these are exchanged with each other. RSP is none: any value passes there.
_PARTS: Final = ("selector", "base", "limit", "access_rights")
_UNITS: Final = tuple(
    tuple(name for name in names if name in FIELDS)
    for area in ("guest", "host")
    for names in (
        *([f"{area}_{register}_{part}" for part in _PARTS] for register in (*SEGMENTS, "gdtr", "idtr")),
        [f"{area}_{register}" for register in ("cr0", "cr3", "cr4", "rip", "rflags", "dr7", "ia32_efer")],
    )
)
#: So many wrong bits in one value are not the slip of somebody who meant the field.
_FAR: Final = 4
#: Controls of which a text that does not show them leaves only "unrestricted guest" open, which most programs have not.
_CONTROLS: Final = frozenset({"primary_processor_based_controls", "secondary_processor_based_controls"})
#: So large are addresses; what only just does not fit is a number that was computed wrongly.
_LONG: Final = 1 << 40


@dataclass(frozen=True)
class _Value:
    """A value of a field, the line that gives it; `fits` is False where it has more bits than the field."""

    value: int
    line: int
    fits: bool = True


def exchanged(dump: Dump, checked: CheckedState, knowledge: Knowledge, repairs: Iterable[Repair]) -> list[tuple[Mistake, frozenset[str]]]:
    """The mistakes, each with its two fields; `repairs` tell how far a value is from one that passes."""
    values = _values(dump)
    far = {
        change.field
        for repair in repairs
        for change in repair.changes
        if change.old is not None and (change.old ^ change.new).bit_count() >= _FAR
    }
    found, taken = [], set[str]()
    for unit in _UNITS:
        for pair in combinations([name for name in unit if name in values], 2):
            if not taken.intersection(pair) and _are_exchanged(pair, values, far, checked, knowledge):
                taken.update(pair)
                found.append((_mistake(pair, values), frozenset(pair)))
    return found


def _values(dump: Dump) -> dict[str, _Value]:
    """The values that are known in all bits, and those that were not used because they do not fit their field."""
    values = {}
    for name, reading in dump.readings.items():
        value = exact(dump.readings, name)
        if value is not None:
            values[name] = _Value(value, reading.line)
    for name, misfit in dump.misfits.items():
        if name in FIELDS and misfit.value >= _LONG:
            values.setdefault(name, _Value(misfit.value, misfit.line, False))
    return values


def _are_exchanged(
    pair: tuple[str, str], values: Mapping[str, _Value], far: Iterable[str], checked: CheckedState, knowledge: Knowledge
) -> bool:
    """Whether one value cannot be meant for its field, and both pass in each other's."""
    first, second = (values[name] for name in pair)
    if first.value == second.value or 0 in (first.value, second.value) or not (first.fits or second.fits):
        return False
    if not _may_hold(pair[0], second.value) or not _may_hold(pair[1], first.value):
        return False
    before = _failing(pair, checked, knowledge)
    misplaced = not (first.fits and second.fits) or any(_is_far(name, far, before) for name in pair)
    if not misplaced and not all(any(name in finding.check.must.reads for finding in before) for name in pair):
        return False
    after = {**checked.values, pair[0]: Partial(second.value), pair[1]: Partial(first.value)}
    return not _failing(pair, judge(None, knowledge, after), knowledge)


def _is_far(name: str, far: Iterable[str], findings: Iterable[Finding]) -> bool:
    """Whether the value of a field violates a check, and is far from one that passes."""
    return name in far and any(name in finding.check.must.reads and finding.verdict in FAILING for finding in findings)


def _may_hold(name: str, value: int) -> bool:
    """Whether a value fits the field, and is not all ones, which is what a program has that knows no value; a limit may be all ones."""
    full = (1 << FIELDS[name].width) - 1
    return value <= full and (value != full or name.endswith("_limit"))


def _failing(pair: tuple[str, str], checked: CheckedState, knowledge: Knowledge) -> list[Finding]:
    """The checks of the two fields that fail, or would in a guest that is not unrestricted."""
    evaluator = usual(checked.values, knowledge)
    return [
        finding
        for finding in checked.findings
        if not finding.check.must.reads.isdisjoint(pair)
        and (
            finding.verdict in FAILING
            or (finding.verdict is Verdict.UNKNOWN and finding.missing <= _CONTROLS and _fails(finding, evaluator))
        )
    ]


def _fails(finding: Finding, evaluator: Evaluator) -> bool:
    """Whether a check fails where the controls are as in most programs: no unrestricted guest."""
    check = finding.check
    return evaluator.judge(check.must).truth is False and all(
        evaluator.judge(part).truth is not False for part in (check.when, check.requires)
    )


def _mistake(pair: tuple[str, str], values: Mapping[str, _Value]) -> Mistake:
    first, second = (values[name] for name in pair)
    one, other = (spoken(name) for name in pair)
    return Mistake(
        f"{one} = {shown(pair[0], first.value)} and {other} = {shown(pair[1], second.value)} look swapped.",
        "Swapped, both pass their checks; as they are, they do not.",
        f"write {shown(pair[0], second.value)} to {with_encoding(pair[0])} and {shown(pair[1], first.value)} to {with_encoding(pair[1])}",
        True,
        pair[0],
        first.line,
        writes=(second.value,),
    )
