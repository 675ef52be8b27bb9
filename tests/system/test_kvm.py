"""KVM's nested VMX as the processor under test, on Debian's kernel in Debian's Bochs: outcomes, and whatever a candidate or a kill does to it."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from guest_executor import KvmGuestExecutor, MailboxDevice
from kvm_campaign import compare
from machine import CLOSE, KVM_ARGUMENTS, Machine, MachineError, needs

from vmfuzz.arch.controls import Entry, Exit, Pin, Secondary
from vmfuzz.arch.outcomes import Kind
from vmfuzz.cli.places import stand_in
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import entry_files, load
from vmfuzz.corpus.export import export_entry
from vmfuzz.execute import conformance
from vmfuzz.execute.engine_process import WorkerDied
from vmfuzz.execute.kmod.device import _FRAME, _MAGIC
from vmfuzz.execute.kvm.abi import kvm_constants
from vmfuzz.execute.kvm.words import text_of
from vmfuzz.execute.wire.abi import constants
from vmfuzz.model.kvm_deviations import KVM_DEVIATIONS
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities
from vmfuzz.state.vmcs import Vmcs

EXECUTED = int(os.environ.get("VMFUZZ_SYSTEM_KVM_EXECUTED", "3000"))

missing = needs("bochs")
pytestmark = [pytest.mark.skipif(missing is not None, reason=str(missing)), pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine("bochs", arguments=KVM_ARGUMENTS) as machine:
        machine.start().load_others()
        yield machine


@pytest.fixture
def guest(machine: Machine) -> Iterator[KvmGuestExecutor]:
    with KvmGuestExecutor(machine) as executor:
        yield executor


@pytest.fixture
def uncontained(machine: Machine) -> Iterator[KvmGuestExecutor]:
    with KvmGuestExecutor(machine, contain=False) as executor:
        yield executor


def between_good_ones(executor: KvmGuestExecutor, candidate: Vmcs) -> str | None:
    """Run it between known-good ones, which must enter all the same; the word for the death of its virtual machine."""
    good = executor.known_good()
    batch = VmcsBatch.of([good, candidate, good.replace(guest_rflags=0), good])
    outcomes = executor.run(batch)
    assert [Kind(int(kind)) for kind in outcomes.kind] == [Kind.EXIT, Kind.EXECUTOR_CRASHED, Kind.ENTRY_FAILURE, Kind.EXIT]
    return outcomes.message_of(1)


def test_it_is_an_executor(guest: KvmGuestExecutor) -> None:
    assert guest.name.startswith(f"kvm {guest.facts.release} on bochs-2.7 corei7_skylake_x (ept=Y unrestricted_guest=Y")
    assert guest.facts.why_not is None
    conformance.run_all(guest)


def test_kvm_names_the_check_that_failed_and_counts_its_exits(guest: KvmGuestExecutor) -> None:
    assert guest.run([guest.known_good().replace(host_cr0=0)]).kind[0] == Kind.VMFAIL_VALID
    (line,) = guest.machine_process.trace
    assert "kvm_nested_vmenter_failed" in line
    assert guest.machine_process.exits > 100
    assert guest.run([guest.known_good()]).kind[0] == Kind.EXIT
    assert guest.machine_process.trace == []


def test_outcomes_are_those_of_the_model(guest: KvmGuestExecutor) -> None:
    figures = compare(guest, EXECUTED)
    print(figures)
    assert figures.executed >= EXECUTED
    assert figures.findings.by_id == {}
    assert figures.verdicts["AGREES"] + figures.verdicts["DEVIATION"] > figures.executed * 0.9


def test_a_shadow_vmcs_is_refused_by_kvm_itself(guest: KvmGuestExecutor) -> None:
    good = guest.known_good()
    outcomes = guest.run([good, good.replace(live_shadow_vmcs=1), good])
    assert [outcomes[row].short() for row in range(3)] == ["entered, exit 52", "VMfailInvalid", "entered, exit 52"]
    assert [text_of(line) for line in guest.machine_process.trace] == ["vmcs12->hdr.shadow_vmcs"]


def test_x2apic_mode_is_that_of_the_virtual_processor(guest: KvmGuestExecutor) -> None:
    """An MSR of the x2APIC fails in either mode, by KVM's own check in x2APIC mode only; a change to xAPIC mode fails in x2APIC mode only."""
    base = Trial(guest).base("64-bit/x2apic-mode/nothing")
    assert base is not None
    address = base["vm_entry_msr_load_address"]
    found = []
    for mode, index, data in ((0, 0x808, 0), (1, 0x808, 0), (0, 0x1B, 0xFEE0_0900), (1, 0x1B, 0xFEE0_0900)):
        outcomes = guest.run([base.replace(live_x2apic_mode=mode).with_memory({address: index, address + 8: data})])
        found.append((outcomes[0].short(), [text_of(line) for line in guest.machine_process.trace]))
    own = ["vcpu->arch.apic_base & X2APIC_ENABLE && e->index >> 8 == 0x8"]
    fails = "entry failure 34 q1"
    assert found == [(fails, []), (fails, own), ("entered, exit 52", []), (fails, [])]


