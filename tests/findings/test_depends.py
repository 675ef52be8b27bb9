"""Candidates whose outcome depends on what ran before in the same machine: told apart from those that do this now and that then."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from vmfuzz.arch.outcomes import Outcomes
from vmfuzz.campaign.mismatches import Findings
from vmfuzz.comparison.case import Case
from vmfuzz.comparison.trial import Trial
from vmfuzz.execute.model.executor import ModelExecutor
from vmfuzz.findings.triage import depends_on_what_ran_before, triage
from vmfuzz.state.batch import VmcsBatch
from vmfuzz.state.profiles import capabilities, known_good
from vmfuzz.state.vmcs import Vmcs

BASE = "64-bit/plain/nothing"


class FirstEntryDiffers(ModelExecutor):
    """Forgets an event at the first entry of a machine, as KVM does; `moody`: now and then only."""

    def __init__(self, moody: bool = False) -> None:
        known = capabilities("corei7_skylake_x")
        super().__init__(known, known_good(known))
        self.runs, self.moody = 0, moody

    def run(self, batch: VmcsBatch | Sequence[Vmcs]) -> Outcomes:
        outcomes = super().run(batch)
        self.runs += 1
        if outcomes.raw_reason[0] == 52 and not (self.moody and self.runs % 2):
            outcomes.raw_reason[0] = outcomes.number[0] = 48
        return outcomes


def test_it_is_told_what_it_does_alone_and_behind_another() -> None:
    words = depends_on_what_ran_before(Trial(FirstEntryDiffers()), Case(BASE, {"guest_rflags": 0x202}))
    assert words == f"{BASE}, guest_rflags = 0x202: alone entered, exit 48, behind an entry of the base entered, exit 52"


@pytest.mark.parametrize(
    ("executor", "case"), [(FirstEntryDiffers(True), Case(BASE, {})), (FirstEntryDiffers(), Case(BASE, {"guest_rflags": 0}))]
)
def test_nothing_is_told_where_it_does_not_do_the_same_or_does_the_same(executor: FirstEntryDiffers, case: Case) -> None:
    assert depends_on_what_ran_before(Trial(executor), case) is None


def test_triage_keeps_it_apart() -> None:
    trial, findings = Trial(FirstEntryDiffers()), Findings()
    base = trial.base(BASE)
    assert base is not None
    findings.add(trial.compare_batch(VmcsBatch(base, {"guest_rflags": np.array([0x202], np.uint64)})), BASE)
    (id,) = findings.by_id
    result = triage(trial, findings.by_id.values())
    assert (result.unstable, list(result.depends), result.entries) == ([id], [id], {})
