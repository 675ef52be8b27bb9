"""Two states in one text are judged as two: vmcs12 and vmcs02, before and after, the lines of a diff."""

from __future__ import annotations

import pytest

from vmfuzz.explain.answer.answer import answer
from vmfuzz.explain.reading import read_text
from vmfuzz.explain.text.apart import states_apart

NESTED = """\
L0: VM-entry failed, exit reason 0x80000021 qualification 0
vmcs12: guest_RFLAGS = 0x0000000000000202
vmcs12: control_VM_entry_interruption_information = 0x80000030
vmcs02: guest_RFLAGS = 0x0000000000000002
vmcs02: control_VM_entry_interruption_information = 0x80000030
"""
DIFF = """\
VM-instruction error 8
-CPU(0x00): vcpu->vmcs.host_CR4=0x0000000000002020
+CPU(0x00): vcpu->vmcs.host_CR4=0x0000000000000020
 CPU(0x00): vcpu->vmcs.host_CR0=0x0000000080000031
"""


def test_the_vmcs_of_each_level_is_a_state_of_its_own() -> None:
    first, second = read_text(NESTED, "text")
    assert (first.source, second.source) == ("text, vmcs12", "text, vmcs02")
    assert (first.readings["guest_rflags"].value, second.readings["guest_rflags"].value) == (0x202, 2)
    assert (first.readings["guest_rflags"].line, second.readings["guest_rflags"].line) == (2, 4)
    assert [finding.check.id for finding in answer(first).violated] == []
    assert [finding.check.id for finding in answer(second).violated] == ["guest.rflags.if.extint"]
    assert all(dump.reported is not None and dump.reported.exit_reason == 0x80000021 for dump in (first, second))


def test_the_two_sides_of_a_diff_are_two_states_and_its_other_lines_are_of_both() -> None:
    first, second = read_text(DIFF, "text")
    assert (first.readings["host_cr4"].value, second.readings["host_cr4"].value) == (0x2020, 0x20)
    assert first.readings["host_cr0"] == second.readings["host_cr0"]
    assert [finding.check.id for finding in answer(second).violated] == ["host.cr4.fixed.ones"]


@pytest.mark.parametrize(
    "text",
    [
        "(0x6800) VMCS02.guest_CR0 = 0x30\n(0x6804) VMCS02.guest_CR4 = 0x2000\n",
        "- guest_cr0 = 0x31\n- guest_cr4 = 0x2000\n+ guest_rip = 0x1000\n",
        "+guest_cr0 = 0x31\n+guest_cr4 = 0x2000\n",
        "before: I load it\nafter: it fails\nguest_cr0 = 0x31\n",
        "old: guest_cr0 = 0x31\nnew: it fails\nguest_cr4 = 0x2000\n",
    ],
)
def test_one_state_stays_one(text: str) -> None:
    assert list(states_apart(text)) == [""]
    assert len(read_text(text)) == 1


def test_before_and_after() -> None:
    text = "before: rip = 0x1000\nbefore: rflags = 0x2\nafter: rip = 0x2000\nafter: rflags = 0x202\n"
    assert [(state, part.split("\n")[0], part.split("\n")[2]) for state, part in states_apart(text).items()] == [
        ("before", "rip = 0x1000", ""),
        ("after", "", "rip = 0x2000"),
    ]
