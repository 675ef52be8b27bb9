"""Families of candidates: Hypothesis draws which base, which operands and which seed; numpy makes thousands of candidates of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from vmfuzz.arch.fields import FIELDS, Area
from vmfuzz.arch.live import LIVE
from vmfuzz.errors import UsageError
from vmfuzz.generate.bases import Bases
from vmfuzz.generate.boundary import Edit, edits_of
from vmfuzz.generate.columns import Column, choose_active, mutate
from vmfuzz.model.evaluate import evaluate
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import MEMORY_OPERANDS, operand_width
from vmfuzz.model.predict import Model
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

#: Candidates that one draw makes.
FAMILY_SIZE = 4096

#: The executor sets this field itself before each entry.
OWNED = frozenset({"host_rsp"})
#: Operands that vary in one family, at most.
MOST_OPERANDS = 10
#: Bases that are looked through for one in which a check applies.
_BASES_KEPT = 6


@dataclass(frozen=True)
class FamilyPlan:
    """What one draw decides: the base's name, the operands that vary, and the seed of their values."""

    base: str
    operands: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Choice:
    """What Hypothesis draws for one plan.

    `numbers` name checks (`of_checks`) or fields, counted from a place that changes from plan to plan: Hypothesis likes small numbers, and
    no check should be preferred. `which` picks among the bases in which a directed plan's check applies.
    """

    directed: bool
    base: str
    of_checks: bool
    numbers: tuple[int, ...]
    which: int
    seed: int


