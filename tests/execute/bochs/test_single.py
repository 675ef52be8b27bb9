"""Single VMCSs on an emulated CPU, without columns: each ends as the executor says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.errors import EnvironmentUnusable, ExecutorError, UnknownNameError, UsageError
from vmfuzz.execute.bochs import single
from vmfuzz.execute.bochs.executor import BochsExecutor
from vmfuzz.execute.bochs.library import bochs_library
from vmfuzz.execute.bochs.single import SingleEntries
from vmfuzz.state.batch import VmcsBatch

Families = Callable[..., Iterator[VmcsBatch]]


def test_each_ends_as_in_a_batch(each_cpu: BochsExecutor, random_families: Families) -> None:
    seen = set()
    with SingleEntries(each_cpu.cpu) as emulated:
        assert emulated.name == each_cpu.name
        assert emulated.known_good == each_cpu.known_good()
        for batch in random_families(each_cpu.known_good(), seed=9, families=40, rows=4):
            outcomes = list(each_cpu.run(batch))
            assert [emulated.run(vmcs) for vmcs in batch] == outcomes
            seen.update(outcome.kind for outcome in outcomes)
    assert {Kind.EXIT, Kind.ENTRY_FAILURE, Kind.VMFAIL_VALID, Kind.REFUSED} <= seen


def test_one_that_costs_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait-for-SIPI never ends; the next candidate has a worker of its own."""
    monkeypatch.setattr(single, "_HANG_SECONDS", 0.1)
    with SingleEntries("corei7_skylake_x") as emulated:
        good = emulated.known_good
        asleep = good.replace(guest_activity_state=3)
        assert emulated.run(asleep).kind is Kind.REFUSED
        monkeypatch.setattr(emulated._containment, "refusal", lambda _: None)
        assert emulated.run(asleep).kind is Kind.EXECUTOR_CRASHED
        assert emulated.run(good) == Outcome(Kind.EXIT, 52, 0)


def test_what_it_does_not_run() -> None:
    with SingleEntries("corei7_skylake_x") as emulated:
        for other in (emulated.known_good.with_memory({0x1000_0000: 1}), emulated.known_good.replace(live_shadow_vmcs=1)):
            with pytest.raises(UsageError, match="open_executor runs those that do"):
                emulated.run(other)


def test_a_worker_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "bochs_library", lambda: replace(bochs_library(), python="/bin/false"))
    with pytest.raises(ExecutorError, match=r"^bochs corei7_skylake_x: the worker ended: exit status 1$"):
        SingleEntries("corei7_skylake_x")


def test_which_processors_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError, match="unknown CPU model"):
        SingleEntries("granite_rapids")
    monkeypatch.setattr(single, "bochs_library", lambda: replace(bochs_library(), version="0.3.1", bochs="2.8"))
    with pytest.raises(EnvironmentUnusable, match=r"the stored profiles are not those of Bochs 2\.8"):
        SingleEntries("corei7_skylake_x")
