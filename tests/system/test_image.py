"""The bootable image: what it says where there is no VMX, its outcomes where there is (Debian's Bochs), and how it comes back after a reset."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from guest_executor import ImageExecutor
from image_machine import ImageMachine, build_image, needs_image
from machine import TIED, needs
from planted_campaign import build_planted, run
from virtual_campaign import DIFFERS, WatchedExecutor, build_watching
from virtual_campaign import run as run_virtual

from comparison import assert_agreement, compare
from patience import until
from vmfuzz.arch.outcomes import Kind
from vmfuzz.errors import EnvironmentUnusable
from vmfuzz.execute.kinds import open_executor
from vmfuzz.execute.serial.link import Link
from vmfuzz.execute.serial.port import Port
from vmfuzz.state.batch import VmcsBatch

EXECUTED = int(os.environ.get("VMFUZZ_SYSTEM_EXECUTED", "5000"))
OVMF = Path("/usr/share/ovmf/OVMF.fd")
#: Of rows whose only value counts from 0 on, the hundredth is deadly.
PLANTED = 100
#: IA32_MCi_STATUS: valid, uncorrected, enabled, context intact. IA32_MCG_STATUS: the interrupted program may go on, a machine check is in progress.
MACHINE_CHECK, RESTARTABLE = 1 << 63 | 1 << 61 | 1 << 60 | 0x136, 5
#: A campaign of so many candidates, of which one in so many is deadly.
DEADLY_CANDIDATES, DEADLY_ONE_IN = 2000, 300
#: A campaign of so many candidates, in families of so many, where the machine may be lost.
VIRTUAL_CANDIDATES, VIRTUAL_FAMILY = 2500, 60

missing = needs("bochs") or needs_image()
pytestmark = [pytest.mark.skipif(missing is not None, reason=str(missing)), pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def iso(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_image(tmp_path_factory.mktemp("image") / "build")


@pytest.fixture(scope="module", params=["BIOS", "UEFI", "multiboot"])
def without_vmx(request: pytest.FixtureRequest, iso: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The serial line of a machine in QEMU, whose own emulated processor has no VMX."""
    if not shutil.which("qemu-system-x86_64") or (request.param == "UEFI" and not OVMF.exists()):
        pytest.skip("no qemu-system-x86 or no ovmf; tests/system/README.md says what to install")
    line = tmp_path_factory.mktemp("qemu") / "line"
    medium = {
        "BIOS": ["-cdrom", str(iso)],
        "UEFI": ["-bios", str(OVMF), "-cdrom", str(iso)],
        "multiboot": ["-kernel", str(iso.with_name("vmfuzz.bin"))],
    }
    serial = ["-serial", f"unix:{line},server=on,wait=off"]
    command = [*TIED, "qemu-system-x86_64", "-accel", "tcg", "-m", "128", "-display", "none", *serial, *medium[request.param]]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as qemu:
        until(lambda: listens(line), qemu)
        yield line
        qemu.kill()


def test_a_machine_without_vmx_says_so(without_vmx: Path) -> None:
    with pytest.raises(
        EnvironmentUnusable, match=r"offers no VMX: turn on nested virtualization .* it says: .*No VMX: this processor"
    ) as told:
        open_executor(f"serial:unix:{without_vmx}", boot_seconds=600.0)
    assert "this processor has none (CPUID.1:ECX[5] = 0)" in str(told.value)


def listens(path: Path) -> bool:
    """Whether somebody takes connections at a socket; without one, since QEMU serves one at a time and may miss the end of one that ends at once."""
    accepts = "00010000"  # the flags of a listening socket, __SO_ACCEPTCON
    rows = (row.split() for row in Path("/proc/net/unix").read_text(encoding="utf-8").splitlines())
    return any(row[3] == accepts and row[-1] == str(path) for row in rows)


@pytest.fixture
def qemu_with_monitor(iso: Path, tmp_path: Path) -> Iterator[tuple[Path, socket.socket]]:
    """A machine in QEMU: its serial line, and its monitor, which waits for a command."""
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("no qemu-system-x86; tests/system/README.md says what to install")
    line, monitor = tmp_path / "line", tmp_path / "monitor"
    sockets = [
        option for name, path in (("serial", line), ("monitor", monitor)) for option in (f"-{name}", f"unix:{path},server=on,wait=off")
    ]
    command = [
        "qemu-system-x86_64",
        "-accel",
        "tcg",
        "-m",
        "128",
        "-display",
        "none",
        *sockets,
        "-kernel",
        str(iso.with_name("vmfuzz.bin")),
    ]
    with subprocess.Popen([*TIED, *command], stdin=subprocess.DEVNULL) as qemu, socket.socket(socket.AF_UNIX) as connected:
        try:
            until(lambda: listens(line) and listens(monitor), qemu)
            connected.connect(str(monitor))
            connected.settimeout(60)
            wait_for_prompt(connected)
            yield line, connected
        finally:
            qemu.kill()


