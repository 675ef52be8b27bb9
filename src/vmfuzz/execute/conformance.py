"""What every executor must do: functions that raise AssertionError with a sentence when an executor does not.

Tests call `run_all(executor)`; someone who writes an executor calls it too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import Kind, Outcome, Outcomes
from vmfuzz.errors import UsageError
from vmfuzz.execute.base import Executor
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

_COMPARED: Final = ("kind", "number", "raw_reason", "qualification", "entry_interruption_info", "encoding")


def base_exit_reason(capabilities: Capabilities) -> int:
    """The exit that ends the known-good entry: preemption timer, or #PF where there is no timer."""
    return 52 if capabilities.preemption_timer else 0


def base_enters(executor: Executor) -> None:
    """The known-good VMCS enters and exits before the first instruction, each time that it is run."""
    base = executor.known_good()
    expected = base_exit_reason(executor.capabilities())
    for outcome in executor.run([base] * 3):
        assert outcome.kind is Kind.EXIT, f"{executor.name}: the known-good VMCS does not enter: {outcome}"
        assert outcome.number == expected, f"{executor.name}: expected exit {expected} from the known-good VMCS, got {outcome}"


def error_kinds(executor: Executor) -> None:
    """Violations give errors 7, 8 and entry failure 33; live conditions 4, 5, 26 and VMfailInvalid."""
    base = executor.known_good()
    cases = {
        Outcome(Kind.VMFAIL_VALID, 7): base.replace(cr3_target_count=0xFFFF_FFFF),
        Outcome(Kind.VMFAIL_VALID, 8): base.replace(host_cr0=0),
        Outcome(Kind.ENTRY_FAILURE, 33, 0): base.replace(guest_gs_access_rights=0),
        Outcome(Kind.ENTRY_FAILURE, 33, 4): base.replace(vmcs_link_pointer=1),
        Outcome(Kind.VMFAIL_VALID, 4): base.replace(live_launch_state=1),
        Outcome(Kind.VMFAIL_VALID, 5): base.replace(live_launch_instruction=1),
        Outcome(Kind.VMFAIL_VALID, 26): base.replace(live_blocking_by_mov_ss=1),
        Outcome(Kind.VMFAIL_INVALID): base.replace(live_no_current_vmcs=1),
    }
    for (expected, candidate), actual in zip(cases.items(), executor.run(list(cases.values())), strict=True):
        assert actual == expected, f"{executor.name}: expected {expected} for {base.differences(candidate)}, got {actual}"
    (resumed,) = executor.run([base.replace(live_launch_instruction=1, live_launch_state=1)])
    assert resumed.kind is Kind.EXIT, f"{executor.name}: VMRESUME of a launched VMCS: expected an entry, got {resumed}"


def mixed_batch(base: Vmcs) -> VmcsBatch:
    """Rows of all kinds of outcomes, with fields that an exit saves and conditions that an entry changes."""
    rng = np.random.default_rng(20)
    names = (
        "guest_rflags",
        "guest_cr4",
        "guest_ia32_efer",
        "guest_gs_access_rights",
        "guest_pending_debug_exceptions",
        "guest_interruptibility_state",
        "host_cr4",
        "vm_entry_controls",
        "vm_entry_interruption_info",
    )
    count = 600
    columns = {}
    for name in (name for name in names if name in base):
        flips = np.left_shift(np.uint64(1), rng.integers(0, 32, count).astype(np.uint64))
        columns[name] = np.uint64(base[name]) ^ np.where(rng.random(count) < 0.2, flips, np.uint64(0))
    return VmcsBatch(base, columns)


def _assert_same(executor: Executor, what: str, one: Outcomes, other: Outcomes) -> None:
    for name in _COMPARED:
        different = np.flatnonzero(getattr(one, name) != getattr(other, name))
        assert not len(different), (
            f"{executor.name}: {what}: {len(different)} rows differ in {name}, first row {different[0]}: "
            f"{one[int(different[0])]} and {other[int(different[0])]}"
        )


def every_field_varies(executor: Executor) -> None:
    """A batch may write every field of the known-good VMCS: those are the fields that exist."""
    base = executor.known_good()
    names = [name for name in base if name in FIELDS and FIELDS[name].writable]
    outcomes = executor.run(VmcsBatch(base, {name: np.array([base[name]] * 2, np.uint64) for name in names}))
    assert outcomes[1].kind is Kind.EXIT, (
        f"{executor.name}: the known-good VMCS with all of its {len(names)} fields as columns: {outcomes[1]}"
    )


def deterministic(executor: Executor) -> None:
    """The same batch gives the same outcomes."""
    batch = mixed_batch(executor.known_good())
    _assert_same(executor, "the same batch twice", executor.run(batch), executor.run(batch))


def order_does_not_matter(executor: Executor) -> None:
    """A permuted batch gives the permuted outcomes; a candidate alone has the outcome that it has there."""
    batch = mixed_batch(executor.known_good())
    first = executor.run(batch)
    order = np.random.default_rng(21).permutation(len(batch))
    second = executor.run(batch.take(order))
    for name in _COMPARED:
        assert np.array_equal(getattr(first, name)[order], getattr(second, name)), f"{executor.name}: order matters for {name}"
    for row in range(0, len(batch), 40):
        (alone,) = executor.run([batch.row(row)])
        assert alone == first[row], f"{executor.name}: row {row} alone gives {alone}, in its batch {first[row]}"


def facts_cannot_vary(executor: Executor) -> None:
    """A batch that varies what cannot be set is rejected by name."""
    base = executor.known_good()
    said = ""
    try:
        executor.run(VmcsBatch(base, {"live_efer": np.zeros(2, np.uint64)}))
    except UsageError as error:
        said = str(error)
    assert "live_efer" in said, f"{executor.name}: a batch that varies live_efer: expected a UsageError that names it, got {said!r}"


CHECKS: Final[tuple[Callable[[Executor], None], ...]] = (
    base_enters,
    error_kinds,
    every_field_varies,
    deterministic,
    order_does_not_matter,
    facts_cannot_vary,
)


def run_all(executor: Executor) -> None:
    """Every check in turn."""
    for check in CHECKS:
        check(executor)
