"""The executor on a serial line, on a device in its place: a candidate that resets the machine is named, and the others run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from vmfuzz.arch.outcomes import Kind
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.store import Store
from vmfuzz.cli.main import main
from vmfuzz.errors import ExecutorError
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.execute.kmod.abi import kmod_constants
from vmfuzz.execute.kmod.device import DeviceLost
from vmfuzz.execute.serial.abi import line_constants
from vmfuzz.execute.serial.device import MachineReset, SerialDevice, chunk_digest
from vmfuzz.execute.serial.executor import SerialExecutor
from vmfuzz.execute.serial.link import Hello, MachineHung, Restarted
from vmfuzz.execute.wire.abi import struct_dtype
from vmfuzz.state.batch import VmcsBatch

#: A row with this value of guest RIP resets the machine.
DEADLY = {100, 101, 250, 700, 999}
HELLO = Hello(1, 1, boot=1, boots=1, died=0, vector=0, digest=0, row=0)


class FakeLine:
    """Answers like an image on which every row enters, and which a deadly one resets.

    `remembers`: memory lasts over a reset. `hangs_at`: with this value of guest RIP it hangs, and somebody resets it after vmfuzz has ended.
    `hypervisor`: CPUID names one.
    """

    local = False

    def __init__(self, bochs: BochsExecutor, *, remembers: bool = True, hangs_at: int | None = None, hypervisor: bool = False) -> None:
        self.bochs, self.remembers, self.hangs_at, self.hypervisor = bochs, remembers, hangs_at, hypervisor
        #: flags of the last run
        self.flags = 0
        self.link = self
        self.hello = HELLO
        self.resets = 0
        self.rows = 0
        #: so many resets of somebody's while no row runs
        self.idle = 0
        self.captured = {0x6800: 0x80050033}
        self.chunk: int | None = None
        self.first_row = 0

    def request(self, code: int, payload: bytes) -> tuple[int, bytes]:
        known = kmod_constants()
        if code == known["IOC_RUN"]:
            return self._run(payload)
        record: Any = np.frombuffer(payload, struct_dtype("info" if code == known["IOC_INFO"] else "capture")).copy()
        request = self.bochs._process.request
        if code == known["IOC_INFO"]:
            record["engine_abi"], record["arena_bytes"], record["arena_pa"] = known["ABI"], 32 * 4096, 1 << 24
            for name in ("msrs", "cpuid", "msr_count", "cpuid_count", "cr0", "cr4"):
                record[name] = request[name]
            record["cpuid"]["ecx"] |= np.where((record["cpuid"]["leaf"] == 1) & self.hypervisor, np.uint32(1 << 31), np.uint32(0))
        else:
            record["field_count"], record["fields"] = request["field_count"], request["fields"]
        return 0, record.tobytes()

    def _run(self, payload: bytes) -> tuple[int, bytes]:
        run = np.frombuffer(payload, struct_dtype("run"), 1)[0]
        stride, count = int(run["row_bytes"]), int(run["row_count"])
        self.flags = int(run["flags"])
        rows = np.frombuffer(payload, np.uint8, -1, len(payload) - stride * count).reshape(count, stride)
        rips = rows[:, struct_dtype("result").itemsize :].copy().view(np.uint64)[:, 0] if stride > struct_dtype("result").itemsize else []
        if self.chunk is None:
            self.chunk = chunk_digest(payload)
        if self.idle:
            self.idle -= 1
            self._reset("DIED_IDLE", 0, 0)
        for row, rip in enumerate(rips):
            if int(rip) in DEADLY:
                self._reset(
                    "DIED_ROW" if self.remembers else "DIED_UNKNOWN", self.chunk + self.first_row, row, hangs=int(rip) == self.hangs_at
                )
        self.rows += count
        results = np.zeros(count, struct_dtype("result"))
        results["kind"], results["exit_reason"] = Kind.EXIT, 52
        head: Any = np.frombuffer(payload, struct_dtype("run"), 1).copy()
        head["status"] = kmod_constants()["STATUS_DONE"]
        base_at = struct_dtype("run").itemsize
        base = np.frombuffer(payload, struct_dtype("pair"), int(run["base_count"]), base_at)
        words = {int(pair["target"]) & ~(1 << 63): int(pair["value"]) for pair in base if int(pair["target"]) >> 63 and int(pair["value"])}
        pairs = np.array(list(words.items()), np.uint64).tobytes()
        return 0, head.tobytes() + results.tobytes() + len(words).to_bytes(8, "little") + pairs

    def _reset(self, died: str, digest: int, row: int, *, hangs: bool = False) -> None:
        self.resets += 1
        self.hello = replace(
            self.hello, boot=self.hello.boot + 1, boots=1 + self.resets, died=line_constants()[died], digest=digest, row=row
        )
        if hangs:
            raise MachineHung("it hangs; reset it")
        known = self.hello.died_of_a_row and self.hello.digest == digest
        raise MachineReset("the machine was reset", self.hello, row if known else None)

    def close(self) -> None:
        pass


@pytest.fixture
def line(bochs: BochsExecutor) -> Callable[..., FakeLine]:
    bochs._capture()
    return lambda **options: FakeLine(bochs, **options)


def rips(executor: SerialExecutor, count: int) -> VmcsBatch:
    return VmcsBatch(executor.known_good(), {"guest_rip": np.arange(count, dtype=np.uint64)}, count=count)


@pytest.mark.parametrize("remembers", [True, False], ids=["named", "halves"])
def test_deadly_rows_are_named_and_all_others_run(line: Callable[..., FakeLine], remembers: bool) -> None:
    device = line(remembers=remembers)
    with SerialExecutor(device) as executor:  # type: ignore[arg-type]
        outcomes = executor.run(rips(executor, 1000))
    assert set(np.flatnonzero(outcomes.kind == Kind.EXECUTOR_CRASHED).tolist()) == DEADLY
    assert (np.delete(outcomes.kind, sorted(DEADLY)) == Kind.EXIT).all()
    said = str(outcomes.message_of(100))
    assert ("reset while this candidate ran" in said) if remembers else ("memory did not last" in said)
    assert device.resets == len(DEADLY) if remembers else device.resets > len(DEADLY)


@pytest.mark.parametrize(
    ("hypervisor", "options", "expected"),
    [
        (True, {"risk": "bold"}, True),
        (False, {"risk": "bold"}, False),
        (False, {"risk": "bold", "virtual": True}, True),
        (True, {"risk": "bold", "virtual": False}, False),
        (True, {}, False),
        (True, {"virtual": True}, False),
    ],
)
def test_only_a_virtual_machine_may_be_lost_and_only_at_bold(
    line: Callable[..., FakeLine], hypervisor: bool, options: dict[str, Any], expected: bool
) -> None:
    """What the person says comes before what CPUID says."""
    device = line(hypervisor=hypervisor)
    with SerialExecutor(device, **options) as executor:  # type: ignore[arg-type]
        assert executor.virtual == expected
        executor.run(rips(executor, 5))
        assert bool(device.flags & kmod_constants()["FLAG_VIRTUAL"]) == expected
        batch = VmcsBatch.of([executor.known_good().replace(host_rsp=8)])
        assert (executor.containment.refused(batch).rule >= 0).tolist() == [not expected]


def test_a_reset_while_nothing_ran_blames_nobody(line: Callable[..., FakeLine]) -> None:
    device = line()
    with SerialExecutor(device) as executor:  # type: ignore[arg-type]
        device.idle = 2
        assert (executor.run(rips(executor, 50)).kind == Kind.EXIT).all()
        device.idle = 100
        with pytest.raises(DeviceLost):
            executor.run(rips(executor, 50))


def test_a_machine_that_is_another_one_after_its_reset_is_told(line: Callable[..., FakeLine]) -> None:
    device = line()
    with SerialExecutor(device) as executor:  # type: ignore[arg-type]
        executor._captured = {**executor._captured, 0x6C00: 1}
        with pytest.raises(ExecutorError, match="not as before"):
            executor.run(rips(executor, 150))


def test_a_lost_batch_gets_its_culprit_from_the_machine(line: Callable[..., FakeLine], tmp_path: Path) -> None:
    """The campaign ended in the middle of a batch; on --resume the image says which candidate it was, and nothing has to be run for it."""
    device = line()
    with Store(tmp_path) as store, SerialExecutor(device) as executor:  # type: ignore[arg-type]
        campaign = Campaign(executor, seed=1)
        store.begin(campaign, 1000)
        plan = campaign.plan(0)[0]
        store.begins(plan, plan.rows)
        batch = campaign.candidates(plan, plan.rows)
        payload = executor._pack(*_first(executor, batch), set())
        device.hello = replace(HELLO, died=line_constants()["DIED_EXCEPTION"], vector=13, digest=chunk_digest(payload), row=3)
        store.attach(campaign, 1000)
        (lost,) = store.lost
    assert (lost.first, lost.last, lost.alone) == (3, 4, "did not come back")
    assert lost.mutation is not None


def test_the_culprit_of_a_second_reset_is_found_in_its_batch(line: Callable[..., FakeLine]) -> None:
    """What was left after the first reset was a request of its own."""
    device = line(hangs_at=250)
    with SerialExecutor(device) as executor:  # type: ignore[arg-type]
        batch = rips(executor, 1000)
        with pytest.raises(MachineHung):
            executor.run(batch)
        assert device.resets > 1
        assert executor.culprit(batch) == 250
        assert executor.culprit(batch.take(np.arange(999))) is None


def _first(executor: SerialExecutor, batch: VmcsBatch) -> tuple[Any, Any]:
    from vmfuzz.execute.wire.family import Family

    family = Family.of(batch, executor.arena, executor.known_good())
    return family, next(executor._chunks(family, len(batch)))


class HangingLink:
    """A link whose machine hangs in each request and is there again in another boot when it is greeted."""

    def __init__(self) -> None:
        self.hello, self.last_words, self.greeted = HELLO, "", 0

    def request(self, coded: bytes) -> bytes:  # noqa: ARG002
        raise MachineHung("serial:x: the machine did not answer: it hangs")

    def greet(self, other_than: int) -> Hello:
        assert other_than == self.hello.boot
        self.greeted += 1
        return replace(self.hello, boot=2, died=line_constants()["DIED_ROW"], digest=0)


def hanging(reset: str | None) -> tuple[SerialDevice, HangingLink]:
    device = SerialDevice.__new__(SerialDevice)
    link = HangingLink()
    device.where, device._reset, device.link = "x", reset, link  # type: ignore[assignment]
    return device, link


def test_the_command_resets_a_machine_that_hangs(tmp_path: Path) -> None:
    device, link = hanging(f"echo reset > {tmp_path / 'said'}")
    with pytest.raises(MachineReset, match="the machine hung and was reset: "):
        device.request(kmod_constants()["IOC_INFO"], bytes(8))
    assert (tmp_path / "said").read_text() == "reset\n"
    assert link.greeted == 1


@pytest.mark.parametrize(
    ("reset", "said"),
    [(None, "add --reset COMMAND, and go on with --resume"), ("echo no such machine >&2; exit 7", "failed with status 7: no such machine")],
)
def test_a_machine_that_hangs_and_is_not_reset_is_told(reset: str | None, said: str) -> None:
    device, link = hanging(reset)
    with pytest.raises(MachineHung, match=said):
        device.request(kmod_constants()["IOC_INFO"], bytes(8))
    assert not link.greeted


def test_a_reset_of_another_request_has_no_row() -> None:
    device, link = hanging(None)
    hello = replace(HELLO, boot=2, died=line_constants()["DIED_ROW"], digest=77, row=5)

    def request(coded: bytes) -> bytes:
        raise Restarted("reset", hello)

    link.request = request  # type: ignore[method-assign]
    with pytest.raises(MachineReset) as told:
        device.request(kmod_constants()["IOC_INFO"], bytes(8))
    assert told.value.row is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--reset", "true"], "--reset works only with --executor serial:WHERE, and this run uses auto"),
        (["run", "--answer-seconds", "5"], "--answer-seconds works only with --executor serial:WHERE, and this run uses auto"),
        (["run", "--executor", "serial:"], "expected the serial line to a machine"),
        (["run", "--executor", "serial:unix:/nonexistent"], "docs/hypervisors.md"),
        (["run", "--executor", "serial:unix:/nonexistent", "--cpu", "tigerlake"], "leave out --cpu"),
        (["run", "--virtual"], "--virtual works only with --executor serial:WHERE, and this run uses auto"),
        (["run", "--executor", "serial:unix:/nonexistent", "--virtual"], "--virtual works only with --risk bold"),
        (
            ["replay", "--executor", "kmod", "--risk", "bold", "--yes", "--not-virtual"],
            "--not-virtual works only with --executor serial:WHERE",
        ),
        (["replay", "--executor", "kmod", "--reset", "true"], "--reset works only with --executor serial:WHERE, and this run uses kmod"),
    ],
)
def test_the_command_line_says_what_is_wrong(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert said in done.output + str(done.exception)


def test_doctor_tries_a_line() -> None:
    done = CliRunner().invoke(main, ["doctor", "--json", "--executor", "serial:unix:/nonexistent"])
    (told,) = json.loads(done.stdout)["executors"]
    assert (told["usable"], done.exit_code) == (False, 3)
    assert "is the machine on" in told["text"]
