"""A batch in the engine's terms: what is written back after each row that enters."""

from __future__ import annotations

import numpy as np
import pytest

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.registers import RFLAGS
from vmfuzz.errors import UsageError
from vmfuzz.execute.wire.family import Arena, Family
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

GOOD = known_good(capabilities("corei7_skylake_x"))
ARENA = Arena(0x1000_0000, 0x20000)
PENDING = FIELDS["guest_pending_debug_exceptions"].encoding


def family(*rflags: int, base: int = 2) -> Family:
    columns = {"guest_rflags": np.array(rflags, np.uint64)} if rflags else {}
    return Family.of(VmcsBatch(GOOD.replace(guest_rflags=base), columns, count=max(len(rflags), 1)), ARENA, GOOD)


def test_a_trap_that_an_exit_saved_does_not_reach_the_next_row() -> None:
    trap = 2 | 1 << RFLAGS.TF
    assert PENDING in family(base=trap).saved()
    assert PENDING in family(2, trap).saved()
    assert PENDING not in family().saved()
    assert PENDING not in family(2, 0).saved()


def alone(state: Vmcs, known: Vmcs = GOOD) -> Family:
    return Family.of(VmcsBatch(state, {}, count=1), ARENA, known)


def test_a_shadow_vmcs_needs_a_processor_that_has_them() -> None:
    shadow = GOOD.replace(live_shadow_vmcs=1)
    assert alone(shadow).targets == [1 << 32 | 4]
    with pytest.raises(UsageError, match=r"live_shadow_vmcs: this processor cannot .* vmread_bitmap"):
        alone(shadow.without("vmread_bitmap"), GOOD.without("vmread_bitmap"))


def test_x2apic_mode_is_that_of_a_whole_batch_and_needs_an_executor_that_reports_it() -> None:
    in_mode = GOOD.replace(live_x2apic_mode=1)
    assert (alone(GOOD).x2apic_mode, alone(in_mode).x2apic_mode) == (False, True)
    with pytest.raises(UsageError, match="live_x2apic_mode = 1: this executor does not make its own processor"):
        alone(in_mode, GOOD.without("live_x2apic_mode"))
    with pytest.raises(UsageError, match="live_x2apic_mode cannot vary"):
        Family.of(VmcsBatch(GOOD, {"live_x2apic_mode": np.array([0, 1], np.uint64)}), ARENA, GOOD)
