"""A row is booked as the known deviation that explains it most directly."""

from __future__ import annotations

from itertools import product

import numpy as np

from vmfuzz.arch.registers import DEBUGCTL, INTERRUPTIBILITY, PENDING_DEBUG, RFLAGS
from vmfuzz.comparison.compare import AlteredModel, Verdict, compare
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.generate.bases import Bases
from vmfuzz.model.known_deviations import deviations_of
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs

BS_RULES = {"guest.pdbg.bs.must1", "guest.pdbg.bs.must0.tf", "guest.pdbg.bs.must0.btf"}
BLOCKING = (0, 1 << INTERRUPTIBILITY.BLOCKING_BY_STI, 1 << INTERRUPTIBILITY.BLOCKING_BY_MOV_SS)


def states(base: Vmcs) -> list[Vmcs]:
    """TF, IF, blocking, BS and BTF in turn."""
    entry = (base.get("vm_entry_controls") or 0) | 1 << 2  # load debug controls
    return [
        base.replace(
            vm_entry_controls=entry,
            guest_rflags=2 | tf << RFLAGS.TF | interrupts << RFLAGS.IF,
            guest_interruptibility_state=blocking,
            guest_pending_debug_exceptions=bs << PENDING_DEBUG.BS,
            guest_ia32_debugctl=btf << DEBUGCTL.BTF,
        )
        for tf, interrupts, blocking, bs, btf in product((0, 1), (0, 1), BLOCKING, (0, 1), (0, 1))
    ]


def test_a_check_left_out_is_named_before_a_first_exit(bochs: BochsExecutor) -> None:
    """What violates only the rules on BS enters, and blocking then delays the timer: the first is why the outcome is another one."""
    model = model_of(bochs.capabilities())
    base = Bases(model, bochs.known_good()).get("64-bit/plain/nothing")
    assert base is not None
    batch = VmcsBatch.of(states(base), base)
    prediction = model.predict_batch(batch)
    known = deviations_of(bochs.name)
    comparison = compare(prediction, bochs.run(batch), AlteredModel(bochs.capabilities(), known))
    violated = [{each.check.id for each in prediction.violations_of(row)} for row in range(len(batch))]
    only_bs = [row for row, ids in enumerate(violated) if ids and ids <= BS_RULES]
    booked = {known[int(comparison.deviation[row])].id for row in only_bs}
    assert len(only_bs) == 12
    assert booked == {"bochs-pending-debug-bs"}
    assert not (comparison.verdict == Verdict.MISMATCH).any()
    # what the manual lets enter is booked as the timer's delay
    others = np.flatnonzero((comparison.verdict == Verdict.DEVIATION) & ~np.isin(np.arange(len(batch)), only_bs))
    assert {known[int(comparison.deviation[row])].id for row in others} == {"bochs-timer-blocking"}
