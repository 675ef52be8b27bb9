"""The module on other processors and with page-table isolation: each boots a machine of its own and runs a few families."""

from __future__ import annotations

from collections import Counter

import pytest
from guest_executor import GuestExecutor
from machine import Machine, needs

from vmfuzz.campaign.compare import Verdict
from vmfuzz.campaign.loop import Campaign

missing = needs("bochs")
pytestmark = [pytest.mark.skipif(missing is not None, reason=str(missing)), pytest.mark.timeout(1800)]
CANDIDATES = 4000


@pytest.mark.parametrize(
    ("cpu", "arguments"), [("corei7_skylake_x", "pti=on"), ("corei7_haswell_4770", "nopti mitigations=off")], ids=["pti", "haswell"]
)
def test_it_runs_there(cpu: str, arguments: str) -> None:
    """No outcome that neither the model nor a known deviation explains, and a clean kernel log."""
    with Machine("bochs", cpu=cpu, arguments=arguments) as machine:
        machine.start()
        isolated = "isolation: enabled" in machine.shell("dmesg")
        assert isolated == ("pti=on" in arguments)
        with GuestExecutor(machine) as guest:
            campaign, verdicts = Campaign(guest, seed=3), Counter[str]()
            for plan in campaign.plan(0):
                comparison = campaign.execute(plan, min(400, CANDIDATES - verdicts.total()))
                verdicts.update(Verdict(int(verdict)).name for verdict in comparison.verdict)
                if verdicts.total() >= CANDIDATES:
                    break
        print(f"{cpu} {arguments}: {dict(verdicts)}")
        assert verdicts["MISMATCH"] == verdicts["EXECUTOR_CRASHED"] == 0
        assert verdicts.total() - verdicts["REFUSED"] - verdicts["NOT_RUN"] > verdicts.total() / 4
        machine.shell("rmmod vmfuzz")
        assert machine.trouble() == ""
