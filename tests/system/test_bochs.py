"""The module in a real kernel with VMX (Debian's Bochs): it executes VM entries, and the kernel survives whatever is asked of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from guest_executor import GuestExecutor, ran, translate
from machine import Machine, MachineError, needs

from vmfuzz.arch.outcomes import Kind
from vmfuzz.campaign.compare import Verdict
from vmfuzz.campaign.loop import Campaign
from vmfuzz.errors import ExecutorError
from vmfuzz.execute.bochs import BochsExecutor
from vmfuzz.model.predict import Model
from vmfuzz.state.batch import VmcsBatch

CPU = os.environ.get("VMFUZZ_SYSTEM_CPU", "corei7_skylake_x")
CANDIDATES = int(os.environ.get("VMFUZZ_SYSTEM_CANDIDATES", "20000"))
FAMILY = 1000

missing = needs("bochs")
pytestmark = [pytest.mark.skipif(missing is not None, reason=str(missing)), pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine("bochs", cpu=CPU, arguments=os.environ.get("VMFUZZ_SYSTEM_ARGUMENTS", "nopti mitigations=off")) as machine:
        yield machine.start()


@pytest.fixture
def guest(machine: Machine) -> Iterator[GuestExecutor]:
    with GuestExecutor(machine) as executor:
        yield executor


def test_misuse(machine: Machine) -> None:
    assert machine.shell("/guest misuse vmx", 600) == "misuse done, 0 failures\n"


def test_the_known_good_vmcs_enters(guest: GuestExecutor) -> None:
    outcome = guest.run([guest.known_good()])[0]
    assert (outcome.kind, outcome.number) == (Kind.EXIT, 52)


def test_a_refusal_names_its_rule(guest: GuestExecutor) -> None:
    outcomes = guest.run([guest.known_good().replace(host_rip=8), guest.known_good().replace(guest_rflags=0)])
    assert [Kind(int(kind)) for kind in outcomes.kind] == [Kind.REFUSED, Kind.ENTRY_FAILURE]
    assert outcomes.message_of(0) == "refused: host_rip would be loaded and is not the exit handler"


def test_python_refuses_the_same(guest: GuestExecutor) -> None:
    """What the module in the kernel refuses is what KmodContainment predicts."""
    campaign = Campaign(guest, seed=5)
    for plan in campaign.plan(0)[:20]:
        batch = campaign.generator.expand(plan, 200)
        outcomes = guest.run(batch)
        executed = outcomes.kind != Kind.NOT_RUN
        predicted = guest.containment.refused(batch).rule >= 0
        if any(name.startswith("live_") for name in (*batch.columns,)):
            continue  # then the base counts, too
        assert ((outcomes.kind == Kind.REFUSED) == predicted)[executed].all()


def test_outcomes_are_those_of_the_model_and_of_the_emulated_cpu(guest: GuestExecutor) -> None:
    campaign, verdicts, compared, done, chunk = Campaign(guest, seed=1), Counter[str](), Counter[bool](), 0, 0
    with BochsExecutor(CPU) as here:
        model = Model(here.capabilities())
        while done < CANDIDATES:
            for plan in campaign.plan(chunk):
                comparison = campaign.execute(plan, min(FAMILY, CANDIDATES - done))
                batch = comparison.prediction.batch
                done += len(batch)
                verdicts.update(Verdict(int(verdict)).name for verdict in comparison.verdict)
                compared.update(_same_here(batch, guest, here, model, comparison.outcomes, comparison.prediction.allowed).tolist())
                if done >= CANDIDATES:
                    break
            chunk += 1
    print(f"{done} candidates: {dict(verdicts)}; in-process CPU: {compared[True]} equal, {compared[False]} different")
    print(f"{campaign.progress.executor_seconds:.1f} s in the executor")
    executed = done - verdicts["REFUSED"] - verdicts["NOT_RUN"]
    assert executed > done / 4
    assert verdicts["EXECUTOR_CRASHED"] == 0
    assert verdicts["MISMATCH"] == 0
    assert compared[True] > executed / 4
    assert compared[False] <= compared[True] * MOST_DIFFERENCES


#: Share of outcomes in which Bochs 2.7 may differ from 3.0, which lacks some of its deviations and has others.
MOST_DIFFERENCES = 0.02


def _same_here(batch: VmcsBatch, guest: GuestExecutor, here: BochsExecutor, model: Model, outcomes, allowed) -> np.ndarray:  # type: ignore[no-untyped-def,type-arg]
    """For rows that ran on both and of which the model says the same for both: whether they ended equally."""
    moved = translate(batch, guest, here)
    other = here.run(moved)
    both = ran(outcomes) & ran(other) & (model.predict_batch(moved).allowed == allowed)
    return np.asarray(((outcomes.kind == other.kind) & (outcomes.number == other.number))[both])


def test_killed_in_the_middle_of_a_batch(machine: Machine) -> None:
    """The process goes, VMX operation is off, the device can be opened and the module unloaded."""
    for _ in range(3):
        machine.shell("/guest stress 0 > /tmp/out & echo $! > /tmp/pid; while ! grep -q runs /tmp/out; do :; done; kill -9 $(cat /tmp/pid)")
        machine.shell(
            "for i in 1 2 3 4 5 6 7 8 9; do /guest stress 1 > /tmp/again && break; done; grep -q '1 of 1 batches entered' /tmp/again"
        )


def test_a_second_program_is_told(machine: Machine, guest: GuestExecutor) -> None:
    assert guest.run([guest.known_good()]).kind[0] == Kind.EXIT
    with pytest.raises(MachineError, match=r"Device or resource busy|Resource busy"):
        machine.shell("/guest stress 1")


def test_unload_needs_no_open_file_then_works(machine: Machine, guest: GuestExecutor) -> None:
    with pytest.raises(MachineError):
        machine.shell("rmmod vmfuzz")
    guest.close()
    machine.shell("rmmod vmfuzz && insmod /vmfuzz.ko")
    with pytest.raises(ExecutorError):
        guest.run([guest.known_good()])
    with GuestExecutor(machine) as again:
        assert again.run([again.known_good()]).kind[0] == Kind.EXIT


def test_the_kernel_log_is_clean(machine: Machine) -> None:
    assert machine.trouble() == ""
