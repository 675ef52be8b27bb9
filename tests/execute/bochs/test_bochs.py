"""The emulated executor on real emulated CPUs."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patience import until
from vmfuzz.arch.outcomes import Kind, Outcome, Outcomes
from vmfuzz.errors import EnvironmentUnusable, ExecutorError, UnknownNameError, UsageError
from vmfuzz.execute import conformance
from vmfuzz.execute.bochs import library as bochs_library
from vmfuzz.execute.bochs import process as bochs_process
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.execute.kinds import open_executor
from vmfuzz.execute.wire import abi
from vmfuzz.generate.bases import Bases
from vmfuzz.generate.families import generator_of
from vmfuzz.generate.reach import memory_word
from vmfuzz.model.predict import model_of
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good

Families = Callable[..., Iterator[VmcsBatch]]


def assert_same(one: Outcomes, other: Outcomes) -> None:
    for name in ("kind", "number", "raw_reason", "qualification", "entry_interruption_info", "encoding"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.fixture
def own() -> Iterator[BochsExecutor]:
    """An executor that a test may damage."""
    with BochsExecutor(hang_seconds=0.5) as executor:
        yield executor


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(each_cpu: BochsExecutor, check: object) -> None:
    check(each_cpu)  # type: ignore[operator]


def test_seed_question(each_cpu: BochsExecutor) -> None:
    """Guest GS access rights never written: entry failure 33 with qualification 0, and Bochs says that it is
    about GS.
    """
    outcomes = each_cpu.run([each_cpu.known_good().without("guest_gs_access_rights")])
    assert outcomes[0] == Outcome(Kind.ENTRY_FAILURE, 33, 0)
    assert outcomes.raw_reason[0] == 0x8000_0021
    assert outcomes.message_of(0) == "VMENTER FAIL: VMCS guest %s not segment"


def test_capabilities_are_complete(each_cpu: BochsExecutor) -> None:
    capabilities = each_cpu.capabilities()
    assert capabilities.name == each_cpu.cpu
    assert (0x48C in capabilities.msrs) == capabilities.ept
    assert (0x48D in capabilities.msrs) == capabilities.true_controls
    assert {(0, 0), (0x8000_0008, 0)} <= set(capabilities.cpuid)


def test_known_good_has_every_field(each_cpu: BochsExecutor) -> None:
    writable = {field.name for field in each_cpu.capabilities().fields if field.writable}
    assert writable <= set(each_cpu.known_good())


def test_kinds_are_those_of_the_engine() -> None:
    engine = {name.removeprefix("KIND_"): value for name, value in abi.constants().items() if name.startswith("KIND_")}
    assert engine == {kind.name: kind.value for kind in Kind}


def test_single_entry_leaves_interruption_info(bochs: BochsExecutor) -> None:
    """An exit clears the valid bit of the VM-entry interruption-information field, an entry failure does
    not.
    """
    base = bochs.known_good()
    entered = base.replace(vm_entry_interruption_info=0x8000_0302)
    outcomes = bochs.run([entered, entered.replace(guest_gs_access_rights=0)])
    assert [Kind(int(kind)) for kind in outcomes.kind] == [Kind.EXIT, Kind.ENTRY_FAILURE]
    assert [int(info) for info in outcomes.entry_interruption_info] == [0x302, 0x8000_0302]


def test_host_state_that_is_loaded(each_cpu: BochsExecutor) -> None:
    """Every host CR4 bit that a CPU supports, turned on at the exit: the engine survives, the candidate after
    it is unharmed.
    """
    base = each_cpu.known_good()
    flips = base["host_cr4"] ^ np.left_shift(np.uint64(1), np.arange(64, dtype=np.uint64))
    outcomes = each_cpu.run(VmcsBatch(base, {"host_cr4": np.append(flips, np.uint64(base["host_cr4"]))}))
    assert not np.any(outcomes.kind == Kind.EXECUTOR_CRASHED), [outcomes.message_of(i) for i in range(65)]
    assert outcomes.kind[64] == Kind.EXIT


def test_host_rsp_may_be_anything(bochs: BochsExecutor) -> None:
    values = np.random.default_rng(3).integers(0, 1 << 64, 500, dtype=np.uint64)
    assert np.all(bochs.run(VmcsBatch(bochs.known_good(), {"host_rsp": values})).kind == Kind.EXIT)


def test_memory_operands(bochs: BochsExecutor) -> None:
    """An MSR-load list in the arena: FS base may not be loaded (entry failure 34, entry 1); memory is fresh
    for each batch.
    """
    base = bochs.known_good().replace(vm_entry_msr_load_count=1)
    address = base["vm_entry_msr_load_address"]
    outcomes = bochs.run(VmcsBatch(base, {}, {address: np.array([0xC000_0100, 0xC000_0102], np.uint64)}))
    assert outcomes[0] == Outcome(Kind.ENTRY_FAILURE, 34, 1)
    assert outcomes[1].kind is Kind.EXIT
    assert bochs.run([base.with_memory({address: 0xC000_0100})])[0] == Outcome(Kind.ENTRY_FAILURE, 34, 1)
    assert bochs.run([bochs.known_good()])[0].kind is Kind.EXIT


def test_memory_outside_the_arena(bochs: BochsExecutor) -> None:
    with pytest.raises(UsageError, match=r"memory at 8: this executor can set memory only in its arena, 10000000H to"):
        bochs.run([bochs.known_good().with_memory({8: 1})])


def test_a_fetch_from_where_no_memory_is_costs_no_worker() -> None:
    """With blocking by MOV SS Bochs fetches the guest's first instruction though the timer has expired; page tables that lead out of the arena map
    that instruction to nothing.
    """
    with BochsExecutor("corei7_sandy_bridge_2600k") as executor:
        base = generator_of(model_of(executor.capabilities()), executor.known_good()).bases.get("32-bit/pdptes/blocking-by-mov-ss")
        assert base is not None
        where = memory_word(base, "memory_pdpte0")
        assert where is not None
        outcomes = executor.run([base, base.with_memory({where: 0x5001}), base])
    assert [outcomes[row].kind for row in range(3)] == [Kind.EXIT] * 3
    assert outcomes[1].number == 0


def test_a_triple_fault_at_a_mapped_instruction_costs_no_worker() -> None:
    """Bochs then reads the instruction for its log; absent memory as a page directory maps every address."""
    facts = capabilities("corei7_icelake_u")
    state = Bases(model_of(facts), known_good(facts)).get("32-bit/inactive-secondary/nmi")
    assert state is not None
    with BochsExecutor("corei7_icelake_u") as executor:
        case = state.replace(exception_bitmap=0xFFFFDEFF, guest_cr3=0x10020000)
        assert executor.run([case, state])[0] == Outcome(Kind.EXIT, 2, 0)


def test_read_only_field_cannot_be_written(bochs: BochsExecutor) -> None:
    """A row whose VMWRITE fails is reported as such and not entered; the rows around it are."""
    base = bochs.known_good()
    unsupported = VmcsBatch(base, {"exit_reason": np.array([0, 0], np.uint64)})
    outcome = bochs.run(unsupported)[0]
    if bochs.capabilities().vmwrite_any_field:
        assert outcome.kind is Kind.EXIT
    else:
        assert outcome == Outcome(Kind.VMWRITE_FAILED, 13)


@pytest.mark.parametrize("cpu", ["core2_penryn_t9600", "corei7_skylake_x", "sapphire_rapids"])
def test_the_platforms_short_cuts_change_nothing_but_the_time(cpu: str, random_families: Families) -> None:
    """Rows that the platform writes and looks at end as with the engine's own instructions and Bochs' own flushes and timer, messages too."""
    entered = 0
    with BochsExecutor(cpu) as fast, BochsExecutor(cpu, plain_platform=True) as plain:
        for batch in random_families(fast.known_good(), seed=4, families=8, rows=1500):
            one, other = fast.run(batch), plain.run(batch)
            assert_same(one, other)
            assert [one.message_of(row) for row in range(len(one))] == [other.message_of(row) for row in range(len(other))]
            entered += int((one.kind == Kind.EXIT).sum())
        assert fast.drift.reruns == plain.drift.reruns
    assert entered


#: What an exit saves into or changes, in ways that show; and what makes entries fail.
_LEFT_BEHIND = {
    "guest_rflags": (0x2, 0x10002, 0x102, 0x202, 0x0),
    "guest_interruptibility_state": (0, 1, 2, 3, 8),
    "guest_activity_state": (0, 1, 2),
    "guest_pending_debug_exceptions": (0, 0x1000, 0x4000),
    "guest_dr7": (0x400, 0x500, 0x0),
    "guest_cr0": (0x80010031, 0x80050033, 0x11, 0x0),
    "guest_ss_access_rights": (0xC093, 0x10000, 0x93, 0x1C093),
    "guest_es_access_rights": (0xC093, 0x10000, 0x1C093),
    "guest_ia32_efer": (0x500, 0xD00, 0x0),
    "guest_rip": (0x1000, 0x8000_0000_0000),
    "vm_entry_interruption_info": (0, 0x8000_0202, 0x8000_0B0D, 0x8000_0020, 0x8000_0703),
    "vm_entry_exception_error_code": (0, 0x10),
    "vmx_preemption_timer_value": (0,),
    "host_cr4": (0x2020, 0x20A0, 0x0),
    "host_gs_base": (0, 0x1000, 0x8000_0000_0000),
    "cr3_target_count": (0, 4, 5),
}


@pytest.fixture(scope="module", params=["platform", "engine"])
def either(request: pytest.FixtureRequest) -> Iterator[BochsExecutor]:
    """Rows that the platform writes and looks at, and rows that the engine's own instructions do."""
    with BochsExecutor("corei7_skylake_x", plain_platform=request.param == "engine", contain=False) as executor:
        yield executor


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_row_leaves_nothing_to_the_next(either: BochsExecutor, data: st.DataObject) -> None:
    """Only what changes from row to row is written: each row ends as it does alone, whatever ran before it."""
    base = either.known_good()
    names = data.draw(st.sets(st.sampled_from([name for name in _LEFT_BEHIND if name in base]), max_size=4))
    names.add("vm_entry_interruption_info")  # what every exit changes
    values = {name: st.sampled_from((base[name], *_LEFT_BEHIND[name])) for name in sorted(names)}
    kinds = data.draw(st.lists(st.fixed_dictionaries(values), min_size=1, max_size=4))
    order = data.draw(st.lists(st.integers(0, len(kinds) - 1), min_size=2, max_size=90))
    alone = [either.run([base.replace(**kind)])[0] for kind in kinds]
    batch = VmcsBatch(base, {name: np.array([kinds[each][name] for each in order], np.uint64) for name in values})
    outcomes = either.run(batch)
    assert [outcomes[row] for row in range(len(order))] == [alone[each] for each in order]


