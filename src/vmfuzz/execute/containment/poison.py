"""Poison: bit 1 of RFLAGS clear in the guest-state area, with which no processor enters a guest (SDM "Checks on Guest RIP, RFLAGS, and SSP").

A candidate that containment refuses because it might enter has a poisoned twin, which fails for certain for this second, later reason. A processor
that refuses the candidate by a control or host check, as it should, still gives error 7 or 8; one that forgets that check gives 33. Where the candidate
breaks none of those, 33 says that the processor agrees so far.

The trap: the failure 33 loads the host-state area and processes the VM-exit MSR-load list. So poison excuses nothing that these two do harm with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.arch.registers import RFLAGS
from vmfuzz.execute.containment.candidates import ALL_ONES, Candidates, does_not_hold
from vmfuzz.state.vmcs import Vmcs

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vmfuzz.execute.containment.view import Refusals
    from vmfuzz.state.batch import VmcsBatch

FIELD: Final = "guest_rflags"
_BIT: Final = 1 << RFLAGS.RESERVED_1
#: What a processor does with the canary.
FAILS: Final = Outcome(Kind.ENTRY_FAILURE, 33, 0)


def is_poisoned(view: Candidates) -> Any:
    """The candidates that no processor enters."""
    return does_not_hold(view.bit(FIELD, RFLAGS.RESERVED_1))


def canary(known_good: Vmcs) -> Vmcs:
    """The known-good VMCS, poisoned: its outcome shows whether this processor refuses it (`FAILS`)."""
    return known_good.replace(**{FIELD: known_good[FIELD] & ~_BIT})


def poisoned(batch: VmcsBatch, rows: npt.NDArray[np.intp]) -> VmcsBatch:
    """The batch with some rows poisoned."""
    import numpy as np  # not before there are columns: a single VMCS is executed without (bochs/single.py)

    from vmfuzz.execute.containment.view import View
    from vmfuzz.state.batch import VmcsBatch

    column = np.array(View(batch)[FIELD])
    column[rows] &= np.uint64(ALL_ONES ^ _BIT)
    return VmcsBatch(batch.base, {**batch.columns, FIELD: column}, batch.memory_columns, count=len(batch))


def with_twins(batch: VmcsBatch, refused: Callable[[VmcsBatch], Refusals]) -> VmcsBatch:
    """The batch in which each candidate that `refused` (of a containment) refuses is poisoned, if it is not refused then."""
    import numpy as np

    rows = np.flatnonzero(refused(batch).rule >= 0)
    if not len(rows):
        return batch
    twins = batch.take(rows)
    runs = refused(poisoned(twins, np.arange(len(rows)))).rule < 0
    return poisoned(batch, rows[runs]) if runs.any() else batch
