"""Ten errors planted in the model are all found, told apart, and each reduced to the smallest difference that can show it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from vmfuzz.arch.controls import Pin
from vmfuzz.arch.registers import CR4
from vmfuzz.campaign.findings import ACCEPTS, REFUSES
from vmfuzz.campaign.loop import Campaign
from vmfuzz.campaign.triage import Triage, triage
from vmfuzz.campaign.trial import Trial
from vmfuzz.execute.model_executor import ModelExecutor
from vmfuzz.model.check import Check
from vmfuzz.model.checks import BY_ID, CHECKS
from vmfuzz.model.expr import Cond, all_of, any_of
from vmfuzz.model.operands import vmcs
from vmfuzz.model.predict import Model
from vmfuzz.state.profiles import capabilities, known_good

CAPS = capabilities("corei7_skylake_x")
GOOD = known_good(CAPS)
#: Smaller families than a campaign has: many different plans matter more than many rows of one.
FAMILY_SIZE = 768
FAMILIES = 2_400
SECONDS = 60


@dataclass(frozen=True)
class Planted:
    """An error of the model: the check that is wrong and how, the kind of finding it makes, and the smallest mutation that can show it."""

    check: str
    alter: Callable[[Check], Check | None]
    kind: str
    smallest: dict[str, int]
    base: str = "64-bit/plain/nothing"


def dropped(_: Check) -> None:
    """The model leaves the check out."""


def stricter(extra: Cond) -> Callable[[Check], Check]:
    """The model demands more than the manual."""
    return lambda check: replace(check, must=all_of(check.must, extra))


ERRORS = (
    Planted("guest.gs.p", dropped, REFUSES, {"guest_gs_access_rights": 0xC013}),
    Planted("ctl.cr3target.count", dropped, REFUSES, {"cr3_target_count": 5}),
    Planted("host.base.gs", dropped, REFUSES, {"host_gs_base": 1 << 47}),
    Planted("guest.rflags.reserved.zeros", dropped, REFUSES, {"guest_rflags": 0xA}),
    # weaker than the manual: TI may be 1 where bit 3 is; 1CH is the value nearest to the base's 18H
    Planted(
        "guest.tr.sel.ti",
        lambda check: replace(check, must=any_of(check.must, vmcs.guest_tr_selector[3])),
        REFUSES,
        {"guest_tr_selector": 0x1C},
    ),
    # a relation of two controls of one field: "NMI exiting" 0 and "virtual NMIs" 1
    Planted("ctl.nmi.virtual", dropped, REFUSES, {"pin_based_controls": 0x77}),
    Planted(
        "guest.dr7", lambda check: replace(check, must=vmcs.guest_dr7[63:16] == 0), ACCEPTS, {"guest_dr7": 0x10000}, "64-bit/loads/nothing"
    ),
    Planted("guest.cr4.fixed.zeros", stricter(~vmcs.guest_cr4[CR4.DE]), ACCEPTS, {"guest_cr4": 0x2028}),
    Planted("host.sel.tr.null", stricter(vmcs.host_tr_selector <= 0xFF), ACCEPTS, {"host_tr_selector": 0x100}),
    # a relation of two fields that the manual does not know: it needs both
    Planted(
        "ctl.pin.allowed1",
        stricter(any_of(vmcs.pin_based_controls[Pin.EXTERNAL_INTERRUPT_EXITING], ~vmcs.cr3_target_count[0])),
        ACCEPTS,
        {"cr3_target_count": 1, "pin_based_controls": 0x5E},
    ),
)


@pytest.fixture(scope="module")
def triaged() -> tuple[Triage, float]:
    """A campaign with all ten errors in its model, its findings minimized; and the seconds that it took."""
    start = time.process_time()
    planted = {error.check: error.alter for error in ERRORS}
    checks = [altered for check in CHECKS if (altered := planted.get(check.id, lambda same: same)(check)) is not None]
    campaign = Campaign(ModelExecutor(CAPS, GOOD), seed=0, model=Model(CAPS, checks))
    campaign.family_size = FAMILY_SIZE
    findings = campaign.run(FAMILY_SIZE * FAMILIES).progress.findings
    trial = Trial(campaign.executor, campaign.model, campaign.generator)
    result = triage(trial, findings.by_id.values(), SECONDS)
    return result, time.process_time() - start


def test_the_errors_are_of_checks_that_exist() -> None:
    assert len({error.check for error in ERRORS}) == len(ERRORS) == 10
    assert {error.check for error in ERRORS} <= set(BY_ID)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.check)
def test_a_planted_error_is_found_and_reduced_to_the_smallest_difference(error: Planted, triaged: tuple[Triage, float]) -> None:
    found = [entry for entry in triaged[0].entries.values() if dict(entry.case.mutation) == error.smallest]
    assert [(entry.kind, entry.case.base) for entry in found] == [(error.kind, error.base)]
    assert found[0].checks == ((error.check,) if error.kind == ACCEPTS else ())
    assert found[0].minimized
    assert found[0].neighbours


def test_nothing_else_is_found(triaged: tuple[Triage, float]) -> None:
    expected = [error.smallest for error in ERRORS]
    others = [(entry.kind, entry.case) for entry in triaged[0].entries.values() if dict(entry.case.mutation) not in expected]
    assert others == []
    assert triaged[0].unstable == []
    assert triaged[0].left == []


def test_it_takes_less_than_a_minute(triaged: tuple[Triage, float]) -> None:
    assert triaged[1] < SECONDS
