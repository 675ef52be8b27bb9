"""The executor on KVM: what can be tested of it without nested VMX. tests/system/test_kvm.py has the rest, on a kernel in an emulated machine."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from vmfuzz.arch.outcomes import Kind
from vmfuzz.errors import EnvironmentUnusable, ExecutorError, SafetyStop, UnknownNameError, UsageError
from vmfuzz.execute import availability
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.execute.engine_process import WorkerDied
from vmfuzz.execute.kinds import cpu_option, open_executor
from vmfuzz.execute.kmod.device import AgentDevice, DeviceLost
from vmfuzz.execute.kvm.abi import kvm_constants, kvm_dtype
from vmfuzz.execute.kvm.containment import LONG_LIST, NO_MEMORY
from vmfuzz.execute.kvm.executor import SURVIVED, KvmExecutor
from vmfuzz.execute.kvm.facts import Facts
from vmfuzz.execute.kvm.narrowing import narrowed
from vmfuzz.execute.kvm.opening import nested_kvm
from vmfuzz.execute.kvm.process import KvmProcess
from vmfuzz.execute.kvm.words import warning_of
from vmfuzz.execute.wire.abi import constants, native_file, struct_dtype
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities
from vmfuzz.state.vmcs import Vmcs

GOOD = {
    "release": "6.1.0",
    "processor": "GenuineIntel 6-85-4",
    "vmx": "1",
    "open": "0",
    "kvm_intel": "1",
    "kvm_amd": "0",
    "panic_on_warn": "0",
    "kvm_intel.nested": "Y",
    "kvm_intel.ept": "Y",
    "kvm_intel.ple_gap": "128",
}


def lines(**changes: str) -> bytes:
    found = {**GOOD, **{name.replace("__", "."): value for name, value in changes.items()}}
    return "".join(f"{name}={value}\n" for name, value in found.items()).encode()


class FakeAgent:
    """An agent whose virtual machines are those of a BochsExecutor's worker: the same engine in the same memory.

    `dies_at`: a column of guest_rflags with this value costs the virtual machine; `lost_at`: with this one, the agent.
    """

    local = False

    def __init__(self, bochs: BochsExecutor, facts: bytes = lines()) -> None:
        self.bochs, self.facts = bochs, facts
        self.dies_at = self.lost_at = -1
        self.log = b""
        self.requests: list[int] = []
        self.opened = 0
        self.closed = False

    def request(self, code: int, payload: bytes) -> tuple[int, bytes]:
        self.requests.append(code)
        if code == kvm_constants()["KVM_FACTS"]:
            return 0, self.facts
        if code == kvm_constants()["KVM_OPEN"]:
            self.opened += 1
            return 0, b""
        return 0, self._run(payload)

    def _run(self, payload: bytes) -> bytes:
        head = np.frombuffer(payload, kvm_dtype("run"), 1)[0]
        parts = [(int(part["offset"]), int(part["bytes"])) for part in head["part"][: int(head["in"]) + int(head["out"])]]
        process, at = self.bochs._process, head.nbytes
        for offset, length in parts[: int(head["in"])]:
            process.memory[offset : offset + length] = payload[at : at + length]
            at += length
        process.call()
        answer = np.zeros(1, kvm_dtype("ran"))
        fatal = b""
        for row, value in enumerate(self._column()):
            if value == self.lost_at:
                raise DeviceLost("the agent ended")
            if value == self.dies_at:
                answer["died"], fatal = 1, b"KVM_EXIT_SHUTDOWN: triple fault or VMX abort"
                process.request["current_row"] = row
                break
        answer["log"] = self.log
        answer["trace"], answer["exits"] = b"a 1.0: kvm_nested_vmenter_failed: x\n", 7
        process.view("EMU_MESSAGES", struct_dtype("messages"), 1)["fatal"] = fatal
        return answer.tobytes() + b"".join(process.memory[offset : offset + length] for offset, length in parts[int(head["in"]) :])

    def _column(self) -> list[int]:
        """The values of guest_rflags in the rows of the present request."""
        request = self.bochs._process.request
        if int(request["command"]) != constants()["COMMAND_RUN"]:
            return []
        targets = [int(pair["target"]) for pair in request["columns"][: int(request["field_columns"])]]
        stride, count = int(request["row_bytes"]), int(request["row_count"])
        # KVM has no messages: the emulator's are taken away
        rows = self.bochs._process.view("EMU_ROWS", np.uint8, stride * count).reshape(count, stride)
        rows[:, 1:4] = 0
        if 0x6820 not in targets:
            return []
        at = stride - 8 * len(targets) + 8 * targets.index(0x6820)
        return [int(value) for value in np.ascontiguousarray(rows[:, at : at + 8]).view(np.uint64)[:, 0]]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def agent(bochs: BochsExecutor) -> FakeAgent:
    return FakeAgent(bochs)


@pytest.fixture
def executor(agent: FakeAgent) -> Iterator[KvmExecutor]:
    with KvmExecutor(connect=lambda: agent) as opened:
        yield opened


def rflags(executor: KvmExecutor, values: list[int]) -> VmcsBatch:
    return VmcsBatch(executor.known_good(), {"guest_rflags": np.array(values, np.uint64)})


def test_it_is_an_executor(executor: KvmExecutor, bochs: BochsExecutor) -> None:
    assert executor.name == "kvm 6.1.0 on GenuineIntel 6-85-4 (ept=Y)"
    assert executor.capabilities().name == "GenuineIntel 6-85-4"
    batch = rflags(executor, [2, 0, 2, 0x22])
    assert list(executor.run(batch).kind) == list(bochs.run(batch).kind)
    assert executor._process.exits == 7
    assert executor._process.trace == ["a 1.0: kvm_nested_vmenter_failed: x"]


def test_a_candidate_that_costs_the_virtual_machine_costs_nothing_else(executor: KvmExecutor, agent: FakeAgent) -> None:
    agent.dies_at = 0x22
    outcomes = executor.run(rflags(executor, [2, 0, 0x22, 0, 2]))
    assert [Kind(int(kind)) for kind in outcomes.kind] == [
        Kind.EXIT,
        Kind.ENTRY_FAILURE,
        Kind.EXECUTOR_CRASHED,
        Kind.ENTRY_FAILURE,
        Kind.EXIT,
    ]
    assert outcomes.message_of(2) == "KVM_EXIT_SHUTDOWN: triple fault or VMX abort"
    assert agent.opened == 1


def test_a_warning_of_the_kernel_is_part_of_the_finding(executor: KvmExecutor, agent: FakeAgent) -> None:
    agent.dies_at = 0x22
    agent.log = b"WARNING: CPU: 0 PID: 98 at arch/x86/kvm/vmx/nested.c:4792 nested_vmx_vmexit+0xd27/0x1880 [kvm_intel]\n"
    outcomes = executor.run(rflags(executor, [0x22]))
    warning = "WARNING at arch/x86/kvm/vmx/nested.c:4792 nested_vmx_vmexit"
    assert outcomes.message_of(0) == f"KVM_EXIT_SHUTDOWN: triple fault or VMX abort; the kernel's log: {warning}"
    agent.dies_at = -1
    executor.run(rflags(executor, [2]))
    assert executor.warnings == [warning, warning]
    assert warning_of("kvm: lost page 0xffff8880123 of 7") == "kvm: lost page ... of 7"


def test_a_candidate_that_costs_the_agent_is_found(executor: KvmExecutor, agent: FakeAgent) -> None:
    """Nobody knows the row then: halves are run again, each with an agent of its own."""
    agent.lost_at = 0x22
    outcomes = executor.run(rflags(executor, [2] * 5 + [0x22] + [0] * 3))
    assert [Kind(int(kind)) for kind in outcomes.kind] == [Kind.EXIT] * 5 + [Kind.EXECUTOR_CRASHED] + [Kind.ENTRY_FAILURE] * 3
    assert agent.opened > 2


def test_an_agent_that_is_always_lost_ends_the_run(executor: KvmExecutor, agent: FakeAgent) -> None:
    agent.lost_at = 2
    with pytest.raises(ExecutorError, match="the agent ended"):
        executor.run(rflags(executor, [2] * 60))


def test_a_profile_narrows_what_the_processor_has(bochs: BochsExecutor) -> None:
    agents = []

    def connect() -> FakeAgent:
        agents.append(FakeAgent(bochs))
        return agents[-1]

    with KvmExecutor("corei7_sandy_bridge_2600k", connect=connect) as executor:
        assert executor.name.endswith(" as corei7_sandy_bridge_2600k")
        assert executor.capabilities().name == "GenuineIntel 6-85-4 as corei7_sandy_bridge_2600k"
        assert cpu_option("kvm", executor.capabilities().name) == "corei7_sandy_bridge_2600k"
        assert agents[0].opened == 2
    with pytest.raises(UnknownNameError):
        KvmExecutor("pentium", connect=connect)


def test_the_narrowed_are_a_subset_of_both() -> None:
    own, other = capabilities("corei7_haswell_4770"), capabilities("tigerlake")
    msrs, lacks = narrowed(own, other)
    for number in (0x48D, 0x48E, 0x48F, 0x490, 0x48B):
        high = msrs[number] >> 32
        assert high == (own.msr(number) >> 32) & (other.msr(number) >> 32)
        assert own.msr(number) & 0xFFFF_FFFF & ~msrs[number] == 0, "what KVM wants to be 1 stays so"
    assert msrs[0x48C] == own.msr(0x48C) & other.msr(0x48C)
    assert "secondary.enable_xsaves_xrstors" in lacks
    assert narrowed(own, own)[1] == []
    assert narrowed(other, own)[1] == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"open": str(errno.ENOENT), "vmx": "0"}, "/dev/kvm does not exist: this processor has no VMX"),
        ({"open": str(errno.ENOENT)}, "modprobe kvm_intel nested=1"),
        ({"open": str(errno.EACCES)}, "usermod -aG kvm"),
        ({"open": str(errno.EBUSY)}, "/dev/kvm: Device or resource busy"),
        (
            {"kvm_intel": "0", "processor": "AuthenticAMD 25-17-1"},
            "(AuthenticAMD 25-17-1) has SVM instead of VMX, so KVM has no nested VMX; use",
        ),
        ({"kvm_intel": "0", "processor": "HygonGenuine 24-1-1"}, "(HygonGenuine 24-1-1) has SVM instead of VMX"),
        (
            {"kvm_intel": "0", "processor": "CentaurHauls 7-11-0"},
            "(CentaurHauls 7-11-0) has no VMX, so KVM has no nested VMX; use --executor bochs",
        ),
        ({"open": str(errno.ENOENT), "vmx": "0", "processor": "AuthenticAMD 25-17-1"}, "(AuthenticAMD 25-17-1) has SVM instead of VMX"),
        ({"kvm_intel__nested": "N"}, "nested VMX is off"),
        ({"kvm_intel__nested": "0"}, "modprobe kvm_intel nested=1"),
    ],
)
def test_what_is_missing_is_told(bochs: BochsExecutor, changes: dict[str, str], expected: str) -> None:
    agent = FakeAgent(bochs, lines(**changes))
    with pytest.raises(EnvironmentUnusable) as raised:
        KvmExecutor(connect=lambda: agent)
    assert expected in str(raised.value)
    assert agent.closed
    assert agent.opened == 0


def test_a_kernel_that_a_warning_ends_is_not_put_at_risk(bochs: BochsExecutor) -> None:
    agent = FakeAgent(bochs, lines(panic_on_warn="1"))
    with pytest.raises(SafetyStop, match="panic_on_warn"):
        KvmExecutor(connect=lambda: agent)
    with KvmExecutor(connect=lambda: agent, risk_panic=True) as executor:
        assert executor.run([executor.known_good()]).kind[0] == Kind.EXIT


def test_facts_of_an_old_kernel() -> None:
    facts = Facts.parse(b"release=4.9\nopen=13\nno line\n")
    assert (facts.release, facts.opened, facts.settings) == ("4.9", 13, "")


@pytest.mark.parametrize(("value", "told"), [("Y", "ept=Y ignore_msrs=Y"), ("1", "ept=Y ignore_msrs=Y"), ("N", "ept=Y"), ("", "ept=Y")])
def test_ignored_msrs_are_part_of_the_name_where_they_are_ignored(value: str, told: str) -> None:
    assert Facts.parse(lines(ignore_msrs=value)).settings == told


# The agent itself


@pytest.fixture
def command() -> list[str]:
    return [str(native_file("vmfuzz-agent")), "--kvm"]


def test_an_agent_without_kvm_says_so() -> None:
    device = AgentDevice([str(native_file("vmfuzz-agent"))])
    assert device.request(kvm_constants()["KVM_FACTS"], b"")[0] == errno.ENOTTY
    device.close()
    with pytest.raises(ExecutorError, match="vmfuzz-agent --kvm"):
        KvmProcess(lambda: AgentDevice([str(native_file("vmfuzz-agent"))]))


def test_the_agent_refuses_what_does_not_fit(command: list[str]) -> None:
    device = AgentDevice(command)
    numbers = kvm_constants()
    assert device.request(numbers["KVM_RUN"], b"")[0] == errno.EMSGSIZE
    assert device.request(numbers["KVM_OPEN"], b"x")[0] == errno.EMSGSIZE
    request = np.zeros(1, kvm_dtype("open"))
    assert device.request(numbers["KVM_OPEN"], request.tobytes())[0] == errno.EPROTO
    request["abi"], request["image_bytes"] = constants()["ABI"], 1 << 30
    assert device.request(numbers["KVM_OPEN"], request.tobytes())[0] == errno.EMSGSIZE
    device.close()
    assert subprocess.run([command[0], "--what"], capture_output=True, check=False).returncode == 2


def test_nobody_without_permission_opens_it() -> None:
    if os.geteuid() or not Path("/dev/kvm").exists() or not shutil.which("setpriv"):
        pytest.skip("needs root, /dev/kvm and setpriv, to be somebody without permission")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        agent = shutil.copy(native_file("vmfuzz-agent"), folder)
        with pytest.raises(EnvironmentUnusable, match="permission denied; it belongs to the group kvm"):
            KvmExecutor.remote(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", agent, "--kvm"])


@pytest.fixture
def process() -> Iterator[KvmProcess]:
    """Virtual machines of this machine's KVM, whatever its processor."""
    opened = KvmProcess()
    if opened.facts.opened:
        opened.close()
        pytest.skip(f"/dev/kvm: {os.strerror(opened.facts.opened)}")
    opened.open()
    yield opened
    opened.close()


