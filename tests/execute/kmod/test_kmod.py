"""The kernel-module executor without a kernel module: requests, errors, journal, and the agent's frames."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import Kind
from vmfuzz.errors import EnvironmentUnusable, ExecutorError, SafetyStop, UsageError
from vmfuzz.execute.base import Executor, Poisons
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.execute.kinds import open_executor
from vmfuzz.execute.kmod import device as kmod_device
from vmfuzz.execute.kmod import journal as kmod_journal
from vmfuzz.execute.kmod.abi import kmod_constants
from vmfuzz.execute.kmod.device import AgentDevice, LocalDevice, cpu_vendor, error_text, why_not_open
from vmfuzz.execute.kmod.executor import KmodExecutor
from vmfuzz.execute.kmod.journal import Journal, read_journal
from vmfuzz.execute.wire.abi import constants, status_text, struct_dtype
from vmfuzz.state.batch import VmcsBatch

KMOD = Path(__file__).parents[3] / "kmod"


class FakeDevice:
    """Answers like a module on the processor of a BochsExecutor on which every row ends with error 7."""

    local = False

    def __init__(self, bochs: BochsExecutor) -> None:
        self.bochs = bochs
        self.error = 0
        self.drifts: list[int] = []
        self.runs: list[bytes] = []
        #: so many rows run before a signal, for each of the next requests
        self.signals: list[int] = []
        self.served = 0
        self.cpus = [0, 0]
        #: what becomes of a row that is poisoned
        self.canary = (Kind.ENTRY_FAILURE, 0x8000_0021)

    def request(self, code: int, payload: bytes) -> tuple[int, bytes]:
        if self.error:
            return self.error, b""
        known = kmod_constants()
        if code == known["IOC_RUN"]:
            return self._run(payload)
        name = "info" if code == known["IOC_INFO"] else "capture"
        record: Any = np.frombuffer(payload, struct_dtype(name)).copy()
        record["cpu"] = self.cpus[name == "capture"]
        if name == "info":
            self._fill_info(record)
        else:
            fields = [(FIELDS[n].encoding, v) for n, v in self.bochs.known_good().items() if n in FIELDS]
            record["field_count"] = len(fields)
            for number, (encoding, value) in enumerate(fields):
                record["fields"][0][number] = (encoding, value)
        return 0, record.tobytes()

    def _fill_info(self, record: Any) -> None:
        capabilities = self.bochs.capabilities()
        msrs = {**capabilities.msrs, 0xC0000080: 0xD01}
        record["engine_abi"], record["msr_count"], record["cpuid_count"] = kmod_constants()["ABI"], len(msrs), len(capabilities.cpuid)
        record["arena_pa"], record["arena_bytes"] = self.bochs.arena.base, self.bochs.arena.size
        for number, item in enumerate(msrs.items()):
            record["msrs"][0][number] = item
        for number, (leaf, registers) in enumerate(capabilities.cpuid.items()):
            record["cpuid"][0][number] = (*leaf, *registers)

    def _run(self, payload: bytes) -> tuple[int, bytes]:
        self.runs.append(payload)
        head: Any = np.frombuffer(payload, struct_dtype("run"), 1).copy()
        head["status"] = kmod_constants()["STATUS_DONE"]
        head["drift_count"] = len(self.drifts)
        head["drift"][0][: len(self.drifts)] = self.drifts
        results = np.zeros(int(head["row_count"][0]), struct_dtype("result"))
        head["rows_done"] = self.signals.pop(0) if self.signals else len(results)
        ran = int(head["rows_done"][0])
        results["kind"][:ran], results["number"][:ran] = Kind.VMFAIL_VALID, 7
        if not head["flags"][0] & kmod_constants()["FLAG_POISON"] and _is_canary(payload):
            results["kind"], results["exit_reason"] = self.canary
            return 0, head.tobytes() + results.tobytes() + bytes(8)
        results["qualification"][:ran] = np.arange(self.served, self.served + ran)
        self.served += ran
        return errno.EINTR if ran < len(results) else 0, head.tobytes() + results.tobytes() + bytes(8)

    def close(self) -> None:
        pass


def _is_canary(payload: bytes) -> bool:
    """One row, whose one column is guest RFLAGS with bit 1 clear, at the end of the request."""
    head = np.frombuffer(payload, struct_dtype("run"), 1)[0]
    at = len(payload) - int(head["row_bytes"]) - 8
    return (int(head["row_count"]), int(head["field_columns"]), payload[at : at + 8], payload[-8:]) == (
        1,
        1,
        (0x6820).to_bytes(8, "little"),
        bytes(8),
    )


@pytest.fixture
def device(bochs: BochsExecutor) -> FakeDevice:
    return FakeDevice(bochs)


def test_it_is_an_executor(device: FakeDevice, bochs: BochsExecutor) -> None:
    executor = KmodExecutor(device)
    assert isinstance(executor, Executor)
    assert executor.name.startswith("kmod GenuineIntel 6-85-")
    assert executor.capabilities() == bochs.capabilities()
    assert executor.known_good()["guest_rip"] == bochs.known_good()["guest_rip"]
    outcomes = executor.run([executor.known_good(), executor.known_good().replace(guest_rip=5)])
    assert [str(outcome)[:14] for outcome in outcomes] == ["VMfailValid(7)"] * 2


def test_after_a_signal_the_rest_runs(device: FakeDevice) -> None:
    """No row twice, however often a signal comes: a timer's comes again before a long request is through."""
    with KmodExecutor(device) as executor:
        known = executor.known_good()
        device.signals = [0, 3, 0, 5, 1]
        outcomes = executor.run([known.replace(guest_rip=number) for number in range(12)])
    assert outcomes.qualification.tolist() == list(range(12))
    assert set(outcomes.kind) == {Kind.VMFAIL_VALID}
    counts = [int(np.frombuffer(run, struct_dtype("run"), 1)["row_count"][0]) for run in device.runs]
    assert counts == [12, 12, 9, 9, 4, 3]
    assert device.runs[-1].endswith(device.runs[0][-3 * (struct_dtype("result").itemsize + 8) :])