class Generator:
    """Makes families for one processor from its known-good states, which are derived from `captured`."""

    def __init__(self, model: Model, captured: Vmcs) -> None:
        self.model = model
        self.bases = Bases(model, captured)
        caps = model.capabilities
        self._fields = tuple(entry.name for entry in caps.fields if entry.area is not Area.READ_ONLY and entry.name not in OWNED)
        self._existing = frozenset(self._fields)
        self._edges = (31, 32, caps.physical_address_width - 1, caps.physical_address_width, 47, 48, 51, 52, 56, 57, 62, 63)
        self._edits: dict[str, tuple[Edit, ...]] = {}

    def _can_vary(self, name: str) -> bool:
        live = LIVE.get(name)
        return name in self._existing or name in MEMORY_OPERANDS or (live is not None and live.settable)

    # Plans

    def choices(self) -> st.SearchStrategy[Choice]:
        """What Hypothesis decides about one plan: bytes, from which everything follows.

        Integers will not do: Hypothesis mixes constants of whatever modules are loaded into them, and the same seed must give the same
        candidates in every program.
        """
        return st.binary(min_size=32, max_size=32).map(self._choice)

    def _choice(self, drawn: bytes) -> Choice:
        rng = np.random.default_rng(list(drawn))
        bases = self.bases
        parts = (str(rng.choice(names)) for names in (bases.modes, bases.features, bases.events))
        numbers = tuple(int(number) for number in rng.integers(0, 1 << 16, rng.integers(1, MOST_OPERANDS + 1)))
        return Choice(
            directed=bool(rng.integers(0, 3)),
            base=bases.nearest(*parts),
            of_checks=bool(rng.integers(0, 2)),
            numbers=numbers,
            which=int(rng.integers(0, 64)),
            seed=int(rng.integers(0, 1 << 64, dtype=np.uint64)),
        )

    def plan(self, choice: Choice, target: int, ordinal: int) -> FamilyPlan:
        """The plan that a choice makes: directed at the check `target` (an index in `model.compiled`), or at nothing.

        A directed plan takes a base in which the check's condition holds and varies its operands; an undirected one takes any base and the
        operands of some checks, or any operands, against the model's blind spots. `ordinal` sets equal choices apart.
        """
        seed, turn = (int(word) for word in np.random.SeedSequence([choice.seed, ordinal]).generate_state(2, np.uint64))
        if choice.of_checks:
            groups = self._groups
            operands = _joined([groups[(number + turn) % len(groups)] for number in choice.numbers[:3]])
        else:
            operands = tuple(dict.fromkeys(self._fields[(number + turn) % len(self._fields)] for number in choice.numbers))
        if not choice.directed:
            return FamilyPlan(choice.base, operands, seed)
        names = self._applicable[target]
        own = self._own_operands(target)
        gate = tuple(name for name in self.model.compiled[target].check.fields if self._can_vary(name) and name not in own)
        return FamilyPlan(names[choice.which % len(names)], _joined([own, gate, operands[:1]]), seed)

    @cached_property
    def _groups(self) -> tuple[tuple[str, ...], ...]:
        groups = (tuple(name for name in compiled.check.fields if self._can_vary(name)) for compiled in self.model.compiled)
        return tuple(group[:MOST_OPERANDS] for group in groups if group)

    @cached_property
    def reachable(self) -> tuple[int, ...]:
        """Checks with an operand that can vary."""
        return tuple(number for number in range(len(self.model.compiled)) if self._own_operands(number))

    def _own_operands(self, number: int) -> tuple[str, ...]:
        return tuple(sorted(name for name in self.model.compiled[number].check.must.reads if self._can_vary(name)))

    @cached_property
    def _applicable(self) -> dict[int, tuple[str, ...]]:
        found: dict[int, list[str]] = {number: [] for number in range(len(self.model.compiled))}
        for name in self.bases.samples():
            state = self.bases.get(name)
            if state is None:
                continue
            values = OperandValues(VmcsBatch(state, {}, count=1))
            memo: dict[int, object] = {}
            for number, names in found.items():
                if len(names) < _BASES_KEPT and evaluate(self.model.compiled[number].when, values, memo):
                    names.append(name)
        fallback = [name for name in self.bases.samples()[:_BASES_KEPT] if self.bases.get(name) is not None]
        return {number: tuple(names or fallback) for number, names in found.items()}

    # Candidates

    def expand(self, plan: FamilyPlan, count: int = FAMILY_SIZE) -> VmcsBatch:
        """The candidates of a plan; the same plan and count give the same candidates."""
        rng = np.random.default_rng(plan.seed)
        base = self.base_of(plan)
        copies = [base.get(name) or 0 for name in plan.operands if name in FIELDS]
        copies += [base.get(str(name)) or 0 for name in rng.choice(np.array(self._fields), 4)]
        if "vmcs_link_pointer" in plan.operands:
            copies += [base["live_current_vmcs_pointer"]] * 4
        active = choose_active(rng, count, len(plan.operands))
        columns: dict[str, Column] = {}
        memory: dict[int, Column] = {}
        for position, name in enumerate(plan.operands):
            chosen = active[:, position]
            if name in MEMORY_OPERANDS:
                self._memory_column(rng, chosen, name, base, memory)
                continue
            current = base.get(name) or 0
            mutated = mutate(rng, count, current, operand_width(name), self.edits(name), copies, self._edges)
            columns[name] = np.where(chosen, mutated, np.uint64(current))
        return VmcsBatch(base, columns, memory, count=count)

    def base_of(self, plan: FamilyPlan) -> Vmcs:
        """The known-good state that a plan mutates; raises UsageError where this processor has none of that name."""
        state = self.bases.get(plan.base)
        if state is None:
            raise UsageError(f"base {plan.base!r} does not exist on {self.model.capabilities.name}")
        return state

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

    def _memory_column(
        self, rng: np.random.Generator, chosen: npt.NDArray[np.bool_], name: str, base: Vmcs, memory: dict[int, Column]
    ) -> None:
        """Vary the word that holds a memory operand, at the address that the base's field gives, if the base describes it."""
        operand = MEMORY_OPERANDS[name]
        address = (((base.get(operand.address_field) or 0) & operand.address_mask) + operand.offset) & ~7
        if address not in base.memory:
            return
        shift = 8 * (operand.offset % 8)
        mask = ((1 << operand.width) - 1) << shift
        current = base.memory[address]
        mutated = mutate(rng, len(chosen), (current & mask) >> shift, operand.width, self.edits(name), [], self._edges)
        word = memory.get(address, np.full(len(chosen), current, np.uint64))
        rest = word & np.uint64((1 << 64) - 1 - mask)
        memory[address] = np.where(chosen, rest | (mutated << np.uint64(shift)), word)


@lru_cache(maxsize=16)
def generator_of(model: Model, captured: Vmcs) -> Generator:
    """The generator for a processor (kept, since finding the bases in which each check applies takes a second)."""
    return Generator(model, captured)


def _joined(groups: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The names of all groups, each once, at most MOST_OPERANDS."""
    return tuple(dict.fromkeys(name for group in groups for name in group))[:MOST_OPERANDS]