def test_a_failed_entry_changes_the_guest_state_area(guest: KvmGuestExecutor) -> None:
    """The processor below refuses RFLAGS; KVM saves IA32_EFER all the same, as it had made it for a guest outside IA-32e mode (docs/kvm.md)."""
    good = guest.known_good()
    entry, leave = good["vm_entry_controls"], good["vm_exit_controls"]
    fails = good.replace(guest_rflags=0, vm_entry_controls=entry & ~(1 << Entry.IA32E_MODE_GUEST) & ~(1 << Entry.LOAD_IA32_EFER))
    saves = fails.replace(vm_exit_controls=leave | 1 << Exit.SAVE_IA32_EFER)
    loads = good.replace(vm_entry_controls=entry | 1 << Entry.LOAD_IA32_EFER)
    assert [Kind(int(kind)) for kind in guest.run([fails, loads]).kind] == [Kind.ENTRY_FAILURE, Kind.EXIT]
    assert [Kind(int(kind)) for kind in guest.run([saves, loads]).kind] == [Kind.ENTRY_FAILURE, Kind.ENTRY_FAILURE]


def test_a_shutdown(uncontained: KvmGuestExecutor) -> None:
    """The exit goes where nothing is mapped."""
    assert between_good_ones(uncontained, uncontained.known_good().replace(host_rip=0x1000)) == (
        "KVM_EXIT_SHUTDOWN: triple fault or VMX abort"
    )


def test_only_the_image_may_lose_its_machine(guest: KvmGuestExecutor) -> None:
    """The flag that says so is refused, and the next request served."""
    process = guest.machine_process
    process.request["command"], process.request["flags"] = constants()["COMMAND_PROBE"], constants()["FLAG_VIRTUAL"]
    with pytest.raises(WorkerDied, match="only the bootable image may lose its machine"):
        process.call()
    assert guest.run([guest.known_good()]).kind[0] == Kind.EXIT


def test_an_internal_error(uncontained: KvmGuestExecutor) -> None:
    """The APIC-access page is where there is no memory: KVM gives up the virtual machine."""
    good = uncontained.known_good()
    controls = good["secondary_processor_based_controls"] | 1 << Secondary.VIRTUALIZE_APIC_ACCESSES
    candidate = good.replace(secondary_processor_based_controls=controls, apic_access_address=0x12_3456_7000)
    assert (between_good_ones(uncontained, candidate) or "").startswith("KVM_EXIT_INTERNAL_ERROR, suberror 1")


def test_a_hang(uncontained: KvmGuestExecutor) -> None:
    """The exit goes to CPUID in an endless loop: each leaves to KVM, since Bochs 2.7 interrupts no loop with RFLAGS.IF = 0 in a virtual machine."""
    good, place = uncontained.known_good(), 0x1E000
    candidate = good.replace(host_rip=0xFFFF_FFFF_8000_0000 + constants()["EMU_ARENA"] + place)
    candidate = candidate.with_memory({uncontained.arena.base + place: 0xFAEB_A20F_C031})
    assert between_good_ones(uncontained, candidate) == "no progress for 3 s: the virtual processor hangs"


def test_capabilities_of_an_older_processor(machine: Machine) -> None:
    profile = capabilities("corei7_sandy_bridge_2600k")
    with KvmGuestExecutor(machine, profile.name) as executor:
        assert executor.name.endswith(f" as {profile.name}")
        for key in ("pin", "primary", "secondary", "exit", "entry"):
            assert executor.capabilities().allowed_settings(key)[1] & ~profile.allowed_settings(key)[1] == 0, key
        assert "pin.process_posted_interrupts" not in executor.lacking
        assert executor.run([executor.known_good()]).kind[0] == Kind.EXIT
        assert compare(executor, 300).verdicts["AGREES"] > 250


class Recorder(MailboxDevice):
    """Keeps what is sent, as the frames that an agent reads."""

    frames = b""

    def request(self, code: int, payload: bytes) -> tuple[int, bytes]:
        type(self).frames += _FRAME.pack(_MAGIC, code, len(payload)) + payload
        return super().request(code, payload)