def test_poison_needs_a_processor_that_refuses_the_canary(device: FakeDevice) -> None:
    """The canary is the captured VMCS and one row; every request after it has the flag."""
    with KmodExecutor(device, poison=True) as executor:
        assert isinstance(executor, Poisons)
        (sent,) = device.runs
        assert _is_canary(sent)
        executor.run([executor.known_good()])
        asleep = VmcsBatch.of([executor.known_good().replace(guest_activity_state=2)])
        assert [state["guest_rflags"] for state in executor.with_twins(asleep)] == [0]
    flags = [int(np.frombuffer(run, struct_dtype("run"), 1)["flags"][0]) for run in device.runs]
    assert flags == [0, kmod_constants()["FLAG_POISON"]]
    with KmodExecutor(device) as plain:
        assert plain.with_twins(asleep) is asleep
    device.canary = (Kind.EXIT, 52)
    with pytest.raises(SafetyStop, match="does not refuse guest RFLAGS bit 1 = 0"):
        KmodExecutor(device, poison=True)


def test_facts_of_two_cpus(device: FakeDevice) -> None:
    device.cpus = [1, 3]
    with pytest.raises(ExecutorError, match="of CPU 1, the captured VMCS of CPU 3; bind"):
        KmodExecutor(device)


def test_fields_that_do_not_keep_what_is_written_are_named(device: FakeDevice, bochs: BochsExecutor) -> None:
    with KmodExecutor(device) as executor:
        assert executor.not_kept(bochs.known_good()) == []
        device.drifts = [FIELDS["guest_rsp"].encoding]
        assert executor.not_kept(bochs.known_good()) == ["guest_rsp"]
        device.drifts = []
        assert executor.not_kept(bochs.known_good()) == []


def test_closed(device: FakeDevice) -> None:
    executor = KmodExecutor(device)
    executor.close()
    with pytest.raises(ExecutorError, match="is closed"):
        executor.run([executor.known_good()])


def test_a_processor_with_one_wall_is_nothing_for_safe() -> None:
    """No VMX-preemption timer and no EPT: what `safe` promises cannot be had, and the error says what can."""
    with BochsExecutor("core2_penryn_t9600") as penryn:
        with pytest.raises(EnvironmentUnusable, match=r"even the VMCS captured .* is refused: risk level safe needs .*--risk bold"):
            KmodExecutor(FakeDevice(penryn))
        with KmodExecutor(FakeDevice(penryn), risk="bold") as executor:
            assert executor.run([executor.known_good()]).kind[0] == Kind.VMFAIL_VALID


def test_an_unknown_risk() -> None:
    with pytest.raises(UsageError, match="expected safe or bold"):
        KmodExecutor(risk="reckless")


def test_an_error_of_the_module_becomes_a_sentence(device: FakeDevice) -> None:
    executor = KmodExecutor(device)
    device.error = errno.EADDRINUSE
    with pytest.raises(ExecutorError, match="modprobe -r kvm_intel"):
        executor.run([executor.known_good()])


@pytest.mark.parametrize("name", ["IOC_INFO", "IOC_CAPTURE", "IOC_RUN"])
def test_a_request_means_nothing_to_a_terminal(name: str) -> None:
    """Numbers 5600H to 560FH are those of virtual terminals (linux/vt.h): a capture would be VT_SETMODE there."""
    assert kmod_constants()[name] not in range(0x5600, 0x5610)


