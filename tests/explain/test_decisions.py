"""Where fields are one decision, its alternatives are offered, the smallest first, and each of them works."""

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
        values = {**found.checked.values, **{change.field: Partial(change.new) for change in repair.changes}}
        assert judge(None, found.knowledge, values).of(Verdict.VIOLATED) == []


def test_privilege_levels_go_together() -> None:
    text = (
        "exit reason 0x80000021\nguest CS selector = 0x10\nguest CS access rights = 0xa09b\nguest SS selector = 0x1b\n"
        "guest SS access rights = 0xc0f3\nguest RFLAGS = 0x2\n"
    )
    titles = [title for title, _ in offered(answer(read(text)))]
    assert titles == ["for code of privilege level 0 (a kernel)", "for code of privilege level 3 (a program)"]


SEGMENTS = """\
exit reason 0x80000021
guest CR0 = {cr0:#x}
guest CR4 = 0x2020
guest EFER = {efer:#x}
guest RIP = {rip:#x}
guest RFLAGS = 0x2
guest TR access rights = {tr:#x}
guest CS access rights = {cs:#x}
guest SS access rights = 0xc093
VM-entry controls = {entry:#x}
primary processor-based controls = 0x8401e172
secondary processor-based controls = 0x2
"""
LONG = {"cr0": 0x80010031, "efer": 0x500, "rip": 0xFFFFFFFF81000000, "tr": 0x8B, "cs": 0xA09B, "entry": 0xD3FF}
LEGACY = {"cr0": 0x80010031, "efer": 0, "rip": 0x1000, "tr": 0x8B, "cs": 0xC09B, "entry": 0xD1FF}
REAL = {**LEGACY, "cr0": 0x30}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (
            {**LONG, "tr": 0x83},
            [("for a guest in IA-32e mode", {"guest_tr_access_rights": 0x8B})],
        ),
        ({**LEGACY, "tr": 0x89}, [("for a guest outside IA-32e mode", {"guest_tr_access_rights": 0x8B})]),
        ({**LEGACY, "tr": 0}, [("for a guest outside IA-32e mode", {"guest_tr_access_rights": 0x8B})]),
        ({**LONG, "cs": 0xA093}, [("for 64-bit code", {"guest_cs_access_rights": 0xA09B})]),
        ({**LONG, "cs": 0}, [("for 64-bit code", {"guest_cs_access_rights": 0x2099})]),
        ({**LEGACY, "cs": 0xC093}, [("for code in protected or compatibility mode", {"guest_cs_access_rights": 0xC09B})]),
        ({**LONG, "cs": 0xC09B}, [("for 64-bit code", {"guest_cs_access_rights": 0xA09B})]),
        (
            {**REAL, "cs": 0x93},
            [("for a guest in real mode or without paging", {"secondary_processor_based_controls": 0x82})],
        ),
        ({**LEGACY, "rip": 0x100001000}, [("", {"guest_rip": 0x1000})]),
    ],
)
def test_tr_and_cs_are_those_of_a_mode(state: dict[str, int], expected: list[tuple[str, dict[str, int]]]) -> None:
    assert offered(answer(read(SEGMENTS.format(**state))))[:1] == expected


def test_tr_of_a_16_bit_tss_is_of_a_32_bit_guest_where_cs_is() -> None:
    assert offered(answer(read(SEGMENTS.format(**{**LONG, "tr": 0x83, "cs": 0xC09B, "rip": 0x1000})))) == [
        ("for a guest in IA-32e mode", {"guest_tr_access_rights": 0x8B}),
        ("for a 32-bit guest", {"guest_ia32_efer": 0, "vm_entry_controls": 0xD1FF}),
    ]


def test_blocking_by_sti_goes_with_interrupts_that_are_on() -> None:
    text = "exit reason 0x80000021\nguest RFLAGS = 0x2\nguest interruptibility state = 0x1\n"
    assert offered(answer(read(text))) == [
        ("for a guest that has interrupts off", {"guest_interruptibility_state": 0}),
        ("for a guest that has just turned interrupts on", {"guest_rflags": 0x202}),
    ]


EVENT = """\
VM-instruction error 7
VM-entry interruption info = {info:#x}
VM-entry exception error code = {code:#x}
VM-entry instruction length = {length}
"""
IN_PROTECTED_MODE = "guest CR0 = 0x80010031\n"
IN_REAL_MODE = "guest CR0 = 0x20\nprimary processor-based controls = 0x8401e172\nsecondary processor-based controls = 0x82\n"
INFO, CODE, LENGTH = "vm_entry_interruption_info", "vm_entry_exception_error_code", "vm_entry_instruction_length"


@pytest.mark.parametrize(
    ("info", "code", "length", "mode", "title", "changes"),
    [
        (0x8000030E, 0, 0, IN_PROTECTED_MODE, "for an exception with an error code", {INFO: 0x80000B0E}),
        (0x8000080E, 0, 0, IN_PROTECTED_MODE, "for an exception with an error code", {INFO: 0x80000B0E}),
        (0x80000B0E, 0xFFFF0002, 0, IN_PROTECTED_MODE, "for an exception with an error code", {CODE: 2}),
        (0x80000B0D, 0, 0, IN_REAL_MODE, "for an exception without an error code", {INFO: 0x8000030D}),
        (0x80000B06, 0, 0, IN_PROTECTED_MODE, "for an exception without an error code", {INFO: 0x80000306}),
        (0x80000320, 0, 0, IN_PROTECTED_MODE, "for an external interrupt", {INFO: 0x80000020}),
        (0x80000480, 0, 0, IN_PROTECTED_MODE, "for INT n", {LENGTH: 2}),
        (0x80000480, 0, 16, IN_PROTECTED_MODE, "for INT n", {LENGTH: 2}),
        (0x80000C80, 0, 3, IN_PROTECTED_MODE, "for INT n", {INFO: 0x80000480}),
        (0x80000B03, 0, 0, IN_PROTECTED_MODE, "for INT3 or INTO", {INFO: 0x80000603, LENGTH: 1}),
        (0x80000501, 0, 0, IN_PROTECTED_MODE, "for INT1", {LENGTH: 1}),
        (0x80000B02, 0, 0, IN_PROTECTED_MODE, "for an NMI", {INFO: 0x80000202}),
        (0x80000200, 0, 0, IN_PROTECTED_MODE, "for an NMI", {INFO: 0x80000202}),
        (0x80000720, 0, 0, IN_PROTECTED_MODE, "for a pending MTF VM exit", {INFO: 0x80000700}),
    ],
)
def test_an_event_goes_with_its_error_code_and_its_length(
    info: int, code: int, length: int, mode: str, title: str, changes: dict[str, int]
) -> None:
    assert offered(answer(read(EVENT.format(info=info, code=code, length=length) + mode)))[0] == (title, changes)


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda decision: decision.checks[0])
def test_every_decision_is_about_checks_that_exist(decision: object) -> None:
    for beginning in decision.checks:  # type: ignore[attr-defined]
        assert any(check.id.startswith(beginning) for check in CHECKS), beginning
