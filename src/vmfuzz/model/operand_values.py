"""The values of operands in a batch: fields and live conditions from columns or base, memory operands looked up in the case's memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmfuzz.model.evaluate import Value
from vmfuzz.model.operands import KNOWN_SUFFIX, MEMORY_OPERANDS

if TYPE_CHECKING:
    from vmfuzz.state.batch import VmcsBatch


class OperandValues:
    """Callable that gives each operand of `batch` by name: an int where it is the same for all rows, else a uint64 array (n,).

    A field that was never written counts as 0. A memory operand whose word the case does not describe is 0 and its `_known` operand is 0.
    """

    def __init__(self, batch: VmcsBatch) -> None:
        self._batch = batch
        self._base = batch.base
        self._columns = batch.columns
        self._memory: dict[str, tuple[Value, Value]] = {}

    def __call__(self, name: str) -> Value:
        """The operand's value."""
        column = self._columns.get(name)
        if column is not None:
            return column
        if name.startswith("memory_"):
            known = name.endswith(KNOWN_SUFFIX)
            return self._memory_operand(name.removesuffix(KNOWN_SUFFIX))[known]
        return self._base.get(name) or 0

    def _memory_operand(self, name: str) -> tuple[Value, Value]:
        """(value, known) of a memory operand."""
        if name not in self._memory:
            operand = MEMORY_OPERANDS[name]
            address: Any = self(operand.address_field)
            word: Any
            word, known = self._word_at((address & operand.address_mask) + operand.offset & (1 << 64) - 8)
            shift, mask = 8 * (operand.offset % 8), (1 << operand.width) - 1
            self._memory[name] = word >> shift & mask, known
        return self._memory[name]

    def _word_at(self, address: Value) -> tuple[Value, Value]:
        """(word, known) at an 8-byte-aligned address; arrays where the address or the word varies."""
        words: dict[int, Value] = {**self._base.memory, **self._batch.memory_columns}
        if isinstance(address, int):
            return (words[address], 1) if address in words else (0, 0)
        import numpy as np  # whoever judges one state has no columns and needs no numpy

        value = np.zeros(len(self._batch), np.uint64)
        known = np.zeros(len(self._batch), np.uint64)
        for where, word in words.items():
            here = address == np.uint64(where)
            if here.any():
                value[here] = word[here] if isinstance(word, np.ndarray) else np.uint64(word)
                known[here] = 1
        return value, known