@pytest.mark.parametrize("name", ["ENODEV", "EACCES", "EADDRINUSE", "EPROTONOSUPPORT", "EXDEV", "EIO", "EINVAL", "ENOTTY"])
def test_each_errno_of_the_interface_has_its_text(name: str) -> None:
    assert len(error_text(getattr(errno, name))) > 30
    assert name in (KMOD / "vmfuzz_uapi.h").read_text()


def test_an_errno_without_a_text_of_its_own_is_told_by_words_and_number() -> None:
    assert error_text(errno.ENOSPC) == f"the request failed: {os.strerror(errno.ENOSPC)} (errno {errno.ENOSPC}); see the kernel log"
    assert "(errno 4000)" in error_text(4000)


def test_the_vendor_is_what_the_kernel_says(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nvendor_id\t: HygonGenuine\n", encoding="utf-8")
    assert cpu_vendor(tmp_path / "cpuinfo") == "HygonGenuine"
    assert cpu_vendor(tmp_path / "none") == ""


def test_why_the_device_does_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, installed = tmp_path / "kmod", tmp_path / "modules"
    monkeypatch.setattr(kmod_device, "cpu_has_vmx", lambda: True)
    monkeypatch.setattr(kmod_device, "_SOURCE", source)
    monkeypatch.setattr(kmod_device, "_INSTALLED", installed)
    monkeypatch.setattr(kmod_device, "cpu_vendor", lambda: "GenuineIntel")
    assert "the module is not built" in why_not_open(FileNotFoundError())
    assert "`make -C kmod`" in why_not_open(FileNotFoundError())
    source.mkdir()
    (source / "vmfuzz.ko").touch()
    assert f"`insmod {source}/vmfuzz.ko`" in why_not_open(FileNotFoundError())
    (installed / "updates/dkms").mkdir(parents=True)
    (installed / "updates/dkms/vmfuzz.ko.xz").touch()
    assert "`modprobe vmfuzz`" in why_not_open(FileNotFoundError())
    monkeypatch.setattr(kmod_device, "cpu_has_vmx", lambda: False)
    monkeypatch.setattr(kmod_device, "cpu_vendor", lambda: "GenuineIntel")
    assert "no VMX" in why_not_open(FileNotFoundError())
    for vendor in ("AuthenticAMD", "HygonGenuine"):
        monkeypatch.setattr(kmod_device, "cpu_vendor", lambda vendor=vendor: vendor)
        said = why_not_open(FileNotFoundError())
        assert said.startswith(f"this processor ({vendor}) has SVM instead of VMX")
        assert "BIOS" not in said, "no setting of the firmware helps"
        assert "use --executor bochs" in said
        assert "remote:ssh" in said
    assert "CAP_SYS_ADMIN" in why_not_open(PermissionError())
    assert "one program at a time" in why_not_open(OSError(errno.EBUSY, "busy"))


def test_the_process_is_bound_to_its_last_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[set[int]] = []
    (tmp_path / "vmfuzz").touch()
    monkeypatch.setattr(kmod_device, "DEVICE", tmp_path / "vmfuzz")
    monkeypatch.setattr(kmod_device.os, "sched_getaffinity", lambda _: {0, 2, 5})
    monkeypatch.setattr(kmod_device.os, "sched_setaffinity", lambda _, cpus: bound.append(set(cpus)))
    LocalDevice().close()
    LocalDevice(2).close()
    assert bound == [{5}, {0, 2, 5}, {2}, {0, 2, 5}]


def test_a_missing_device_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmod_device, "DEVICE", tmp_path / "vmfuzz")
    with pytest.raises(EnvironmentUnusable, match=r"^kmod: "):
        open_executor("kmod", journal=tmp_path / "journal")
    with pytest.raises(UsageError, match=r"^--cpu tigerlake: .*leave out --cpu$"):
        open_executor("kmod", cpu="tigerlake")
    with pytest.raises(UsageError, match="expected the command"):
        open_executor("remote:")