def test_the_engine_runs_in_a_virtual_machine(process: KvmProcess) -> None:
    """Without nested VMX it says that there is none; with it, it reports capabilities."""
    for _ in range(2):
        process.request["command"] = constants()["COMMAND_PROBE"]
        process.call()
        expected = "STATUS_NO_VMX" if process.facts.why_not else "STATUS_DONE"
        assert process.request["status"] == constants()[expected]


def test_a_virtual_machine_that_shuts_down(process: KvmProcess) -> None:
    """An engine that begins with UD2, and no handler for it: a triple fault."""
    process._image = b"\x0f\x0b" + process._image[2:]
    process.open()
    process.request["command"] = constants()["COMMAND_PROBE"]
    with pytest.raises(WorkerDied, match="KVM_EXIT_SHUTDOWN"):
        process.call()


def test_a_virtual_machine_that_hangs(process: KvmProcess) -> None:
    process._image, process._hang_seconds = b"\xeb\xfe" + process._image[2:], 1
    process.open()
    process.request["command"] = constants()["COMMAND_PROBE"]
    with pytest.raises(WorkerDied, match="the virtual processor hangs"):
        process.call()


def test_an_agent_that_was_killed_is_replaced(process: KvmProcess) -> None:
    first = process._device
    assert isinstance(first, AgentDevice)
    os.kill(first.pid, signal.SIGKILL)
    process.request["command"] = constants()["COMMAND_PROBE"]
    with pytest.raises(WorkerDied) as raised:
        process.call()
    assert not raised.value.row_known
    process.call()
    assert process.request["status"] in (constants()["STATUS_NO_VMX"], constants()["STATUS_DONE"])
    assert process._device is not first


