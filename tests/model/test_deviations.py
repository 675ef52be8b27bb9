"""Known deviations: altered checks are those of the manual but where the deviation says otherwise."""

from __future__ import annotations

import pytest

from vmfuzz.arch.capabilities import Capabilities
from vmfuzz.errors import ModelError
from vmfuzz.model.check import Check
from vmfuzz.model.checks import BY_ID, CHECKS
from vmfuzz.model.deviations import MARK, Deviation, altered_checks, skipping
from vmfuzz.model.expr import FALSE, TRUE
from vmfuzz.model.known_deviations import DEVIATIONS, deviations_of
from vmfuzz.model.operands import vmcs
from vmfuzz.model.predict import BatchPrediction, Model
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

CAPS = capabilities("corei7_skylake_x")
GOOD = known_good(CAPS)


def deviation(skips: dict[str, object] | None = None, adds: tuple[Check, ...] = ()) -> Deviation:
    return Deviation("made-up", "bochs", "title", "text", "source", skips or {}, adds)  # type: ignore[arg-type]


def predicted(deviations: list[Deviation], state: Vmcs, caps: Capabilities = CAPS) -> BatchPrediction:
    return Model(caps, altered_checks(deviations)).predict_batch(VmcsBatch(state, {}, count=1))


def meaning(check: Check) -> tuple[object, ...]:
    return check.id, check.section, check.text, check.must, check.when, check.requires, check.fails, check.known, check.ambiguity


def test_without_deviations_every_check_stays_as_it_is() -> None:
    assert [meaning(check) for check in altered_checks([])] == [meaning(check) for check in CHECKS]


def test_checks_that_a_deviation_does_not_name_stay_as_they_are() -> None:
    altered = altered_checks([deviation(skipping("guest.gs.p"))])
    others = [meaning(check) for check in altered if check.id != "guest.gs.p"]
    assert others == [meaning(check) for check in CHECKS if check.id != "guest.gs.p"]


def test_a_check_that_is_always_skipped_becomes_may_or_may_not() -> None:
    state = GOOD.replace(cr3_target_count=5)
    plain, altered = predicted([], state), predicted([deviation(skipping("ctl.cr3target.count"))], state)
    assert altered.allowed[0] == plain.allowed[0] | Model(CAPS, ()).predict_batch(VmcsBatch(state, {}, count=1)).allowed[0]
    assert [compiled.check.ambiguity for compiled in altered.violations_of(0)] == [f"{MARK}made-up"]


def test_a_check_that_is_skipped_under_a_condition_stays_where_it_does_not_hold() -> None:
    skips = skipping("ctl.cr3target.count", when=vmcs.vpid == 1)
    state = GOOD.replace(cr3_target_count=5)
    altered, rest = predicted([deviation(skips)], state.replace(vpid=1)), predicted([deviation(skips)], state.replace(vpid=2))
    assert altered.allowed[0] != rest.allowed[0]
    assert rest.allowed[0] == predicted([], state).allowed[0]


def test_an_added_check_allows_its_failure_and_does_not_demand_it() -> None:
    extra = Check("guest.made.up", BY_ID["guest.rip.high"].section, "Made up.", FALSE, vmcs.vpid == 1, TRUE, BY_ID["guest.rip.high"].fails)
    altered, plain = predicted([deviation(adds=(extra,))], GOOD.replace(vpid=1)), predicted([], GOOD.replace(vpid=1))
    assert altered.allowed[0] & plain.allowed[0] == plain.allowed[0]
    assert altered.allowed[0] != plain.allowed[0]


def test_two_deviations_of_one_check_are_kept_apart() -> None:
    one = Deviation("one", "bochs", "t", "t", "s", skipping("ctl.cr3target.count", when=vmcs.vpid == 1))
    other = Deviation("other", "bochs", "t", "t", "s", skipping("ctl.cr3target.count", when=vmcs.vpid == 2))
    for vpid, id in ((1, "one"), (2, "other")):
        (violation,) = predicted([one, other], GOOD.replace(cr3_target_count=5, vpid=vpid)).violations_of(0)
        assert violation.check.ambiguity == MARK + id


@pytest.mark.parametrize("state", [GOOD, GOOD.replace(guest_gs_access_rights=0)], ids=["good", "GS access rights 0"])
@pytest.mark.parametrize("name", ["corei7_skylake_x", "arrow_lake"])
def test_the_known_deviations_only_ever_widen_a_prediction(name: str, state: Vmcs) -> None:
    caps = capabilities(name)
    plain, altered = predicted([], state, caps), predicted(list(DEVIATIONS), state, caps)
    assert plain.allowed[0] & ~altered.allowed[0] == 0


def test_a_deviation_that_changes_nothing_or_names_an_unknown_check_is_refused() -> None:
    with pytest.raises(ModelError, match="made-up: it neither skips nor adds a check"):
        deviation()
    with pytest.raises(ModelError, match=r"made-up: unknown checks guest\.nothing"):
        deviation(skipping("guest.nothing"))


@pytest.mark.parametrize("known", DEVIATIONS, ids=lambda known: known.id)
def test_a_known_deviation_says_what_happens_why_and_where(known: Deviation) -> None:
    assert known.id.startswith(known.executor)
    assert all(len(text) > 15 for text in (known.title, known.text, known.source))


def test_ids_of_deviations_are_distinct_and_belong_to_their_executor() -> None:
    assert len({known.id for known in DEVIATIONS}) == len(DEVIATIONS)
    assert [known.id for known in deviations_of("bochs corei7_skylake_x")] == [
        known.id for known in DEVIATIONS if known.executor == "bochs"
    ]
    assert deviations_of("model corei7_skylake_x") == ()