@pytest.mark.parametrize("cpu", ["core2_penryn_t9600", "corei7_skylake_x", "sapphire_rapids"])
def test_drift_check_misses_nothing(cpu: str, random_families: Families) -> None:
    """Comparing fields once a family gives the outcomes that comparing after every row gives."""
    with BochsExecutor(cpu) as normal, BochsExecutor(cpu, paranoid=True) as paranoid:
        for executor in (normal, paranoid):
            executor.drift.restored.clear()  # so that there is drift to be found
        for batch in random_families(normal.known_good(), seed=5, families=25, rows=150):
            assert_same(normal.run(batch), paranoid.run(batch))
        drifted = normal.drift.reruns
    assert drifted, "no family drifted: the test tests nothing"


def test_killed_worker_costs_one_row(own: BochsExecutor) -> None:
    base = own.known_good()
    batch = VmcsBatch(base, {"guest_rip": np.arange(400_000, dtype=np.uint64)})
    pid = own.worker_pid

    def kill_on_the_way() -> None:
        until(lambda: 1000 < own._process.request["current_row"] < len(batch))
        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_on_the_way)
    killer.start()
    outcomes = own.run(batch)
    killer.join()
    assert own.worker_pid != pid
    crashed = np.flatnonzero(outcomes.kind == Kind.EXECUTOR_CRASHED)
    assert len(crashed) == 1
    assert outcomes.message_of(int(crashed[0])) == "the worker ended: killed by SIGKILL"
    assert np.all(np.delete(outcomes.kind, crashed) == Kind.EXIT)