def test_a_journal_of_an_earlier_boot_names_the_culprits(device: FakeDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state" / "journal"
    executor = KmodExecutor(device)
    executor.run([executor.known_good(), executor.known_good().replace(guest_rip=5)])
    monkeypatch.setattr(kmod_journal, "_boot", lambda: b"before")
    Journal(path).write(device.runs[-1])
    monkeypatch.setattr(kmod_journal, "_boot", lambda: b"after")
    with pytest.raises(SafetyStop, match="the machine went down"):
        Journal(path)
    base, rows = read_journal(path)
    assert base["guest_cr0"] == executor.known_good()["guest_cr0"]
    assert [row["guest_rip"] for row in rows] == [executor.known_good()["guest_rip"], 5]


def test_a_journal_of_this_boot_is_no_accident(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal(path).write(b"killed")
    Journal(path).close()
    with pytest.raises(UsageError, match="empty"):
        read_journal(path)


def test_the_name_of_a_new_journal_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(kmod_journal.os, "fsync", lambda file: synced.append(str(Path(f"/proc/self/fd/{file}").readlink())))
    Journal(tmp_path / "journal")
    assert str(tmp_path) in synced


def test_a_journal_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentUnusable, match="XDG_STATE_HOME"):
        Journal(tmp_path / "file/journal")
    journal = Journal(tmp_path / "journal")
    monkeypatch.setattr(kmod_journal.os, "pwrite", lambda *_: 5)
    with pytest.raises(ExecutorError, match="the disk is full; the batch did not run"):
        journal.write(b"0123456789")


def test_agents_that_are_none() -> None:
    with pytest.raises(ExecutorError, match="ended with status 1 before it answered"):
        open_executor("remote:false")
    with pytest.raises(
        ExecutorError, match=r"said 'x\\n' and ended with status 0, which is not an answer of vmfuzz-agent; expected a command"
    ):
        open_executor("remote:sh -c 'cat >/dev/null & echo x'")
    with pytest.raises(ExecutorError, match=r"answered 'a greeting of mo', which is not an answer of vmfuzz-agent"):
        open_executor("remote:sh -c 'echo a greeting of more than sixteen characters; cat'")
    with pytest.raises(EnvironmentUnusable, match="cannot start the agent"):
        open_executor("remote:/nonexistent/agent")
    with pytest.raises(UsageError, match="quote the command as for a shell"):
        open_executor('remote:ssh "root')


def test_an_agent_that_owes_an_answer_is_not_waited_for(tmp_path: Path) -> None:
    """Ctrl-C while another machine is silent: nothing is left behind, and nothing waits for what does not come."""
    silent = f"import os, sys, signal; sys.stdin.buffer.read(1); os.kill({os.getpid()}, signal.SIGINT); signal.pause()"
    agent = AgentDevice([sys.executable, "-c", silent])
    with pytest.raises(KeyboardInterrupt):
        agent.request(0, b"")
    agent.close()
    assert agent._process.returncode == -signal.SIGKILL


def test_each_status_of_the_engine_is_a_sentence() -> None:
    named = [value for name, value in constants().items() if name.startswith("STATUS_")]
    own = {constants()[f"STATUS_{name}"] for name in ("DONE", "BASE_FAILED", "BASE_NOT_LAUNCHED")}  # these are told where they are met
    for status in [*(set(named) - own), 99]:
        said = status_text(status, 0x25)
        assert f"({status}): " in said
        assert ";" in said, "what to do"
    assert "IA32_FEATURE_CONTROL (25H)" in status_text(constants()["STATUS_NO_VMX"], 0x25)


def test_the_agent_answers_without_a_device(tmp_path: Path) -> None:
    if not shutil.which("gcc") or Path("/dev/vmfuzz").exists():
        pytest.skip("no gcc, or there is a device")
    agent = tmp_path / "vmfuzz-agent"
    kvm = KMOD.parent / "src/vmfuzz/execute/kvm"
    sources = (KMOD / "agent.c", KMOD / "requests.c", kvm / "machine.c", kvm / "words.c")
    subprocess.run(["gcc", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{KMOD}", f"-I{kvm}", "-o", agent, *sources], check=True)
    with pytest.raises(ExecutorError, match="load the module"):
        open_executor(f"remote:{agent}")
    with pytest.raises(EnvironmentUnusable, match=r"the agent .* ended"):
        open_executor("remote:true")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--risk", "bold"], "does not put a machine at risk"),
        (["--poison"], "--poison: auto does not put a machine at risk"),
        (["--executor", "kmod", "--poison"], "--poison: the machine may hang or reset"),
        (["--risk", "bold", "--executor", "kmod"], "add --yes"),
        (["--risk", "bold", "--executor", "kmod", "--yes", "--jobs", "2"], "leave out --jobs"),
    ],
)
def test_bold_has_to_be_meant(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("vmfuzz"), "run", *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("text", "revision"),
    [("model name\t: x\nmicrocode\t: 0x2006a05\n", 0x2006A05), ("model name\t: x\n", None), ("microcode\t: unknown\n", None)],
)
def test_the_microcode_revision_is_what_the_kernel_says(tmp_path: Path, text: str, revision: int | None) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert kmod_device.microcode_revision(tmp_path / "cpuinfo") == revision
    assert kmod_device.microcode_revision(tmp_path / "missing") is None
