"""A batch of VMCSs as columns: one base, and a column of values only for what varies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.fields import FIELDS, field_named
from vmfuzz.arch.live import LIVE
from vmfuzz.errors import FieldValueError, UsageError
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.state.vmcs import Vmcs

Column = npt.NDArray[np.uint64]


def _column(name: str, values: npt.ArrayLike, mask: int) -> Column:
    column = np.ascontiguousarray(values, dtype=np.uint64)
    if column.ndim != 1:
        raise UsageError(f"column {name}: expected one dimension, got {column.ndim}")
    excess = column & np.uint64(~mask & (1 << 64) - 1)
    if mask != (1 << 64) - 1 and excess.any():
        index = int(np.flatnonzero(excess)[0])
        raise FieldValueError(f"{name} = {hexadecimal(int(column[index]))} (row {index}): expected 0 to {hexadecimal(mask)}")
    column.flags.writeable = False
    return column


def _words(candidates: Sequence[Vmcs], base: Vmcs) -> dict[int, list[int]]:
    """The words of memory that some candidate or the base describes, by address; none where all have the base's memory."""
    if all(candidate.memory == base.memory for candidate in candidates):
        return {}
    addresses = dict.fromkeys(address for each in (*candidates, base) for address in each.memory)
    return {address: [candidate.memory.get(address, 0) for candidate in candidates] for address in addresses}


class VmcsBatch:
    """n candidates that share a base and differ in columns; `len(batch)` is n, and a loop gives one `Vmcs` at a time.

    - `base: Vmcs`: what every candidate has, except for the columns.
    - `columns`: name of a field or live condition -> its value in each candidate, an array of uint64, shape (n,).
    - `memory_columns`: physical address, divisible by 8 -> the 64-bit word there in each candidate, an array of uint64, shape (n,).
    - `count: int`: n; needed only where there are no columns.

    Raises UnknownNameError, FieldValueError (a value wider than its field), UsageError (columns of different length).

    >>> batch = vmfuzz.VmcsBatch(good, {"vpid": np.arange(3)})
    >>> len(batch), batch.row(2)["vpid"]
    (3, 2)
    """

    __slots__ = ("base", "columns", "count", "memory_columns")

    def __init__(
        self,
        base: Vmcs,
        columns: Mapping[str, npt.ArrayLike],
        memory_columns: Mapping[int, npt.ArrayLike] | None = None,
        count: int | None = None,
    ) -> None:
        checked = {
            name: _column(name, values, LIVE[name].mask if name in LIVE else field_named(name).mask) for name, values in columns.items()
        }
        words = {
            address: _column(f"memory at {hexadecimal(address)}", values, (1 << 64) - 1)
            for address, values in (memory_columns or {}).items()
        }
        lengths = {len(column) for column in (*checked.values(), *words.values())}
        if count is not None:
            lengths.add(count)
        if len(lengths) > 1:
            raise UsageError(f"columns of a batch must have one length, got {sorted(lengths)}")
        self.base = base
        self.columns = MappingProxyType(checked)
        self.memory_columns = MappingProxyType(words)
        self.count = lengths.pop() if lengths else 0

    @classmethod
    def of(cls, candidates: Sequence[Vmcs], base: Vmcs | None = None) -> VmcsBatch:
        """The batch of these candidates as differences from `base` (default: the first); a field that one of them lacks is taken as 0."""
        if not candidates:
            raise UsageError("a batch needs at least one candidate")
        base = base or candidates[0]
        changes = [base.differences(candidate) for candidate in candidates]
        names = dict.fromkeys(name for change in changes for name in change)
        columns = {name: np.full(len(candidates), base.get(name) or 0, np.uint64) for name in names}
        for row, change in enumerate(changes):
            for name, (_, value) in change.items():
                columns[name][row] = value or 0
        lacking = base.replace(**{name: 0 for name in names if name not in base and name in FIELDS})
        return cls(lacking, columns, _words(candidates, base), count=len(candidates))

    def __len__(self) -> int:
        return self.count

    def row(self, index: int) -> Vmcs:
        """Candidate `index` as one VMCS."""
        if not 0 <= index < self.count:
            raise IndexError(f"row {index} of a batch of {self.count}")
        values = {name: int(column[index]) for name, column in self.columns.items()}
        words = {address: int(column[index]) for address, column in self.memory_columns.items()}
        vmcs = self.base.replace(**values) if values else self.base
        return vmcs.with_memory(words) if words else vmcs

    def __iter__(self) -> Iterator[Vmcs]:
        return (self.row(index) for index in range(self.count))

    def take(self, rows: npt.ArrayLike) -> VmcsBatch:
        """The batch of some rows: an array of indices or a boolean mask of shape (n,)."""
        selector = np.asarray(rows)
        count = int(selector.sum()) if selector.dtype == np.bool_ else len(selector)
        return VmcsBatch(
            self.base,
            {name: column[selector] for name, column in self.columns.items()},
            {address: column[selector] for address, column in self.memory_columns.items()},
            count=count,
        )
