"""The module on other processors and kernels: each boots a machine of its own and runs a few families."""

from __future__ import annotations

import os

import pytest
from debian_kernels import kernels
from guest_executor import GuestExecutor
from machine import Machine, needs

from comparison import assert_agreement, compare

missing = needs("bochs")
pytestmark = [pytest.mark.skipif(missing is not None, reason=str(missing)), pytest.mark.timeout(3600)]
EXECUTED = int(os.environ.get("VMFUZZ_SYSTEM_EXECUTED", "2700"))
PLAIN = "nopti mitigations=off"


def check(cpu: str, arguments: str, kernel: int = 0) -> str:
    """No outcome that neither the model nor a known deviation explains, and a clean kernel log. Returns what the kernel said."""
    with Machine("bochs", cpu=cpu, arguments=arguments, kernel=kernels()[kernel]) as machine:
        machine.start()
        said = machine.shell("dmesg")
        with GuestExecutor(machine) as guest:
            figures = compare(guest, EXECUTED, seed=3, family=400)
        print(f"{cpu} {machine.shell('uname -r').strip()} {arguments}: {figures}")
        assert_agreement(figures)
        machine.shell("rmmod vmfuzz")
        assert machine.trouble() == ""
    return said


def test_an_older_processor() -> None:
    assert "isolation: enabled" not in check("corei7_haswell_4770", PLAIN)


@pytest.mark.skipif(len(kernels()) < 2, reason="one kernel is installed; linux-image-6.12-cloud-amd64 and its headers are a second")
def test_a_newer_kernel_with_indirect_branch_tracking() -> None:
    assert "Indirect Branch Tracking enabled" in check("tigerlake", "mitigations=off", -1)
