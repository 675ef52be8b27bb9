"""The module in a real kernel with VMX (Debian's Bochs): it executes VM entries, and the kernel survives whatever is asked of it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from guest_executor import GuestExecutor
from here import ThisMachine, needs_here
from machine import CLOSE, Machine, MachineError, needs

from comparison import assert_agreement, compare
from vmfuzz.arch.outcomes import Kind
from vmfuzz.campaign.loop import Campaign
from vmfuzz.errors import ExecutorError
from vmfuzz.execute.containment.poison import FAILS
from vmfuzz.execute.kmod.containment import BOLD, SAFE
from vmfuzz.state.batch import VmcsBatch

CPU = os.environ.get("VMFUZZ_SYSTEM_CPU", "corei7_skylake_x")
EXECUTED = int(os.environ.get("VMFUZZ_SYSTEM_EXECUTED", "13000"))
SEED = int(os.environ.get("VMFUZZ_SYSTEM_SEED", "1"))

#: A process that was killed may take a moment to go. `stress` ends with an error where CR4.VMXE is still set.
UNLOAD_LOAD_RUN = (
    "for i in 1 2 3 4 5 6 7 8 9; do rmmod vmfuzz && break; sleep 0.1; done; insmod /vmfuzz.ko && /guest stress 1 | grep '1 of 1'"
)

HERE = bool(os.environ.get("VMFUZZ_SYSTEM_HERE"))
missing = needs_here() if HERE else needs("bochs")
pytestmark = [pytest.mark.skipif(missing is not None, reason=str(missing)), pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    arguments = os.environ.get("VMFUZZ_SYSTEM_ARGUMENTS", "nopti mitigations=off")
    with ThisMachine() if HERE else Machine("bochs", cpu=CPU, arguments=arguments) as machine:
        yield machine.start()


@pytest.fixture
def guest(machine: Machine) -> Iterator[GuestExecutor]:
    with GuestExecutor(machine) as executor:
        yield executor


def test_misuse(machine: Machine) -> None:
    assert machine.shell("/guest misuse vmx") == "misuse done, 0 failures\n"


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
    figures = compare(guest, EXECUTED)
    print(figures)
    assert_agreement(figures)


def test_what_the_exit_of_one_row_saves_is_not_the_next_rows(machine: Machine) -> None:
    """Bochs 2.7 saves BS with each exit of a guest that single-steps; the row behind it would take a debug exception before its timer."""
    with GuestExecutor(machine, risk="bold") as guest:
        timers = np.array([0, 0x10000, 0, 0x10000, 0], np.uint64)
        outcomes = guest.run(VmcsBatch(guest.known_good().replace(guest_rflags=0x102), {"vmx_preemption_timer_value": timers}))
    assert set(outcomes.kind) == {Kind.EXIT}
    assert set(outcomes.number[timers == 0]) == {52}
    assert 52 not in outcomes.number[timers > 0]


@pytest.mark.parametrize("risk", [SAFE, BOLD])
def test_raw_rows(machine: Machine, risk: int) -> None:
    """What no catalogue of fields has gone over: several columns, values wider than their fields, words of the arena, damaged requests."""
    said = machine.shell(f"/guest raw {SEED} 200 {risk} {'' if HERE else 'bochs-2.7'}")
    print(said)
    assert "FAIL" not in said
    errors, rows, entered, failed, refused, wide, compared, differ = (int(number) for number in re.findall(r"[0-9]+", said)[1:])
    assert min(errors, entered, failed, refused, wide, compared) > 0
    assert not differ
    assert entered + failed + refused > rows * 0.95


def test_poison_needs_its_canary_and_runs_what_is_refused(machine: Machine) -> None:
    with GuestExecutor(machine) as early:
        early.poison = True
        with pytest.raises(ExecutorError, match="before this processor was seen to refuse guest RFLAGS bit 1 = 0"):
            early.run([early.known_good()])
    with GuestExecutor(machine, poison=True) as guest:
        asleep = VmcsBatch.of([guest.known_good().replace(guest_activity_state=state) for state in (2, 3)], guest.known_good())
        assert set(guest.run(asleep).kind) == {Kind.REFUSED}
        assert list(guest.run(guest.with_twins(asleep))) == [FAILS, FAILS]
        figures = compare(guest, EXECUTED // 8, seed=6, family=150)
    print(figures)
    assert_agreement(figures)


def test_threads_that_share_a_file_and_change_what_it_reads(machine: Machine) -> None:
    said = machine.shell("/guest race 100")
    print(said)
    ran_, refused, other = (int(number) for number in re.findall(r"[0-9]+", said))
    assert ran_
    assert refused
    assert not other


def test_signals_all_the_time(machine: Machine) -> None:
    """Each request gets on before a signal ends it, and says how far: a batch comes to its end, however short the time between two signals."""
    said = machine.shell("/guest signals 3000")
    print(said)
    interrupted, entered, rows = (int(number) for number in re.findall(r"[0-9]+", said))
    assert interrupted
    assert entered == rows


def test_a_kernel_that_ran_candidates_says_so(machine: Machine) -> None:
    """Taint flag S, for who reads an oops of it."""
    machine.shell("/guest stress 1")
    assert int(machine.shell("cat /proc/sys/kernel/tainted")) & 1 << 2


def test_nothing_is_left_behind(machine: Machine) -> None:
    """100 files opened, used and closed hold some 150 MB if their memory is not freed."""

    def free() -> int:
        return int(machine.shell("echo 3 > /proc/sys/vm/drop_caches; sed -n 's/^MemFree: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo"))

    machine.shell("/guest cycles 5")
    before = free()
    assert machine.shell("/guest cycles 100") == "cycles done\n"
    assert free() > before - 8000
    assert "vmfuzz_open" not in machine.shell("cat /proc/vmallocinfo")


def test_kvm_has_vmx(machine: Machine) -> None:
    """Whoever comes first keeps it: the module says so, also in the middle of a batch, and goes on when KVM is gone."""
    if HERE:
        pytest.skip("KVM of this machine is left alone")
    start_kvm = "/guest kvm > /tmp/kvm & echo $! > /tmp/pid; while [ ! -s /tmp/kvm ]; do :; done; grep runs /tmp/kvm"
    end_kvm = "kill -9 $(cat /tmp/pid); while ! /guest stress 1 > /tmp/out; do sleep 0.1; done"
    machine.load_others()
    machine.shell(start_kvm)
    with pytest.raises(MachineError, match="errno 98"):
        machine.shell("/guest stress 1")
    assert "another program is in VMX operation" in machine.shell("dmesg")
    machine.shell(end_kvm)
    machine.shell("/guest stress 0 > /tmp/out & while [ ! -s /tmp/out ]; do :; done; grep runs /tmp/out")
    machine.shell(start_kvm)
    machine.shell("while ! grep -q stress: /tmp/out; do sleep 0.1; done; grep 'errno 98' /tmp/out")
    machine.shell(end_kvm)
    machine.unload_others()


def test_the_command_line_through_an_agent(machine: Machine) -> None:
    """`vmfuzz run --executor remote:` with this machine's module behind it; then again after a kill in the middle."""
    vmfuzz = [Path(sys.executable).with_name("vmfuzz")] if HERE else [sys.executable, Path(__file__).with_name("without_panics.py")]
    command = [*vmfuzz, "run", "--executor", f"remote:{machine.agent()}", "--minimize-seconds", "0", "--json"]
    done = subprocess.run([*command, "--iterations", "500"], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    summary = json.loads(done.stdout)
    print(summary)
    with subprocess.Popen([*command, "--iterations", "1000000"], stdout=subprocess.DEVNULL, start_new_session=True) as campaign:
        try:
            machine.wait_for_batches(10)
            assert campaign.poll() is None
        finally:
            os.killpg(campaign.pid, signal.SIGKILL)
    machine.request(CLOSE, b"")
    machine.shell(UNLOAD_LOAD_RUN)


def test_killed_in_the_middle_of_a_batch(machine: Machine) -> None:
    """The process goes, VMX operation is off, the device can be opened and the module unloaded."""
    for _ in range(3):
        machine.shell("/guest stress 0 > /tmp/out & echo $! > /tmp/pid; while [ ! -s /tmp/out ]; do :; done; kill -9 $(cat /tmp/pid)")
        assert "stress runs" in machine.shell("cat /tmp/out")
        machine.shell(
            "for i in 1 2 3 4 5 6 7 8 9; do /guest stress 1 > /tmp/again && break; done; grep -q '1 of 1 batches entered' /tmp/again"
        )


def test_an_agent_killed_in_the_middle_of_a_batch(machine: Machine) -> None:
    """The agent of `--executor remote:` itself, fed with what vmfuzz sends, is killed while it works on the second of its batches or a later one."""
    machine.shell("/guest frames > /tmp/frames; rm -f /tmp/pipe; mkfifo /tmp/pipe")
    feed = "(while cat /tmp/frames; do :; done) > /tmp/pipe 2> /tmp/feed &"
    machine.shell(
        f"{feed} /guest agent < /tmp/pipe > /tmp/answers & echo $! > /tmp/pid; while [ $(stat -c %s /tmp/answers) -lt 200000 ]; do :; done"
    )
    machine.shell("kill -9 $(cat /tmp/pid)")
    machine.shell(UNLOAD_LOAD_RUN)
    machine.shell("rm /tmp/answers /tmp/frames /tmp/pipe")


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
