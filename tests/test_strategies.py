"""The strategies that people draw states from: what they draw, what it shrinks to, and Hypothesis' tools with them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, note, settings, target
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

import vmfuzz
from vmfuzz import Vmcs, capabilities, strategies
from vmfuzz.arch.registers import CR4
from vmfuzz.errors import UnknownNameError, UsageError
from vmfuzz.model.checks import BY_ID
from vmfuzz.strategies import base

CAPS = capabilities("corei7_skylake_x")
GOOD = vmfuzz.known_good(CAPS)
QUICK = settings(max_examples=60, database=None, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
SEARCH = settings(QUICK, max_examples=20_000, phases=[Phase.generate, Phase.shrink])

FEW = ["guest_cr4", "guest_rip", "guest_gs_selector", "host_cr4", "cr3_target_count", "memory_vtpr"]


def drawn(strategy: st.SearchStrategy[Vmcs], count: int = 60) -> list[Vmcs]:
    states: list[Vmcs] = []

    @settings(QUICK, max_examples=count)
    @given(strategy)
    def collect(state: Vmcs) -> None:
        states.append(state)

    collect()
    return states


def smallest(strategy: st.SearchStrategy[Any], condition: Any) -> Any:
    return find(strategy, condition, settings=SEARCH)


def anything(_: object) -> bool:
    return True


def changed_in(state: Vmcs, start: Vmcs = GOOD) -> dict[str, int]:
    return {name: (before or 0) ^ (after or 0) for name, (before, after) in start.differences(state).items()}


# What is drawn


def test_edits_reach_all_kinds_of_operands_and_either_side_of_the_checks() -> None:
    states = drawn(strategies.vmcs(CAPS), 400)
    predictions = [vmfuzz.predict(state, CAPS) for state in states]
    assert 40 < sum(prediction.enters for prediction in predictions) < 360
    assert len({violation.check.id for prediction in predictions for violation in prediction.violations}) > 15
    assert len(set(states)) > 200


@pytest.mark.parametrize("mode", ["pae", ["pae", "real"]])
def test_a_mode_that_was_asked_for_is_drawn_and_no_other(mode: Any) -> None:
    wanted = {mode} if isinstance(mode, str) else set(mode)
    bases = {repr(state).split("'")[1] for state in drawn(strategies.vmcs(CAPS, mode=mode, event="nothing"))}
    assert {name.split("/")[0] for name in bases} == wanted
    assert {name.split("/")[2] for name in bases} == {"nothing"}


def test_features_that_were_asked_for_are_on() -> None:
    states = drawn(strategies.vmcs(CAPS, features="link-pointer", fields=["guest_rip"]))
    assert all(state["vmcs_link_pointer"] in state.memory for state in states)


def test_only_the_operands_that_were_named_are_edited() -> None:
    for state in drawn(strategies.vmcs(CAPS, mode="64-bit", features="plain", event="nothing", fields=["guest_cr4", "live_launch_state"])):
        assert set(changed_in(state)) <= {"guest_cr4", "live_launch_state"}


def test_what_is_valid_enters_for_certain() -> None:
    states = drawn(strategies.valid(CAPS))
    for state in states:
        prediction = vmfuzz.predict(state, CAPS)
        assert not prediction.violations
        assert not prediction.not_modelled
    assert sum(") " in repr(state) or ".replace" in repr(state) for state in states) > 10


@pytest.mark.parametrize("id", ["guest.gs.p", "ctl.nmi.virtual", "host.base.gs", "guest.rflags.reserved.one", "basic.launch.clear"])
def test_what_violates_a_check_violates_it_alone(id: str) -> None:
    for state in drawn(strategies.violating(id, CAPS), 30):
        violations = vmfuzz.predict(state, CAPS).violations
        stage = next(each.check.fails.stage for each in violations if each.check.id == id)
        assert [each.check.id for each in violations if each.check.fails.stage <= stage] == [id]


def test_a_check_that_never_fails_alone_fails_with_others() -> None:
    for state in drawn(strategies.violating("host.as.ia32e", CAPS), 10):
        assert "host.as.ia32e" in {each.check.id for each in vmfuzz.predict(state, CAPS).violations}


def test_candidates_are_directed_at_the_checks_that_were_named() -> None:
    states = drawn(strategies.candidates(CAPS, checks="guest.gs", mode="64-bit", features="plain", event="nothing"), 100)
    edited = {name for state in states for name in changed_in(state)}
    read = {name for id, check in BY_ID.items() if id.startswith("guest.gs.") for name in check.fields}
    assert {"guest_gs_access_rights", "guest_gs_limit"} <= edited <= read
    assert sum(bool(vmfuzz.predict(state, CAPS).violations) for state in states) > 20


def test_candidates_of_all_checks_violate_many_of_them() -> None:
    states = drawn(strategies.candidates(CAPS), 200)
    assert len({each.check.id for state in states for each in vmfuzz.predict(state, CAPS).violations}) > 20


def test_memory_is_that_of_the_state_with_what_an_entry_reads_edited() -> None:
    state = base("64-bit/msr-load-1/nothing", CAPS)
    found: list[Mapping[int, int]] = []

    @QUICK
    @given(strategies.memory(CAPS, state))
    def collect(words: Mapping[int, int]) -> None:
        found.append(words)

    collect()
    assert all(words.keys() == state.memory.keys() for words in found)
    assert len({tuple(words.items()) for words in found}) > 20
    area = state["vm_entry_msr_load_address"]
    assert any(words[area] != state.memory[area] for words in found)
    assert smallest(strategies.memory(CAPS, state), anything) == dict(state.memory)
    assert smallest(strategies.memory(CAPS, Vmcs(dict(state))), anything) == {}


def test_a_state_of_ones_own_is_what_everything_starts_from() -> None:
    own = GOOD.replace(guest_rip=0x4321)
    assert smallest(strategies.vmcs(CAPS, known_good=own), anything) == own


# What it shrinks to


@pytest.mark.parametrize(
    "strategy", [strategies.vmcs(CAPS), strategies.valid(CAPS), strategies.candidates(CAPS)], ids=["vmcs", "valid", "candidates"]
)
def test_the_simplest_example_is_the_known_good_state(strategy: st.SearchStrategy[Vmcs]) -> None:
    assert smallest(strategy, anything) == GOOD


@pytest.mark.parametrize(
    "strategy", [strategies.vmcs(CAPS, fields=FEW), strategies.candidates(CAPS, checks="guest.cr4")], ids=["vmcs", "candidates"]
)
def test_an_example_shrinks_to_one_bit_of_one_field_of_the_plain_base(strategy: st.SearchStrategy[Vmcs]) -> None:
    found = smallest(strategy, lambda state: not state["guest_cr4"] >> CR4.VMXE & 1)
    assert changed_in(found) == {"guest_cr4": 1 << CR4.VMXE}


def test_a_number_shrinks_towards_what_the_base_has() -> None:
    found = smallest(strategies.vmcs(CAPS, fields=["cr3_target_count", "guest_rip"]), lambda state: state["cr3_target_count"] > 4)
    assert changed_in(found).keys() == {"cr3_target_count"}
    assert found["cr3_target_count"] <= 8


def test_a_violation_shrinks_to_the_smallest_that_there_is() -> None:
    found = smallest(strategies.violating("guest.gs.p", CAPS), anything)
    assert changed_in(found) == {"guest_gs_access_rights": 0x80}


# What is wrong with what was asked for


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: strategies.vmcs(CAPS, mode="long"), UnknownNameError, "mode 'long'"),
        (lambda: strategies.valid(CAPS, features=["plain", "ept"]), UnknownNameError, "did you mean"),
        (lambda: strategies.vmcs(CAPS, event="irq"), UnknownNameError, "event 'irq'"),
        (lambda: strategies.vmcs(CAPS, fields=["guest_cr5"]), UnknownNameError, "guest_cr"),
        (lambda: strategies.violating("guest.gs", CAPS), UnknownNameError, "check 'guest.gs'"),
        (
            lambda: strategies.violating("guest.cet.scet.reserved", capabilities("core2_penryn_t9600")),
            UsageError,
            "does not exist on core2_penryn_t9600",
        ),
        (lambda: strategies.candidates(CAPS, checks="gust"), UnknownNameError, "check 'gust'"),
        (lambda: strategies.vmcs(capabilities("core2_penryn_t9600"), features="ept-features"), UsageError, "has no base with ept-features"),
        (lambda: base("real/plain/nothing", capabilities("core2_penryn_t9600")), UsageError, "lacks what the base needs"),
    ],
)
def test_what_does_not_exist_is_said(make: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        make()


# Hypothesis' own tools


def test_a_report_says_how_to_make_the_state_again() -> None:
    for state in drawn(strategies.vmcs(CAPS), 80):
        again = eval(repr(state), {"base": base, "capabilities": capabilities})
        assert again == state
        assert type(again) is Vmcs
        assert type(state.replace(guest_rip=0)) is Vmcs


def test_a_failure_names_the_base_and_what_differs_and_notes_are_told() -> None:
    @settings(SEARCH, print_blob=False)
    @given(strategies.vmcs(CAPS, fields=["guest_rflags"]))
    def refuses_nothing(state: Vmcs) -> None:
        note(f"the manual allows {[outcome.short() for outcome in vmfuzz.predict(state, CAPS).outcomes]}")
        assert vmfuzz.predict(state, CAPS).enters

    with pytest.raises(AssertionError) as error:
        refuses_nothing()
    notes = "\n".join(error.value.__notes__)
    assert "the manual allows ['entry failure 33 q0']" in notes
    assert "state=base('64-bit/plain/nothing', capabilities('corei7_skylake_x')).replace(guest_rflags=0x" in notes


def test_a_target_leads_to_states_that_violate_more() -> None:
    """All states together: a single one that violates much comes by chance too."""

    def violations_of_all(aimed: bool) -> int:
        found: list[int] = []

        @settings(QUICK, max_examples=300, phases=[Phase.generate, Phase.target])
        @given(strategies.vmcs(CAPS, mode="64-bit", features="plain", event="nothing"))
        def test(state: Vmcs) -> None:
            found.append(len(vmfuzz.predict(state, CAPS).violations))
            if aimed:
                target(float(found[-1]))

        test()
        return sum(found)

    assert violations_of_all(aimed=True) > violations_of_all(aimed=False) > 0


def test_a_state_machine_draws_states_and_finds_what_depends_on_the_entry_before() -> None:
    class Processor(RuleBasedStateMachine):
        """Wrong: after an entry with CR4.DE = 1 it never refuses."""

        def __init__(self) -> None:
            super().__init__()
            self.careless = False
            self.wrong = False

        @rule(state=strategies.valid(CAPS, mode="64-bit", features="plain", event="nothing", fields=["guest_cr4"]))
        def enter(self, state: Vmcs) -> None:
            self.careless |= bool(state["guest_cr4"] >> CR4.DE & 1)

        @precondition(lambda self: self.careless)
        @rule(state=strategies.violating("guest.gs.p", CAPS))
        def refuse(self, state: Vmcs) -> None:
            assert not vmfuzz.predict(state, CAPS).enters
            self.wrong = True

        @invariant()
        def refuses(self) -> None:
            assert not self.wrong

    with pytest.raises(AssertionError) as error:
        run_state_machine_as_test(Processor, settings=settings(SEARCH, max_examples=1000, stateful_step_count=4, print_blob=False))
    steps = [line for line in "\n".join(error.value.__notes__).splitlines() if "state." in line and "(" in line]
    assert any(".enter(" in step for step in steps)
    assert sum(".refuse(" in step for step in steps) == 1
    assert any("replace(guest_cr4=" in step for step in steps)


def test_the_same_seed_on_the_command_line_gives_the_same_examples(tmp_path: Path) -> None:
    (tmp_path / "test_seeded.py").write_text(
        "from hypothesis import given, settings\n"
        "from vmfuzz import capabilities, strategies\n"
        "@settings(max_examples=25, database=None, deadline=None)\n"
        "@given(strategies.vmcs(capabilities('corei7_skylake_x')))\n"
        "def test_it(state):\n"
        "    print('drawn', repr(state))\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--hypothesis-seed=7", "test_seeded.py"]
    runs = [
        subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout
        for seed in ("1", "2")
    ]
    shown = [[line for line in run.splitlines() if "drawn" in line] for run in runs]
    assert shown[0] == shown[1]
    assert len(set(shown[0])) > 10