def test_the_command_line_of_this_machine() -> None:
    """`auto` never is KVM; where KVM has no nested VMX, opening it says why and doctor the same."""
    found = {item.executor: item for item in availability.availability()}["kvm"]
    assert found.usable == (nested_kvm() is not None)
    if not found.usable:
        with pytest.raises(EnvironmentUnusable) as raised:
            open_executor("kvm")
        assert str(raised.value) == f"kvm: {found.text}"


def test_addresses_without_memory_are_kept_apart(executor: KvmExecutor, agent: FakeAgent, bochs: BochsExecutor) -> None:
    good = executor.known_good()
    elsewhere = good.replace(eptp=0x12_3456_7000 | good["eptp"] & 0xFFF)
    batch = [
        good,
        elsewhere,
        good.replace(eptp=1 << 60 | good["eptp"]),
        good.replace(secondary_processor_based_controls=0, eptp=elsewhere["eptp"]),
    ]
    outcomes = executor.run(batch)
    assert outcomes.kind[1] == Kind.REFUSED
    assert outcomes.message_of(1) == NO_MEMORY
    assert [outcomes.kind[0], outcomes.kind[2]] == [Kind.EXIT, Kind.VMFAIL_VALID]
    assert outcomes.message_of(3) != NO_MEMORY
    with KvmExecutor(connect=lambda: agent, risk="bold") as bold:
        assert bold.run(batch).message_of(1) == SURVIVED
        assert bold.run(batch).kind[1] == Kind.REFUSED
    with pytest.raises(UsageError, match="safe or bold"):
        KvmExecutor(connect=lambda: agent, risk="foolhardy")


