"""Outcomes in words and in columns, and their numbers in the engine's header."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vmfuzz.arch.live import LIVE
from vmfuzz.arch.outcomes import ANY_EXIT, Kind, Outcome, Outcomes

HEADER = Path(__file__).parents[2] / "kmod" / "engine.h"


def enumerators(name: str) -> dict[str, int]:
    body = re.search(rf"enum {name} \{{(.*?)\}};", HEADER.read_text(encoding="utf-8"), re.DOTALL)
    assert body is not None
    return {label: int(number, 0) for label, number in re.findall(r"^\s*(VMFUZZ_\w+) = (\w+),", body[1], re.MULTILINE)}


def test_kinds_have_the_engines_numbers() -> None:
    assert enumerators("vmfuzz_kind") == {f"VMFUZZ_KIND_{kind.name}": kind.value for kind in Kind}


def test_settable_live_conditions_have_the_engines_numbers() -> None:
    engine = {number for label, number in enumerators("vmfuzz_live").items() if label != "VMFUZZ_LIVE_COUNT"}
    assert {condition.target for condition in LIVE.values() if condition.settable} == engine
    assert all(condition.target == -1 for condition in LIVE.values() if not condition.settable)


@pytest.mark.parametrize(
    ("outcome", "long", "short"),
    [
        (Outcome(Kind.VMFAIL_INVALID), "VMfailInvalid", "VMfailInvalid"),
        (Outcome(Kind.VMFAIL_VALID, 7), "VMfailValid(7): VM entry with invalid control field(s)", "VMfailValid(7)"),
        (Outcome(Kind.VMFAIL_VALID, 99), "VMfailValid(99): unknown error number", "VMfailValid(99)"),
        (
            Outcome(Kind.ENTRY_FAILURE, 33, 0),
            "VM-entry failure due to invalid guest state (exit reason 80000021H, qualification 0)",
            "entry failure 33 q0",
        ),
        (
            Outcome(Kind.ENTRY_FAILURE, 34, 2),
            "VM-entry failure due to MSR loading (exit reason 80000022H, qualification 2)",
            "entry failure 34 q2",
        ),
        (Outcome(Kind.ENTRY_FAILURE, 33), "VM-entry failure due to invalid guest state (exit reason 80000021H)", "entry failure 33"),
        (Outcome(Kind.EXIT, 52), "VM entry succeeds, then exit reason 52 (VMX-preemption timer expired)", "entered, exit 52"),
        (Outcome(Kind.EXIT, 1000), "VM entry succeeds, then exit reason 1000 (not named here)", "entered, exit 1000"),
        (Outcome(Kind.EXIT, ANY_EXIT), "VM entry succeeds", "entered"),
        (Outcome(Kind.VMWRITE_FAILED, 12), "VMWRITE failed with error 12", "VMWRITE failed(12)"),
        (Outcome(Kind.REFUSED), "refused", "refused by containment"),
        (Outcome(Kind.EXECUTOR_CRASHED), "executor crashed", "executor crashed"),
        (Outcome(Kind.NOT_RUN), "not run", "not run"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 25 else "",
)
def test_an_outcome_reads_as_the_manual_says_it(outcome: Outcome, long: str, short: str) -> None:
    assert str(outcome) == long
    assert outcome.short() == short


def test_an_empty_batch_of_outcomes_has_not_run() -> None:
    outcomes = Outcomes.empty(3)
    assert list(outcomes) == [Outcome(Kind.NOT_RUN)] * 3
    assert [outcomes.message_of(row) for row in range(3)] == [None] * 3


def test_columns_give_the_qualification_only_where_there_was_an_exit() -> None:
    outcomes = Outcomes.empty(3)
    outcomes.kind[:] = [Kind.ENTRY_FAILURE, Kind.VMFAIL_VALID, Kind.EXIT]
    outcomes.number[:] = [33, 7, 52]
    outcomes.qualification[:] = [4, 4, 0]
    outcomes.message[1], outcomes.messages = 0, ["the executor's word"]
    assert list(outcomes) == [Outcome(Kind.ENTRY_FAILURE, 33, 4), Outcome(Kind.VMFAIL_VALID, 7), Outcome(Kind.EXIT, 52, 0)]
    assert [outcomes.message_of(row) for row in range(3)] == [None, "the executor's word", None]
