"""What the emulated CPUs make of every MSR of the model's table in the MSR-load area, whatever the value."""

from __future__ import annotations

import numpy as np
import pytest

from vmfuzz.comparison.compare import AlteredModel, Verdict, compare
from vmfuzz.execute.bochs.executor import CPU_MODELS, BochsExecutor
from vmfuzz.model.checks.wrmsr import MODELLED
from vmfuzz.model.known_deviations import deviations_of
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch

#: Each bit, what some MSRs hold rightly, and all bits.
VALUES = (
    0,
    *(1 << bit for bit in range(64)),
    0x806,
    0xC06,
    0xC00,
    0x106,
    0xFEE0_0900,
    0xFEE0_0C00,
    0x0606_0606_0606_0606,
    0x8000_000F,
    (1 << 64) - 1,
)


@pytest.mark.parametrize("cpu", CPU_MODELS)
def test_nothing_that_an_emulated_cpu_makes_of_an_msr_is_unexplained(cpu: str) -> None:
    indices = np.array(list(dict.fromkeys(MODELLED)), np.uint64)
    verdicts: dict[Verdict, set[str]] = {}
    with BochsExecutor(cpu) as executor:
        model, known = model_of(executor.capabilities()), AlteredModel(executor.capabilities(), deviations_of(executor.name))
        base = executor.known_good().replace(vm_entry_msr_load_count=1)
        address = base["vm_entry_msr_load_address"]
        for value in VALUES:
            batch = VmcsBatch(base, {}, {address: indices, address + 8: np.full(len(indices), value, np.uint64)}, count=len(indices))
            found = compare(model.predict_batch(batch), executor.run(batch), known)
            for index, verdict in zip(indices.tolist(), found.verdict.tolist(), strict=True):
                verdicts.setdefault(Verdict(verdict), set()).add(f"{index:X}H: {value:X}H")
    assert not verdicts.get(Verdict.MISMATCH)
    assert not verdicts.get(Verdict.EXECUTOR_CRASHED)
    assert len(verdicts[Verdict.AGREES]) > 2000  # the MSRs that Bochs knows
