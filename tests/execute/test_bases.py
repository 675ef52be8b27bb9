"""Every known-good state really enters, on every emulated CPU model that can have it."""

from __future__ import annotations

import pytest

from vmfuzz.arch.controls import Pin, Primary, Secondary
from vmfuzz.arch.outcomes import Kind
from vmfuzz.execute.bochs.executor import CPU_MODELS
from vmfuzz.execute.kinds import open_executor
from vmfuzz.generate.bases import Bases
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.vmcs import Vmcs


@pytest.mark.parametrize("cpu", CPU_MODELS)
def test_every_base_enters(cpu: str) -> None:
    with open_executor("bochs", cpu=cpu) as executor:
        bases = Bases(model_of(executor.capabilities()), executor.known_good())
        states = {name: state for name in bases.samples() if (state := bases.get(name)) is not None}
        ends = {}
        for mode in (0, 1):  # x2APIC mode is that of a whole batch
            names = [name for name, state in states.items() if state["live_x2apic_mode"] == mode]
            if names:
                outcomes = executor.run(VmcsBatch.of([states[name] for name in names], bases.captured.replace(live_x2apic_mode=mode)))
                ends.update({name: outcomes[row] for row, name in enumerate(names)})
    assert len(states) > 100
    results = {name: ends[name].kind for name in states}
    # without a VMX-preemption timer and EPT only empty page tables keep the guest from running, and nothing wakes one that sleeps
    refused = {name for name, kind in results.items() if kind == Kind.REFUSED and not _has_timer_or_ept(states[name])}
    assert all(name.startswith("pae/") or "/pdptes/" in name or name.endswith(("/hlt", "/shutdown")) for name in refused)
    assert {name: ends[name].short() for name, kind in results.items() if kind != Kind.EXIT and name not in refused} == {}


def _has_timer_or_ept(state: Vmcs) -> bool:
    timer = state["pin_based_controls"] >> Pin.ACTIVATE_VMX_PREEMPTION_TIMER & 1
    active = state["primary_processor_based_controls"] >> Primary.ACTIVATE_SECONDARY_CONTROLS & 1
    return bool(timer or (active and (state.get("secondary_processor_based_controls") or 0) >> Secondary.ENABLE_EPT & 1))
