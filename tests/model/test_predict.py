"""Prediction: the stages of a VM entry, sets of allowed outcomes, and rows against columns."""

from __future__ import annotations

import numpy as np
import pytest

from vmfuzz.arch.fields import FIELDS
from vmfuzz.arch.outcomes import Kind, Outcome
from vmfuzz.errors import ModelError
from vmfuzz.generate.boundary import edits_of
from vmfuzz.model.check import Check, Fails, Section, Stage
from vmfuzz.model.checks import CHECKS
from vmfuzz.model.deviations import altered_checks
from vmfuzz.model.expr import TRUE, Bits
from vmfuzz.model.known_deviations import deviations_of
from vmfuzz.model.operands import cap, vmcs
from vmfuzz.model.predict import Model, Prediction, model_of, predict
from vmfuzz.model.sections import EDITIONS, NUMBERS, Citation
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

CAPS = capabilities("corei7_skylake_x")
GOOD = known_good(CAPS)
LINKED = GOOD.replace(vmcs_link_pointer=GOOD["io_bitmap_a"])


def failures(prediction: Prediction) -> set[Outcome]:
    return {outcome for outcome in prediction.outcomes if outcome.kind is not Kind.EXIT}


def valid(number: int) -> Outcome:
    return Outcome(Kind.VMFAIL_VALID, number)


