"""Minimization and triage on executors that crash or do not repeat, and on a real worker that dies; and the edge that a result names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pytest

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import Kind, Outcomes
from vmfuzz.campaign.mismatches import Findings
from vmfuzz.comparison.case import Case, batch_of
from vmfuzz.comparison.signature import CRASH, REFUSES
from vmfuzz.comparison.trial import Trial
from vmfuzz.corpus.entries import Entry
from vmfuzz.execute.base import Executor
from vmfuzz.execute.bochs.executor import BochsExecutor, writable_fields
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.findings.minimize import Minimizer, same_finding
from vmfuzz.findings.triage import Triage, triage
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.operand_values import OperandValues
from vmfuzz.model.predict import Model
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

CAPS = capabilities("corei7_skylake_x")
GOOD = known_good(CAPS)
PLAIN = "64-bit/plain/nothing"
MESSAGE = "the worker ended: killed by SIGABRT"
#: What a fault does to the outcomes of the rows in which it strikes.
Fault = Callable[[VmcsBatch, Outcomes, int], None]


class Faulty:
    """The model as a processor, with a fault: called with each batch, its outcomes, and the number of the run."""

    def __init__(self, fault: Fault) -> None:
        self._inner = ModelExecutor(CAPS, GOOD)
        self._fault = fault
        self.name = "model with a fault"
        self.runs = 0
        self.largest = 0

    def capabilities(self) -> Capabilities:
        return CAPS

    def known_good(self) -> Vmcs:
        return GOOD

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        if not isinstance(batch, VmcsBatch):
            batch = VmcsBatch.of(batch)
        outcomes = self._inner.run(batch)
        self.runs += 1
        self.largest = max(self.largest, len(batch))
        self._fault(batch, outcomes, self.runs)
        return outcomes

    def close(self) -> None:
        self._inner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def values(batch: VmcsBatch, name: str) -> npt.NDArray[np.uint64]:
    return np.broadcast_to(OperandValues(batch)(name), len(batch))


def crash(outcomes: Outcomes, rows: npt.NDArray[np.bool_]) -> None:
    outcomes.kind[rows] = Kind.EXECUTOR_CRASHED
    outcomes.number[rows] = outcomes.qualification[rows] = 0
    outcomes.messages = [MESSAGE]
    outcomes.message[rows] = 0


def crash_on_a_high_tsc_offset(batch: VmcsBatch, outcomes: Outcomes, _: int) -> None:
    """An emulator that aborts where bit 40 of the TSC offset is 1 and CR3-target value 0 is not 0."""
    crash(outcomes, (values(batch, "tsc_offset") >> np.uint64(40) & np.uint64(1) != 0) & (values(batch, "cr3_target_value_0") != 0))


def found_by(executor: Executor, mutations: Sequence[dict[str, int]]) -> tuple[Trial, Findings]:
    """What a batch of mutations of the plain base shows, gathered as a campaign does."""
    trial, findings = Trial(executor), Findings()
    base = trial.base(PLAIN)
    assert base is not None
    findings.add(trial.compare_batch(batch_of(base, mutations)), PLAIN)
    return trial, findings


def settled(executor: Executor, mutations: Sequence[dict[str, int]]) -> Triage:
    trial, findings = found_by(executor, mutations)
    return triage(trial, findings.by_id.values(), 30.0)


def test_a_crash_is_isolated_and_minimized_and_the_other_rows_count() -> None:
    executor = Faulty(crash_on_a_high_tsc_offset)
    noise = {"guest_rsp": 0x1234, "guest_dr7": 0x455, "exception_bitmap": 0xF0F0, "cr0_read_shadow": 3}
    mutations = [dict(noise), {**noise, "tsc_offset": 0x1F0_0000_1234, "cr3_target_value_0": 0x5000}, {"guest_rflags": 2}]
    trial, findings = found_by(executor, mutations)
    (finding,) = findings.by_id.values()
    assert (finding.signature.kind, finding.signature.message, finding.count) == (CRASH, MESSAGE, 1)
    executor.largest = 0
    (entry,) = triage(trial, [finding], 30.0).entries.values()
    assert (entry.kind, entry.case.base) == (CRASH, PLAIN)
    assert dict(entry.case.mutation) == {"cr3_target_value_0": 1, "tsc_offset": 1 << 40}
    assert entry.main_result.message == MESSAGE
    assert entry.main_result.comparison == CRASH
    # the edge: without either operand there is no crash
    assert {(near.operand, near.value) for near in entry.neighbours} >= {("tsc_offset", 0), ("cr3_target_value_0", 0)}
    assert all(near.actual == "entered, exit 52" for near in entry.neighbours)
    # each crash costs a worker: few candidates at a time
    assert executor.largest <= 64


def crash_where_it_is(batch: VmcsBatch, outcomes: Outcomes, _: int) -> None:
    """An emulator that says where it was when it aborted."""
    rows = values(batch, "cr3_target_value_1") > 0x100
    crash(outcomes, rows)
    outcomes.messages = [f"shut down at RIP {int(value):#x}" for value in values(batch, "cr3_target_value_1")]
    outcomes.message[rows] = np.flatnonzero(rows)


def test_crashes_at_different_addresses_are_one_finding() -> None:
    trial, findings = found_by(
        Faulty(crash_where_it_is), [{"cr3_target_value_1": value, "guest_rsp": 4} for value in (0x777, 0x9000, 0xFFFF)]
    )
    assert [(each.signature.message, each.count) for each in findings.by_id.values()] == [("shut down at RIP ...", 3)]
    (entry,) = triage(trial, findings.by_id.values(), 30.0).entries.values()
    assert list(entry.case.mutation) == ["cr3_target_value_1"]
    assert entry.main_result.message == "shut down at RIP ..."


def test_a_mismatch_that_does_not_repeat_is_unstable_and_no_finding() -> None:
    def flicker(batch: VmcsBatch, outcomes: Outcomes, run: int) -> None:
        rows = values(batch, "cr3_target_value_1") == 7
        if run % 2:
            outcomes.kind[rows], outcomes.number[rows] = Kind.VMFAIL_VALID, 7

    result = settled(Faulty(flicker), [{}, {"cr3_target_value_1": 7}])
    assert result.entries == {}
    assert len(result.unstable) == 1


def test_a_crash_that_does_not_repeat_is_unstable() -> None:
    def once(batch: VmcsBatch, outcomes: Outcomes, run: int) -> None:
        if run == 1:
            crash(outcomes, values(batch, "cr3_target_value_1") == 7)

    result = settled(Faulty(once), [{}, {"cr3_target_value_1": 7}])
    assert (result.entries, len(result.unstable)) == ({}, 1)


def test_what_depends_on_the_row_before_is_unstable() -> None:
    def after_another(batch: VmcsBatch, outcomes: Outcomes, _: int) -> None:
        rows = values(batch, "cr3_target_value_1") == 7
        rows[0] = False
        outcomes.kind[rows], outcomes.number[rows] = Kind.VMFAIL_VALID, 7

    result = settled(Faulty(after_another), [{}, {"cr3_target_value_1": 7}])
    assert (result.entries, len(result.unstable)) == ({}, 1)


def test_what_one_base_has_and_another_is_given_is_one_finding() -> None:
    lax = Faulty(lambda *_: None)
    lax._inner = ModelExecutor(CAPS, GOOD, [check for check in CHECKS if check.id != "guest.dr7"])
    trial, findings = Trial(lax), Findings()
    for name, mutation in ((PLAIN, {"guest_dr7": 1 << 40, "vm_entry_controls": 0xD3FF}), ("64-bit/loads/nothing", {"guest_dr7": 1 << 33})):
        base = trial.base(name)
        assert base is not None
        one = Findings()
        one.add(trial.compare(base, [mutation]), name)
        findings.by_id |= {f"{id} in {name}": finding for id, finding in one.by_id.items()}
    assert len(findings.by_id) == 2
    for order in (1, -1):
        (entry,) = triage(trial, list(findings.by_id.values())[::order], 30.0).entries.values()
        assert (entry.case.base, dict(entry.case.mutation), entry.seen) == ("64-bit/loads/nothing", {"guest_dr7": 1 << 32}, 2)


def refuse_7(batch: VmcsBatch, outcomes: Outcomes, _: int) -> None:
    """A processor that refuses the CR3-target value 7."""
    rows = values(batch, "cr3_target_value_1") == 7
    outcomes.kind[rows], outcomes.number[rows], outcomes.qualification[rows] = Kind.VMFAIL_VALID, 7, 0


class Forgetful(Faulty):
    """A processor whose VMCS does not keep one of the fields as VMWRITE writes it."""

    def __init__(self, fault: Fault, forgets: str) -> None:
        super().__init__(fault)
        self.forgets = forgets

    def not_kept(self, candidate: Vmcs) -> list[str]:
        return [self.forgets] if candidate.get(self.forgets) != GOOD.get(self.forgets) else []


def test_what_the_vmcs_does_not_hold_as_it_was_written_is_no_finding() -> None:
    mutations = [{"cr3_target_value_1": 7, "guest_rsp": 1}]
    result = settled(Forgetful(refuse_7, "cr3_target_value_1"), mutations)
    assert (result.entries, list(result.not_kept.values())) == ({}, [["cr3_target_value_1"]])
    # a field that the case does not change does not matter
    kept = settled(Forgetful(refuse_7, "guest_idtr_base"), mutations)
    assert [dict(entry.case.mutation) for entry in kept.entries.values()] == [{"cr3_target_value_1": 7}]
    assert kept.not_kept == {}


def test_an_emulated_cpu_keeps_every_field_as_it_is_written() -> None:
    with BochsExecutor("corei7_skylake_x") as executor:
        good = executor.known_good()
        names = [name for name in writable_fields(good) if FIELDS[name].width <= 32 or name.startswith("guest_")]
        assert len(names) > 60
        assert {name: executor.not_kept(good.replace(**{name: FIELDS[name].mask})) for name in names} == {name: [] for name in names}


def test_what_is_allowed_now_is_no_finding_and_not_called_unstable() -> None:
    wrong = Model(CAPS, [check for check in CHECKS if check.id != "ctl.cr3target.count"])
    trial, findings = Trial(ModelExecutor(CAPS, GOOD), wrong), Findings()
    base = trial.base(PLAIN)
    assert base is not None
    findings.add(trial.compare(base, [{"cr3_target_count": 5}]), PLAIN)
    result = triage(Trial(trial.executor), findings.by_id.values(), 30.0)
    assert (result.entries, result.unstable, result.explained) == ({}, [], list(findings.by_id))


def test_each_entry_is_handed_over_as_soon_as_it_is_known_and_what_it_replaces_is_named() -> None:
    handed: dict[str, Entry] = {}

    def keep(entry: Entry, replaces: str | None) -> None:
        handed[entry.id] = entry
        if replaces is not None:
            del handed[replaces]

    trial, findings = found_by(Faulty(refuse_from_5), [{"cr3_target_value_1": 0x7123_4567}, {"guest_rsp": 3, "cr3_target_value_1": 0x5001}])
    result = triage(trial, findings.by_id.values(), 30.0, keep=keep)
    assert handed == result.entries != {}


def refuse_from_5(batch: VmcsBatch, outcomes: Outcomes, _: int) -> None:
    """A processor that refuses CR3-target values from 5000H on."""
    rows = values(batch, "cr3_target_value_1") >= 0x5000
    outcomes.kind[rows], outcomes.number[rows], outcomes.qualification[rows] = Kind.VMFAIL_VALID, 7, 0


def test_the_result_names_the_values_at_the_edge_that_agree() -> None:
    (entry,) = settled(Faulty(refuse_from_5), [{"cr3_target_value_1": 0x7123_4567, "guest_rsp": 99}]).entries.values()
    assert (entry.kind, dict(entry.case.mutation)) == (REFUSES, {"cr3_target_value_1": 0x5000})
    assert (entry.neighbours[0].value, entry.neighbours[0].actual) == (0x4FFF, "entered, exit 52")


def test_minimization_is_deterministic_and_tells_its_steps() -> None:
    cases, steps = [], []
    for _ in range(2):
        trial = Trial(Faulty(refuse_from_5))
        base = trial.base(PLAIN)
        assert base is not None
        case = Case(PLAIN, {"cr3_target_value_1": 0xABCD_1234, "guest_rsp": 3, "exception_bitmap": 9})
        goal = same_finding(trial.compare(base, [case.mutation]), 0)
        cases.append(Minimizer(trial, goal, on_step=steps.append).run(case))
    assert cases[0] == cases[1]
    assert [minimized.complete for minimized in cases[0]] == [True]
    assert {"which operands", "simplest cr3_target_value_1"} <= {step.doing for step in steps}


def test_minimization_keeps_to_its_time_and_says_that_it_is_not_complete() -> None:
    trial = Trial(Faulty(refuse_from_5))
    base = trial.base(PLAIN)
    assert base is not None
    case = Case(PLAIN, {"cr3_target_value_1": 0xABCD_1234, "guest_rsp": 3})
    (minimized,) = Minimizer(trial, same_finding(trial.compare(base, [case.mutation]), 0), seconds=0.0).run(case)
    assert not minimized.complete
    assert "cr3_target_value_1" in minimized.case.mutation


@pytest.fixture
def uncontained() -> Iterator[BochsExecutor]:
    """An emulated CPU whose guest may wait for a SIPI, which never comes: the watchdog ends the worker."""
    with BochsExecutor("corei7_skylake_x", hang_seconds=0.1, contain=False) as executor:
        yield executor


def test_a_worker_that_hangs_becomes_a_minimized_finding(uncontained: BochsExecutor) -> None:
    mutations = [{"guest_rsp": 5}, {"guest_activity_state": 3, "guest_rsp": 7, "cr0_read_shadow": 1}, {"guest_rsp": 8}]
    trial, findings = found_by(uncontained, mutations)
    assert [(finding.signature.kind, finding.count) for finding in findings.by_id.values()] == [(CRASH, 1)]
    (entry,) = triage(trial, findings.by_id.values(), 60.0).entries.values()
    assert (entry.kind, dict(entry.case.mutation)) == (CRASH, {"guest_activity_state": 3})
    assert entry.main_result.message is not None
    assert "hangs" in entry.main_result.message
    assert trial.compare_batch(batch_of(uncontained.known_good(), [{}])).outcomes[0].kind is Kind.EXIT
