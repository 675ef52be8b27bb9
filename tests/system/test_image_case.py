"""Findings as bootable images (`vmfuzz export ID --image`): what they say in Debian's Bochs and, where there is no VMX, in QEMU."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from image_machine import ImageMachine, build_flat, last_words
from machine import TIED, needs

from vmfuzz.cli.places import stand_in
from vmfuzz.corpus.disc import bootable_disc
from vmfuzz.corpus.efi import efi_partition
from vmfuzz.corpus.entries import Entry, entry_files, load
from vmfuzz.corpus.image_case import export_image, packed_case, with_case

CORPUS = Path(__file__).parents[2] / "corpus"
#: Seconds within which a machine says something, however much else the host does.
PATIENCE = 600.0
ENDS = ("manual demands.\n", "not run:", "did not run here.\n")
CPU = "corei7_skylake_x"
OVMF = Path("/usr/share/ovmf/OVMF.fd")
#: Deviations that Debian's Bochs 2.7 has too, and what it does in their first entry: it enters, has another qualification, another first exit.
DEVIATING = {
    "bochs-vm86-real-mode": "VM entry succeeds, then exit reason 52 (VMX-preemption timer expired)",
    "bochs-nmi-sti": "VM-entry failure due to invalid guest state (exit reason 80000021H, qualification 0)",
    "bochs-pending-breakpoint": "VM entry succeeds, then exit reason 52 (VMX-preemption timer expired)",
}

missing = needs("bochs") or (None if shutil.which("make") and shutil.which("gcc") else "missing: gcc or make")
pytestmark = [pytest.mark.skipif(missing is not None, reason=str(missing)), pytest.mark.timeout(3600)]


def first_of(deviation: str) -> Path:
    return entry_files(CORPUS / f"deviation.{deviation}")[0]


def said_in_bochs(iso: Path, options: str = "") -> str:
    with ImageMachine(iso, options=options).start() as machine, socket.socket(socket.AF_UNIX) as line:
        line.connect(str(machine.line))
        return last_words(line, ENDS, PATIENCE)


def on_disc(entry: Entry, path: Path, iso: Path, efi: bytes = b"") -> Path:
    iso.write_bytes(export_image(entry, stand_in(path, entry, CPU), iso, efi=efi))
    return iso


@pytest.mark.parametrize("deviation", DEVIATING)
def test_a_deviation_shows(deviation: str, tmp_path: Path) -> None:
    path = first_of(deviation)
    entry = load(path)
    said = said_in_bochs(on_disc(entry, path, tmp_path / "case.iso"))
    assert f"case:     {entry.id}" in said
    assert f"actual:   {DEVIATING[deviation]}" in said
    assert said.endswith("This is NOT what the manual demands.\n")


def test_it_lives_with_msrs_that_fault(tmp_path: Path) -> None:
    """As KVM's do that it does not know; Debian's Bochs lets them pass unless it is told otherwise."""
    path = first_of("bochs-vm86-real-mode")
    said = said_in_bochs(on_disc(load(path), path, tmp_path / "case.iso"), ", ignore_bad_msrs=0")
    assert f"actual:   {DEVIATING['bochs-vm86-real-mode']}" in said
    assert "exception" not in said


def test_what_agrees_is_what_the_manual_demands(tmp_path: Path) -> None:
    path = entry_files(CORPUS / "basic.movss")[0]
    said = said_in_bochs(on_disc(load(path), path, tmp_path / "case.iso"))
    assert said.endswith("This is what the manual demands.\n")


def test_a_case_that_takes_the_machine_down_is_told_after_the_reset_and_not_run_again(tmp_path: Path) -> None:
    planted = f"EXTRA={Path(__file__).with_name('planted.c')} -DPLANTED_ONE_IN=1 -Wl,--wrap=vmfuzz_put_down"
    flat, boot_sector = (part.read_bytes() for part in build_flat(tmp_path / "build", planted))
    path = first_of("bochs-vm86-real-mode")
    entry = load(path)
    iso = tmp_path / "case.iso"
    iso.write_bytes(bootable_disc(boot_sector, with_case(flat, packed_case(entry, stand_in(path, entry, CPU)), entry.id)))
    said = said_in_bochs(iso)
    assert said.count(f"case:     {entry.id}") == 2
    assert said.count("actual:") == 1
    assert "actual:   the machine was reset while the case ran" in said
    assert said.endswith("This is NOT what the manual demands.\n")


#: Names of the files, and what QEMU is told to boot them.
BOOTED = {
    "BIOS": ("case.iso", ["-cdrom"]),
    "UEFI": ("case.iso", ["-bios", str(OVMF), "-cdrom"]),
    "multiboot": ("case.bin", ["-kernel"]),
}


@pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="no qemu-system-x86; tests/system/README.md says what to install")
@pytest.mark.parametrize("firmware", BOOTED)
def test_a_machine_without_vmx_says_so(firmware: str, tmp_path: Path) -> None:
    efi = efi_partition()
    if firmware == "UEFI" and (efi is None or not OVMF.exists()):
        pytest.skip("no grub-efi-amd64-bin or no ovmf; tests/system/README.md says what to install")
    path = first_of("bochs-vm86-real-mode")
    entry = load(path)
    name, options = BOOTED[firmware]
    file = on_disc(entry, path, tmp_path / name, efi or b"")
    ours, theirs = socket.socketpair()
    command = [*TIED, "qemu-system-x86_64", "-accel", "tcg", "-m", "128", "-display", "none", *options, str(file)]
    command += ["-chardev", f"socket,id=line,fd={theirs.fileno()}", "-serial", "chardev:line"]
    with ours, subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]) as qemu:
        theirs.close()
        said = last_words(ours, ENDS, PATIENCE)
        qemu.kill()
    assert "No VMX: this processor has none (CPUID.1:ECX[5] = 0)" in said
    assert "expected: VM-entry failure due to invalid guest state" in said
    assert "actual:" not in said