def wait_for_prompt(monitor: socket.socket) -> None:
    """Until the monitor of QEMU has done what it was told."""
    said = b""
    while not said.endswith(b"(qemu) "):
        said += monitor.recv(1 << 12)


def test_nmis_and_machine_checks_are_caught_and_survived(qemu_with_monitor: tuple[Path, socket.socket]) -> None:
    """Each is told on the line, and the image goes on answering."""
    line, monitor = qemu_with_monitor
    link = Link(Port(f"unix:{line}"), answer_seconds=600.0, boot_seconds=600.0)
    before = link.hello.boot
    nmi, machine_check = "NMI at [0-9A-F]+H:", f"machine check: bank 1, IA32_MC1_STATUS.*{MACHINE_CHECK:X}"
    told = []
    for injected, expected in (("nmi", nmi), (f"mce 0 1 {MACHINE_CHECK:#x} {RESTARTABLE:#x} 0 0", machine_check), ("nmi", nmi)):
        monitor.sendall(f"{injected}\n".encode())
        wait_for_prompt(monitor)
        told.append(expected)
        for _ in range(60):  # each takes the time in which the line is quiet
            assert link.greet().boot == before
            if re.search(".*".join(told), link.last_words):
                break
        assert re.search(".*".join(told), link.last_words), injected
    link.close()


@pytest.mark.parametrize(("cpu", "seed"), [("corei7_skylake_x", 1), ("corei7_haswell_4770", 2)])
def test_outcomes_are_those_of_the_model_and_of_the_emulated_cpu(iso: Path, cpu: str, seed: int) -> None:
    """The same comparison as for the module, whose code this is."""
    with ImageMachine(iso, cpu).start() as machine, ImageExecutor(machine) as image:
        outcome = image.run([image.known_good()])[0]
        assert (outcome.kind, outcome.number) == (Kind.EXIT, 52)
        figures = compare(image, EXECUTED, seed=seed)
        print(f"{cpu}: {figures}")
        assert_agreement(figures)
        assert "VMX is there" in image.link.last_words


def test_a_deadly_row_is_named_and_the_others_run(tmp_path: Path) -> None:
    """The machine dies of a triple fault, boots again by itself, and knows in which row; it runs what remains, also for who comes later."""
    with ImageMachine(build_planted(tmp_path / "build", PLANTED)).start() as machine:
        with ImageExecutor(machine) as image:
            batch = VmcsBatch(image.known_good(), {"guest_rip": np.arange(PLANTED + 50, dtype=np.uint64)}, count=PLANTED + 50)
            outcomes = image.run(batch)
            assert np.flatnonzero(outcomes.kind == Kind.EXECUTOR_CRASHED).tolist() == [PLANTED - 1]
            assert "reset while this candidate ran" in str(outcomes.message_of(PLANTED - 1))
            assert (np.delete(outcomes.kind, PLANTED - 1) == Kind.EXIT).all()
            assert image.link.hello.boots == 2
        with ImageExecutor(machine) as later:
            assert later.culprit(batch) == PLANTED - 1
            assert later.culprit(batch.take(np.arange(50))) is None
            assert later.link.hello.boots == 2


def test_a_campaign_with_deadly_candidates_names_each_and_ends_by_itself(tmp_path: Path) -> None:
    """As planted_campaign.py does it with 100,000 candidates."""
    with ImageMachine(build_planted(tmp_path / "build", DEADLY_ONE_IN)).start() as machine:
        result = run(machine, DEADLY_ONE_IN, DEADLY_CANDIDATES)
    print(result)
    assert result.wrong() == []
    assert result.found.named >= 2
    assert result.candidates >= DEADLY_CANDIDATES


def test_a_campaign_that_may_lose_the_machine_leaves_nothing_behind(tmp_path: Path) -> None:
    """As virtual_campaign.py does it with 100,000 candidates."""
    result = run_virtual(build_watching(tmp_path / "build"), "corei7_skylake_x", VIRTUAL_CANDIDATES, family=VIRTUAL_FAMILY)
    print(result)
    assert result.wrong() == []
    assert result.besides > VIRTUAL_CANDIDATES / 20
    assert result.verdicts["REFUSED"] < VIRTUAL_CANDIDATES / 3


def test_an_msr_that_a_row_leaves_changed_is_seen(tmp_path: Path) -> None:
    """The comparison of the test above can fail: the image leaves one behind after its second slice."""
    with ImageMachine(build_watching(tmp_path / "build", 2)).start() as machine, WatchedExecutor(machine, risk="bold") as image:
        assert not image.virtual
        outcomes = image.run([image.known_good()] * 150)
        assert np.flatnonzero(outcomes.kind == Kind.EXECUTOR_CRASHED).tolist() == [127]
        assert "host state did not come back" in str(outcomes.message_of(127))
        assert (image.differences, image.link.hello.vector, image.link.hello.boots) == (1, DIFFERS, 2)
