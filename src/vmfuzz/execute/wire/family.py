"""A batch as the engine takes it: base pairs, ordered columns, and what must be rewritten after an entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from vmfuzz.arch.controls import Exit
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.live import LIVE
from vmfuzz.arch.registers import RFLAGS
from vmfuzz.errors import UsageError
from vmfuzz.execute.base import require_settable
from vmfuzz.execute.wire.abi import constants, struct_dtype
from vmfuzz.execute.wire.written import written
from vmfuzz.hexadecimal import hexadecimal
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

Pairs = npt.NDArray[np.void]
Values = npt.NDArray[np.uint64] | int


@dataclass(frozen=True)
class Arena:
    """The memory that candidates may describe: `size` bytes of zeros at physical address `base`."""

    base: int
    size: int

    def target(self, address: int) -> int:
        """Target code of the word at a physical address; UsageError outside the arena."""
        if not self.base <= address < self.base + self.size:
            arena = f"{hexadecimal(self.base)} to {hexadecimal(self.base + self.size - 1)}"
            raise UsageError(f"memory at {hexadecimal(address)}: this executor can set memory only in its arena, {arena}; leave it out")
        return 1 << constants()["TARGET_ARENA_BIT"] | address - self.base


def pairs(items: dict[int, int]) -> Pairs:
    """Targets and values as an array of struct vmfuzz_pair."""
    array = np.zeros(len(items), struct_dtype("pair"))
    array["target"] = np.fromiter(items.keys(), np.uint64, len(items))
    array["value"] = np.fromiter(items.values(), np.uint64, len(items))
    return array


#: VM-exit controls that save registers into guest-state fields.
_SAVED_BY: Final = {
    Exit.SAVE_DEBUG_CONTROLS: ("guest_dr7", "guest_ia32_debugctl"),
    Exit.SAVE_IA32_PAT: ("guest_ia32_pat",),
    Exit.SAVE_IA32_EFER: ("guest_ia32_efer",),
    Exit.SAVE_IA32_PERF_GLOBAL_CTRL: ("guest_ia32_perf_global_ctrl",),
}
#: An injected event, blocking and RFLAGS.TF change these fields' successors (`_EVENT_STATE`) between entry and exit.
_EVENT_FIELDS: Final = (
    "vm_entry_interruption_info",
    "guest_interruptibility_state",
    "guest_activity_state",
    "guest_pending_debug_exceptions",
)
_EVENT_STATE: Final = ("guest_interruptibility_state", "guest_activity_state", "guest_pending_debug_exceptions")


@dataclass(frozen=True)
class Family:
    """One batch in the engine's terms; `values[j]` is for `targets[j]`: a column, or one int for all rows."""

    count: int
    base: dict[int, int]
    targets: list[int]
    values: list[Values]
    field_columns: int
    arena_columns: int
    live_columns: int
    #: whether the local APIC of the launching processor is in x2APIC mode, where the executor brings that about
    x2apic_mode: bool = False

    @classmethod
    def of(cls, batch: VmcsBatch, arena: Arena, known_good: Vmcs) -> Family:
        """Translate a batch; raises UsageError for what no engine can set."""
        fields: dict[int, Values] = {FIELDS[name].encoding: column for name, column in batch.columns.items() if name in FIELDS}
        words: dict[int, Values] = {arena.target(address): column for address, column in batch.memory_columns.items()}
        live = _live_columns(batch, known_good)
        base = written(batch.base)
        base.update({encoding: 0 for encoding in fields if encoding not in base and encoding >> 10 & 3 != 1})
        base.update({arena.target(address): word for address, word in batch.base.memory.items()})
        if _LAUNCH_STATE in live:
            base = _rebase(base, written(known_good), fields, words)
        targets = [*fields, *words, *live]
        if len(targets) > constants()["MAX_COLUMNS"]:
            raise UsageError(f"a batch with {len(targets)} columns: the engine takes {constants()['MAX_COLUMNS']}")
        values = [*fields.values(), *words.values(), *live.values()]
        return cls(len(batch), base, targets, values, len(fields), len(words), len(live), _x2apic_mode(batch, known_good))

    def column_pairs(self) -> Pairs:
        """The columns' targets with the base's values."""
        return pairs({target: self.base.get(target, 0) for target in self.targets})

    def saved(self) -> set[int]:
        """Fields that the exit of one row may save a value into which the exit of a later row may hide again.

        The comparison at the family's end would miss such a drift, so these fields are restored after every row that enters.
        """
        found: set[int] = set()
        exit_controls = FIELDS["vm_exit_controls"].encoding
        for control, names in _SAVED_BY.items():
            if exit_controls in self.targets or self.base.get(exit_controls, 0) >> control & 1:
                found.update(FIELDS[name].encoding for name in names)
        events = {FIELDS[name].encoding for name in _EVENT_FIELDS}
        if self._traps or any(target in self.targets or self.base.get(target) for target in events):
            found.update(FIELDS[name].encoding for name in _EVENT_STATE)
        return found & set(self.base)

    @property
    def _traps(self) -> bool:
        """Whether some row has RFLAGS.TF = 1: an exit behind which the trap was due may save it as pending."""
        rflags = FIELDS["guest_rflags"].encoding
        column = self.values[self.targets.index(rflags)] if rflags in self.targets else self.base.get(rflags, 0)
        return bool(np.any(np.asarray(column, np.uint64) >> np.uint64(RFLAGS.TF) & np.uint64(1)))

    def rows(self, selection: npt.NDArray[np.intp], out: npt.NDArray[np.uint64]) -> None:
        """Write the selected rows into `out` (rows, columns)."""
        for j, values in enumerate(self.values):
            out[:, j] = values if isinstance(values, int) else values[selection]


#: Target code of live_launch_state.
_LAUNCH_STATE: Final = 1 << 32 | LIVE["live_launch_state"].target
_X2APIC_MODE: Final = "live_x2apic_mode"


def _rebase(base: dict[int, int], known: dict[int, int], fields: dict[int, Values], words: dict[int, Values]) -> dict[int, int]:
    """Make the known-good VMCS the base, with which the VMCS gets launched, and what differs columns."""
    for target in {**base, **known}:
        value = base.get(target, 0)
        if value != known.get(target, 0):
            (words if target >> 63 else fields).setdefault(target, value)
    return {**dict.fromkeys(base, 0), **known}


def _x2apic_mode(batch: VmcsBatch, known_good: Vmcs) -> bool:
    """Of the whole batch: executors that make their own processor report the condition, and no other can bring it about."""
    wanted = bool(batch.base[_X2APIC_MODE])
    if wanted and _X2APIC_MODE not in known_good:
        raise UsageError(
            f"{_X2APIC_MODE} = 1: this executor does not make its own processor and leaves its local APIC as it is; leave it out"
        )
    return wanted


def _live_columns(batch: VmcsBatch, known_good: Vmcs) -> dict[int, Values]:
    require_settable(batch)
    found: dict[int, Values] = {}
    bit = 1 << constants()["TARGET_LIVE_BIT"]
    for name, condition in LIVE.items():
        if not condition.settable:
            continue
        if name in batch.columns:
            found[bit | condition.target] = batch.columns[name]
        elif batch.base[name] != condition.default:
            found[bit | condition.target] = batch.base[name]
        if bit | condition.target in found and condition.needs is not None and condition.needs not in known_good:
            raise UsageError(f"{name}: this processor cannot bring it about, since it does not have {condition.needs} either; leave it out")
    return found
