"""vmfuzz itself inside the machine, on the real /dev/vmfuzz: what it says in every state of module and processor, and a campaign that is killed.

An emulated processor takes minutes to import Python's modules, so these run only with VMFUZZ_SYSTEM_FULL=1 (`make test-system-full`).
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import Machine, needs
from python_root import Vmfuzz, build_root

missing = needs("qemu") or needs("bochs") or (None if os.environ.get("VMFUZZ_SYSTEM_FULL") else "minutes long: VMFUZZ_SYSTEM_FULL=1")
pytestmark = [pytest.mark.skipif(missing is not None, reason=str(missing)), pytest.mark.timeout(7200)]
NOBODY = 65534
RUN = ("run", "--executor", "kmod", "--minimize-seconds", "0")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_root(tmp_path_factory.mktemp("root"))


def booted(emulator: str, root: Path, arguments: str = "nopti mitigations=off") -> Iterator[Vmfuzz]:
    """A machine with a root file system of its own: two must not write to one."""
    with tempfile.TemporaryDirectory(prefix="vmfuzz-root-") as folder:
        disk = Path(folder, root.name)
        subprocess.run(["cp", "--sparse=always", root, disk], check=True)
        with Machine(emulator, second_disk=disk, arguments=arguments) as machine:
            yield Vmfuzz(machine.start())


@pytest.fixture(scope="module")
def without_vmx(root: Path) -> Iterator[Vmfuzz]:
    yield from booted("qemu", root)


@pytest.fixture(scope="module")
def with_vmx(root: Path) -> Iterator[Vmfuzz]:
    yield from booted("bochs", root)


@pytest.fixture(scope="module")
def disabled_by_firmware(root: Path) -> Iterator[Vmfuzz]:
    """Linux locks IA32_FEATURE_CONTROL without VMX where it was told not to look for VMX; the processor and the module see what firmware would do."""
    yield from booted("bochs", root, "nopti mitigations=off clearcpuid=vmx")


def one_sentence(said: tuple[int, str], expected: str) -> None:
    """The command ends with exit code 3 and a sentence that says `expected`, and no traceback."""
    status, text = said
    assert status == 3, text
    assert expected in " ".join(text.split())
    assert "Traceback" not in text


def both_say(vmfuzz: Vmfuzz, expected: str, user: int = 0) -> None:
    """`vmfuzz run` ends with the sentence, and `vmfuzz doctor` says the same of kmod.

    What it says of the emulated CPU is left open: that is given up after 3 seconds without progress, which a machine that is emulated itself
    may need.
    """
    one_sentence(vmfuzz.run(*RUN, user=user), expected)
    status, text = vmfuzz.run("doctor", user=user)
    assert status in (0, 3), text
    assert expected in " ".join(text.split()).partition("not usable kmod:")[2], text


def test_no_vmx(without_vmx: Vmfuzz) -> None:
    both_say(without_vmx, "the processor has no VMX, or a hypervisor hides it")


def test_no_permission(without_vmx: Vmfuzz) -> None:
    both_say(without_vmx, "permission denied; only root (CAP_SYS_ADMIN)", NOBODY)


def test_in_use(without_vmx: Vmfuzz) -> None:
    without_vmx.machine.shell("sleep 1000 3<>/dev/vmfuzz & echo $! > /tmp/pid; sleep 1")
    both_say(without_vmx, "is in use: it serves one program at a time; `fuser /dev/vmfuzz` names the other program")
    without_vmx.machine.shell("kill $(cat /tmp/pid)")
    assert "the device is open already" in without_vmx.machine.shell("dmesg")


def test_not_loaded_and_no_vmx(without_vmx: Vmfuzz) -> None:
    without_vmx.machine.shell("rmmod vmfuzz")
    both_say(without_vmx, "this processor has no VMX")
    both_say(without_vmx, "this processor has no VMX", NOBODY)
    assert without_vmx.machine.trouble() == ""


def test_disabled_by_firmware(disabled_by_firmware: Vmfuzz) -> None:
    """With the module loaded and without it; VMX is not among the flags in /proc/cpuinfo then."""
    both_say(disabled_by_firmware, "the firmware disabled VMX")
    machine = disabled_by_firmware.machine
    assert "vmfuzz: the firmware does not allow VMX" in machine.shell("dmesg")
    machine.shell("rmmod vmfuzz")
    both_say(disabled_by_firmware, "the firmware disabled it")
    machine.shell("insmod /vmfuzz.ko")
    assert machine.trouble() == ""


def test_the_doctor_finds_all_well(with_vmx: Vmfuzz) -> None:
    status, text = with_vmx.run("doctor")
    assert status == 0
    assert "works kmod: /dev/vmfuzz is ready" in " ".join(text.split())


def test_a_campaign(with_vmx: Vmfuzz) -> None:
    status, text = with_vmx.run(*RUN, "--iterations", "300", "--json")
    assert status in (0, 1), text
    summary = json.loads(text)
    print(summary)
    assert summary["executor"].startswith("kmod GenuineIntel")


def test_a_campaign_killed_in_the_middle(with_vmx: Vmfuzz) -> None:
    """VMX is off and the module unloadable; its journal is no accident, since the machine did not go down."""
    pid = with_vmx.start(*RUN, "--iterations", "1000000")
    with_vmx.machine.shell(f"while ! ls -l /proc/{pid}/fd | grep -q vmfuzz; do sleep 0.1; done; sleep 3", 1800)
    assert with_vmx.kill(pid) == 9
    with_vmx.machine.shell("rmmod vmfuzz && insmod /vmfuzz.ko && /guest stress 1 | grep '1 of 1'")
    assert with_vmx.run(*RUN, "--iterations", "10")[0] in (0, 1)


def test_kvm_in_use(with_vmx: Vmfuzz) -> None:
    with_vmx.machine.shell("for module in $(cat /others.order); do insmod /$module; done")
    with_vmx.machine.shell("/guest kvm > /tmp/kvm & echo $! > /tmp/pid; while [ ! -s /tmp/kvm ]; do :; done; grep runs /tmp/kvm")
    both_say(with_vmx, "another program is in VMX operation on this CPU, most likely KVM")
    with_vmx.machine.shell("kill -9 $(cat /tmp/pid)")


def test_not_loaded(with_vmx: Vmfuzz) -> None:
    with_vmx.machine.shell("while ! rmmod vmfuzz; do sleep 0.1; done")
    both_say(with_vmx, "/dev/vmfuzz does not exist: the module is not built")
    one_sentence(with_vmx.run(*RUN, user=NOBODY), "/dev/vmfuzz does not exist: the module is not built")
    with_vmx.machine.shell("insmod /vmfuzz.ko")
    assert with_vmx.machine.trouble() == ""
