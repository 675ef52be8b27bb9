"""Minimization: the smallest difference from the simplest known-good state that still shows the same thing on the executor.

An executor takes thousands of candidates in one batch, so that each step tries all candidates of its kind and takes the simplest; nothing is
random. What is proven by trying all: no proper subset of the operands shows it, and for operands made of bits no value that differs from the
base in fewer bits does (one and two bits are tried exhaustively, for pairs of operands one bit each).

Simpler is: fewer operands; a base with fewer and earlier parts; values closer to the base (operands made of bits: fewest bits that differ,
then the lowest; numbers: the smallest distance).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.registers import BITWISE
from vmfuzz.comparison.case import Case, Mutation, applies, base_value, width_of, without_idle_parts
from vmfuzz.comparison.compare import Comparison, Verdict
from vmfuzz.comparison.explanation import near_values
from vmfuzz.comparison.signature import ACCEPTS, CRASH, OTHER_FAILURE, REFUSES, cause_of_crash, signature_of
from vmfuzz.comparison.trial import Goal, Trial
from vmfuzz.errors import UsageError
from vmfuzz.generate.bases import base_rank
from vmfuzz.generate.parts import FEATURES, MODES
from vmfuzz.model.outcome_codes import ENTERED
from vmfuzz.state.vmcs import Vmcs

#: Candidates of one batch; fewer where a candidate can cost the executor its worker.
_ROWS: Final = 4096
_COSTLY_ROWS: Final = 8
#: Up to so many operands all subsets are tried.
_ALL_SUBSETS: Final = 12
_PAIR_CHOICES: Final = 72


@dataclass(frozen=True)
class Neighbour:
    """A case that differs from the minimized one in one operand and does not show what it shows."""

    operand: str
    value: int
    actual: str


@dataclass(frozen=True)
class Minimized:
    """A minimized case, its agreeing neighbours (nearest first), and whether the time sufficed to reduce it fully."""

    case: Case
    neighbours: tuple[Neighbour, ...]
    complete: bool


@dataclass
class Step:
    """Progress of a minimization, for the caller's progress line."""

    doing: str
    case: Case
    executed: int


def cost_of(key: str, base: int, value: int) -> int:
    """How far `value` is from the base's: distance for numbers; for operands made of bits their number, then the lowest."""
    if key in BITWISE:
        return (base ^ value).bit_count() << 64 | base ^ value
    return abs(value - base)


