"""Where fields are one decision, the ways to decide are offered, the smallest first, and each of them works."""

from __future__ import annotations

import pytest
from one_dump import read

from vmfuzz.explain.answer.answer import Answer, answer
from vmfuzz.explain.judgement.judge import Verdict, judge
from vmfuzz.explain.repair.decisions import DECISIONS
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.partial import Partial

LONG_MODE = """\
exit reason 0x80000021
guest CR0 = {cr0:#x}
guest CR4 = {cr4:#x}
guest EFER = {efer:#x}
VM-entry controls = {entry:#x}
"""


def offered(found: Answer) -> list[tuple[str, dict[str, int]]]:
    return [(repair.title, {change.field: change.new for change in repair.changes}) for repair in found.repairs]


@pytest.mark.parametrize(
    ("cr0", "cr4", "efer", "entry", "expected"),
    [
        (
            0x80010031,
            0x2020,
            0x100,
            0xD1FF,
            [
                ("for a 32-bit guest", {"guest_ia32_efer": 0}),
                ("for a 64-bit guest", {"guest_ia32_efer": 0x500, "vm_entry_controls": 0xD3FF}),
            ],
        ),
        (
            0x80010031,
            0x2020,
            0x500,
            0xD1FF,
            [
                ("for a 64-bit guest", {"vm_entry_controls": 0xD3FF}),
                ("for a 32-bit guest", {"guest_ia32_efer": 0}),
            ],
        ),
        (
            0x10031,
            0x2020,
            0x500,
            0xD3FF,
            [
                ("for a 64-bit guest", {"guest_cr0": 0x80010031}),
                ("for a guest that turns on paging and IA-32e mode itself", {"guest_ia32_efer": 0x100, "vm_entry_controls": 0xD1FF}),
            ],
        ),
    ],
)
def test_the_mode_of_the_guest_is_one_decision(
    cr0: int, cr4: int, efer: int, entry: int, expected: list[tuple[str, dict[str, int]]]
) -> None:
    found = answer(read(LONG_MODE.format(cr0=cr0, cr4=cr4, efer=efer, entry=entry)))
    assert offered(found) == expected


def test_each_way_that_is_offered_mends_what_can_be_judged() -> None:
    found = answer(read(LONG_MODE.format(cr0=0x80000031, cr4=0x2000, efer=0x100, entry=0xD3FF)))
    assert found.repairs
    for repair in found.repairs:
        values = {**found.judged.values, **{change.field: Partial(change.new) for change in repair.changes}}
        assert judge(None, found.knowledge, values).of(Verdict.VIOLATED) == []


def test_privilege_levels_go_together() -> None:
    text = (
        "exit reason 0x80000021\nguest CS selector = 0x10\nguest CS access rights = 0xa09b\nguest SS selector = 0x1b\n"
        "guest SS access rights = 0xc0f3\nguest RFLAGS = 0x2\n"
    )
    titles = [title for title, _ in offered(answer(read(text)))]
    assert titles == ["for code of privilege level 0 (a kernel)", "for code of privilege level 3 (a program)"]


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda decision: decision.checks[0])
def test_every_decision_is_about_checks_that_exist(decision: object) -> None:
    for beginning in decision.checks:  # type: ignore[attr-defined]
        assert any(check.id.startswith(beginning) for check in CHECKS), beginning
