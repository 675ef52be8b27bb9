"""Finds the smallest change of field values with which the model predicts that the VM entry succeeds.

A best-first search over edits that remove what a violated check finds fault with: fewest fields first, then fewest bits. Each step judges
again every check that reads the changed field, so that an edit that breaks another check is paid for or dropped.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from vmfuzz.arch.controls import CONTROL_WORDS, Entry, Exit, Primary
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.registers import AR, CR0, CR4, EFER, PDPTE
from vmfuzz.explain.judgement.judge import FAILING, CheckedState, Finding, Judging, Verdict, judge, usual
from vmfuzz.explain.judgement.processor import Knowledge
from vmfuzz.explain.repair.edits import Edit, edits, obstacles
from vmfuzz.model.check import Check
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.expr import Cond
from vmfuzz.model.partial import Evaluator, Partial

_MAX_STEPS: Final = 160
_MAX_STATES: Final = 600
#: So many edits the search without turning back takes at most.
_MOST_EDITS: Final = 40
_CONTROL_FIELDS: Final = frozenset(word.field for word in CONTROL_WORDS.values())
#: Bits that say in which mode the guest or the host runs, or that make other control words count: who changes one of them changes all that hangs
#: on it, so that another change is looked for first. Clearing one of them costs more than setting it.
_MODE_BITS: Final[Mapping[str, int]] = {
    "guest_cr0": 1 << CR0.PE | 1 << CR0.PG,
    "host_cr0": 1 << CR0.PE | 1 << CR0.PG,
    "guest_cr4": 1 << CR4.PAE,
    "host_cr4": 1 << CR4.PAE,
    "guest_ia32_efer": 1 << EFER.LME | 1 << EFER.LMA,
    "host_ia32_efer": 1 << EFER.LME | 1 << EFER.LMA,
    "vm_entry_controls": 1 << Entry.IA32E_MODE_GUEST,
    "vm_exit_controls": 1 << Exit.HOST_ADDRESS_SPACE_SIZE | 1 << Exit.ACTIVATE_SECONDARY_CONTROLS,
    "primary_processor_based_controls": 1 << Primary.ACTIVATE_SECONDARY_CONTROLS | 1 << Primary.ACTIVATE_TERTIARY_CONTROLS,
}
_CLEARS_MODE: Final = 2.0
_SETS_MODE: Final = 0.2
#: An edit with which the check holds only if a control that is not known is the right way.
_HALF_WAY: Final = 0.05
#: An edit with which the check does not apply any more.
_PREMISE: Final = 0.02
#: Fields whose change alters what the guest is, so that they are changed only when nothing else helps: extra cost.
_RELUCTANT: Final = {"guest_rflags": 0.4, "guest_cr0": 0.3, "guest_cr4": 0.2, "guest_rip": 2.0, "guest_activity_state": 0.1}


#: Host selectors that must not be null: what they are to be set to, which only the program knows.
_OWN_SELECTORS: Final[Mapping[str, str]] = {
    "host_cs_selector": "the selector of your code segment (what CS holds), with bits 2:0 = 0",
    "host_ss_selector": "the selector of your stack segment (what SS holds), with bits 2:0 = 0",
    "host_tr_selector": "the selector of your TSS (what STR gives), with bits 2:0 = 0",
}
_BUSY_16_BIT_TSS: Final = 3


@dataclass(frozen=True)
class Change:
    """One field to change: from `old` (None where the dump does not give it) to `new`."""

    field: str
    old: int | None
    new: int

    @property
    def own(self) -> str:
        """What the field is to hold where only the program knows the number, which `new` then is an example of; else ""."""
        return _OWN_SELECTORS.get(self.field, "") if self.old == 0 else ""


@dataclass(frozen=True)
class Repair:
    """The changes with which no check is violated any more; `undecided` says how many checks the dump leaves open."""

    changes: tuple[Change, ...]
    undecided: int
    #: whether the causes name other fields that have to change as well
    partial: bool = False
    #: what for, where the change is an alternative of a decision (decisions.py): "for a 64-bit guest"
    title: str = ""


@cache
def _readers() -> Mapping[str, tuple[int, ...]]:
    readers: dict[str, list[int]] = {}
    for index, check in enumerate(CHECKS):
        for name in {*check.must.reads, *check.when.reads}:
            readers.setdefault(name, []).append(index)
    return {name: tuple(numbers) for name, numbers in readers.items()}


def find_repairs(checked: CheckedState, knowledge: Knowledge, ignore: frozenset[str] = frozenset(), most: int = 2) -> list[Repair]:
    """The cheapest sets of changes that the search finds, at most `most`, of as many fields as the first has.

    `ignore`: ids of checks that need not pass (the reported outcome proves that they did).
    """
    search = _Search(checked, knowledge, ignore)
    return (search.cheapest(most) or search.straight()) if search.failing else []


class _Search:
    """Looks for changes of a state (field -> new value) after which no check fails; checks are numbered as in CHECKS."""

    def __init__(self, checked: CheckedState, knowledge: Knowledge, ignore: frozenset[str]) -> None:
        self._start = checked.values
        self._findings = checked.findings
        self._known = list(checked.findings)  # with those of checks that failed only once something else was changed
        self._knowledge = knowledge
        self._ignore = ignore
        self.failing = self._bad(checked.findings)

    def cheapest(self, most: int) -> list[Repair]:
        """At most `most` repairs, the cheapest first."""
        found: list[Repair] = []
        counter = itertools.count()
        queue: list[tuple[float, int, dict[str, int], frozenset[int]]] = [(0.0, next(counter), {}, self.failing)]
        seen: set[frozenset[tuple[str, int]]] = set()
        for _ in range(_MAX_STEPS):
            if not queue or len(found) == most or len(seen) > _MAX_STATES:
                break
            cost, _, changes, failing = heapq.heappop(queue)
            failing = failing or self._left(changes)
            if not failing:
                repair = self._repair(changes, self._findings)
                if found and len(repair.changes) > len(found[0].changes):
                    break
                found += [repair] * self._adds(repair, found)
                continue
            for name, value, extra in self._moves(self._findings[min(failing)], changes):
                after = {**changes, name: value}
                key = frozenset(after.items())
                if key not in seen:
                    seen.add(key)
                    price = self._price(after) + extra + (cost - self._price(changes))
                    heapq.heappush(queue, (price, next(counter), after, self._failing_after(after, name, failing)))
        return found

    def straight(self) -> list[Repair]:
        """Where so much is wrong that the search ends without a result: the edit that leaves least wrong, again and again."""
        changes: dict[str, int] = {}
        failing = self.failing
        for _ in range(_MOST_EDITS):
            failing = failing or self._left(changes)
            if not failing:
                return [self._repair(changes, self._known)]
            edited = []
            for name, value, extra in self._moves(self._known[min(failing)], changes):
                after = {**changes, name: value}
                still = self._failing_after(after, name, failing)
                if min(failing) not in still:
                    edited.append((len(still), self._price(after) + extra, name, value, still))
            if not edited:
                return []
            _, _, name, value, failing = min(edited)
            changes[name] = value
        return []

    def _bad(self, findings: Sequence[Finding]) -> frozenset[int]:
        """The numbers of the checks that fail and may not."""
        return frozenset(
            index for index, finding in enumerate(findings) if finding.verdict in FAILING and finding.check.id not in self._ignore
        )

    def _left(self, changes: Mapping[str, int]) -> frozenset[int]:
        """The checks that fail still, or now, when all are judged again: some fail only by cases, which no single verdict shows."""
        if not changes:
            return frozenset()
        after = judge(None, self._knowledge, self._values(changes)).findings
        failing = self._bad(after)
        for index in failing:
            self._known[index] = after[index]
        return failing

    def _values(self, changes: Mapping[str, int]) -> dict[str, Partial]:
        return {**self._start, **{name: Partial(value) for name, value in changes.items()}}

    def _repair(self, changes: Mapping[str, int], findings: Sequence[Finding]) -> Repair:
        undecided = sum(finding.verdict is Verdict.UNKNOWN for finding in findings)
        return Repair(tuple(_change(name, value, self._start) for name, value in sorted(changes.items())), undecided)

    def _adds(self, repair: Repair, found: Sequence[Repair]) -> bool:
        """Whether a repair is of use beside those found: a second one only where it is no greater step than the first."""
        return not found or (repair not in found and self._modes_changed(repair) <= self._modes_changed(found[0]))

    def _modes_changed(self, repair: Repair) -> int:
        """How many bits change that other fields hang on."""
        have = {change.field: self._start.get(change.field, Partial(0, 0)) for change in repair.changes}
        return sum(
            ((have[change.field].value ^ change.new) & have[change.field].known & _MODE_BITS.get(change.field, 0)).bit_count()
            for change in repair.changes
        )

    def _price(self, changes: Mapping[str, int]) -> float:
        return sum(_price(field, new, self._start) for field, new in changes.items())

    def _moves(self, finding: Finding, changes: Mapping[str, int]) -> list[tuple[str, int, float]]:
        """(field, new value, extra cost): edits after these changes that make the check pass, or make it not apply, or make it pass where an open
        control is the other way.
        """
        values, check, width = self._values(changes), finding.check, self._knowledge.widths[0]
        evaluator = usual(values, self._knowledge)
        rules = [check.must, *([] if finding.twin is None or finding.twin.field == "guest_rflags" else [finding.twin.check.must])]
        moves: dict[Edit, float] = {}
        for condition, wanted in (*((rule, True) for rule in rules), (check.when, False)):
            for name, value in (edit for obstacle in obstacles(condition, wanted, evaluator) for edit in edits(obstacle, evaluator, width)):
                if not (wanted or _may_end_premise(name, check)) or not _given(name, values) or _is_16_bit_tss(name, value, values):
                    continue
                extra = self._unsure(rules, {**values, name: Partial(value)}) if wanted else _PREMISE
                moves[name, value] = min(extra, moves.get((name, value), extra))
        return [(name, value, extra) for (name, value), extra in moves.items() if changes.get(name) != value]

    def _unsure(self, rules: Iterable[Cond], values: Mapping[str, Partial]) -> float:
        """The extra cost of values with which not all of the rules hold."""
        evaluator = usual(values, self._knowledge)
        return _HALF_WAY * sum(evaluator.judge(rule).truth is not True for rule in rules)

    def _failing_after(self, changes: Mapping[str, int], name: str, failing: frozenset[int]) -> frozenset[int]:
        """The checks that fail after these changes, the last of which is of the field `name`; before it `failing` did."""
        values = self._values(changes)
        judging, evaluator = Judging(values, self._knowledge), usual(values, self._knowledge)
        affected = _readers().get(name, ())
        now = {index for index in affected if CHECKS[index].id not in self._ignore and judging.finding(index).verdict in FAILING}
        open_control = {index for index in failing.intersection(affected) if _fails_whatever_is_open(self._known[index], evaluator)}
        return (failing - frozenset(affected)) | now | open_control


def _change(name: str, value: int, start: Mapping[str, Partial]) -> Change:
    have = start.get(name)
    return Change(name, have.value if have is not None and have.within(FIELDS[name].width).exact else None, value)


def _price(name: str, value: int, start: Mapping[str, Partial]) -> float:
    have = start.get(name, Partial(0, 0))
    bits = ((have.value ^ value) & have.known).bit_count()
    if name == "guest_activity_state" and value:
        bits += 50  # to let the guest sleep is no repair that anybody wants
    if name.startswith("guest_pdpte") and have.value & ~value & 1 << PDPTE.P:
        bits += 50  # nor is it one to take away the pages that the entry maps
    mode = _MODE_BITS.get(name, 0) & have.known
    modes = _CLEARS_MODE * (have.value & ~value & mode).bit_count() + _SETS_MODE * (value & ~have.value & mode).bit_count()
    return 1.0 + 0.01 * bits + modes + _RELUCTANT.get(name, 0.0) + (0.5 if name in _CONTROL_FIELDS else 0.0)


def _is_16_bit_tss(name: str, value: int, values: Mapping[str, Partial]) -> bool:
    """Whether an edit gives a guest that shows itself to be a 64-bit one (EFER.LMA, CS.L) the type of TR that only others may have."""
    if name != "guest_tr_access_rights" or value & 0xF != _BUSY_16_BIT_TSS:
        return False
    return any(
        field in values and values[field].value & values[field].known & 1 << bit
        for field, bit in (("guest_ia32_efer", EFER.LMA), ("guest_cs_access_rights", AR.L))
    )


def _may_end_premise(name: str, check: Check) -> bool:
    """Whether making the premise false by this field is a sensible repair: a segment marked unusable, an event not injected, a control off."""
    # a limit that neither fits G = 0 nor G = 1 has to change itself
    return (
        name in check.must.reads
        or name.endswith("_limit")
        or name in ("vm_entry_interruption_info", "guest_interruptibility_state")
        or name in _CONTROL_FIELDS
    )


def _given(name: str, values: Mapping[str, Partial]) -> bool:
    """Whether the dump gives the field: to change one that it does not show would be a guess about everything else in it."""
    have = values.get(name)
    return have is not None and bool(have.known & ((1 << FIELDS[name].width) - 1))


def _fails_whatever_is_open(finding: Finding, evaluator: Evaluator) -> bool:
    """Whether a check that failed whatever an open control is fails so still: judged for itself it cannot be told."""
    if finding.twin is None:
        return False
    return all(
        evaluator.judge(check.when).truth is not False and evaluator.judge(check.must).truth is False
        for check in (finding.check, finding.twin.check)
    )