def test_poison_excuses_nothing_where_the_guest_would_sleep(executor: KvmExecutor) -> None:
    """KVM enters HLT without the processor's checks, so that poison does not fail there and a list of the exit is processed."""
    listed = executor.known_good().replace(vm_exit_msr_store_count=9, guest_rflags=0)
    rules = executor.containment.refused(
        VmcsBatch.of([listed, listed.replace(guest_activity_state=1), listed.replace(guest_activity_state=3)])
    )
    assert rules.rule[0] < 0
    assert [rules.rules[int(number)] for number in rules.rule[1:]] == ["refused: a VM-exit MSR-store list would be processed"] * 2


def test_a_sequence_may_look_for_memory_in_vain_where_that_is_confirmed(agent: FakeAgent) -> None:
    """In a batch of a campaign such a candidate is kept apart, at any risk."""
    for risk, ran in (("safe", False), ("bold", True)):
        with KvmExecutor(connect=lambda: agent, risk=risk) as executor:
            batch = VmcsBatch(executor.known_good(), {"vmcs_link_pointer": np.array([0x12_3456_7000, 2**64 - 1], np.uint64)})
            outcomes = executor.run_in_order(batch)
            assert (outcomes.message_of(0) != NO_MEMORY) is ran
            assert outcomes.kind[1] == Kind.EXIT
            assert executor.run(batch).message_of(0) in ((SURVIVED,) if ran else (NO_MEMORY,))


