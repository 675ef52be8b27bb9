"""Families of candidates: Hypothesis draws which base, which fields and which seed; numpy makes thousands of candidates of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import FIELDS, Area
from vmfuzz.arch.live import LIVE
from vmfuzz.errors import UsageError
from vmfuzz.generate.bases import Bases
from vmfuzz.generate.boundary import Edit, edits_of
from vmfuzz.generate.columns import mutate
from vmfuzz.model.operands import MEMORY_OPERANDS, operand_width
from vmfuzz.model.predict import Model
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

#: Candidates that one draw makes.
FAMILY_SIZE = 4096

#: The executor sets this field itself before each entry.
OWNED = frozenset({"host_rsp"})


@dataclass(frozen=True)
class FamilyPlan:
    """What one draw decides: the base's name, the operands that vary, and the seed of their values."""

    base: str
    operands: tuple[str, ...]
    seed: int


class Generator:
    """Makes families for one processor from its known-good states, which are derived from `captured`."""

    def __init__(self, model: Model, captured: Vmcs) -> None:
        self.model = model
        self.bases = Bases(model, captured)
        caps: Capabilities = model.capabilities
        self._fields = tuple(entry.name for entry in caps.fields if entry.area is not Area.READ_ONLY and entry.name not in OWNED)
        self._edges = (31, 32, caps.physical_address_width - 1, caps.physical_address_width, 47, 48, 51, 52, 56, 57, 62, 63)
        existing = frozenset(self._fields)
        groups: list[tuple[str, ...]] = []
        for compiled in model.compiled:
            names = [name for name in compiled.check.fields if name in existing or self._settable(name)]
            if names:
                groups.append(tuple(names[:8]))
        self._groups = tuple(groups)
        self._edits: dict[str, tuple[Edit, ...]] = {}

    @staticmethod
    def _settable(name: str) -> bool:
        live = LIVE.get(name)
        return name in MEMORY_OPERANDS or (live is not None and live.settable)

    def plans(self) -> st.SearchStrategy[FamilyPlan]:
        """Plans: mostly the operands of one check (with the model), sometimes any operands (against the model's blind spots)."""
        anything = st.lists(st.sampled_from(self._fields), min_size=1, max_size=3, unique=True).map(tuple)
        one_check = st.sampled_from(self._groups)
        mixed = st.tuples(one_check, anything).map(lambda pair: tuple(dict.fromkeys([*pair[0][:5], *pair[1][:1]])))
        operands = st.one_of(anything, one_check, one_check, mixed)
        bases = self.bases
        base = st.builds(bases.nearest, st.sampled_from(bases.modes), st.sampled_from(bases.features), st.sampled_from(bases.events))
        return st.builds(FamilyPlan, base, operands, st.integers(0, (1 << 64) - 1))

    def expand(self, plan: FamilyPlan, count: int = FAMILY_SIZE) -> VmcsBatch:
        """The candidates of a plan; the same plan and count give the same candidates."""
        rng = np.random.default_rng(plan.seed)
        base = self.base_of(plan)
        copies = [base.get(name) or 0 for name in plan.operands if name in FIELDS]
        copies += [base.get(name) or 0 for name in rng.choice(np.array(self._fields), 4)]
        columns: dict[str, np.ndarray] = {}
        memory: dict[int, np.ndarray] = {}
        for name in plan.operands:
            if name in MEMORY_OPERANDS:
                self._memory_column(rng, count, name, base, memory)
                continue
            current = (base.get(name) or 0) if name in FIELDS else base[name]
            edits = self.edits(name)
            columns[name] = mutate(rng, count, current, operand_width(name), edits, copies, self._edges)
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

    def _memory_column(self, rng: np.random.Generator, count: int, name: str, base: Vmcs, memory: dict[int, np.ndarray]) -> None:
        """Vary the word that holds a memory operand, at the address that the base's field gives, if the base describes it."""
        operand = MEMORY_OPERANDS[name]
        address = (((base.get(operand.address_field) or 0) & operand.address_mask) + operand.offset) & ~7
        if address not in base.memory:
            return
        shift = 8 * (operand.offset % 8)
        mask = ((1 << operand.width) - 1) << shift
        word = memory.get(address)
        current = base.memory[address]
        mutated = mutate(rng, count, (current & mask) >> shift, operand.width, self.edits(name), [], self._edges)
        rest = np.uint64(current & ~mask) if word is None else word & np.uint64((1 << 64) - 1 - mask)
        memory[address] = rest | (mutated << np.uint64(shift))