@dataclass
class Minimizer:
    """Reduces cases on one executor. `goal` tells which rows count; `seconds` bounds the time; `costly` avoids large batches."""

    trial: Trial
    goal: Goal
    seconds: float = 30.0
    costly: bool = False
    on_step: Callable[[Step], None] | None = None
    _deadline: float = field(default=0.0, init=False)

    def run(self, case: Case) -> list[Minimized]:
        """The minimal cases that `case` contains: one for each smallest set of operands, simplest first.

        Empty where the case does not show what the goal asks for. Raises UsageError where it does not apply to the processor.
        """
        base = self.trial.base(case.base)
        if base is None or not applies(base, case.mutation):
            raise UsageError(f"case {case.id} (base {case.base}) does not apply to {self.trial.executor.name}")
        self._deadline = time.monotonic() + self.seconds
        mutation = without_idle_parts(base, case.mutation)
        if not self._shows(base, [mutation])[0]:
            return []
        found: dict[str, Case] = {}
        for subset in self._minimal_subsets(case.base, base, mutation):
            reduced = self._reduce(Case(case.base, subset))
            found.setdefault(reduced.id, reduced)
        complete = self._time_left()
        return [Minimized(each, self.neighbours(each), complete) for each in sorted(found.values(), key=self._key)]

    # Steps

    def _reduce(self, case: Case) -> Case:
        """Simplify base, operands and values until nothing changes."""
        while True:
            before = case
            case = self._simplify_base(case)
            case = self._fewer_operands(case)
            case = self._simplify_values(case)
            case = self._simplify_pair(case)
            if self._key(case) >= self._key(before) or not self._time_left():
                return case

    def _minimal_subsets(self, name: str, base: Vmcs, mutation: dict[str, int]) -> list[dict[str, int]]:
        """All sets of operands that show it and of which no proper subset does."""
        if len(mutation) > _ALL_SUBSETS or self.costly:
            mutation = self._drop_greedily(base, mutation)
        if self.costly:
            return [mutation]
        self._report("which operands", Case(name, mutation))
        found: list[dict[str, int]] = []
        for size in range(1, len(mutation) + 1):
            subsets = [dict(items) for items in itertools.combinations(mutation.items(), size)]
            subsets = [subset for subset in subsets if not any(smaller.items() <= subset.items() for smaller in found)]
            shows = self._shows(base, subsets)
            found += itertools.compress(subsets, shows)
        return found or [mutation]

    def _drop_greedily(self, base: Vmcs, mutation: dict[str, int]) -> dict[str, int]:
        """Leave out as many operands as possible: halves first, then quarters, down to single ones."""
        size = max(1, len(mutation) // 2)
        while True:
            keys = list(mutation)
            parts = [keys[start : start + size] for start in range(0, len(keys), size)]
            rest = [{key: mutation[key] for key in keys if key not in part} for part in parts]
            chosen = self._first(base, [candidate for candidate in rest if candidate])
            if chosen is not None:
                mutation = dict(chosen)
            elif size == 1:
                return mutation
            else:
                size = max(1, size // 2)

    def _simplify_base(self, case: Case) -> Case:
        """The simplest base in which the same change shows it: the same values, or the same bits changed."""
        old = self.trial.base(case.base)
        assert old is not None
        self._report("which base", case)
        for name in sorted(_simpler_bases(case.base), key=base_rank):
            base = self.trial.base(name)
            if base is None or not applies(base, case.mutation):
                continue
            bits = {key: base_value(base, key) ^ base_value(old, key) ^ value for key, value in case.mutation.items()}
            candidates = [without_idle_parts(base, values) for values in (case.mutation, bits)]
            chosen = self._first(base, [values for values in candidates if len(values) == len(case.mutation)])
            if chosen is not None:
                return Case(name, dict(chosen))
            if not self._time_left():
                break
        return case

    def _fewer_operands(self, case: Case) -> Case:
        """The case with operands left out that it does not need in its present base."""
        base = self._base(case)
        names = list(case.mutation)
        subsets = (keys for size in range(1, len(names)) for keys in itertools.combinations(names, size)) if len(names) <= 6 else iter(())
        chosen = self._first(base, [{key: case.mutation[key] for key in keys} for keys in subsets])
        return case if chosen is None else Case(case.base, dict(chosen))

    def _simplify_values(self, case: Case) -> Case:
        """Each value replaced by the closest to the base's that still shows it, until none gets closer."""
        base, mutation = self._base(case), dict(case.mutation)
        for _ in range(16):
            before = dict(mutation)
            for key in mutation:
                here, now = base_value(base, key), mutation[key]
                limit = cost_of(key, here, now)
                values = {value for value in self._values(key, here, now) if value != here and cost_of(key, here, value) < limit}
                ordered = sorted(values, key=lambda value: cost_of(key, here, value))
                self._report(f"simplest {key}", Case(case.base, mutation))
                chosen = self._first(base, [{**mutation, key: value} for value in ordered])
                if chosen is not None:
                    mutation = dict(chosen)
            if mutation == before or not self._time_left():
                break
        return Case(case.base, mutation)

    def _simplify_pair(self, case: Case) -> Case:
        """Two operands that only move together: both replaced by close values, all combinations tried."""
        if len(case.mutation) != 2 or self.costly:
            return case
        base = self._base(case)
        (one, one_now), (other, other_now) = case.mutation.items()
        choices = [self._close_values(base, key, now) for key, now in ((one, one_now), (other, other_now))]
        limit = self._cost(base, case.mutation)
        pairs = [{one: first, other: second} for first, second in itertools.product(*choices)]
        cheaper = sorted((pair for pair in pairs if self._cost(base, pair) < limit), key=lambda pair: self._cost(base, pair))
        self._report("simplest pair", case)
        chosen = self._first(base, cheaper)
        return case if chosen is None else Case(case.base, dict(chosen))

    # Values

    def _values(self, key: str, base: int, now: int) -> set[int]:
        """Values worth trying in place of `now`: all with one or two bits changed, those near base and edges, and points between."""
        width = width_of(key)
        full = (1 << width) - 1
        bits = [1 << index for index in range(width)]
        values = {base ^ one for one in bits} | {now ^ one for one in bits}
        if not self.costly:
            values |= {base ^ one ^ other for one, other in itertools.combinations(bits, 2)}
            edges = {base & keep | put for keep, put in self._edits(key)}
            values |= {near & full for edge in edges for near in (edge - 1, edge, edge + 1)}
            values |= {(base + step) & full for step in range(-128, 129)}
        values |= {base + (now - base) * part // 256 for part in range(256)}
        return {value for value in values if 0 <= value <= full}

    def _close_values(self, base: Vmcs, key: str, now: int) -> list[int]:
        here = base_value(base, key)
        values = {here ^ 1 << index for index in range(width_of(key))} | {here & keep | put for keep, put in self._edits(key)}
        values |= {value for value in range(here - 4, here + 5) if 0 <= value < 1 << width_of(key)} | {now}
        return sorted(values - {here}, key=lambda value: cost_of(key, here, value))[:_PAIR_CHOICES]

    def _edits(self, key: str) -> tuple[tuple[int, int], ...]:
        return () if key.startswith("0x") else self.trial.generator.edits(key)

    # The edge

    def neighbours(self, case: Case, each: int = 2) -> tuple[Neighbour, ...]:
        """For each operand the nearest values that agree with the model and do not show it, at most `each`, and the base's own."""
        base = self._base(case)
        found: list[Neighbour] = []
        for key, now in case.mutation.items():
            here, ordered = base_value(base, key), near_values(base, key, now)
            if self.costly:
                ordered = list(dict.fromkeys([*ordered[: _COSTLY_ROWS - 1], here]))
            comparison = self.trial.compare(base, [{**case.mutation, key: value} for value in ordered])
            agrees = (comparison.verdict == Verdict.AGREES) & ~self.goal(comparison)
            rows = [int(row) for row in np.flatnonzero(agrees)]
            # those that violate nothing show the edge; others may agree for a reason of their own
            rows = [row for row in rows if not comparison.prediction.violations_of(row)] or rows
            kept = rows[:each] + [row for row in rows[each:] if ordered[row] == here]
            found.extend(Neighbour(key, ordered[row], comparison.outcomes[row].short()) for row in kept)
        return tuple(found)

    # Running

    def _shows(self, base: Vmcs, mutations: Sequence[Mutation]) -> list[bool]:
        shows: list[bool] = []
        for start in range(0, len(mutations), _ROWS):
            comparison = self.trial.compare(base, mutations[start : start + _ROWS])
            shows.extend(bool(yes) for yes in self.goal(comparison))
        return shows

    def _first(self, base: Vmcs, mutations: Sequence[Mutation]) -> Mutation | None:
        """The first of the candidates, which are in order of simplicity, that shows it."""
        start, rows = 0, _COSTLY_ROWS if self.costly else 64
        while start < len(mutations) and self._time_left():
            part = mutations[start : start + rows]
            for candidate, yes in zip(part, self._shows(base, part), strict=True):
                if yes:
                    return candidate
            start += rows
            rows = rows if self.costly else min(_ROWS, rows * 8)
        return None

    def _base(self, case: Case) -> Vmcs:
        base = self.trial.base(case.base)
        assert base is not None
        return base

    def _cost(self, base: Vmcs, mutation: Mutation) -> int:
        return sum(cost_of(key, base_value(base, key), value) for key, value in mutation.items())

    def _key(self, case: Case) -> tuple[int, tuple[int, int], int, tuple[tuple[str, int], ...]]:
        """What makes one case simpler than another."""
        return len(case.mutation), base_rank(case.base), self._cost(self._base(case), case.mutation), tuple(sorted(case.mutation.items()))

    def _time_left(self) -> bool:
        return time.monotonic() < self._deadline

    def _report(self, doing: str, case: Case) -> None:
        if self.on_step is not None:
            self.on_step(Step(doing, case, self.trial.executed))


def _simpler_bases(name: str) -> Iterable[str]:
    """Names of bases with earlier or fewer parts."""
    mode, features, event = name.split("/")
    modes = list(MODES)[: list(MODES).index(mode) + 1]
    names = {"/".join(parts) for parts in itertools.product(modes, {"plain", features}, {"nothing", event})}
    names |= {f"{mode}/{earlier}/nothing" for earlier in list(FEATURES)[: list(FEATURES).index(features)]}
    return (simpler for simpler in names if base_rank(simpler) < base_rank(name))


# Goals


def same_finding(comparison: Comparison, row: int) -> Goal:
    """The goal of a mismatch or crash: the same outcome and message, and no check decides that did not before.

    Where the processor failed the entry otherwise than predicted, the disagreement may also come out without what else is wrong: as a refusal
    of what the model accepts with the same outcome, or as an acceptance of what one of its checks refuses.
    """
    signature = signature_of(comparison, row)
    bit, message = int(comparison.bits[row]), signature.message
    verdict = int(comparison.verdict[row])
    crashed = signature.kind == CRASH
    mixed, accepted = signature.kind == OTHER_FAILURE, signature.kind == ACCEPTS

    def goal(tried: Comparison) -> npt.NDArray[np.bool_]:
        rows: npt.NDArray[np.bool_] = tried.verdict == verdict
        said = map(cause_of_crash, tried.outcomes.messages) if crashed else tried.outcomes.messages
        texts = np.array([*(text == message for text in said), message is None], np.bool_)
        same_outcome = (tried.bits == bit) & texts[tried.outcomes.message]
        if accepted:
            # where the entry succeeds against the model, the first exit after it does not matter
            same_outcome = np.uint64(ENTERED) >> tried.bits.astype(np.uint64) & np.uint64(1) != 0
        if not mixed:
            rows &= same_outcome
        for index in np.flatnonzero(rows):
            now = signature_of(tried, int(index))
            within = set(now.checks) <= set(signature.checks)
            if now.kind == signature.kind:
                rows[index] = same_outcome[index] and within and bool(now.checks) == bool(signature.checks)
            elif now.kind == REFUSES:
                rows[index] = same_outcome[index]
            else:
                rows[index] = now.kind == ACCEPTS and within
        return rows

    return goal