def test_hanging_worker_costs_one_row() -> None:
    """Wait-for-SIPI is accepted and never ends: without containment the watchdog names the row, and the
    others are run.
    """
    with BochsExecutor(hang_seconds=0.1, contain=False) as executor:
        states = np.array([0, 0, 3, 0, 0], np.uint64)
        outcomes = executor.run(VmcsBatch(executor.known_good(), {"guest_activity_state": states}))
    assert [Kind(int(kind)) for kind in outcomes.kind] == [Kind.EXIT] * 2 + [Kind.EXECUTOR_CRASHED] + [Kind.EXIT] * 2
    assert outcomes.message_of(2) == "no progress in 0.1 s of processor time: the emulated processor hangs"


def test_lost_exit_handler_costs_one_row() -> None:
    """A host page table that maps nothing: the emulated processor shuts down, and the row says so."""
    with BochsExecutor(contain=False) as executor:
        outcomes = executor.run(VmcsBatch(executor.known_good(), {"host_cr3": np.array([executor.arena.base], np.uint64)}))
    assert outcomes.kind[0] == Kind.EXECUTOR_CRASHED
    assert "the emulated processor shut down" in (outcomes.message_of(0) or "")


def test_an_interrupted_batch_does_not_answer_for_the_next(own: BochsExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    good = own.known_good()
    batch = [good, good.replace(guest_gs_access_rights=0)]
    expected = [outcome.short() for outcome in own.run(batch)]

    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bochs_process.select, "select", interrupted)
        with pytest.raises(KeyboardInterrupt):
            own.run([good] * 1000)
    assert [outcome.short() for outcome in own.run(batch)] == expected


