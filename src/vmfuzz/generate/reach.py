"""Bringing a state to where a condition holds, by following the condition: some rules need four fields at the right values at once.

`Reach.state` edits a known-good state until the goal holds, then mends what the edits broke: for each other check that has become violated it
looks for an edit that satisfies it and leaves the goal alone. It is a search with random choices, not a proof; vmfuzz suite has a solver.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from vmfuzz.model.check import Stage
from vmfuzz.model.columns import ALWAYS_TRUE, Columns
from vmfuzz.model.evaluate import Memo, evaluate
from vmfuzz.model.expr import MASK64, Bits, Cond
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.operands import KNOWN_SUFFIX, MEMORY_OPERANDS, operand_width
from vmfuzz.model.predict import Model
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

#: Field, live condition or memory operand -> value: what a search changes in a state.
Patch = dict[str, int]

#: Violated checks that one search mends, at most.
_MENDS: Final = 6
#: Conditions that have to hold together are made true so many times, one after the other.
_ROUNDS: Final = 3
#: For each memory operand, and whether it is known, the field that its address is in.
_ADDRESS_OF: Final = {name + suffix: operand.address_field for name, operand in MEMORY_OPERANDS.items() for suffix in ("", KNOWN_SUFFIX)}


class Reach:
    """Searches from states of one processor; `settable` says which operands may be changed."""

    def __init__(self, model: Model, settable: Callable[[str], bool]) -> None:
        self._model = model
        self._settable = settable

    def patch(
        self, state: Vmcs, goal: Cond, target: int, rng: np.random.Generator, start: Patch | None = None, alone: bool = True
    ) -> Patch | None:
        """A change of `state` after which `goal` holds and no check but `target` is violated up to the stage of that one.

        `start`: a change to begin with; `alone`: others may be violated if it is False. None where this search did not get there.
        """
        search = _Search(state, self._settable, rng)
        if not search.begin(start or {}):
            return None
        if not search.make(goal, True):
            return None
        if not alone:
            return search.patch
        stage = self._model.compiled[target].step[0]
        for _ in range(_MENDS):
            broken = self._broken(search, target, stage)
            if not broken:
                return search.patch if search.holds(goal) else None
            if not search.make_both(goal, ~self._model.compiled[int(rng.choice(broken))].violated):
                return None
        return None

    def _broken(self, search: _Search, target: int, stage: Stage) -> list[int]:
        """The checks up to the stage that the state violates with the changes; without them it violates none."""
        compiled = self._model.compiled
        affected = [
            number for number in self._model.checks_reading(*search.patch) if number != target and compiled[number].step[0] <= stage
        ]
        conditions = Columns(search.value, 1, search.state, tuple(search.patch))
        answers, _ = conditions.answers([compiled[number].definite for number in affected])
        return [affected[at] for at in np.flatnonzero(answers == ALWAYS_TRUE)]


def memory_word(state: Vmcs, name: str) -> int | None:
    """Address of the word that holds a memory operand, or None where the state does not describe it."""
    return _word_at(state, name, state.get(MEMORY_OPERANDS[name].address_field) or 0)


def _word_at(state: Vmcs, name: str, pointer: int) -> int | None:
    """As `memory_word`, where the operand's address field has the value `pointer`."""
    operand = MEMORY_OPERANDS[name]
    address = ((pointer & operand.address_mask) + operand.offset) & ~7
    return address if address in state.memory else None


def patched(state: Vmcs, patch: Patch) -> Vmcs:
    """The state with a patch applied; memory operands of which it does not describe the word are left out."""
    changed = state.replace(**{name: value for name, value in patch.items() if name not in MEMORY_OPERANDS})
    words: dict[int, int] = {}
    for name in patch.keys() & MEMORY_OPERANDS.keys():
        address = memory_word(changed, name)
        if address is not None:
            operand = MEMORY_OPERANDS[name]
            shift = 8 * (operand.offset % 8)
            mask = ((1 << operand.width) - 1) << shift
            words[address] = words.get(address, changed.memory[address]) & ~mask | patch[name] << shift
    return changed.with_memory(words) if words else changed