def test_killed_in_the_middle_of_a_family(machine: Machine) -> None:
    """The agent of `--executor remote:` itself; KVM and its module are as they were."""
    with KvmGuestExecutor(machine, connect=lambda: Recorder(machine)) as executor:
        Recorder.frames = b""
        executor._process.open()
        executor.run(VmcsBatch(executor.known_good(), {"guest_rflags": np.full(3000, 2, np.uint64)}))
    assert kvm_constants()["KVM_OPEN"] == int.from_bytes(Recorder.frames[4:8], "little")
    packed = base64.b64encode(gzip.compress(Recorder.frames)).decode()
    machine.shell(f"echo {packed} | base64 -d | gunzip > /tmp/frames; rm -f /tmp/pipe; mkfifo /tmp/pipe")
    feed = "(while cat /tmp/frames; do :; done) > /tmp/pipe 2> /tmp/feed &"
    wait = "while [ $(stat -c %s /tmp/answers) -lt 300000 ]; do sleep 0.1; done"
    machine.shell(f"{feed} /guest agent --kvm < /tmp/pipe > /tmp/answers & echo $! > /tmp/pid; {wait}; kill -9 $(cat /tmp/pid)")
    machine.shell("rm /tmp/answers /tmp/frames /tmp/pipe")
    with KvmGuestExecutor(machine) as executor:
        assert executor.run([executor.known_good()]).kind[0] == Kind.EXIT


def test_the_command_line_through_an_agent(machine: Machine) -> None:
    command = [sys.executable, Path(__file__).with_name("without_panics.py"), "run", "--executor", f"remote:{machine.agent('--kvm')}"]
    done = subprocess.run([*command, "--minimize-seconds", "0", "--json", "-n", "300"], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    summary = json.loads(done.stdout)
    assert summary["executor"].startswith("kvm 6.")


def test_the_corpus_of_kvm(machine: Machine) -> None:
    """Every record of what KVM does, run again: a case of each known deviation of it, and sequences, one of which looks for memory in vain."""
    program, place = (Path(__file__).with_name(name) for name in ("without_panics.py", "kvm_corpus"))
    command = [
        sys.executable,
        program,
        "replay",
        place,
        "--executor",
        f"remote:{machine.agent('--kvm')}",
        "--risk",
        "bold",
        "--yes",
        "--json",
    ]
    environment = {**os.environ, "VMFUZZ_SYSTEM_BELOW": f"bochs-2.7 {machine.cpu}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    entries = [load(path) for path in entry_files(place)]
    assert json.loads(done.stdout)["executed"] == len(entries)
    assert sum(entry.behind is not None for entry in entries) == 2
    recorded = {entry.verdict.removeprefix("deviation:") for entry in entries}
    assert recorded == {known.id for known in KVM_DEVIATIONS}


def test_an_exported_program_reproduces_a_deviation(machine: Machine, tmp_path: Path) -> None:
    """A linked program is larger than what one command may hold, so it goes in pieces."""
    (path,) = (Path(__file__).with_name("kvm_corpus") / "deviation.kvm-tsc-multiplier").glob("*.json")
    entry = load(path)
    source, program = tmp_path / "case.c", tmp_path / "case"
    source.write_text(export_entry(entry, stand_in(path, entry), "kvm-selftest"), encoding="utf-8")
    subprocess.run(["gcc", "-O2", "-static", "-s", "-o", program, source], check=True)
    packed = base64.b64encode(gzip.compress(program.read_bytes())).decode()
    for at in range(0, len(packed), 100_000):
        machine.shell(f"echo {packed[at : at + 100_000]} >> /tmp/packed")
    said = machine.shell(
        "base64 -d /tmp/packed | gunzip > /tmp/case; chmod +x /tmp/case; /tmp/case; echo status $?; rm /tmp/case /tmp/packed"
    )
    assert said.splitlines()[0] == "expected: VMfailValid(7)"
    assert said.splitlines()[2:] == ["here:     entered, exit 52", "status 1"]


def test_a_trap_that_an_exit_saved_does_not_reach_the_next_row(guest: KvmGuestExecutor) -> None:
    """Bochs 2.7 saves a single step as pending at an exit before the first instruction; the row behind it does not inherit that (docs/kvm.md)."""
    base = Trial(guest).base("64-bit/plain/trap-flag")
    assert base is not None
    pin = base["pin_based_controls"]
    no_timer = pin & ~(1 << Pin.ACTIVATE_VMX_PREEMPTION_TIMER)
    outcomes = guest.run(VmcsBatch(base, {"pin_based_controls": np.array([pin, no_timer, pin, pin], np.uint64)}))
    assert [outcomes[row].short() for row in range(4)] == ["entered, exit 52", "entered, exit 48", "entered, exit 52", "entered, exit 52"]


def test_other_parameters_of_the_module(machine: Machine) -> None:
    """It can be unloaded, so nothing holds it; without EPT the executor has another name, other capabilities, and works."""
    machine.request(CLOSE, b"")
    machine.unload_others()
    with pytest.raises(MachineError):
        machine.shell("[ -e /dev/kvm ]")
    machine.load_others("ept=0")
    with KvmGuestExecutor(machine) as executor:
        assert "ept=N unrestricted_guest=N" in executor.name
        assert not executor.capabilities().ept
        assert executor.run([executor.known_good()]).kind[0] == Kind.EXIT


def test_the_kernel_log_is_clean(machine: Machine) -> None:
    assert machine.trouble() == ""