def entry(number: int, qualification: int) -> Outcome:
    return Outcome(Kind.ENTRY_FAILURE, number, qualification)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"live_no_current_vmcs": 1}, {Outcome(Kind.VMFAIL_INVALID)}),
        ({"live_blocking_by_mov_ss": 1}, {valid(26)}),
        ({"live_launch_state": 1}, {valid(4)}),
        ({"live_shadow_vmcs": 1}, {Outcome(Kind.VMFAIL_INVALID)}),
        ({"live_shadow_vmcs": 1, "live_blocking_by_mov_ss": 1, "pin_based_controls": 0}, {Outcome(Kind.VMFAIL_INVALID)}),
        ({"live_launch_instruction": 1}, {valid(5)}),
        ({"cr3_target_count": 5}, {valid(7)}),
        ({"host_cs_selector": 0}, {valid(8)}),
        ({"guest_rflags": 0}, {entry(33, 0)}),
        ({"vmcs_link_pointer": 1}, {entry(33, 4)}),
        # earlier stages hide later ones
        ({"live_no_current_vmcs": 1, "live_blocking_by_mov_ss": 1, "cr3_target_count": 5}, {Outcome(Kind.VMFAIL_INVALID)}),
        ({"live_blocking_by_mov_ss": 1, "live_launch_state": 1, "guest_rflags": 0}, {valid(26)}),
        ({"live_launch_state": 1, "host_cs_selector": 0}, {valid(4)}),
        ({"cr3_target_count": 5, "guest_rflags": 0}, {valid(7)}),
        ({"host_cs_selector": 0, "guest_rflags": 0}, {valid(8)}),
        # within a stage the order is free
        ({"cr3_target_count": 5, "host_cs_selector": 0}, {valid(7), valid(8)}),
        ({"guest_rflags": 0, "vmcs_link_pointer": 1}, {entry(33, 0), entry(33, 4)}),
        # rules on controls and the host's size may give either number
        ({"live_efer": 0}, {valid(7), valid(8)}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_the_first_stage_with_a_violation_decides(changes: dict[str, int], expected: set[Outcome]) -> None:
    prediction = predict(GOOD.replace(**changes), CAPS)
    assert prediction.outcomes == expected
    assert not prediction.enters


def test_violations_of_all_stages_are_listed_in_the_manuals_order() -> None:
    prediction = predict(GOOD.replace(cr3_target_count=5, host_cs_selector=0, guest_rflags=0), CAPS)
    ids = [violation.check.id for violation in prediction.violations]
    assert ids == ["ctl.cr3target.count", "host.sel.cs.null", "guest.rflags.reserved.one"]
    order = [check.id for check in CHECKS]
    assert ids == sorted(ids, key=order.index)


def test_the_known_good_state_enters() -> None:
    prediction = predict(GOOD, CAPS)
    assert failures(prediction) == set()
    assert prediction.enters
    assert prediction.violations == ()


def test_an_ambiguity_allows_both_readings() -> None:
    prediction = predict(GOOD.replace(guest_cs_access_rights=GOOD["guest_cs_access_rights"] | 1 << 16), CAPS)
    assert failures(prediction) == {entry(33, 0)}
    assert prediction.enters
    assert [violation.check.ambiguity for violation in prediction.violations] == ["cs-unusable"]


def test_an_ambiguity_does_not_let_a_certain_violation_pass() -> None:
    state = GOOD.replace(guest_cs_access_rights=GOOD["guest_cs_access_rights"] | 1 << 16, guest_rflags=0)
    assert not predict(state, CAPS).enters


def with_word(word: int) -> Vmcs:
    return LINKED.with_memory({LINKED["vmcs_link_pointer"]: word})


def test_memory_decides_where_the_case_describes_it() -> None:
    assert predict(with_word(CAPS.revision), CAPS).enters
    assert not predict(with_word(CAPS.revision), CAPS).not_modelled
    wrong = predict(with_word(CAPS.revision ^ 1), CAPS)
    assert wrong.outcomes == {entry(33, 4)}
    assert not wrong.not_modelled
    shadow = predict(with_word(CAPS.revision | 1 << 31), CAPS)
    assert [violation.check.id for violation in shadow.violations] == ["guest.link.shadow"]


def test_memory_that_the_case_does_not_describe_is_not_modelled() -> None:
    prediction = predict(LINKED, CAPS)
    assert prediction.not_modelled
    assert failures(prediction) == {entry(33, 4)}
    assert prediction.enters
    assert prediction.violations == ()


@pytest.mark.parametrize("bad", [1, 2, 3, 4])
def test_the_first_msr_load_entry_that_fails_gives_the_qualification(bad: int) -> None:
    address, kernel_gs_base, fs_base = GOOD["vm_entry_msr_load_address"], 0xC0000102, 0xC0000100
    words = {}
    for number in range(1, 5):
        words[address + 16 * (number - 1)] = fs_base if number >= bad else kernel_gs_base
        words[address + 16 * (number - 1) + 8] = 0
    prediction = predict(GOOD.replace(vm_entry_msr_load_count=4).with_memory(words), CAPS)
    assert prediction.outcomes == {entry(34, bad)}


def test_a_field_that_was_never_written_counts_as_0() -> None:
    names = [name for name in GOOD if name in FIELDS][::7]
    for name in names:
        never, zero = predict(GOOD.without(name), CAPS), predict(GOOD.replace(**{name: 0}), CAPS)
        assert (never.outcomes, never.not_modelled) == (zero.outcomes, zero.not_modelled), name
        assert [violation.check.id for violation in never.violations] == [violation.check.id for violation in zero.violations], name


@pytest.mark.parametrize("name", ["corei7_skylake_x", "arrow_lake", "core2_penryn_t9600"])
def test_a_batch_is_predicted_as_its_rows_are(name: str) -> None:
    caps = capabilities(name)
    model, good = Model(caps), known_good(caps)
    link = good["io_bitmap_a"]
    base = good.replace(vmcs_link_pointer=link).with_memory({link: caps.revision, link + 8: 0})
    rng = np.random.default_rng(5)
    fields = [field.name for field in caps.fields if field.writable]
    for start in (good, base):
        for _ in range(12):
            columns = {}
            for chosen in rng.choice(np.array(fields), 4, replace=False):
                edits = [edit for index in model.checks_reading(chosen) for edit in edits_of(model.compiled[index].violated, chosen)]
                current = start.get(chosen) or 0
                near = [current & keep | set_bits for keep, set_bits in edits] or [current ^ 1]
                columns[str(chosen)] = rng.choice(np.array([current, current, *near], np.uint64), 10)
            batch = VmcsBatch(start, columns)
            together = model.predict_batch(batch)
            for row in range(len(batch)):
                alone = model.predict_batch(VmcsBatch(batch.row(row), {}, count=1))
                assert together.allowed[row] == alone.allowed[0]
                assert together.not_modelled[row] == alone.not_modelled[0]
                ids = [compiled.check.id for compiled in together.violations_of(row)]
                assert sorted(ids) == sorted(compiled.check.id for compiled in alone.violations_of(0))


def test_memory_columns_are_predicted_as_their_rows_are() -> None:
    model, address = Model(CAPS), LINKED["vmcs_link_pointer"]
    batch = VmcsBatch(with_word(0), {}, {address: [CAPS.revision, 0, CAPS.revision | 1 << 31]})
    alone = [int(model.predict_batch(VmcsBatch(batch.row(row), {}, count=1)).allowed[0]) for row in range(3)]
    assert model.predict_batch(batch).allowed.tolist() == alone
    assert len(set(alone)) == 2


def test_an_empty_batch_has_an_empty_prediction() -> None:
    assert len(Model(CAPS).predict_batch(VmcsBatch(GOOD, {"vpid": []}))) == 0


def test_a_model_of_no_checks_accepts_everything() -> None:
    assert Model(CAPS, ()).predict_batch(VmcsBatch(Vmcs(), {}, count=1)).violations_of(0) == []


# How a check is declared


def declare(**changes: object) -> Check:
    section = Section("Checks on Guest RIP, RFLAGS, and SSP", Fails.GUEST)
    arguments: dict[str, object] = {"id": "guest.made.up", "text": "A made-up rule.", "must": vmcs.guest_rip == 0, **changes}
    section.check(**arguments)  # type: ignore[arg-type]
    return section.checks[0]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"requires": vmcs.guest_rip == 0}, r"`requires` reads \['guest_rip'\]; it may read capabilities only"),
        ({"must": cap.revision == 1}, "`must` reads no field"),
        ({"id": "Guest.Rip"}, "expected lower-case words"),
        ({"id": "guest rip"}, "expected lower-case words"),
    ],
)
def test_a_check_that_is_declared_wrongly_is_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        declare(**changes)


