"""A batch's fields as full columns, for predicates that look at every row; and what such predicates refuse."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.fields import FIELDS
from vmfuzz.execute.containment.candidates import ALL_ONES, Single
from vmfuzz.state.batch import Column, VmcsBatch
from vmfuzz.state.vmcs import Vmcs

Mask = npt.NDArray[np.bool_]


class View:
    """A batch's fields as columns of one length, for rules (`Candidates`); a field that was never written is 0."""

    def __init__(self, batch: VmcsBatch) -> None:
        self.batch = batch
        self._count = len(batch)

    def none(self) -> Mask:
        """No row."""
        return np.zeros(self._count, np.bool_)

    def any(self, answer: Mask) -> bool:
        """Whether there is such a row."""
        return bool(answer.any())

    def __getitem__(self, name: str) -> Column:
        """uint64 of shape (candidates,): the field in every row, as VMWRITE takes it: without bits that the field does not have."""
        mask = np.uint64(FIELDS[name].mask if name in FIELDS else ALL_ONES)
        column = self.batch.columns.get(name)
        if column is not None:
            return column if mask == ALL_ONES else np.asarray(column & mask, np.uint64)
        value = self.batch.base.get(name) if name in FIELDS else 0
        return np.broadcast_to(np.uint64(value or 0) & mask, (self._count,))

    def condition(self, name: str) -> int:
        """A live condition of the whole batch."""
        return self.batch.base[name]

    def addresses(self) -> Iterable[int]:
        """The physical addresses at which some row describes memory."""
        return {*self.batch.base.memory, *self.batch.memory_columns}

    def word(self, address: int) -> Column:
        """uint64 of shape (candidates,): the word of memory at an address; 0 where nothing describes it."""
        column = self.batch.memory_columns.get(address)
        return np.broadcast_to(np.uint64(self.batch.base.memory.get(address, 0)), (self._count,)) if column is None else column

    def bit(self, name: str, number: int) -> Mask:
        """The rows in which a bit of the field is 1."""
        return as_mask(self[name] >> np.uint64(number) & np.uint64(1))

    def secondary(self, number: int) -> Mask:
        """A secondary control: 0 where secondary controls are not activated."""
        return self.bit("primary_processor_based_controls", 31) & self.bit("secondary_processor_based_controls", number)

    def is_known(self, name: str, known: Vmcs) -> bool:
        """Whether the field has the known-good value in all rows."""
        return name not in self.batch.columns and (self.batch.base.get(name) or 0) == (known.get(name) or 0)


class Folded(Single):
    """A batch for rules that take numbers too (`Candidates`): a column where rows may differ, a number where all rows have the base's.

    Most fields of a family are the base's, and a rule on two numbers costs less than one on columns.
    """

    def __init__(self, batch: VmcsBatch) -> None:
        super().__init__(batch.base)
        self._batch = batch

    def any(self, answer: Any) -> bool:
        """Whether an answer holds for some row."""
        return answer if isinstance(answer, bool) else bool(answer.any())

    def __getitem__(self, name: str) -> Any:
        column = self._batch.columns.get(name)
        if column is None:
            return super().__getitem__(name)
        mask = FIELDS[name].mask if name in FIELDS else ALL_ONES
        return column if mask == ALL_ONES else column & np.uint64(mask)

    def bit(self, name: str, number: int) -> Any:
        """Whether a bit of the field is 1."""
        return as_mask(self[name] >> np.uint64(number) & np.uint64(1)) if name in self._batch.columns else super().bit(name, number)

    def is_known(self, name: str, known: Vmcs) -> bool:
        """Whether the field has the known-good value in all rows."""
        return name not in self._batch.columns and super().is_known(name, known)

    def addresses(self) -> Iterable[int]:
        """The physical addresses at which some row describes memory."""
        return {*super().addresses(), *self._batch.memory_columns}

    def word(self, address: int) -> Any:
        """The word of memory at an address; 0 where nothing describes it."""
        column = self._batch.memory_columns.get(address)
        return super().word(address) if column is None else column


def as_mask(values: Any) -> Mask:
    """Truth values of an array: what is not 0 is true."""
    # Comparisons of arrays have type Any in numpy's stubs; here they become what they are.
    return np.asarray(values, np.bool_)


@dataclass(frozen=True)
class Refusals:
    """`rule[i]` is the index in `rules` of the first rule that refuses candidate i, -1 where it may run."""

    rule: npt.NDArray[np.int32]
    rules: tuple[str, ...]