class _Search:
    """A state and the changes made to it so far."""

    def __init__(self, state: Vmcs, settable: Callable[[str], bool], rng: np.random.Generator) -> None:
        self.state = state
        self.patch: Patch = {}
        #: what has been evaluated with the changes as they are now
        self._memo: Memo = {}
        self._settable = settable
        self._rng = rng
        self._fixed = OperandValues(VmcsBatch(state, {}, count=1))

    def begin(self, patch: Patch) -> bool:
        """Make these changes; False where the state does not have the memory that they are about."""
        self._return_to(patch)
        return all(self._word(name) is not None for name in patch.keys() & MEMORY_OPERANDS.keys())

    def _return_to(self, patch: Patch) -> None:
        self.patch, self._memo = dict(patch), {}

    def value(self, name: str) -> int:
        """The operand's value with the changes, as `patched` makes them: where an address has changed, of the memory that it now leads to."""
        if _ADDRESS_OF.get(name) in self.patch:
            return self._elsewhere(name)
        value = self.patch.get(name)
        return int(self._fixed(name)) if value is None else value

    def _elsewhere(self, name: str) -> int:
        """A memory operand, or whether it is known, at an address that has changed; 0 where the state does not describe the word there."""
        operand = name.removesuffix(KNOWN_SUFFIX)
        address = self._word(operand)
        if address is None:
            return 0
        if name != operand:
            return 1
        _, _, offset, width = MEMORY_OPERANDS[operand]
        value = self.patch.get(operand)
        return self.state.memory[address] >> 8 * (offset % 8) & (1 << width) - 1 if value is None else value

    def _word(self, name: str) -> int | None:
        """Address of the word that holds a memory operand with the changes, or None where the state does not describe it."""
        field = MEMORY_OPERANDS[name].address_field
        return _word_at(self.state, name, self.patch[field]) if field in self.patch else memory_word(self.state, name)

    def holds(self, condition: Cond) -> bool:
        """Whether the condition holds with the changes."""
        return bool(evaluate(condition, self.value, self._memo))

    def make(self, condition: Cond, truth: bool) -> bool:
        """Change the state so that the condition has this truth; where that fails, changes may be left behind."""
        if self.holds(condition) is truth:
            return True
        op, args = condition.op, condition.args
        if op == "not":
            return self.make(args[0], not truth)
        if op in ("all", "any"):
            return self._every(condition, truth) if (op == "all") is truth else self._one(condition, truth)
        return self._atom(condition, truth) and self.holds(condition) is truth

    def make_both(self, one: Cond, other: Cond) -> bool:
        """Change the state so that both conditions hold; making the one may undo the other, so three rounds."""
        for _ in range(_ROUNDS):
            if not (self.make(other, True) and self.make(one, True)):
                return False
            if self.holds(other):
                return True
        return False

    def _every(self, condition: Cond, truth: bool) -> bool:
        """All parts have to have this truth; a later one may undo an earlier, so three rounds."""
        for _ in range(_ROUNDS):
            for index in self._rng.permutation(len(condition.args)):
                if not self.make(condition.args[index], truth):
                    return False
            if self.holds(condition) is truth:
                return True
        return False

    def _one(self, condition: Cond, truth: bool) -> bool:
        """One part has to have this truth: try them in random order."""
        before = dict(self.patch)
        for index in self._rng.permutation(len(condition.args)):
            if self.make(condition.args[index], truth):
                return True
            self._return_to(before)
        return False

    def _atom(self, atom: Cond, truth: bool) -> bool:
        op, args = atom.op, atom.args
        if op == "bit":
            return self._assign_masked(args[0], 1 << args[1], 1 << args[1] if truth else 0)
        if op == "one_of":
            choices = args[1] if truth else [value ^ 1 << int(self._rng.integers(8)) for value in args[1]]
            return self._try(atom, truth, [(args[0], int(choices[index])) for index in self._rng.permutation(len(choices))])
        left, right = self._value(args[0]), self._value(args[1])
        if op == "eq":
            if truth:
                return self._try(atom, truth, self._shuffled([(args[0], right), (args[1], left)]))
            flip = 1 << int(self._rng.integers(max(1, args[0].width)))
            return self._try(
                atom, truth, [*self._shuffled([(args[0], right ^ flip), (args[1], left ^ flip)]), (args[0], right ^ 1), (args[0], 0)]
            )
        if truth:  # left <= right
            return self._try(atom, truth, self._shuffled([(args[0], right), (args[0], 0), (args[1], left), (args[1], MASK64)]))
        return self._try(atom, truth, self._shuffled([(args[0], right + 1 & MASK64), (args[1], left - 1 & MASK64), (args[1], 0)]))

    def _shuffled(self, options: list[tuple[Bits, int]]) -> list[tuple[Bits, int]]:
        return [options[index] for index in self._rng.permutation(len(options))]

    def _try(self, atom: Cond, truth: bool, options: list[tuple[Bits, int]]) -> bool:
        before = dict(self.patch)
        for bits, value in options:
            if self._assign_masked(bits, MASK64, value) and self.holds(atom) is truth:
                return True
            self._return_to(before)
        return False

    def _value(self, bits: Bits) -> int:
        return int(evaluate(bits, self.value, self._memo))

    def _assign_masked(self, bits: Bits, mask: int, value: int) -> bool:
        """Change operands so that the masked bits of the expression have this value, where it is simple enough to invert."""
        op, args = bits.op, bits.args
        if op == "operand":
            return self._set(args[0], mask, value)
        if op == "slice":
            span = (1 << args[1] - args[2] + 1) - 1
            return self._assign_masked(args[0], (mask & span) << args[2], (value & span) << args[2]) and not value & mask & ~span
        if op == "shr":
            return self._assign_masked(args[0], mask << args[1] & MASK64, value << args[1] & MASK64)
        if op == "shl":
            return self._assign_masked(args[0], mask >> args[1], value >> args[1])
        if op == "add" and mask == MASK64:
            return self._assign_masked(args[0], MASK64, value - self._value(args[1]) & MASK64)
        if op == "and":
            order = (0, 1) if self._rng.integers(2) or args[1].op == "const" else (1, 0)
            other = self._value(args[order[1]])
            wanted = mask & other
            return not value & mask & ~other and self._assign_masked(args[order[0]], wanted, value & wanted)
        if op == "or":
            other = self._value(args[1])
            return not ~value & mask & other and self._assign_masked(args[0], mask & ~other, value & mask & ~other)
        return False

    def _set(self, name: str, mask: int, value: int) -> bool:
        full = (1 << operand_width(name)) - 1
        if not self._settable(name) or value & mask & ~full:
            return False
        if name in MEMORY_OPERANDS and self._word(name) is None:
            return False
        self.patch[name] = (self.value(name) & ~mask | value & mask) & full
        self._memo = {}
        return True