def test_a_check_has_the_outcome_of_its_section_unless_it_says_otherwise() -> None:
    assert declare().fails is Fails.GUEST
    assert declare(fails=Fails.PDPTE).fails.outcomes == (entry(33, 2),)
    assert declare(fails=Fails.PDPTE).fails.stage is Stage.GUEST


def test_a_check_whose_capabilities_do_not_hold_is_left_out() -> None:
    on, off = declare(requires=cap.revision == CAPS.revision), declare(requires=cap.revision == CAPS.revision + 1)
    assert [compiled.check for compiled in Model(CAPS, (on, off)).compiled] == [on]


def test_a_check_that_can_never_fail_here_is_left_out() -> None:
    harmless: Bits = vmcs.guest_rip & 0xF
    assert Model(CAPS, (declare(must=harmless <= 15), declare(must=(vmcs.guest_rip | 0) == vmcs.guest_rip, when=~TRUE))).compiled[1:] == []


# Sections


@pytest.mark.parametrize("title", NUMBERS)
def test_a_section_is_cited_by_title_with_its_number_in_each_edition(title: str) -> None:
    old, new = NUMBERS[title]
    assert (old.split(".")[0], new.split(".")[0]) == ("26", "29")
    assert old.split(".")[1:] == new.split(".")[1:]
    assert Citation(title).number == new
    assert str(Citation(title)) == f'SDM Vol. 3C, "{title}" ({new} in the June 2026 edition, {old} in 2016)'


def test_every_check_cites_a_section_of_the_table_and_every_section_has_checks() -> None:
    assert {check.section.title for check in CHECKS} == set(NUMBERS)
    assert len(EDITIONS) == 2


def test_a_section_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(KeyError):
        Citation("Checks on Everything")


ALTERED = Model(CAPS, altered_checks(deviations_of("bochs corei7_skylake_x")))


def singly_edited() -> VmcsBatch:
    """The known-good state with each boundary value of the fields of the checks that known deviations of Bochs alter."""
    same = {compiled.violated.serial for compiled in model_of(CAPS).compiled}
    candidates = [GOOD]
    for compiled in ALTERED.compiled:
        for name in sorted(compiled.violated.reads & FIELDS.keys() & set(GOOD)) if compiled.violated.serial not in same else ():
            candidates += [GOOD.replace(**{name: GOOD[name] & keep | to}) for keep, to in edits_of(compiled.violated, name)]
    return VmcsBatch.of(candidates, GOOD)


def test_what_another_model_evaluated_gives_the_same_prediction_as_evaluating_it_again() -> None:
    batch = singly_edited()
    prediction = model_of(CAPS).predict_batch(batch)
    rows = np.arange(1, len(batch), 3)
    for some in (None, rows):
        taken, anew = ALTERED.predict_as(prediction, some), ALTERED.predict_batch(batch if some is None else batch.take(rows))
        assert np.array_equal(taken.allowed, anew.allowed)
        assert np.array_equal(taken.not_modelled, anew.not_modelled)
        for row in range(len(anew)):
            assert [check.check.id for check in taken.violations_of(row)] == [check.check.id for check in anew.violations_of(row)]
    assert not np.array_equal(ALTERED.predict_as(prediction).allowed, prediction.allowed)


def test_a_base_of_which_a_model_was_told_is_judged_as_one_that_it_meets_alone() -> None:
    told, alone, batch = Model(CAPS), Model(CAPS), singly_edited()
    states = [batch.row(row) for row in range(0, len(batch), 7)]
    told.know(states, told.predict_batch(VmcsBatch.of(states, GOOD)))
    for state in states:
        both = [model.predict_batch(VmcsBatch(state, {"guest_rip": [1, 1 << 63]})) for model in (told, alone)]
        assert both[0].truths.keys() == both[1].truths.keys()
        assert np.array_equal(both[0].allowed, both[1].allowed)
