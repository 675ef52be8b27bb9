"""Families of candidates: from a plan, thousands of candidates made by numpy.

A family shares one known-good state. A directed one has a block of rows for each of a few checks that apply there and are neighbours in the
SDM, so that they share operands; an undirected one varies any operands, against the model's blind spots: Hypothesis draws its base and operands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from vmfuzz.arch.capabilities import MASK64
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.live import LIVE
from vmfuzz.errors import UsageError
from vmfuzz.generate.bases import Bases
from vmfuzz.generate.boundary import Edit, edits_of
from vmfuzz.generate.columns import Changes, Column, chosen_operands
from vmfuzz.generate.goals import Goals, goals_of
from vmfuzz.generate.nearby import Nearby
from vmfuzz.generate.reach import Patch, Reach, memory_word, patched
from vmfuzz.generate.rows import Aim, directed_rows
from vmfuzz.generate.targets import MOST_OPERANDS, Target
from vmfuzz.generate.vocabulary import Change, address_edges, changes_by_way
from vmfuzz.model.columns import Columns
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import MEMORY_OPERANDS, operand_width
from vmfuzz.model.predict import Model
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

#: Rows of a family, one truth each.
Rows = npt.NDArray[np.bool_]
#: Candidates of a family, at most.
FAMILY_SIZE = 8192

#: The executor sets this field itself before each entry.
OWNED = frozenset({"host_rsp"})


@dataclass(frozen=True)
class Block:
    """Rows of a family that are directed at a check: `target` its index in `model.compiled`, `first` the first of its single edits.

    `patch`: values that these rows have in place of the base's, where the check applies to no base as it is; the first row has just these.
    `sought`: numbers of goals, of the check's small errors that have not shown yet.
    """

    target: int
    rows: int
    first: int = 0
    patch: Patch = field(default_factory=dict)
    sought: tuple[int, ...] = ()


@dataclass(frozen=True)
class FamilyPlan:
    """What makes a family: the base's name, the blocks or (undirected) the operands that vary in all rows, the number of rows, the seed."""

    base: str
    seed: int
    rows: int = FAMILY_SIZE
    operands: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True)
class Choice:
    """What Hypothesis draws for one undirected family: mode, features and event of its base, and what it varies.

    `numbers` name checks (`of_checks`) or fields, counted from a place that changes from plan to plan: Hypothesis likes small numbers, and
    no check should be preferred.
    """

    parts: tuple[str, str, str]
    of_checks: bool
    numbers: tuple[int, ...]
    seed: int


