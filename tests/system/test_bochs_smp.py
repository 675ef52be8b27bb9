"""Two emulated processors, with page-table isolation: the process is held to one, and that one goes away under it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from guest_executor import GuestExecutor
from machine import Machine, needs

from comparison import assert_agreement, compare

EXECUTED = int(os.environ.get("VMFUZZ_SYSTEM_EXECUTED", "2700"))
missing = needs("bochs")
pytestmark = [pytest.mark.skipif(missing is not None, reason=str(missing)), pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine("bochs", count=2, arguments="pti=on") as machine:
        yield machine.start()


def test_both_processors_execute(machine: Machine) -> None:
    assert machine.shell("nproc").strip() == "2"
    for cpu in (0, 1):
        said = machine.shell(f"taskset -c {cpu} /guest stress 1")
        assert "1 of 1 batches entered" in said


def test_a_processor_that_goes_offline(machine: Machine) -> None:
    """The batch ends with EXDEV, nothing is left behind, and the processor serves again when it is back."""
    machine.shell("taskset -c 1 /guest stress 0 > /tmp/out & while [ ! -s /tmp/out ]; do sleep 0.01; done; grep runs /tmp/out")
    machine.shell("echo 0 > /sys/devices/system/cpu/cpu1/online")
    machine.shell("for i in 1 2 3 4 5 6 7 8 9 10; do grep -q errno /tmp/out && break; sleep 0.1; done; grep -q 'errno 18' /tmp/out")
    machine.shell("echo 1 > /sys/devices/system/cpu/cpu1/online")
    assert "1 of 1 batches entered" in machine.shell("taskset -c 1 /guest stress 1")


@pytest.mark.parametrize("cpu", [0, 1])
def test_killed_in_the_middle_of_a_batch(machine: Machine, cpu: int) -> None:
    """Afterwards the module can be unloaded, and neither processor is in VMX operation: the module would refuse to run there."""
    start = f"taskset -c {cpu} /guest stress 0 > /tmp/out & echo $! > /tmp/pid; while [ ! -s /tmp/out ]; do sleep 0.01; done; grep runs /tmp/out"
    machine.shell(f"{start}; kill -9 $(cat /tmp/pid)")
    machine.shell("for i in 1 2 3 4 5 6 7 8 9; do rmmod vmfuzz && break; sleep 0.1; done; insmod /vmfuzz.ko")
    for other in (0, 1):
        assert "1 of 1 batches entered" in machine.shell(f"taskset -c {other} /guest stress 1")


def test_a_child_on_the_other_processor(machine: Machine) -> None:
    """A file that is inherited belongs to the processor of its capture, until somebody captures on another one."""
    assert machine.shell("taskset -c 0 /guest inherit 1") == "inherit done, 0 failures\n"


@pytest.mark.parametrize("cpu", [0, 1])
def test_a_thread_that_did_not_capture(machine: Machine, cpu: int) -> None:
    """An exit brings back the thread's own IA32_FS_BASE, however many host-state fields there are: VMWRITE of the second CPU takes them all."""
    assert machine.shell(f"/guest thread {cpu}") == "thread done, 0 failures\n"


def test_threads_on_both_processors(machine: Machine) -> None:
    """The one that is not pinned is told so, or comes back; rows and requests change under the module all the time."""
    said = machine.shell("/guest race 40")
    assert said.startswith("race done")
    assert said.endswith(" 0 other\n")


def test_outcomes_with_page_table_isolation_and_a_clean_log(machine: Machine) -> None:
    assert "isolation: enabled" in machine.shell("dmesg")
    with GuestExecutor(machine) as guest:
        figures = compare(guest, EXECUTED, seed=3, family=400)
    print(figures)
    assert_agreement(figures)
    machine.shell("rmmod vmfuzz")
    assert machine.trouble() == ""