def test_worker_dies_with_its_executor() -> None:
    executor = BochsExecutor()
    pid = executor.worker_pid
    executor.close()
    executor.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ExecutorError, match=r"^bochs corei7_skylake_x: the executor is closed; open another one$"):
        executor.run([executor.known_good()])


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown CPU model 'skylake'"):
        open_executor("bochs", cpu="skylake")
    with pytest.raises(UnknownNameError, match=r"unknown executor 'boch'; did you mean bochs"):
        open_executor("boch")


def test_missing_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bochs_library.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentUnusable, match="pip install bochscpu-python"):
        BochsExecutor()


def test_missing_native_build(monkeypatch: pytest.MonkeyPatch, tmp_path: os.PathLike[str]) -> None:
    monkeypatch.setattr(abi, "NATIVE", tmp_path)
    with pytest.raises(EnvironmentUnusable, match="is not built"):
        BochsExecutor()


def test_field_that_the_cpu_lacks(bochs: BochsExecutor) -> None:
    """Bochs writes any encoding of its table, so a field that capabilities deny is still set, and does not
    change the outcome.
    """
    assert bochs.run([bochs.known_good().replace(host_ia32_fred_config=1)])[0].kind is Kind.EXIT


def test_empty_batches(bochs: BochsExecutor) -> None:
    assert len(bochs.run([])) == 0
    assert len(bochs.run(VmcsBatch(bochs.known_good(), {"guest_rip": np.zeros(0, np.uint64)}))) == 0


def test_the_engine_makes_a_shadow_vmcs_current(bochs: BochsExecutor) -> None:
    """Bochs takes one (deviation bochs-shadow-vmcs), as one whose launch state is clear; the VMCS is an ordinary one for the row behind it."""
    good = bochs.known_good()
    shadow = good.replace(live_shadow_vmcs=1)
    resume = {"live_launch_instruction": 1, "live_launch_state": 1}
    rows = [
        (good, Kind.EXIT, 52),
        (shadow, Kind.EXIT, 52),
        (shadow.replace(live_launch_state=1), Kind.EXIT, 52),
        (shadow.replace(**resume), Kind.VMFAIL_VALID, 5),
        (shadow.replace(live_no_current_vmcs=1), Kind.VMFAIL_INVALID, 0),
        (shadow.replace(live_blocking_by_mov_ss=1), Kind.VMFAIL_VALID, 26),
        (good.replace(**resume), Kind.EXIT, 52),
        (good, Kind.EXIT, 52),
    ]
    outcomes = bochs.run([state for state, _, _ in rows])
    assert [(outcome.kind, outcome.number) for outcome in (outcomes[row] for row in range(len(rows)))] == [
        (kind, number) for _, kind, number in rows
    ]


def test_the_local_apic_is_in_x2apic_mode_where_the_batch_says_so(bochs: BochsExecutor) -> None:
    good = bochs.known_good()
    address = good["vm_entry_msr_load_address"]
    back = good.replace(vm_entry_msr_load_count=1).with_memory({address: 0x1B, address + 8: 0xFEE0_0900})
    found = [bochs.run([back.replace(live_x2apic_mode=mode)])[0] for mode in (0, 1, 0)]
    assert [outcome.kind for outcome in found] == [Kind.EXIT, Kind.ENTRY_FAILURE, Kind.EXIT]
    assert found[1] == Outcome(Kind.ENTRY_FAILURE, 34, 1)
