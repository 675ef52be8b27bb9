"""The module in a real kernel without VMX (QEMU, TCG): it loads, says what is missing, takes no wrong request, and goes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from machine import Machine, needs

missing = needs("qemu")
pytestmark = [pytest.mark.skipif(missing is not None, reason=str(missing)), pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine("qemu", count=2) as machine:
        yield machine.start()


def test_the_device_is_for_root(machine: Machine) -> None:
    assert machine.shell("stat -c '%a %u %g' /dev/vmfuzz").split() == ["600", "0", "0"]


def test_misuse(machine: Machine) -> None:
    assert machine.shell("/guest misuse none") == "misuse done, 0 failures\n"


def test_it_says_that_there_is_no_vmx(machine: Machine) -> None:
    machine.shell("/guest stress 1 > /tmp/out; grep -q 'No such device' /tmp/out")
    assert "this processor has no VMX" in machine.shell("dmesg")


def test_unload_and_load_again(machine: Machine) -> None:
    for _ in range(5):
        machine.shell("rmmod vmfuzz && [ ! -e /dev/vmfuzz ] && insmod /vmfuzz.ko")


def test_a_kernel_locked_down_for_confidentiality_opens_it_to_nobody(machine: Machine) -> None:
    """Whoever has the file learns addresses of the kernel. Nothing unlocks a kernel again, so no test that opens the device comes after this one."""
    machine.shell("mount -t securityfs none /sys/kernel/security; echo integrity > /sys/kernel/security/lockdown")
    machine.shell("/guest stress 1 > /tmp/out; grep -q 'No such device' /tmp/out")
    machine.shell("echo confidentiality > /sys/kernel/security/lockdown")
    machine.shell("/guest stress 1 > /tmp/out; grep -q 'Operation not permitted' /tmp/out")
    assert "locked down" in machine.shell("dmesg | grep vmfuzz")


def test_the_kernel_log_is_clean(machine: Machine) -> None:
    assert machine.trouble() == ""