def refusals(executor: KvmExecutor, *candidates: Vmcs) -> list[str | None]:
    found = executor.containment.refused(VmcsBatch.of(candidates))
    return [None if number < 0 else found.rules[int(number)] for number in found.rule.tolist()]


def test_without_ept_the_guests_own_paging_structures_need_memory(executor: KvmExecutor) -> None:
    """Poison fails too late to excuse it: KVM looks for the root before the processor below sees the guest."""
    good = executor.known_good().replace(secondary_processor_based_controls=0)
    nowhere, poisoned = 0x12_3456_7000, {"guest_rflags": 0}
    cases = {
        None: [
            good,
            good.replace(guest_cr3=nowhere, secondary_processor_based_controls=2, **poisoned),  # with EPT it is no address of the machine's
            good.replace(guest_cr3=1 << 60, **poisoned),  # fails a check for certain
        ],
        NO_MEMORY: [good.replace(guest_cr3=nowhere), good.replace(guest_cr3=nowhere | 0x18, **poisoned)],
    }
    for words, candidates in cases.items():
        assert refusals(executor, *candidates) == [words] * len(candidates)


@pytest.mark.parametrize(("entry", "refused"), [(0x12_3456_7001, True), (0x12_3456_7000, False), (0x1000_2001, False)])
def test_with_pae_paging_what_its_entries_point_to_needs_memory(executor: KvmExecutor, entry: int, refused: bool) -> None:
    good, table = executor.known_good(), executor.arena.base + 0x1000
    pae = good.replace(
        secondary_processor_based_controls=0, vm_entry_controls=good["vm_entry_controls"] & ~(1 << 9), guest_cr3=table, guest_rflags=0
    ).with_memory({table + 8: entry})
    assert refusals(executor, pae) == [NO_MEMORY if refused else None]
    long_mode = pae.replace(vm_entry_controls=good["vm_entry_controls"])
    assert refusals(executor, long_mode) == [None]


@pytest.mark.parametrize(
    ("address", "count", "refused"),
    [
        (0, 0, False),
        (0x12_3456_7000, 1, True),
        (0x12_3456_7004, 1, False),
        (1 << 50, 1, False),
        (0x1001_FFF0, 1, False),
        (0x1001_FFF0, 2, True),
    ],
)
def test_an_msr_load_list_needs_memory_to_its_end(executor: KvmExecutor, address: int, count: int, refused: bool) -> None:
    candidate = executor.known_good().replace(vm_entry_msr_load_address=address, vm_entry_msr_load_count=count)
    assert (refusals(executor, candidate) == [NO_MEMORY]) is refused


def test_poison_excuses_no_endless_list(executor: KvmExecutor) -> None:
    listed = executor.known_good().replace(vm_exit_msr_store_address=executor.arena.base, guest_rflags=0)
    most = executor.capabilities().msr_list_maximum
    assert refusals(executor, listed.replace(vm_exit_msr_store_count=most), listed.replace(vm_exit_msr_store_count=most + 1)) == [
        None,
        LONG_LIST,
    ]
