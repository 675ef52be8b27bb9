"""A batch in the engine's terms: what is written back after each row that enters."""

from __future__ import annotations

import numpy as np

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.registers import RFLAGS
from vmfuzz.execute.wire.family import Arena, Family
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good

GOOD = known_good(capabilities("corei7_skylake_x"))
PENDING = FIELDS["guest_pending_debug_exceptions"].encoding


def family(*rflags: int, base: int = 2) -> Family:
    columns = {"guest_rflags": np.array(rflags, np.uint64)} if rflags else {}
    return Family.of(VmcsBatch(GOOD.replace(guest_rflags=base), columns, count=max(len(rflags), 1)), Arena(0x1000_0000, 0x20000), GOOD)


def test_a_trap_that_an_exit_saved_does_not_reach_the_next_row() -> None:
    trap = 2 | 1 << RFLAGS.TF
    assert PENDING in family(base=trap).saved()
    assert PENDING in family(2, trap).saved()
    assert PENDING not in family().saved()
    assert PENDING not in family(2, 0).saved()