class Generator:
    """Makes families for one processor from its known-good states, which are derived from `captured`."""

    def __init__(self, model: Model, captured: Vmcs) -> None:
        self.model = model
        self.bases = Bases(model, captured)
        # what VMWRITE took at capture exists: a hypervisor may lack fields that its capabilities promise
        self._fields = tuple(name for name, entry in FIELDS.items() if name in captured and entry.writable and name not in OWNED)
        self._existing = frozenset(self._fields)
        self._edges = address_edges(model.capabilities.physical_address_width)
        self._edits: dict[str, tuple[Edit, ...]] = {}
        self.reach = Reach(model, self.can_vary)
        self.nearby = Nearby(self.bases)

    def can_vary(self, name: str) -> bool:
        """Whether a candidate may have another value of the operand than its base."""
        if name in LIVE:
            condition = LIVE[name]
            return condition.settable and (condition.needs is None or condition.needs in self._existing)
        return name in self._existing or name in MEMORY_OPERANDS

    # Plans

    def choices(self) -> st.SearchStrategy[Choice]:
        """What Hypothesis decides about one undirected family: bytes, from which everything follows.

        Integers will not do: Hypothesis mixes constants of whatever modules are loaded into them, and the same seed must give the same
        candidates in every program.
        """
        return st.binary(min_size=32, max_size=32).map(self._choice)

    def _choice(self, drawn: bytes) -> Choice:
        rng = np.random.default_rng(list(drawn))
        bases = self.bases
        mode, features, event = (str(rng.choice(names)) for names in (bases.modes, bases.features, bases.events))
        return Choice(
            parts=(mode, features, event),
            of_checks=bool(rng.integers(0, 2)),
            numbers=tuple(int(number) for number in rng.integers(0, 1 << 16, rng.integers(1, MOST_OPERANDS + 1))),
            seed=int(rng.integers(0, 1 << 64, dtype=np.uint64)),
        )

    def undirected(self, choice: Choice, ordinal: int, rows: int) -> FamilyPlan:
        """A plan that varies the operands of some checks, or any fields, in any base; `ordinal` sets equal choices apart."""
        seed, turn = (int(word) for word in np.random.SeedSequence([choice.seed, ordinal]).generate_state(2, np.uint64))
        if choice.of_checks:
            groups = [target.operands for target in self.targets if target.operands]
            operands = _joined([groups[(number + turn) % len(groups)] for number in choice.numbers[:3]])
        else:
            operands = tuple(dict.fromkeys(self._fields[(number + turn) % len(self._fields)] for number in choice.numbers))
        return FamilyPlan(self.bases.nearest(*choice.parts), seed, rows, operands)

    @cached_property
    def goals(self) -> Goals:
        """What candidates are made to reach; whoever only wants the bases never asks."""
        return goals_of(self.model)

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """Each check of `model.compiled` as a target."""
        return tuple(Target(compiled, self.can_vary) for compiled in self.model.compiled)

    @cached_property
    def reachable(self) -> tuple[int, ...]:
        """Checks with an operand of the requirement that can vary."""
        return tuple(number for number, target in enumerate(self.targets) if target.can_be_violated)

    @property
    def applicable(self) -> npt.NDArray[np.bool_]:
        """Whether each check applies in each base of `bases.samples()`, and what it reads in memory is described: bool (checks, bases)."""
        applies: npt.NDArray[np.bool_] = self._gates[0] == 0
        return applies

    @property
    def nearly_applicable(self) -> npt.NDArray[np.bool_]:
        """Whether each check would apply but for one part of its condition: bool (checks, bases)."""
        applies: npt.NDArray[np.bool_] = self._gates[0] == 1
        return applies

    def some_base(self, target: int, rng: np.random.Generator, nearly: bool) -> int | None:
        """A base (an index in `bases.samples()`) in which the check applies or nearly does, whichever part it lacks as likely; None: there is none."""
        fitting = np.flatnonzero(self.nearly_applicable[target] if nearly else self.applicable[target])
        if not len(fitting):
            return None
        lacks = self._gates[1][target, fitting]
        return int(rng.choice(fitting[lacks == rng.choice(np.unique(lacks))] if nearly else fitting))

    def lacking(self, target: int, turn: int) -> npt.NDArray[np.bool_]:
        """The bases (of `bases.samples()`) in which the check applies but for the same part of its condition: that whose turn it is."""
        nearly: npt.NDArray[np.bool_] = self.nearly_applicable[target].copy()
        lacks = self._gates[1][target]
        parts = np.unique(lacks[nearly])
        if len(parts):
            nearly &= lacks == parts[turn % len(parts)]
        return nearly

    @cached_property
    def _gates(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """How many parts of each check's condition do not hold in each base (two more where memory is not described), and the last of them."""
        names, states = self.bases.samples(), self.bases.possible
        possible = [number for number, name in enumerate(names) if name in states]
        failing = np.full((len(self.targets), len(names)), 255, np.uint8)
        failing[:, possible] = 0
        last = np.zeros_like(failing)
        described = {name: np.array([memory_word(state, name) is not None for state in states.values()]) for name in MEMORY_OPERANDS}
        truths = iter(Columns(self.bases.values, len(possible)).truths([gate for target in self.targets for gate in target.gates]))
        for row, target in enumerate(self.targets):
            for number in range(len(target.gates)):
                fails = ~np.broadcast_to(np.asarray(next(truths), np.bool_), len(possible))
                failing[row, possible] += fails
                last[row, np.array(possible)[fails]] = number
            for name in MEMORY_OPERANDS.keys() & set(target.operands):
                failing[row, possible] += np.where(described[name], np.uint8(0), np.uint8(2))
        return failing, last

    # Candidates

    def expand(self, plan: FamilyPlan, count: int | None = None) -> VmcsBatch:
        """The candidates of a plan (the first `count` of them); the same plan and count give the same candidates."""
        rng = np.random.default_rng(plan.seed)
        base = self.base_of(plan)
        columns, varied = self._directed(plan, base, rng) if plan.blocks else self._varied(plan, base, rng)
        memory: dict[int, Column] = {}
        words = [(name, columns.pop(name)) for name in MEMORY_OPERANDS if name in columns]
        for name, values in words:
            _into_words(base, name, np.where(varied[name], _addresses(base, name, columns), 0), values, memory)
        batch = VmcsBatch(base, columns, memory, count=plan.rows)
        return batch if count is None or count >= plan.rows else batch.take(np.arange(count))

    def base_of(self, plan: FamilyPlan) -> Vmcs:
        """The known-good state that a plan mutates; raises UsageError where this processor has none of that name."""
        state = self.bases.get(plan.base)
        if state is None:
            raise UsageError(f"base {plan.base!r} does not exist on {self.model.capabilities.name}")
        return state

    def _copies(self, base: Vmcs, operands: Sequence[str], rng: np.random.Generator) -> list[int]:
        """Values of other fields to copy."""
        copies = [base.get(name) or 0 for name in operands if name in FIELDS]
        copies += [base.get(self._fields[number]) or 0 for number in rng.integers(0, len(self._fields), 4).tolist()]
        if "vmcs_link_pointer" in operands:
            copies += [base["live_current_vmcs_pointer"]] * 4
        return copies

    def _varied(self, plan: FamilyPlan, base: Vmcs, rng: np.random.Generator) -> tuple[dict[str, Column], dict[str, Rows]]:
        """A column for each operand, and in which rows it varies."""
        of_base = OperandValues(VmcsBatch(base, {}, count=1))
        copies = np.array(self._copies(base, plan.operands, rng), np.uint64)
        number = np.array([self.changes.number[name] for name in plan.operands])
        values = np.repeat(np.array([[of_base(name)] for name in plan.operands], np.uint64), plan.rows, axis=1)
        varied = np.zeros(values.shape, np.bool_)
        row, operand = chosen_operands(rng, np.full(plan.rows, len(plan.operands)))
        values[operand, row] = self.changes.mutate(rng, number[operand], values[operand, row], rng.choice(copies, len(row)))
        varied[operand, row] = True
        return dict(zip(plan.operands, values, strict=True)), dict(zip(plan.operands, varied, strict=True))

    def _directed(self, plan: FamilyPlan, base: Vmcs, rng: np.random.Generator) -> tuple[dict[str, Column], dict[str, Rows]]:
        """A column for each operand of the blocks' checks, and which rows are those of blocks that vary it."""
        of_base = OperandValues(VmcsBatch(base, {}, count=1))
        aims = [self._aim(block, base, of_base, rng) for block in plan.blocks]
        columns: dict[str, Column] = {}
        rows_of: dict[str, Rows] = {}
        start = 0
        for block, aim, rows in zip(plan.blocks, aims, directed_rows(rng, aims, self.changes), strict=True):
            end = start + block.rows
            for name in dict.fromkeys((*block.patch, *aim.target.operands)):
                if name not in columns:
                    columns[name] = np.full(plan.rows, of_base(name), np.uint64)
                    rows_of[name] = np.zeros(plan.rows, np.bool_)
                rows_of[name][start:end] = True
                columns[name][start:end] = aim.current[name]
            for name, values in zip(aim.target.operands, rows, strict=True):
                at = start + 1 if block.patch else start
                columns[name][at:end] = values[at - start :]
            start = end
        return columns, rows_of

    def _aim(self, block: Block, base: Vmcs, of_base: OperandValues, rng: np.random.Generator) -> Aim:
        target = self.targets[block.target]
        values = OperandValues(VmcsBatch(patched(base, block.patch), {}, count=1)) if block.patch else of_base
        names = {*block.patch, *target.operands, *target.compiled.violated.reads, *target.compiled.must.reads}
        current = {name: block.patch[name] if name in block.patch else int(values(name)) for name in names}
        sought = [self.goals.all[number].condition for number in block.sought]
        return Aim(target, block.rows, block.first, current, self._copies(base, target.operands, rng), sought)

    def edits(self, name: str) -> tuple[Edit, ...]:
        """All boundary edits of an operand, from every check that reads it."""
        if name not in self._edits:
            found: dict[Edit, None] = {}
            for index in self.model.checks_reading(name):
                compiled = self.model.compiled[index]
                for condition in (compiled.violated, compiled.when):
                    found.update(dict.fromkeys(edits_of(condition, name)))
            self._edits[name] = tuple(found)
        return self._edits[name]

    def ways(self, name: str) -> Mapping[str, tuple[Change, ...]]:
        """The changes of an operand that can be listed, by way."""
        return changes_by_way(operand_width(name), self.edits(name), self._edges)

    @cached_property
    def changes(self) -> Changes:
        """The ways to change whatever a plan may vary."""
        names = dict.fromkeys([*self._fields, *(name for target in self.targets for name in target.operands)])
        return Changes({name: operand_width(name) for name in names}, {name: self.ways(name) for name in names})


@lru_cache(maxsize=16)
def generator_of(model: Model, captured: Vmcs) -> Generator:
    """The generator for a processor (kept, since composing the bases takes a moment)."""
    return Generator(model, captured)


def _addresses(base: Vmcs, name: str, columns: Mapping[str, Column]) -> Column:
    """Of each row the address of the word that a memory operand lies in; 0 where the base has no such field."""
    operand = MEMORY_OPERANDS[name]
    field = columns.get(operand.address_field, np.uint64(base.get(operand.address_field) or 0))
    return np.asarray((field & np.uint64(operand.address_mask)) + np.uint64(operand.offset) & np.uint64(MASK64 & ~7), np.uint64)


def _into_words(base: Vmcs, name: str, addresses: Column, values: Column, memory: dict[int, Column]) -> None:
    """Put the values of a memory operand into the words at the rows' addresses, where the base describes these."""
    operand = MEMORY_OPERANDS[name]
    shift = 8 * (operand.offset % 8)
    mask = ((1 << operand.width) - 1) << shift
    for address in sorted(base.memory.keys() & set(np.unique(addresses).tolist())):
        word = memory.get(address, np.full(len(values), base.memory[address], np.uint64))
        written = word & np.uint64(MASK64 & ~mask) | values << np.uint64(shift)
        memory[address] = np.where(addresses == address, written, word)


def _joined(groups: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The names of all groups, each once, at most MOST_OPERANDS."""
    return tuple(dict.fromkeys(name for group in groups for name in group))[:MOST_OPERANDS]
